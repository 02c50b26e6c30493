"""A Gaussian process whose prior is what the known data sets have in common, searched with expected improvement.

Multi-task Bayesian optimization without meta-features: the first trial is the configuration that is best on average,
every result then moves the belief about the rest.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from nni_hyperfd.evidence.rivals.base import Experience, Rival, Task
from nni_hyperfd.evidence.rivals.completion import Completion
from nni_hyperfd.recommendation.gaussian.search import gain_of_next


class GPPrior(Rival):
    """Expected improvement under the posterior of :class:`Completion`."""

    name: ClassVar[str] = "gp-prior"

    def reset(self, experience: Experience, seed: int) -> None:
        self._completion = Completion.of(experience)

    def search(self, task: Task) -> None:
        while task.left:
            untried = task.untried()
            gain = gain_of_next(*self._completion.posterior(task), ~untried)
            task.evaluate(int(np.argmax(np.where(untried, gain, -np.inf))))
        self._completion = self._completion.learn(task)
