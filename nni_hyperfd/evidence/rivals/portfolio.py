"""Greedy zero-shot portfolio (Wistuba, Schilling, Schmidt-Thieme 2015, "Sequential model-free hyperparameter tuning")."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from scipy.stats import rankdata

from nni_hyperfd.evidence.rivals.base import FloatArray, Study
from nni_hyperfd.evidence.rivals.completion import TableRival
from nni_hyperfd.recommendation.portfolio import greedy_portfolio as greedy_portfolio


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
