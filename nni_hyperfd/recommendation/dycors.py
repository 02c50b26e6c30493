"""DYCORS (Regis and Shoemaker, Engineering Optimization 45(5), 2013): search of a box by a radial basis function.

Around the best point so far, candidates are drawn that differ from it in ever fewer coordinates as the budget is spent; of them the
one is tried that is best by a weighted sum of what a cubic radial basis function says of it and of how far it is from what was
tried. HPS-Det finds its assignment counts this way. Constants are those of pySOT, the authors' own program.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from scipy.stats import truncnorm

from nni_hyperfd.errors import SpaceError

FloatArray = NDArray[np.float64]

WEIGHTS = (0.3, 0.5, 0.8, 0.95)
"""Of the surrogate against the distance, one proposal after the other."""
RADIUS = 0.2
"""Standard deviation of a changed coordinate at first, and at most, in units of the box."""
SMALLEST_RADIUS = RADIUS * 0.5**6
"""From here on the search has converged and begins anew."""
CANDIDATES = 100
"""Candidates a dimension."""
GAIN = 1e-3
"""Share of the best value by which a result must be better to count as a success."""
SUCCESSES = 3
"""So many in a row double the radius."""
RIDGE = 1e-6
"""On the diagonal of the interpolation, for values that are not quite a function."""
CLOSEST = 1e-3
"""Nearer to a tried point than this, in units of the box, nothing is tried."""


def symmetric_latin_hypercube(points: int, dimensions: int, rng: np.random.Generator) -> FloatArray:
    """A Latin hypercube of which every point's mirror image in the center is a point (Ye, Li and Sudjianto, 2000).

    Returns:
        ``[points, dimensions]`` in 0..1: each column is a permutation of equal steps.

    Example:
        >>> design = symmetric_latin_hypercube(4, 2, np.random.default_rng(0))
        >>> bool(np.allclose(design + design[::-1], 1.0))
        True
    """
    half = points // 2
    levels = np.empty((points, dimensions))
    for column in range(dimensions):
        low = rng.permutation(half)
        mirrored = rng.random(half) < 0.5
        levels[:half, column] = np.where(mirrored, points - 1 - low, low)
    if points % 2:
        levels[half] = half
    levels[points - half :] = points - 1 - levels[:half][::-1]
    return levels / max(1, points - 1)


@dataclass(frozen=True)
class CubicSurrogate:
    """s(x) = Σ_j c_j ‖x − x_j‖³ + λ_0 + λᵀ x (Regis and Shoemaker 2013, equation 1).

    Args:
        points: ``[n, d]``.
        coefficients: ``[n]`` c.
        tail: ``[1 + d]`` λ.
    """

    points: FloatArray
    coefficients: FloatArray
    tail: FloatArray

    @classmethod
    def fit(cls, points: FloatArray, values: FloatArray) -> CubicSurrogate:
        """The interpolation of ``values`` ``[n]`` at ``points`` ``[n, d]``; at least d + 1 points that span the box are needed.

        Raises:
            numpy.linalg.LinAlgError: They lie in a plane.
        """
        count, dimensions = points.shape
        linear = np.column_stack([np.ones(count), points])
        if np.linalg.matrix_rank(linear) <= dimensions:
            raise np.linalg.LinAlgError("the points do not span the box")
        system = np.zeros((count + dimensions + 1,) * 2)
        system[:count, :count] = cdist(points, points) ** 3 + RIDGE * np.eye(count)
        system[:count, count:], system[count:, :count] = linear, linear.T
        solved = np.linalg.solve(system, np.concatenate([values, np.zeros(dimensions + 1)]))
        return cls(points, solved[:count], solved[count:])

    def __call__(self, at: FloatArray) -> FloatArray:
        """``[m, d] -> [m]``."""
        return cdist(at, self.points) ** 3 @ self.coefficients + self.tail[0] + at @ self.tail[1:]


def change_probability(proposal: int, budget: int, dimensions: int) -> float:
    """How likely a coordinate of a candidate differs from the best point's (Regis and Shoemaker 2013, equation 2).

    Args:
        proposal: Number of the proposal after the first design, from 1.
        budget: Of proposals after the first design.
        dimensions: Of the box.
    """
    most, least = min(20.0 / dimensions, 1.0), min(1.0, 1.0 / dimensions)
    if proposal >= budget or budget < 2:
        return least
    return max(most * (1.0 - math.log(proposal) / math.log(budget)), least)


def unit_range(values: FloatArray) -> FloatArray:
    """Values ``[m]`` shifted and scaled to 0..1; all ones where they are equal."""
    low, high = values.min(), values.max()
    return np.ones_like(values) if high == low else (values - low) / (high - low)


def candidates_around(
    best: FloatArray, steps: FloatArray, radius: float, probability: float, rng: np.random.Generator
) -> FloatArray:
    """Points of the unit box that differ from ``best`` in some coordinates, each with ``probability``, one of them at least.

    Args:
        best: ``[d]``.
        steps: ``[d]`` smallest change of a coordinate that means anything, 0 of a continuous one.
        radius: Standard deviation of a change; never below a coordinate's step.
        probability: Of each coordinate to change, in (0, 1].
        rng: Of the changes.

    Returns:
        ``[100 · d, d]``, not rounded.
    """
    dimensions = len(best)
    count = CANDIDATES * dimensions
    changed = rng.random((count, dimensions)) < probability
    none = ~changed.any(axis=1)
    changed[none, rng.integers(dimensions, size=int(none.sum()))] = True
    deviation = np.maximum(radius, steps)
    drawn = truncnorm.rvs(
        -best / deviation,
        (1.0 - best) / deviation,
        loc=best,
        scale=deviation,
        size=(count, dimensions),
        random_state=rng,
    )
    return np.where(changed, drawn, best)


def choose(
    candidates: FloatArray, surrogate: CubicSurrogate, taken: FloatArray, weight: float
) -> FloatArray | None:
    """The candidate with the least weighted sum of its scaled value and its scaled nearness; None if all are too near.

    Args:
        candidates: ``[m, d]``.
        surrogate: Foretells their values.
        taken: ``[n, d]`` points that were tried or are being tried.
        weight: Of the value; the rest is of the distance.

    Returns:
        ``[d]``.
    """
    distance = cdist(candidates, taken).min(axis=1)
    merit = weight * unit_range(surrogate(candidates)) + (1.0 - weight) * (1.0 - unit_range(distance))
    merit[distance < CLOSEST] = np.inf
    index = int(np.argmin(merit))
    return candidates[index] if np.isfinite(merit[index]) else None


class DYCORS:
    """A search, one proposal at a time; values are minimized. Several proposals may be under way.

    The same seed, proposals and results in the same order give the same search.

    Args:
        steps: ``[d]`` smallest change of each coordinate of the unit box, 0 of a continuous one.
        budget: Proposals in all; more may be asked for.
        rng: Of everything random.
        snap: ``[n, d] -> [n, d]``, the nearest points that can be tried; all can by default.

    Raises:
        SpaceError: There is nothing to search, or no budget.

    Example:
        >>> search = DYCORS(np.zeros(2), budget=30, rng=np.random.default_rng(0))
        >>> for _ in range(30):
        ...     point = search.ask()
        ...     search.tell(point, float(((point - 0.3) ** 2).sum()))
        >>> search.best[1] < 0.01
        True
    """

    def __init__(
        self,
        steps: FloatArray,
        budget: int,
        rng: np.random.Generator,
        snap: Callable[[FloatArray], FloatArray] = np.asarray,
    ) -> None:
        if len(steps) < 1 or budget < 1:
            raise SpaceError(
                "DYCORS needs one numeric key at least and a budget of one trial at least; add them."
            )
        self._steps, self._budget, self._rng, self._snap = steps, budget, rng, snap
        self._asked = 0
        self._next = 0
        self._points: list[FloatArray] = []
        self._values: list[float] = []
        self._pending: list[tuple[int, FloatArray]] = []
        self._begin(0)

    @property
    def best(self) -> tuple[FloatArray, float]:
        """The best point ``[d]`` and its value.

        Raises:
            SpaceError: There is no result yet.
        """
        if not self._values:
            raise SpaceError("no trial has brought a result yet; wait for one.")
        index = int(np.argmin(self._values))
        return self._points[index], self._values[index]

    def ask(self) -> FloatArray:
        """``[d]``, the next point to try."""
        point = self._design.pop(self._next) if self._design else self._adapted()
        self._pending.append((self._asked, point))
        self._asked += 1
        return point

    def tell(self, point: FloatArray, value: float | None) -> None:
        """What came of a point ``[d]`` that was asked for: ``value``, or None where the trial failed, which a later value corrects."""
        number = self._number(point)
        self._pending = [(n, pending) for n, pending in self._pending if n != number]
        if value is None:
            return
        before = min(self._values[self._first :], default=math.inf)
        self._points.append(point)
        self._values.append(value)
        if number is not None and number >= self._fresh:
            self._adjust(value, before)

    def learn(self, point: FloatArray, value: float | None) -> None:
        """What came of a point ``[d]`` that an earlier process or somebody else asked for, as :meth:`tell`.

        It takes its own place in a design that is still to be tried, or, with a value, its last one.
        """
        if self._number(point) is not None:
            self.tell(point, value)
            return
        if self._design:
            # An earlier process had the same design, began at its first point and may have left trials under way: go on from its end.
            self._next = -1
            same = next((i for i, planned in enumerate(self._design) if np.allclose(planned, point)), None)
            if same is not None or value is not None:
                self._design.pop(self._next if same is None else same)
                self._adaptive_from -= 1
                self._fresh -= 1
        if value is not None:
            self._points.append(point)
            self._values.append(value)

    def _number(self, point: FloatArray) -> int | None:
        """Of the proposal under way that is ``point``."""
        return next((n for n, pending in self._pending if np.array_equal(pending, point)), None)

    def _begin(self, first: int) -> None:
        """A new design; what was tried before ``first`` is not looked at any more."""
        self._first = first
        dimensions = len(self._steps)
        self._design = list(
            self._snap(symmetric_latin_hypercube(2 * (dimensions + 1), dimensions, self._rng))
        )
        self._adaptive_from = self._asked + len(self._design)
        self._fresh = self._adaptive_from
        self._radius, self._streak, self._failures, self._turn = RADIUS, 0, 0, 0

    def _adapted(self) -> FloatArray:
        points, values = self._points[self._first :], self._values[self._first :]
        weight = WEIGHTS[self._turn % len(WEIGHTS)]
        self._turn += 1
        if len(points) <= len(self._steps):
            return self._anywhere()
        try:
            surrogate = CubicSurrogate.fit(np.stack(points), np.array(values))
        except np.linalg.LinAlgError:
            return self._anywhere()
        probability = change_probability(
            self._asked - self._adaptive_from + 1, self._budget - self._adaptive_from, len(self._steps)
        )
        best = points[int(np.argmin(values))]
        drawn = candidates_around(best, self._steps, self._radius, probability, self._rng)
        taken = np.stack([*self._points, *(point for _, point in self._pending)])
        chosen = choose(self._snap(drawn), surrogate, taken, weight)
        return self._anywhere() if chosen is None else chosen

    def _anywhere(self) -> FloatArray:
        return self._snap(self._rng.random((1, len(self._steps))))[0]

    def _adjust(self, value: float, before: float) -> None:
        """Three successes in a row double the radius, max(d, 4) failures in a row halve it; at the end of it all begins anew."""
        if value < before - GAIN * abs(before) or math.isinf(before):
            self._streak, self._failures = max(1, self._streak + 1), 0
        else:
            self._streak, self._failures = min(-1, self._streak - 1), self._failures + 1
        patience = max(len(self._steps), 4)
        if self._streak <= -patience or self._streak >= SUCCESSES:
            self._radius = self._radius / 2 if self._streak < 0 else min(2 * self._radius, RADIUS)
            self._streak, self._fresh = 0, self._asked
        if self._failures >= 4 * patience or self._radius <= SMALLEST_RADIUS:
            self._begin(len(self._points))
