"""Greedy zero-shot portfolio (Wistuba, Schilling, Schmidt-Thieme 2015, "Sequential model-free hyperparameter tuning")."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from scipy.stats import rankdata

from nni_hyperfd.evidence.rivals.base import FloatArray, Study
from nni_hyperfd.evidence.rivals.completion import TableRival


def greedy_portfolio(losses: FloatArray, size: int) -> list[int]:
    """Adds, one by one, the configuration that lowers the mean over sets of the best loss most.

    Args:
        losses: ``[S, K]`` loss of each configuration on each set.
        size: Configurations wanted; at most K.

    Returns:
        Distinct indices in the order of their choice; the first B are the portfolio for budget B. Once nothing lowers the
        loss any more, the configuration with the lowest mean loss comes next.
    """
    best = np.full((len(losses), 1), np.inf)
    mean = losses.mean(axis=0)
    chosen: list[int] = []
    for _ in range(min(size, losses.shape[1])):
        reached = np.minimum(losses, best).mean(axis=0)
        reached[chosen] = np.inf
        # Rounding must not decide between equals: those keep the order of their mean loss.
        tied = np.flatnonzero(reached <= reached.min() + 1e-12)
        chosen.append(int(tied[np.argmin(mean[tied])]))
        best = np.minimum(best, losses[:, chosen[-1:]])
    return chosen


class Portfolio(TableRival):
    """The greedy portfolio over all known data sets; sets count equally, APs are min-max scaled within a set."""

    name: ClassVar[str] = "portfolio"

    def _spend(self, study: Study, expected: FloatArray) -> None:
        losses = self._losses(expected)
        # Failed trainings give their place to the next one, so the ranking goes on behind the portfolio.
        portfolio = greedy_portfolio(losses, min(study.candidates, 2 * study.budget))
        self._try(study, portfolio + [int(i) for i in np.argsort(losses.mean(axis=0)) if i not in portfolio])

    def _losses(self, expected: FloatArray) -> FloatArray:
        low, high = expected.min(axis=1, keepdims=True), expected.max(axis=1, keepdims=True)
        return (high - expected) / np.maximum(high - low, 1e-12)

    def _try(self, study: Study, ranking: list[int]) -> None:
        study.evaluate_ranking(ranking)


class RankPortfolio(Portfolio):
    """The same on ranks within a set, which is what methods are judged by: a set with one outstanding AP counts no more than others."""

    name: ClassVar[str] = "rank-portfolio"

    def _losses(self, expected: FloatArray) -> FloatArray:
        return rankdata(-expected, axis=1) / expected.shape[1]
