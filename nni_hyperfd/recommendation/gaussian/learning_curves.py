r"""What is still to come in a training, and where trainings that have only begun will end (METHOD.md §11).

.. math::
    y_{sc}(t) = z_{sc} + μ(t) + w(t)\,a_{sc} + ε(t), \qquad μ(1) = w(1) = 0

* z: what the training will report at its end; the value of :mod:`~nni_hyperfd.recommendation.gaussian.task_process` with the noise of one measurement.
* μ: how far APs are below (or above) their end at time t in the mean, and w: the course along which trainings differ most from that
  mean. Both are zero at the end and are read off the offline curves, as is the variance of ε, the rest.
* a: how much of that course a training takes. It is a process over configurations and data sets of its own, learned on the offline
  curves, so that "high rates start below and end above" is known before the customer's first epoch.

Given the prior all is linear and Gaussian. Freeze-thaw (Swersky et al. 2014) has a decaying part, too, but one that is the same for all
configurations; Quick-Tune (Arango et al. 2024) and ifBO (Rakotoarison et al. 2024) learn it from offline curves by networks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_triangular

from nni_hyperfd.recommendation.gaussian.factor import factor
from nni_hyperfd.recommendation.gaussian.observed import FloatArray, observe, typical_spread
from nni_hyperfd.recommendation.gaussian.search import Glimpses
from nni_hyperfd.recommendation.gaussian.task_process import OFFSET_VARIANCE, TaskProcess

LEAST_REST = 1e-4
"""Variance of ε, at the least, in units of the variance within a data set."""


@dataclass(frozen=True, eq=False)
class Course:
    """How trainings come to their end, in units of the typical deviation of AP within a data set.

    Args:
        mean: ``[T]`` the μ of the module's text, at T equally spaced validations; the last is the end.
        direction: ``[T]`` w.
        rest: ``[T]`` variance of ε.
    """

    mean: FloatArray
    direction: FloatArray
    rest: FloatArray

    @classmethod
    def of(cls, ahead: FloatArray) -> tuple[Course, FloatArray]:
        """From ``[..., T]`` differences of curves to their ends; NaN anywhere leaves a curve out.

        Returns:
            The course, and ``[...]`` a for each curve (NaN where left out), of mean 0 and variance 1 over all.
        """
        whole = ~np.isnan(ahead).any(axis=-1)
        rows = ahead[whole]
        mean = rows.mean(axis=0) if len(rows) else np.zeros(ahead.shape[-1])
        moments = (rows - mean).T @ (rows - mean) / max(1, len(rows))
        sizes, axes = np.linalg.eigh(moments)
        deviation, axis = float(np.sqrt(max(sizes[-1], 1e-12))), axes[:, -1]
        # Of the two signs the one by which a > 0 is to be below the end.
        axis = -axis if axis.sum() > 0 else axis
        direction = deviation * axis
        amounts = np.full(ahead.shape[:-1], np.nan)
        amounts[whole] = (rows - mean) @ axis / deviation
        return cls(mean, direction, np.maximum(np.diag(moments) - direction**2, LEAST_REST)), amounts


@dataclass(frozen=True, eq=False)
class StillToCome:
    """A course and the process of a.

    Args:
        course: The same for all trainings.
        process: Of a, within a data set.
        usual: What a is in the mean over data sets.
        between: Variance of that between data sets.
    """

    course: Course
    process: TaskProcess
    usual: float
    between: float

    @classmethod
    def fit(cls, curves: FloatArray, described: FloatArray, places: FloatArray) -> StillToCome:
        """Learns from offline curves.

        Args:
            curves: ``[S, U, T]`` AP in [0, 1], NaN where not measured; the last of T is the end.
            described: ``[U, P]`` configurations.
            places: ``[S, D]`` of the data sets.
        """
        spread = typical_spread(curves[..., -1])
        course, amounts = Course.of((curves - curves[..., -1:]) / spread)
        process = TaskProcess.fit(amounts, described, places)
        centers = [np.nanmean(row) for row in amounts if not np.isnan(row).all()]
        between = float(np.var(centers, ddof=1)) if len(centers) > 1 else 1.0
        return cls(course, process, float(np.mean(centers)) if centers else 0.0, between)

    def customers(
        self, places: Sequence[FloatArray], described: Sequence[FloatArray]
    ) -> tuple[FloatArray, FloatArray]:
        """Mean and covariance of a for data sets that are not in the table, one after the other.

        Args:
            places: ``[D]`` of each.
            described: ``[k, P]`` the configurations of each.

        Returns:
            ``[n]`` and ``[n, n]``, for all n configurations together.
        """
        expected = self.process.customers(places, described)
        shared, alone = self.process.covariance(expected)
        mean = np.concatenate([each.mean for each in expected])
        owner = np.repeat(np.arange(len(expected)), [len(each) for each in described])
        same = owner[:, None] == owner
        within = shared - OFFSET_VARIANCE * same + alone + self.process.noise * np.eye(len(mean))
        unit = self.process.spread
        return self.usual + unit * mean, unit**2 * within + self.between * same


@dataclass(frozen=True, eq=False)
class Ends:
    """A belief about K trainings: where they end and what is still to come. All in units of a process.

    Args:
        course: See :class:`Course`.
        mean: ``[2 K]``: K ends, then K amounts of what is still to come.
        covariance: ``[2 K, 2 K]``.
        density: Logarithm of the density of all that was seen, up to a constant that is the same for all beliefs.
    """

    course: Course
    mean: FloatArray
    covariance: FloatArray
    density: float = 0.0

    @classmethod
    def prior(
        cls, course: Course, ends: tuple[FloatArray, FloatArray], amounts: tuple[FloatArray, FloatArray]
    ) -> Ends:
        """From mean ``[K]`` and covariance ``[K, K]`` of the ends (the noise of a measurement included) and of the amounts."""
        count = len(ends[0])
        covariance = np.zeros((2 * count, 2 * count))
        covariance[:count, :count], covariance[count:, count:] = ends[1], amounts[1]
        return cls(course, np.concatenate([ends[0], amounts[0]]), covariance)

    def after(self, which: NDArray[np.intp], when: NDArray[np.intp], values: FloatArray) -> Ends:
        """When validations of trainings ``which`` at times ``when`` (0 is the first of T) came out as ``values``, all ``[n]``."""
        if not len(which):
            return self
        root, explained, usual = self._seen(which, when)
        white = solve_triangular(root, values - usual, lower=True)
        density = -0.5 * float(white @ white) - float(np.log(np.diag(root)).sum())
        return Ends(
            self.course,
            self.mean + white @ explained,
            self.covariance - explained.T @ explained,
            self.density + density,
        )

    def at(self, trainings: slice) -> Ends:
        """The same of some trainings alone."""
        count = len(self.mean) // 2
        kept = np.concatenate([np.arange(count)[trainings], count + np.arange(count)[trainings]])
        return Ends(self.course, self.mean[kept], self.covariance[np.ix_(kept, kept)], self.density)

    def awaiting(
        self, which: NDArray[np.intp], when: NDArray[np.intp], normals: FloatArray
    ) -> tuple[FloatArray, Ends]:
        """What validations that are still to come may do to the belief.

        Args:
            which: ``[n]`` their trainings.
            when: ``[n]`` their times, as for :meth:`after`.
            normals: ``[m, n]`` draws of a standard normal distribution.

        Returns:
            ``[m, 2 K]`` the means after each of m outcomes, and the belief with the covariance after any of them.
        """
        if not len(which):
            return np.tile(self.mean, (len(normals), 1)), self
        _, explained, _ = self._seen(which, when)
        left = self.covariance - explained.T @ explained
        return self.mean + normals @ explained, Ends(self.course, self.mean, left, self.density)

    def _seen(
        self, which: NDArray[np.intp], when: NDArray[np.intp]
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Of n validations the factor of their covariance, ``[n, 2 K]`` what they explain, and ``[n]`` their means."""
        look = np.zeros((len(which), len(self.mean)))
        rows, count = np.arange(len(which)), len(self.mean) // 2
        look[rows, which], look[rows, count + which] = 1.0, self.course.direction[when]
        across = look @ self.covariance
        root = factor(across @ look.T + np.diag(self.course.rest[when]))
        explained = solve_triangular(root, across, lower=True)
        return root, explained, look @ self.mean + self.course.mean[when]

    def told(self, against: int | None) -> FloatArray:
        """How much one validation of each training at each time would move where it is believed to end.

        Args:
            against: The training whose end is subtracted, so that what is common to both moves nothing; None for no one.

        Returns:
            ``[K, T]`` standard deviations.
        """
        count, w = len(self.mean) // 2, self.course.direction
        ends, amounts = self.covariance[:count, :count], self.covariance[count:, count:]
        mixed = self.covariance[:count, count:]
        own = np.diag(ends)[:, None] + w * np.diag(mixed)[:, None]
        seen = own + w * np.diag(mixed)[:, None] + w**2 * np.diag(amounts)[:, None] + self.course.rest
        if against is not None:
            own = own - ends[against][:, None] - w * mixed[against][:, None]
        return np.abs(own) / np.sqrt(np.maximum(seen, 1e-12))


