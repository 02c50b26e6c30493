"""Random search: the zero point of every comparison."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from nni_hyperfd.evidence.rivals.base import Known, Rival, Study


class RandomSearch(Rival):
    """Distinct candidates drawn uniformly."""

    name: ClassVar[str] = "random"

    def reset(self, experience: Known, seed: int) -> None:
        self._rng = np.random.default_rng(seed)

    def search(self, study: Study) -> None:
        study.evaluate_ranking(self._rng.permutation(study.candidates))
