"""Random search: the zero point of every comparison."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from nni_hyperfd.evidence.rivals.base import Experience, Rival, Task


class RandomSearch(Rival):
    """Distinct candidates drawn uniformly."""

    name: ClassVar[str] = "random"

    def reset(self, experience: Experience, seed: int) -> None:
        self._rng = np.random.default_rng(seed)

    def search(self, task: Task) -> None:
        task.evaluate_ranking(self._rng.permutation(task.candidates))
