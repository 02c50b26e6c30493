"""A Gaussian process whose prior is what the known data sets have in common, searched with expected improvement.

Multi-task Bayesian optimization without meta-features: the first trial is the configuration that is best on average,
every result then moves the belief about the rest.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from nni_hyperfd.evidence.rivals.base import Known, Rival, Study
from nni_hyperfd.evidence.rivals.completion import Completion
from nni_hyperfd.recommendation.gaussian.search import gain_of_next


class GPPrior(Rival):
    """Expected improvement under the posterior of :class:`Completion`."""

    name: ClassVar[str] = "gp-prior"

    def reset(self, experience: Known, seed: int) -> None:
        self._completion = Completion.of(experience)

    def search(self, study: Study) -> None:
        while study.left:
            untried = study.untried()
            gain = gain_of_next(*self._completion.posterior(study), ~untried)
            study.evaluate(int(np.argmax(np.where(untried, gain, -np.inf))))
        self._completion = self._completion.learn(study)