@dataclass(frozen=True, eq=False)
class Remaining:
    """How far trainings are from their end, whichever they are: all that is asked by who plans by ends and sees beginnings.

    Args:
        mean: ``[T]`` AP at T equally distant times, the last of them the end, less AP at the end.
        variance: ``[T]`` of that over trainings.
    """

    mean: FloatArray
    variance: FloatArray

    @classmethod
    def of(cls, curves: FloatArray) -> Remaining | None:
        """From ``[n, T]`` curves, of which those with a NaN are left out; None where none is left."""
        whole = curves[~np.isnan(curves).any(axis=1)]
        ahead = whole - whole[:, -1:]
        return cls(ahead.mean(axis=0), ahead.var(axis=0)) if ahead.size else None

    def glimpses(self, at: NDArray[np.intp], shares: FloatArray, aps: FloatArray) -> Glimpses:
        """Where trainings ``at`` end that had these ``aps`` after these ``shares`` of a full training, all ``[n]``.

        Between two of the T times on a straight line, before the first as at the first.
        """
        times = np.arange(1, len(self.mean) + 1) / len(self.mean)
        return Glimpses(
            at,
            aps - np.interp(shares, times, self.mean),
            np.interp(shares, times, self.variance),
        )


def in_units(seen: FloatArray, course: Course, spread: float) -> FloatArray:
    """``[K, T]`` APs of a customer's validations, centered and scaled as the process has its values.

    Center and scale are those of the newest APs, one a training, less what is usually still to come.
    """
    usual = seen - spread * course.mean
    newest = np.full(len(seen), np.nan)
    for row in np.flatnonzero(~np.isnan(seen).all(axis=1)):
        newest[row] = usual[row, np.flatnonzero(~np.isnan(seen[row]))[-1]]
    scaled = observe(newest, spread)
    return (seen - scaled.center) / scaled.scale
