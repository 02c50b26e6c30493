"""Which configurations to try next, by what a process expects of a data set.

Trials are chosen one after the other by expected improvement, so that results correct what is tried next. Customers, who come with
domains of their own, may differ more from each other than the offline sets do: by how much is a mixture of hypotheses
(:data:`OWN`), each weighted by how well it foretold the customers so far, and this one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax
from scipy.stats import norm

from nni_hyperfd.process.observed import FloatArray, observe
from nni_hyperfd.process.task_process import Customer, TaskProcess, posterior

OWN = (1.0, 3.0, 10.0)
"""Hypotheses: variance of what is a customer's own, in units of what is an offline set's own. Believed in inverse proportion."""


@dataclass(frozen=True, eq=False)
class Finished:
    """A customer before.

    Args:
        customer: At the n configurations that were tried.
        values: ``[n]`` of :class:`~nni_hyperfd.process.observed.Observed`.
    """

    customer: Customer
    values: FloatArray


@dataclass(frozen=True, eq=False)
class Plan:
    """What to try.

    Args:
        order: ``[count]`` candidates in the order in which they are worth a trial.
        expected: ``[K]`` what all candidates are expected to reach, in units of the process, with an arbitrary offset.
    """

    order: NDArray[np.intp]
    expected: FloatArray


class Search:
    """One customer's candidates, K, under each hypothesis.

    Args:
        process: Fitted to the offline table.
        customer: At its candidates.
        past: Customers before.
        own: Hypotheses, see :data:`OWN`.
    """

    def __init__(
        self,
        process: TaskProcess,
        customer: Customer,
        past: Sequence[Finished] = (),
        own: Sequence[float] = OWN,
    ) -> None:
        self._process, self._own = process, own
        parts = [*(each.customer for each in past), customer]
        shared, alone = process.covariance(parts)
        mean = np.concatenate([part.mean for part in parts])
        values = np.concatenate([np.zeros(0), *(each.values for each in past)])
        n = len(values)
        self._beliefs = []
        for factor in own:
            after = posterior(mean, shared + factor * alone, np.arange(n), values, process.noise)
            self._beliefs.append((after[0][n:], after[1][n:, n:], after[2]))

    def plan(self, aps: FloatArray, begun: NDArray[np.bool_], count: int = 1) -> Plan:
        """The next ``count`` trials, or as many as are left.

        More than one are chosen as if each of those before it would come out as expected, and so are those that are begun and
        have no result yet.

        Args:
            aps: ``[K]`` in [0, 1], NaN where there is no result.
            begun: ``[K]`` candidates that are not to be tried again.
            count: At least 1.
        """
        seen = observe(aps, self._process.spread)
        noise = self._process.noise
        now = [posterior(m, c, seen.indices, seen.values, noise) for m, c, _ in self._beliefs]
        known = [before[2] + after[2] for before, after in zip(self._beliefs, now)]
        weights = softmax(np.array(known) - np.log(self._own))
        means = [mean for mean, _, _ in now]
        running = np.flatnonzero(begun & np.isnan(aps))
        spreads = [_expecting(spread, running, noise) for _, spread, _ in now]
        open_, order = ~begun, []
        while open_.any() and len(order) < count:
            gain = weights @ np.stack([gain_of_next(m, c, open_) for m, c in zip(means, spreads)])
            best = int(np.argmax(np.where(open_, gain, -np.inf)))
            order.append(best)
            open_ = open_ & (np.arange(len(open_)) != best)
            spreads = [_expecting(spread, np.array([best]), noise) for spread in spreads]
        return Plan(np.array(order, dtype=np.intp), weights @ np.stack(means))


def _expecting(covariance: FloatArray, at: NDArray[np.intp], noise: float) -> FloatArray:
    """``[K, K]`` when there will be results at ``at``, whatever they are; the mean stays if they are as expected."""
    if not len(at):
        return covariance
    return posterior(np.zeros(len(covariance)), covariance, at, np.zeros(len(at)), noise)[1]


def expected_improvement(mean: FloatArray, deviation: FloatArray, best: float) -> FloatArray:
    """E[max(f - best, 0)] for f ~ N(mean, deviation²), elementwise."""
    deviation = np.maximum(deviation, 1e-12)
    z = (mean - best) / deviation
    return deviation * (z * norm.cdf(z) + norm.pdf(z))


def gain_of_next(mean: FloatArray, covariance: FloatArray, untried: NDArray[np.bool_]) -> FloatArray:
    """What trying each candidate is expected to gain.

    Args:
        mean: ``[K]`` posterior mean, with an arbitrary offset.
        covariance: ``[K, K]`` of the posterior.
        untried: ``[K]``.

    Returns:
        ``[K]``: the mean above the average candidate before the first trial, then the expected improvement.
    """
    if untried.all():
        return mean - mean.mean()
    # Against the best tried one as believed, not as measured, and with what is common to both taken out.
    best = int(np.argmax(np.where(untried, -np.inf, mean)))
    variance = np.diag(covariance) + covariance[best, best] - 2 * covariance[best]
    return expected_improvement(mean, np.sqrt(np.maximum(variance, 0)), mean[best])
