"""Which training to begin or to go on with, epoch by epoch (METHOD.md §11: ``hyperfd-mf``).

Several experts are asked, and weighed by how well each foretold the customers before, who are further data sets of the processes, and the epochs
so far: the processes with and
without φ under each hypothesis of :mod:`~nni_hyperfd.recommendation.gaussian.search`, and two that know nothing but an order of the
configurations (by their mean over the offline sets, and by a portfolio). The first training is the portfolio's first, to its end: from
a price of 1 on there is a detector in hand that a portfolio would have found as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax
from scipy.stats import norm, rankdata

from nni_hyperfd.recommendation.gaussian.learning_curves import Ends, StillToCome, in_units
from nni_hyperfd.recommendation.gaussian.observed import FloatArray
from nni_hyperfd.recommendation.gaussian.places import Places
from nni_hyperfd.recommendation.gaussian.search import OWN, expected_improvement, fair_share, normals
from nni_hyperfd.recommendation.gaussian.task_process import OFFSET_VARIANCE, TaskProcess
from nni_hyperfd.recommendation.portfolio import greedy_portfolio

MOST_SEEN = 256
"""Validations of one customer that are looked at; the time for a plan grows with the third power of their number."""
ROWS = 120
"""Trainings of all customers before that take part together, as for :data:`nni_hyperfd.recommendation.gaussian.search.ROWS`."""
ROWS_OF_ONE = 24
"""Most of one of them."""
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


@dataclass(frozen=True, eq=False)
class Standing:
    """How far a customer's K trainings are, and what can still be paid for.

    Args:
        seen: ``[K, T]`` AP in [0, 1] after each validation so far, NaN where there was none.
        failed: ``[K]`` trainings that cannot go on.
        left: Validations that can still be paid for, beside those of what runs. A training that cannot be brought to its end with them
            is not begun.
        until: ``[K]`` validations that a training will have when its trial is done, 0 where none runs. Such a training is gone on with
            as it is.
    """

    seen: FloatArray
    failed: NDArray[np.bool_]
    left: int
    until: NDArray[np.intp]

    @classmethod
    def idle(cls, seen: FloatArray, failed: NDArray[np.bool_], left: int) -> Standing:
        """Nothing runs; ``seen`` is ``[K, T]`` and ``failed`` is ``[K]``."""
        return cls(seen, failed, left, np.zeros(len(seen), dtype=np.intp))

    @property
    def done(self) -> NDArray[np.intp]:
        """``[K]`` validations of each training so far."""
        return (~np.isnan(self.seen)).sum(axis=1)

    def stop(self, index: int) -> int:
        """Validations until which a trial takes a training: to its end while none has ended or runs to its end, else to the next one."""
        length = self.seen.shape[1]
        whole = np.where(self.failed, 0, np.maximum(self.done, self.until)) == length
        return int(self.done[index]) + 1 if whole.any() else length


@dataclass(frozen=True, eq=False)
class Forerunner:
    """A customer before, and his n trainings; those that say most about a training come first.

    Args:
        places: ``[D]`` where each process sees him.
        described: ``[n, P]`` the configurations.
        values: ``[n, T]`` his validations in units of the process, NaN where there was none.
        orders: ``[n]`` twice, where they who know an order alone expected the trainings to end.
    """

    places: tuple[FloatArray, ...]
    described: FloatArray
    values: FloatArray
    orders: tuple[FloatArray, ...]

    def first(self, count: int) -> Forerunner:
        """With the first ``count`` of these trainings only."""
        orders = tuple(each[:count] for each in self.orders)
        return Forerunner(self.places, self.described[:count], self.values[:count], orders)

    def telling(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Trainings and times, ``[m]`` each, of the validations that count: each training's newest, and its first, which says most of its course."""
        known = ~np.isnan(self.values)
        newest = known.shape[1] - 1 - known[:, ::-1].argmax(axis=1)
        ends = np.zeros_like(known)
        for when in (known.argmax(axis=1), newest):
            ends[np.arange(len(known)), when] = True
        which, when = np.nonzero(ends & known)
        return which, when


