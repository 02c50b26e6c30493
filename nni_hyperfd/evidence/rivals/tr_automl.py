"""Tr-AutoML (Xue et al. 2019, "Transferable AutoML by model sharing over grouped datasets").

A data set is described by what a few benchmark configurations reach on it; data sets with indistinguishable descriptions
form a group; a new one runs the benchmarks, joins a group by a statistical test and is given what is best for the group.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from scipy.stats import chi2

from nni_hyperfd.evidence.rivals.base import FloatArray, Known, Memory, Rival, Study
from nni_hyperfd.evidence.rivals.completion import Completion


class TrAutoML(Rival):
    """Half of the budget goes to benchmark configurations (random, fixed for a run), the rest to the group's best.

    The paper groups with a Markov process whose transition is a hypothesis test; here a data set joins the nearest group
    unless a chi-square test of their distance rejects it, in which case it founds one. The test's variance is the
    measurement noise that :class:`Completion` found, which also fills the sparse rows of the experience.

    Args:
        significance: Of the test; smaller means fewer, larger groups.
    """

    name: ClassVar[str] = "tr-automl"

    def __init__(self, significance: float = 0.05) -> None:
        self._significance = significance

    def reset(self, experience: Known, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self._benchmarks = self._rng.permutation(experience.candidates)
        self._completion = Completion.of(experience)
        self._memory = Memory(experience)

    def search(self, study: Study) -> None:
        study.evaluate_ranking(self._benchmarks, study.budget // 2)
        known = self._standardize(self._completion.complete(self._memory.aps))
        measured = [trial for trial in study.trials if not np.isnan(trial.ap)]
        at = [trial.index for trial in measured]
        description = np.array([trial.ap for trial in measured]) / self._completion.spread
        members = self._group(known[:, at], description)
        self._run_best(study, known[members].mean(axis=0))
        self._completion = self._completion.learn(study)
        self._memory.add(study)

    def _run_best(self, study: Study, expected: FloatArray) -> None:
        tie = self._rng.random(len(expected))
        study.evaluate_ranking(np.lexsort((tie, -expected)))

    def _standardize(self, expected: FloatArray) -> FloatArray:
        """Rows with mean 0, in units of the deviation within a set."""
        return (expected - expected.mean(axis=1, keepdims=True)) / self._completion.spread

    def _group(self, known: FloatArray, new: FloatArray) -> list[int]:
        """Rows of ``known`` that share the group of ``new``; all of them if it is the first of its kind."""
        known = known - known.mean(axis=1, keepdims=True)
        new = new - new.mean()
        # The common level is taken out, which costs one degree of freedom; one benchmark alone tells nothing.
        freedom = len(new) - 1
        if freedom < 1:
            return list(range(len(known)))
        limit = chi2.ppf(1.0 - self._significance, freedom) * self._completion.noise
        groups: list[list[int]] = []
        centers: list[FloatArray] = []
        for row, description in enumerate(known):
            distances = [_distance(description, c, len(g)) for c, g in zip(centers, groups)]
            if distances and min(distances) <= limit:
                nearest = int(np.argmin(distances))
                groups[nearest].append(row)
                centers[nearest] = known[groups[nearest]].mean(axis=0)
            else:
                groups.append([row])
                centers.append(description)
        distances = [_distance(new, c, len(g)) for c, g in zip(centers, groups)]
        nearest = int(np.argmin(distances))
        return groups[nearest] if distances[nearest] <= limit else list(range(len(known)))


def _distance(description: FloatArray, center: FloatArray, members: int) -> float:
    """Squared distance in units of what one description and a mean of ``members`` ones vary by chance."""
    return float(((description - center) ** 2).sum() / (1.0 + 1.0 / members))
