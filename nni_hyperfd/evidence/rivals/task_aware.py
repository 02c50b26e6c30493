"""HyperSTAR's task-aware Hyperband (Mittal et al. 2020, §3.3) as ``HyperFDAdvisor`` plays it, with the platform's one ranker.

Brackets, their populations and who goes on are :mod:`nni_hyperfd.recommendation.brackets`; the recommendation is that of ``method: hyperfd``.
A longer training begins anew and is paid for in full, and what the brackets leave of the price stays unspent. In one thing it differs from
the advisor: the table has no trainings that were planned for fewer epochs, so a short one is the beginning of the full one.
"""

from __future__ import annotations

from typing import Literal

from nni_hyperfd.evidence.curves import CurveTask
from nni_hyperfd.evidence.rivals.with_ranker import WithRanker
from nni_hyperfd.metafeature.features import ImageFeatures
from nni_hyperfd.recommendation.brackets import (
    ETA,
    Bracket,
    best_first,
    hyperband,
    populations,
    recommended,
)

SHARE = 1.0
"""The advisor's default: all that a bracket begins with is recommended."""


class TaskAwareHyperband(WithRanker):
    """``brackets: all``. See the module."""

    name = "task-aware hyperband"
    BRACKETS: Literal["all"] | int = "all"

    def _play(self, task: CurveTask, features: ImageFeatures) -> None:
        brackets = hyperband(task.left // task.length, ETA, task.length, count=self.BRACKETS)
        best = sum(recommended(each, SHARE) for each in brackets)
        order = self._platform.recommended(features, task.candidates, best)
        for bracket, places in zip(brackets, populations(brackets, SHARE, len(order))):
            play_anew(task, bracket, [order[place] for place in places])

    def _results(self, task: CurveTask) -> list[int]:
        # Of every configuration the result of its longest training, however short that was.
        return task.reached(1)


class TaskAwareHalving(TaskAwareHyperband):
    """``brackets: 1``, the advisor's default: one bracket has all of the price."""

    name = "task-aware halving"
    BRACKETS = 1


def play_anew(task: CurveTask, bracket: Bracket, population: list[int]) -> None:
    """One bracket over a population, best first; one that fails is replaced by the next in the list."""
    for rung in bracket:
        results: dict[int, float] = {}
        for index in population:
            if len(results) == rung.count:
                break
            task.forget(index)
            if task.train(index, rung.epochs):
                results[index] = task.best(index)
        population = best_first(population, results)
