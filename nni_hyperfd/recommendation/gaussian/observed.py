"""APs of one data set on a scale on which data sets can be compared."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

_PSEUDO_TRIALS = 5


class Observed(NamedTuple):
    """One set: its n observed configurations ``[n]``, their scaled and centered APs ``[n]``, and the scale and center themselves."""

    indices: NDArray[np.intp]
    values: FloatArray
    scale: float
    center: float


def typical_spread(aps: FloatArray) -> float:
    """Root of the mean variance within sets ``[S, U]``, over sets with two values at least; NaN where not measured."""
    counts = (~np.isnan(aps)).sum(1)
    rows = aps[counts > 1]
    squares = np.nansum((rows - np.nanmean(rows, axis=1, keepdims=True)) ** 2) if len(rows) else 0.0
    freedom = (counts[counts > 1] - 1).sum()
    return float(np.sqrt(squares / freedom)) if squares > 0 else 1.0


def observe(row: FloatArray, spread: float) -> Observed:
    """Scales a row ``[U]`` by its deviation, pulled towards ``spread`` the more the fewer values it has; NaN where not measured."""
    indices = np.flatnonzero(~np.isnan(row))
    values = row[indices]
    if not len(indices):
        return Observed(indices, values, spread, 0.0)
    center = float(values.mean())
    freedom = len(values) - 1
    scale = np.sqrt(
        (((values - center) ** 2).sum() + _PSEUDO_TRIALS * spread**2) / (freedom + _PSEUDO_TRIALS)
    )
    return Observed(indices, (values - center) / scale, float(scale), center)
