"""The configurations that are good everywhere, for everybody: what one learns without looking at the customer's data."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from scipy.stats import rankdata

from nni_hyperfd.evidence.rivals.base import Known, Memory, Rival, Study
from nni_hyperfd.evidence.rivals.completion import Completion


class MeanRank(Rival):
    """Candidates by their mean rank over all known data sets, sparse rows being completed first."""

    name: ClassVar[str] = "mean-rank"

    def reset(self, experience: Known, seed: int) -> None:
        self._completion = Completion.of(experience)
        self._memory = Memory(experience)
        self._tie = np.random.default_rng(seed).random(experience.candidates)

    def search(self, study: Study) -> None:
        expected = self._completion.complete(self._memory.aps)
        mean_rank = rankdata(-expected, axis=1).mean(axis=0)
        study.evaluate_ranking(np.lexsort((self._tie, mean_rank)))
        self._completion = self._completion.learn(study)
        self._memory.add(study)