class EveryEpoch:
    """What is learned offline; one for all customers.

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

    def finished(self, looks: FloatArray, described: FloatArray, seen: FloatArray) -> Forerunner:
        """A customer is done; ``looks`` and ``described`` are as for :meth:`customer`.

        The longest of his trainings, and of equally long ones the most telling, are kept, up to :data:`ROWS_OF_ONE`; all of them say what is
        usual for the customer.

        Args:
            looks: ``[F]`` of the data set.
            described: ``[K, P]`` what could be tried.
            seen: ``[K, T]`` AP in [0, 1] of his validations, NaN where there was none.
        """
        orders = self._orders_of(described)
        _, process, still = self._sights[-1]
        values = in_units(seen, still.course, process.spread)
        begun = np.flatnonzero(~np.isnan(seen).all(axis=1))
        begun = begun[process.telling(described[begun], len(begun))]
        reached = seen.shape[1] - (~np.isnan(seen))[begun, ::-1].argmax(axis=1)
        kept = begun[np.argsort(-reached, kind="stable")][:ROWS_OF_ONE]
        expected = tuple(each[kept] for each in orders.values)
        return Forerunner(self._places(looks), described[kept], values[kept], expected)

    def customer(
        self, looks: FloatArray, described: FloatArray, past: Sequence[Forerunner] = ()
    ) -> Trainings:
        """The next customer.

        Customers before are further data sets of the processes, and count for those experts who foretold them.

        Args:
            looks: ``[F]`` of the data set.
            described: ``[K, P]`` what can be tried. What the offline sets would have brought with it is read off the process that knows
                no looks, and the portfolio is made of that.
            past: Customers before. Where these have more than :data:`ROWS` trainings together, each gives up the last ones, those with most
                of them first.
        """
        orders = self._orders_of(described)
        most = fair_share([len(each.described) for each in past], ROWS)
        past = [each.first(most) for each in past]
        sizes = [len(each.described) for each in past]
        seen, mine = [each.telling() for each in past], slice(sum(sizes), None)
        starts = np.cumsum([0, *sizes])
        which = np.concatenate([[], *(start + rows for start, (rows, _) in zip(starts, seen))]).astype(
            np.intp
        )
        when = np.concatenate([[], *(times for _, times in seen)]).astype(np.intp)
        values = np.concatenate([np.zeros(0), *(each.values[at] for each, at in zip(past, seen))])
        all_described = [*(each.described for each in past), described]
        experts: list[Ends] = []
        for sight, (place, (_, process, still)) in enumerate(zip(self._places(looks), self._sights)):
            places = [*(each.places[sight] for each in past), place]
            amounts = still.customers(places, all_described)
            expected = process.customers(places, all_described)
            mean = np.concatenate([each.mean for each in expected])
            shared, alone = process.covariance(expected)
            noise = process.noise * np.eye(len(mean))
            experts += [
                Ends.prior(still.course, (mean, shared + own * alone + noise), amounts)
                .after(which, when, values)
                .at(mine)
                for own in OWN
            ]
        # The last sight knows nothing of looks; so do those who know an order alone, who learn nothing of ends from other customers either.
        owner = np.repeat(np.arange(len(past) + 1), [*sizes, len(described)])
        around = OFFSET_VARIANCE * (owner[:, None] == owner) + alone + noise
        for number in range(len(orders.values)):
            order = np.concatenate([*(each.orders[number] for each in past), orders.values[number]])
            prior = Ends.prior(still.course, (order, around), amounts)
            experts.append(prior.after(which, when, values).at(mine))
        return Trainings(experts, _beforehand(), process.spread, orders.first)

    def _places(self, looks: FloatArray) -> tuple[FloatArray, ...]:
        return tuple(
            places.of(looks[: len(looks) if places.known.shape[1] else 0]) for places, _, _ in self._sights
        )

    def _orders_of(self, described: FloatArray) -> _Orders:
        filled = self._sights[-1][1].filled(described)
        ranks = rankdata(-filled, axis=1)
        head = greedy_portfolio(ranks, PORTFOLIO)
        rest = np.setdiff1d(np.argsort(ranks.mean(axis=0), kind="stable"), head, assume_unique=True)
        return _Orders.of(filled.mean(axis=0), np.concatenate([head, rest]).astype(np.intp))


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
        experts: What each believes before the first epoch, with the density of all that was seen of customers before.
        trust: ``[E]`` logarithms of how much each of the E experts counts beforehand.
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

    def plan(self, standing: Standing) -> NextEpochs:
        """What going on with each training is worth: how much the end of the best one is expected to gain by it, a validation.

        What others are worth beside trainings that run is a mean over what these may bring, as in
        :meth:`~nni_hyperfd.recommendation.gaussian.search.GaussianSearch.plan`.
        """
        seen, failed = standing.seen, standing.failed
        done, until = standing.done, np.where(failed, 0, standing.until)
        missing = seen.shape[1] - done
        open_ = ~failed & (until == 0) & (missing > 0) & (missing <= standing.left)
        ended = (np.maximum(done, until) == seen.shape[1]) & ~failed
        awaited = np.flatnonzero(until > done)
        beliefs = self.after(seen)
        weights = softmax(self.trust + np.array([each.density for each in beliefs]))
        expected = sum(w * each.mean[: len(done)] for w, each in zip(weights, beliefs))
        gain = sum(
            w * _gain(each, done, ended, awaited, until[awaited] - 1) for w, each in zip(weights, beliefs)
        )
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
        """Those n that can be gone on with, ``[n]``, the best first."""
        ranked = np.argsort(-self.gain, kind="stable")
        return ranked[: int((self.gain > -np.inf).sum())]


def _gain(
    belief: Ends,
    done: NDArray[np.intp],
    ended: NDArray[np.bool_],
    awaited: NDArray[np.intp],
    when: NDArray[np.intp],
) -> FloatArray:
    """``[K]``: of looking one or more validations further, the most that the best end is expected to gain by it, a validation.

    ``ended`` are trainings whose end is in hand or is among the validations ``awaited``, at times ``when``.
    """
    count, times = len(done), len(belief.course.mean)
    # Without anything that runs, what is known is all that there is to look at.
    draws = normals(len(awaited)) if len(awaited) else np.zeros((1, 0))
    means, then = belief.awaiting(awaited, when, draws)
    means = means[:, :count]
    improvement = np.zeros((count, times))
    best = np.where(ended, means, -np.inf).argmax(axis=1) if ended.any() else np.full(len(means), -1)
    # What is told is asked for few of them: the outcomes agree on most of their best ones.
    for each in np.unique(best):
        some = means[best == each]
        goal, told = (
            (some.mean(axis=1), then.told(None)) if each < 0 else (some[:, each], then.told(int(each)))
        )
        improvement += expected_improvement(some[:, :, None], told, goal[:, None, None]).sum(axis=0)
    steps = np.arange(1, times + 1)[None] - done[:, None]
    per_step = np.where(steps > 0, improvement / len(means) / np.maximum(steps, 1), -np.inf)
    return np.asarray(per_step.max(axis=1))


def _beforehand() -> FloatArray:
    return np.concatenate([-np.log(np.tile(OWN, 2)), np.zeros(2)])
