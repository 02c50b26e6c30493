"""Greedy zero-shot portfolio (Wistuba, Schilling, Schmidt-Thieme 2015, "Sequential model-free hyperparameter tuning")."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


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
