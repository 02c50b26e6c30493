"""Which training to begin or to go on with, epoch by epoch (METHOD.md §11: ``hyperfd-mf``).

Several experts are asked, and weighed by how well each foretold the customers before and the epochs so far: the processes with and
without φ under each hypothesis of :mod:`~nni_hyperfd.recommendation.gaussian.search`, and two that know nothing but an order of the
configurations (by their mean over the offline sets, and by a portfolio). The first training is the portfolio's first, to its end: from
a price of 1 on there is a detector in hand that a portfolio would have found as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax
from scipy.stats import norm, rankdata

from nni_hyperfd.recommendation.gaussian.learning_curves import Ends, StillToCome, in_units
from nni_hyperfd.recommendation.gaussian.observed import FloatArray
from nni_hyperfd.recommendation.gaussian.places import Places
from nni_hyperfd.recommendation.gaussian.search import OWN, expected_improvement
from nni_hyperfd.recommendation.gaussian.task_process import OFFSET_VARIANCE, TaskProcess
from nni_hyperfd.recommendation.portfolio import greedy_portfolio

MOST_SEEN = 256
"""Validations of one customer that are looked at; the time for a plan grows with the third power of their number."""
PORTFOLIO = 16
"""Configurations that a portfolio is made of; behind them comes what is best in the mean."""


@dataclass(frozen=True, eq=False)
class Curves:
    """The offline table with curves.

    Args:
        aps: ``[S, K, T]`` in [0, 1], NaN where not measured; T validations of a full training, the last at its end.
        described: ``[K, P]`` the configurations.
        looks: ``[S, F]`` what the data sets look like.
    """

    aps: FloatArray
    described: FloatArray
    looks: FloatArray


class EveryEpoch:
    """What is learned offline, and which experts foretold well; one for all customers.

    Args:
        offline: The table.
    """

    def __init__(self, offline: Curves) -> None:
        self.offline = offline
        self._sights = []
        for looks in (offline.looks, offline.looks[:, :0]):
            places = Places(looks)
            ends = TaskProcess.fit(offline.aps[..., -1], offline.described, places.known)
            still = StillToCome.fit(offline.aps, offline.described, places.known)
            self._sights.append((places, ends, still))
        self._trust = _beforehand()

    def fresh(self) -> EveryEpoch:
        """The same without any customer before."""
        found = copy(self)
        found._trust = _beforehand()
        return found

    def customer(self, looks: FloatArray, described: FloatArray) -> Trainings:
        """The next customer, who looks like ``[F]``.

        Args:
            looks: Of the data set.
            described: ``[K, P]`` what can be tried. What the offline sets would have brought with it is read off the process that knows
                no looks, and the portfolio is made of that.
        """
        orders = self._orders_of(described)
        experts: list[Ends] = []
        for places, process, still in self._sights:
            place = places.of(looks[: len(looks) if places.known.shape[1] else 0])
            amounts = still.customer(place, described)
            expected = process.customer(place, described)
            shared, alone = process.covariance([expected])
            noise = process.noise * np.eye(len(described))
            experts += [
                Ends.prior(still.course, (expected.mean, shared + own * alone + noise), amounts)
                for own in OWN
            ]
        # The last sight knows nothing of looks; so do those who know an order alone.
        around = OFFSET_VARIANCE + alone + noise
        experts += [Ends.prior(still.course, (order, around), amounts) for order in orders.values]
        return Trainings(experts, self._trust, process.spread, orders.first)

    def _orders_of(self, described: FloatArray) -> _Orders:
        filled = self._sights[-1][1].filled(described)
        ranks = rankdata(-filled, axis=1)
        head = greedy_portfolio(ranks, PORTFOLIO)
        rest = np.setdiff1d(np.argsort(ranks.mean(axis=0), kind="stable"), head, assume_unique=True)
        return _Orders.of(filled.mean(axis=0), np.concatenate([head, rest]).astype(np.intp))

    def learn(self, customer: Trainings, seen: FloatArray) -> None:
        """A customer is done: from now on those experts count for more who foretold its validations ``[K, T]``."""
        now = np.array([each.density for each in customer.after(seen)])
        self._trust = self._trust + now - now.max()

    @property
    def trust(self) -> FloatArray:
        """Logarithms of :attr:`weights`, up to a constant."""
        return self._trust

    @property
    def weights(self) -> FloatArray:
        """How much each expert counts before a customer's first epoch."""
        return np.asarray(softmax(self._trust))


