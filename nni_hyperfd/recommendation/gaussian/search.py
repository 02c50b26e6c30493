"""Which configurations to try next, by what a process expects of a data set.

Trials are chosen one after the other by expected improvement, so that results correct what is tried next. Customers, who come with
domains of their own, may differ more from each other than the offline sets do: by how much is a mixture of hypotheses
(:data:`OWN`), each weighted by how well it foretold the customers so far, and this one. Whether what data sets look like means anything
for customers is another such question: several processes may be asked, one of which does not know it.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_triangular
from scipy.special import ndtr, ndtri, softmax
from scipy.stats import qmc

from nni_hyperfd.recommendation.gaussian.factor import factor
from nni_hyperfd.recommendation.gaussian.observed import FloatArray, observe
from nni_hyperfd.recommendation.gaussian.places import Places
from nni_hyperfd.recommendation.gaussian.task_process import Expected, TaskProcess, posterior

OWN = (1.0, 3.0, 10.0)
"""Hypotheses: variance of what is a customer's own, in units of what is an offline set's own. Believed in inverse proportion."""
ROWS = 400
"""Trials of all customers before that take part together: the time for a plan grows with the third power of their number, its memory with
the second. A hundred customers with a budget of four lose nothing."""
ROWS_OF_ONE = 32
"""Most of one of them."""
STEPS = 64
"""Trials that are chosen one after the other, each in view of those before it; what a plan names beyond them is in the order of what it
promises by itself."""
FANTASIES = 64
"""Of what trials may bring that have no result yet, where others are chosen beside them."""


@dataclass(frozen=True, eq=False)
class Finished:
    """A customer before.

    Args:
        customer: At the n configurations that were tried.
        values: ``[n]`` of :class:`~nni_hyperfd.recommendation.gaussian.observed.Observed`.
    """

    customer: Expected
    values: FloatArray


@dataclass(frozen=True, eq=False)
class Sight:
    """What one process sees.

    Args:
        process: Fitted to the offline table.
        customer: At its candidates.
        past: Customers before.
    """

    process: TaskProcess
    customer: Expected
    past: Sequence[Finished] = ()


@dataclass(frozen=True, eq=False)
class Remembered:
    """What an eye keeps of a customer before: its n most telling trials, the most telling one first.

    Args:
        place: ``[D]`` where the eye saw it.
        described: ``[n, P]`` the configurations.
        values: ``[n]`` of :class:`~nni_hyperfd.recommendation.gaussian.observed.Observed`.
    """

    place: FloatArray
    described: FloatArray
    values: FloatArray

    def first(self, count: int) -> Remembered:
        """With the first ``count`` of these trials only."""
        return Remembered(self.place, self.described[:count], self.values[:count])


class Eye:
    """A process and where it sees data sets.

    Args:
        aps: ``[S, U]`` the offline table, NaN where not measured.
        described: ``[U, P]`` its configurations.
        looks: ``[S, F]`` what its data sets look like, such as their φ; F = 0: it does not know.
    """

    def __init__(self, aps: FloatArray, described: FloatArray, looks: FloatArray) -> None:
        self._places = Places(looks)
        self._process = TaskProcess.fit(aps, described, self._places.known)

    def finished(self, looks: FloatArray, described: FloatArray, aps: FloatArray) -> Remembered:
        """A customer that looks like ``[F]`` after trials of configurations ``[n, P]`` with these APs ``[n]``.

        The most telling :data:`ROWS_OF_ONE` of them are kept, in that order; all of them say what is usual for the customer.
        """
        kept = self.telling(described, ROWS_OF_ONE)
        values = observe(aps, self._process.spread).values
        return Remembered(self._places.of(looks), described[kept], values[kept])

    def view(self, looks: FloatArray, described: FloatArray, past: Sequence[Remembered]) -> Sight:
        """Of a customer that looks like ``[F]``, at candidates ``[K, P]``, after others.

        Where these have more than :data:`ROWS` trials together, each gives up its least telling ones, those with most of them first.
        """
        most = fair_share([len(each.values) for each in past], ROWS)
        kept = [each.first(most) for each in past]
        *before, customer = self._process.customers(
            [*(each.place for each in kept), self._places.of(looks)],
            [*(each.described for each in kept), described],
        )
        finished = [Finished(seen, each.values) for seen, each in zip(before, kept)]
        return Sight(self._process, customer, finished)

    def telling(self, described: FloatArray, count: int, first: Sequence[int] = ()) -> NDArray[np.intp]:
        """See :meth:`~nni_hyperfd.recommendation.gaussian.task_process.TaskProcess.telling`."""
        return self._process.telling(described, count, first)


@dataclass(frozen=True, eq=False)
class Glimpses:
    """Where n trainings that have no result are expected to end, by what was seen of them.

    Args:
        at: ``[n]`` the candidates, each once.
        ends: ``[n]`` AP in [0, 1].
        variances: ``[n]`` of the ends about these, in AP².
    """

    at: NDArray[np.intp]
    ends: FloatArray
    variances: FloatArray

    @classmethod
    def none(cls) -> Glimpses:
        """Nothing was seen of any."""
        return cls(np.zeros(0, dtype=np.intp), np.zeros(0), np.zeros(0))


@dataclass(frozen=True, eq=False)
class Plan:
    """What to try.

    Args:
        order: ``[count]`` candidates in the order in which they are worth a trial.
        expected: ``[K]`` what all candidates are expected to reach, in units of the process, with an arbitrary offset.
    """

    order: NDArray[np.intp]
    expected: FloatArray


class GaussianSearch:
    """One customer's candidates, K, under each hypothesis.

    Args:
        views: Of all processes that are asked, fitted to the same table and with the same customers and candidates; they are believed
            alike beforehand.
        own: Further hypotheses within each, see :data:`OWN`.
    """

    def __init__(self, views: Sequence[Sight], own: Sequence[float] = OWN) -> None:
        self._beliefs = [belief for view in views for belief in _before_the_first_trial(view, own)]
        self._doubt = np.log(np.tile(own, len(views)))

    def plan(
        self,
        aps: FloatArray,
        running: NDArray[np.bool_],
        failed: NDArray[np.bool_],
        count: int = 1,
        glimpses: Glimpses | None = None,
    ) -> Plan:
        """The next ``count`` trials, or as many as are left.

        A trial is chosen in view of those that run, and of those that the plan names before it: by the mean of its expected improvement over
        :data:`FANTASIES` of what these may bring (Snoek et al. 2012, §3.2). Beyond :data:`STEPS` of them, only those before the last
        step are looked at.

        Args:
            aps: ``[K]`` in [0, 1], NaN where there is no result.
            running: ``[K]`` candidates whose results are still to come.
            failed: ``[K]`` candidates that will never have one.
            count: At least 1.
            glimpses: Of trials that run or failed. A glimpse is a measurement with more noise.
        """
        glimpses = glimpses or Glimpses.none()
        newest, variances = aps.copy(), np.zeros(len(aps))
        newest[glimpses.at], variances[glimpses.at] = glimpses.ends, glimpses.variances
        now = []
        for each in self._beliefs:
            seen = observe(newest, each.process.spread)
            noise = each.process.noise + variances[seen.indices] / seen.scale**2
            now.append(each.after(seen.indices, seen.values, noise))
        weights = softmax(np.array([each.density for each in now]) - self._doubt)
        expected = weights @ np.stack([each.mean for each in now])
        tried = running | ~np.isnan(aps)
        order: list[int] = []
        while len(order) < count and not (tried | failed).all():
            awaited = np.array([*np.flatnonzero(running), *order], dtype=np.intp)
            each_gain = [each.gain_beside(awaited, tried) for each in now]
            gain = np.where(tried | failed, -np.inf, weights @ np.stack(each_gain))
            ranked = np.argsort(-gain, kind="stable")[: int(np.isfinite(gain).sum())]
            if len(order) == STEPS:
                order.extend(ranked[: count - STEPS].tolist())
                break
            order.append(int(ranked[0]))
            tried = tried | (np.arange(len(tried)) == ranked[0])
        return Plan(np.array(order, dtype=np.intp), expected)


@dataclass(frozen=True, eq=False)
class _Belief:
    """One hypothesis about K values: mean ``[K]``, covariance ``[K, K]``, and the log density of all that was measured."""

    process: TaskProcess
    mean: FloatArray
    covariance: FloatArray
    density: float

    def after(self, at: NDArray[np.intp], values: FloatArray, noise: FloatArray) -> _Belief:
        mean, covariance, density = posterior(self.mean, self.covariance, at, values, noise)
        return _Belief(self.process, mean, covariance, self.density + density)

    def gain_beside(self, awaited: NDArray[np.intp], tried: NDArray[np.bool_]) -> FloatArray:
        """``[K]`` :func:`gain_of_next`, in the mean over what the trials ``awaited`` may bring; these are among the ``tried`` ones."""
        if not len(awaited):
            return gain_of_next(self.mean, self.covariance, tried)
        root = factor(self.covariance[np.ix_(awaited, awaited)] + self.process.noise * np.eye(len(awaited)))
        explained = solve_triangular(root, self.covariance[awaited], lower=True)
        means = self.mean + normals(len(awaited)) @ explained
        return fantasized(means, self.covariance, explained, tried)


@functools.lru_cache(maxsize=STEPS)
def normals(dimensions: int) -> FloatArray:
    """``[FANTASIES, dimensions]`` numbers spread evenly over a normal distribution, and always the same."""
    # A shift by hand: what scrambling is seeded by is named differently from release to release of SciPy.
    shift = np.random.default_rng(0).random(dimensions)
    even = (qmc.Sobol(dimensions, scramble=False).random(FANTASIES) + shift) % 1
    return np.asarray(ndtri(np.clip(even, 1e-6, 1 - 1e-6)))


def _before_the_first_trial(view: Sight, own: Sequence[float]) -> list[_Belief]:
    parts = [*(each.customer for each in view.past), view.customer]
    shared, alone = view.process.covariance(parts)
    mean = np.concatenate([part.mean for part in parts])
    values = np.concatenate([np.zeros(0), *(each.values for each in view.past)])
    n = len(values)
    found = []
    for times in own:
        covariance, rest = shared + times * alone, slice(n, None)
        belief = posterior(mean, covariance, np.arange(n), values, view.process.noise, rest)
        found.append(_Belief(view.process, *belief))
    return found


def fair_share(sizes: Sequence[int], total: int) -> int:
    """The largest number (at least 1) that each may have so that all together have no more than ``total``, or as many as they have."""
    most = max(sizes, default=1)
    while most > 1 and sum(min(size, most) for size in sizes) > total:
        most -= 1
    return most


def expected_improvement(mean: FloatArray, deviation: FloatArray, best: float | FloatArray) -> FloatArray:
    """E[max(f - best, 0)] for f ~ N(mean, deviation²), elementwise ``[...]``, the three broadcast (Jones et al. 1998, equation 15)."""
    deviation = np.maximum(deviation, 1e-12)
    z = (mean - best) / deviation
    return deviation * (z * ndtr(z) + np.exp(-0.5 * z**2) / math.sqrt(2 * math.pi))


def gain_of_next(mean: FloatArray, covariance: FloatArray, tried: NDArray[np.bool_]) -> FloatArray:
    """What trying each candidate is expected to gain.

    Args:
        mean: ``[K]`` posterior mean, with an arbitrary offset.
        covariance: ``[K, K]`` of the posterior.
        tried: ``[K]``.

    Returns:
        ``[K]``: the mean above the average candidate before the first trial, then the expected improvement.
    """
    if not tried.any():
        return mean - mean.mean()
    # Against the best tried one as believed, not as measured, and with what is common to both taken out.
    best = int(np.argmax(np.where(tried, mean, -np.inf)))
    variance = np.diag(covariance) + covariance[best, best] - 2 * covariance[best]
    return expected_improvement(mean, np.sqrt(np.maximum(variance, 0)), mean[best])


def fantasized(
    means: FloatArray, covariance: FloatArray, explained: FloatArray, tried: NDArray[np.bool_]
) -> FloatArray:
    """Mean over n fantasies of the expected improvement, ``[K]``, as :func:`gain_of_next` has it.

    Args:
        means: ``[n, K]`` posterior means, each after other results of the trials that run.
        covariance: ``[K, K]`` before them.
        explained: ``[m, K]``; ``explained.T @ explained`` is what m of them take from it, whatever they bring.
        tried: ``[K]``, with a result or without.
    """
    best = np.where(tried, means, -np.inf).argmax(axis=1)
    # Few rows of the covariance are asked for: the fantasies agree on most of their best ones.
    few, each = np.unique(best, return_inverse=True)
    left = np.diag(covariance) - np.square(explained).sum(axis=0)
    rows = covariance[few] - explained[:, few].T @ explained
    deviation = np.sqrt(np.maximum(left + left[few][:, None] - 2 * rows, 0))
    level = np.take_along_axis(means, best[:, None], axis=1)
    return expected_improvement(means, deviation[each], level).mean(axis=0)
