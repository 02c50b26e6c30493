"""Errors over customers: how far a mean would move with other customers of the kind (Efron, Tibshirani 1993)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

RESAMPLES = 10_000
LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """A figure with its 95 % interval by the bootstrap; NaN where there is none."""

    mean: float
    low: float
    high: float

    def scaled(self, factor: float) -> Interval:
        """Such as from the mean over customers to their sum."""
        return Interval(factor * self.mean, factor * self.low, factor * self.high)

    @property
    def excludes_zero(self) -> bool:
        """Whether a difference of this interval is one."""
        return self.low > 0 or self.high < 0

    def __str__(self) -> str:
        return "–" if math.isnan(self.low) else f"[{self.low:.1f}, {self.high:.1f}]"


def bootstrap(values: FloatArray, seed: int = 0) -> Interval:
    """Mean of ``[D]`` values, one a customer, and the 95 % percentile interval over customers drawn with repetition.

    For two methods give the differences, customer by customer: the bootstrap is then paired (Efron, Tibshirani 1993).
    A single customer says nothing about others: the interval is NaN.
    """
    if len(values) < 2:
        return Interval(float(values.mean()), math.nan, math.nan)
    means = values[_draws(len(values), seed)].mean(axis=1)
    low, high = np.quantile(means, ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    return Interval(float(values.mean()), float(low), float(high))


@lru_cache(maxsize=8)
def _draws(customers: int, seed: int) -> NDArray[np.int64]:
    return np.random.default_rng(seed).integers(customers, size=(RESAMPLES, customers))