@dataclass(frozen=True, eq=False)
class _Orders:
    """Ends as they who know an order alone expect them: ``values`` are two ``[K]``, ``first`` is the portfolio's first."""

    values: tuple[FloatArray, FloatArray]
    first: int

    @classmethod
    def of(cls, mean: FloatArray, portfolio: NDArray[np.intp]) -> _Orders:
        """From ``[K]`` means over the offline sets and ``[K]`` configurations, the portfolio's first one first."""
        promise = np.empty(len(mean))
        promise[portfolio] = norm.isf((np.arange(len(mean)) + 0.5) / len(mean))
        return cls((mean, promise * mean.std()), int(portfolio[0]))


@dataclass(frozen=True, eq=False)
class Trainings:
    """One customer's K trainings.

    Args:
        experts: What each believes before the first epoch.
        trust: Logarithms of how much each counts.
        spread: Typical deviation of AP within a data set.
        first: The configuration that is trained to its end before any other is begun.
    """

    experts: Sequence[Ends]
    trust: FloatArray
    spread: float
    first: int

    def after(self, seen: FloatArray) -> list[Ends]:
        """The experts' beliefs after validations ``[K, T]``, NaN where there was none.

        Where there are more than :data:`MOST_SEEN`, each training's newest ones count.
        """
        which, when = np.nonzero(~np.isnan(seen))
        if len(which) > MOST_SEEN:
            age = (~np.isnan(seen)).sum(axis=1)[which] - when
            kept = np.sort(np.argsort(age, kind="stable")[:MOST_SEEN])
            which, when = which[kept], when[kept]
        found = []
        for expert in self.experts:
            values = in_units(seen, expert.course, self.spread)[which, when]
            found.append(expert.after(which, when, values))
        return found

    def next(self, seen: FloatArray, failed: NDArray[np.bool_], left: int) -> int | None:
        """The training whose next epochs improve the end of the best one most, per price.

        Args:
            seen: ``[K, T]`` AP in [0, 1] after each validation so far, NaN where there was none.
            failed: ``[K]`` trainings that cannot go on.
            left: Validations that can still be paid for. A training that cannot be brought to its end with them is not begun.

        Returns:
            A configuration, or None if no training can be ended.
        """
        order = self.plan(seen, failed, left).order
        return int(order[0]) if len(order) else None

    def plan(
        self,
        seen: FloatArray,
        failed: NDArray[np.bool_],
        left: int,
        running: NDArray[np.bool_] | None = None,
    ) -> NextEpochs:
        """What going on with each training is worth, see :meth:`next`; ``running`` ``[K]`` are gone on with as it is."""
        done = (~np.isnan(seen)).sum(axis=1)
        missing = seen.shape[1] - done
        open_ = ~failed & (missing > 0) & (missing <= left)
        if running is not None:
            open_ &= ~running
        ended = (missing == 0) & ~failed
        beliefs = self.after(seen)
        weights = softmax(self.trust + np.array([each.density for each in beliefs]))
        expected = sum(w * each.mean[: len(done)] for w, each in zip(weights, beliefs))
        gain = sum(w * _gain(each, done, ended) for w, each in zip(weights, beliefs))
        gain = np.where(open_, gain, -np.inf)
        if not ended.any() and open_[self.first]:
            gain[self.first] = np.inf
        return NextEpochs(gain, np.asarray(expected))


@dataclass(frozen=True, eq=False)
class NextEpochs:
    """What there is to choose from.

    Args:
        gain: ``[K]`` how much going on with each training is expected to improve the best end, a validation; infinite for one that comes
            first in any case, minus infinity for those that cannot be gone on with.
        expected: ``[K]`` where each is expected to end, in units of the process, with an arbitrary offset.
    """

    gain: FloatArray
    expected: FloatArray

    @property
    def order(self) -> NDArray[np.intp]:
        """Those that can be gone on with, the best first."""
        ranked = np.argsort(-self.gain, kind="stable")
        return ranked[: int((self.gain > -np.inf).sum())]


def _gain(belief: Ends, done: NDArray[np.intp], ended: NDArray[np.bool_]) -> FloatArray:
    """``[K]``: of looking one or more validations further, the most that the best end is expected to gain by it, a validation."""
    count, times = len(done), len(belief.course.mean)
    mean = belief.mean[:count]
    best = int(np.argmax(np.where(ended, mean, -np.inf))) if ended.any() else None
    goal = mean.mean() if best is None else mean[best]
    steps = np.arange(1, times + 1)[None] - done[:, None]
    improvement = expected_improvement(mean[:, None], belief.told(best), float(goal))
    per_step = np.where(steps > 0, improvement / np.maximum(steps, 1), -np.inf)
    return np.asarray(per_step.max(axis=1))


def _beforehand() -> FloatArray:
    return np.concatenate([-np.log(np.tile(OWN, 2)), np.zeros(2)])
