"""A simulator of learning curves: methods begin trainings, go on with them from where they are, or leave them (METHOD.md §11).

The currency is the *price*: epochs trained over all trainings, in units of one full training. What a method has in hand at a price is
the training that ended best among those it has brought to their end: a customer wants a detector, not a promise.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from nni_hyperfd.errors import DataError
from nni_hyperfd.evidence.comparison import (
    Outcome,
    expected_at_random,
    mean_and_errors,
    normalized_ranks,
    over_customers,
    task_order,
)
from nni_hyperfd.evidence.page import OVER, markdown_table, two_digits
from nni_hyperfd.evidence.rivals.base import Known, Profile
from nni_hyperfd.evidence.rivals.portfolio import greedy_portfolio
from nni_hyperfd.evidence.table import LookupTable
from nni_hyperfd.recommendation.gaussian.every_epoch import (
    Curves,
    EveryEpoch,
    Forerunner,
    NextEpochs,
    Standing,
)

FloatArray = NDArray[np.float64]

PRICES = tuple(range(1, 11))


def curves_of(table: LookupTable, configurations: Sequence[str], data_sets: Sequence[str]) -> FloatArray:
    """``[D, K, T]`` AP on val of one budget's rows; NaN where there is no row, a failed one, or one that stopped before its end.

    Raises:
        DataError: No row has a curve, or they were validated at different times.
    """
    rows = {(row.data_set, row.configuration): row for row in table.over_seeds()}
    longest = max((row.curve for row in rows.values()), key=len, default=())
    if not longest:
        raise DataError("no row has a learning curve: measure them anew with 'hyperfd table build'.")
    shares = [share for share, _ in longest]
    if not np.allclose(shares, np.arange(1, len(shares) + 1) / len(shares)):
        raise DataError(f"learning curves are to be validated at equal distances up to 1, not at {shares}.")
    found = np.full((len(data_sets), len(configurations), len(shares)), np.nan)
    for d, name in enumerate(data_sets):
        for k, text in enumerate(configurations):
            row = rows.get((name, text))
            if row is None or row.failure or len(row.curve) < len(shares):
                continue
            if [share for share, _ in row.curve] != shares:
                raise DataError(f"the curve of {row.pair} was validated at other times than others.")
            found[d, k] = [ap for _, ap in row.curve]
    return found


@dataclass(frozen=True, eq=False)
class CurveTable(Curves):
    """What methods by price know beforehand.

    Args:
        portfolio: ``[U]`` the configurations in the order in which a portfolio of measured trainings has them.
        known: What all this was made from, images included; None in a world without images.
    """

    portfolio: NDArray[np.intp]
    known: Known | None = None


@dataclass(frozen=True, eq=False)
class CurveScenario:
    """Customers whose trainings can be played.

    Args:
        name: Of the scenario.
        offline: What is known beforehand, of U ≥ K configurations. A customer can try the first K.
        curves: ``[D, K, T]`` AP of the customers' validations; NaN in all of T: the training fails at once.
        looks: ``[D, F]`` of the customers.
        judge: ``[D, K]`` AP by which what is in hand is ranked.
        tasks: D names.
        profiles: D, of the customers' images; none in a world without images.
    """

    name: str
    offline: CurveTable
    curves: FloatArray
    looks: FloatArray
    judge: FloatArray
    tasks: tuple[str, ...]
    profiles: tuple[Profile, ...] = ()

    def customer(self, number: int, validations: int) -> CurveTask:
        """One of them, who can pay for so many validations."""
        profile = self.profiles[number] if self.profiles else None
        known = len(self.offline.described)
        return CurveTask(self.looks[number], self.curves[number], validations, known, profile)


class CurveTask:
    """One customer. Hands out validations for a price and notes what is in hand.

    Args:
        looks: ``[F]``.
        curves: ``[K, T]``.
        validations: That are paid for.
        known: U ≥ K; those behind K are known from other data sets alone, and cannot be trained here.
        profile: Of the images; None in a world without images.
    """

    def __init__(
        self,
        looks: FloatArray,
        curves: FloatArray,
        validations: int,
        known: int | None = None,
        profile: Profile | None = None,
    ) -> None:
        self.looks, self.profile = looks, profile
        self.candidates, length = curves.shape
        self.seen: FloatArray = np.full((known or self.candidates, length), np.nan)
        self.failed = np.arange(len(self.seen)) >= self.candidates
        self.left = validations
        self.begun: list[int] = []
        """In the order in which they were begun."""
        self.hand: list[list[int]] = []
        """After each validation that was paid: the ended trainings of the best AP, none before the first end."""
        self.__curves = curves

    @property
    def length(self) -> int:
        """Validations of a full training."""
        return len(self.seen[0])

    def open(self) -> NDArray[np.intp]:
        """The n configurations that were never begun and can be, ``[n]``."""
        return np.flatnonzero(~self.failed & np.isnan(self.seen[:, 0]))

    def best(self, index: int) -> float:
        """What a trial reports of a training: the best AP so far, whose weights it keeps."""
        return float(np.nanmax(self.seen[index]))

    def forget(self, index: int) -> None:
        """Leaves no checkpoint of a training: it begins anew, and is paid for once more."""
        self.seen[index] = np.nan

    def reached(self, validations: int) -> list[int]:
        """Trainings that did not fail and have so many validations at least, in the order in which they were begun."""
        return [
            index
            for index in self.begun
            if not self.failed[index] and not np.isnan(self.seen[index, validations - 1])
        ]

    def train(self, index: int, validations: int) -> bool:
        """Trains on until so many validations are done, counted from the start; False if it fails or nothing is left before."""
        while (~np.isnan(self.seen[index])).sum() < validations:
            if self.failed[index] or self.left <= 0 or np.isnan(self.go_on(index)):
                return False
        return True

    def go_on(self, index: int) -> float:
        """Trains to the next validation, from the start or from the checkpoint; NaN, and no price, if the training fails.

        Raises:
            DataError: Nothing is left, the training ended, or it failed before.
        """
        at = int((~np.isnan(self.seen[index])).sum())
        if self.left <= 0 or at == self.length or self.failed[index]:
            raise DataError(f"training {index} cannot go on: {self.left} validations are left.")
        ap = float(self.__curves[index, at])
        if np.isnan(ap):
            self.failed[index] = True
            return ap
        if index not in self.begun:
            self.begun.append(index)
        self.seen[index, at] = ap
        self.left -= 1
        ends = np.where(self.failed, np.nan, self.seen[:, -1])
        best = np.flatnonzero(ends == np.nanmax(ends)).tolist() if not np.isnan(ends).all() else []
        self.hand.append(best)
        return ap


class CurveMethod(ABC):
    """:meth:`reset` begins a run; :meth:`search` is called once a customer."""

    name: ClassVar[str]

    @abstractmethod
    def reset(self, offline: CurveTable, seed: int) -> None:
        """Forgets all customers."""

    @abstractmethod
    def search(self, task: CurveTask) -> None:
        """Spends what is left."""


class FullTrainings(CurveMethod):
    """Trains one configuration after the other to its end, in an order that does not depend on the customer.

    Args:
        name: In the results.
        order: From the offline table and a generator to ``[K]``.
    """

    def __init__(self, name: str, order: Callable[[CurveTable, np.random.Generator], Sequence[int]]) -> None:
        self.name = name  # type: ignore[misc]
        self._order = order

    def reset(self, offline: CurveTable, seed: int) -> None:
        self._offline, self._rng = offline, np.random.default_rng([seed, 2])

    def search(self, task: CurveTask) -> None:
        for index in self._order(self._offline, self._rng):
            task.train(int(index), task.length)


class Probes(CurveMethod):
    """The trap of METHOD.md §11: three probes of one validation for each full training's price, then the best of them to the end."""

    name = "probes, by early AP"

    def reset(self, offline: CurveTable, seed: int) -> None:
        self._order = offline.portfolio

    def search(self, task: CurveTask) -> None:
        can = set(task.open().tolist())
        for index in [int(each) for each in self._order if int(each) in can][: task.left // 2]:
            task.train(index, 1)
        early = np.where(np.isnan(task.seen[:, 0]), -1.0, task.seen[:, 0])
        for index in np.argsort(-early, kind="stable"):
            task.train(int(index), task.length)


class EveryEpochCounts(CurveMethod):
    """The belief of ``hyperfd-mf`` alone, for worlds that have no images, no ranker and no search space.

    It is :class:`~nni_hyperfd.recommendation.gaussian.every_epoch.EveryEpoch`, asked as the platform asks it. The method itself is
    :class:`~nni_hyperfd.evidence.rivals.hyperfd_mf.HyperFDMF`.
    """

    name = "every epoch"

    def __init__(self) -> None:
        self._fitted: tuple[CurveTable, EveryEpoch] | None = None
        self._past: list[Forerunner] = []

    def reset(self, offline: CurveTable, seed: int) -> None:
        if self._fitted is None or self._fitted[0] is not offline:
            self._fitted = offline, EveryEpoch(offline)
        self._method, self._past = self._fitted[1], []

    def search(self, task: CurveTask) -> None:
        described = self._method.offline.described[: task.candidates]
        customer = self._method.customer(task.looks, described, self._past)
        go_on_by(task, customer.plan)
        seen = task.seen[: task.candidates]
        if not np.isnan(seen).all():
            self._past.append(self._method.finished(task.looks, described, seen))


def go_on_by(task: CurveTask, plan: Callable[[Standing], NextEpochs]) -> None:
    """Spends what is left, one trial after the other, as the tuner's trials do: each takes the plan's first training to its stop."""
    count = task.candidates
    while True:
        standing = Standing.idle(task.seen[:count], task.failed[:count], task.left)
        order = plan(standing).order
        if not len(order):
            return
        index = int(order[0])
        task.train(index, standing.stop(index))


def portfolio_order(ends: FloatArray) -> NDArray[np.intp]:
    """``[K]``: the greedy portfolio on ranks over complete rows ``[S, K]``, then the rest by mean rank."""
    ranks = normalized_ranks(ends.T).T
    return np.array(greedy_portfolio(ranks, ends.shape[1]), dtype=np.intp)


def _mean_order(offline: CurveTable, rng: np.random.Generator) -> Sequence[int]:
    order: list[int] = np.argsort(np.nanmean(normalized_ranks(offline.aps[..., -1].T), axis=1)).tolist()
    return order


def curve_methods() -> list[CurveMethod]:
    """All that are compared in worlds without images."""
    return [
        FullTrainings("random", lambda offline, rng: rng.permutation(len(offline.described)).tolist()),
        FullTrainings("mean-rank", _mean_order),
        FullTrainings("portfolio", lambda offline, rng: offline.portfolio.tolist()),
        Probes(),
        EveryEpochCounts(),
    ]


def play(
    method: CurveMethod,
    scenario: CurveScenario,
    prices: Sequence[int] = PRICES,
    seeds: Sequence[int] = range(4),
) -> Outcome:
    """All customers in an order that depends on the seed alone, for each price anew: a method may plan by what it has to spend.

    Budgets of the outcome are prices; a rank is 100 where nothing is in hand, and its AP that of the worst. ``random_ap`` is that of as many
    random full trainings, exactly.
    """
    customers, _, length = scenario.curves.shape
    ranks = normalized_ranks(scenario.judge.T).T
    rank = np.full((len(prices), len(seeds), customers), 100.0)
    ap = np.tile(np.nanmin(scenario.judge, axis=1), (len(prices), len(seeds), 1))
    for p, price in enumerate(prices):
        for s, seed in enumerate(seeds):
            method.reset(scenario.offline, seed)
            for d in task_order(customers, seed):
                task = scenario.customer(d, price * length)
                method.search(task)
                if task.hand and task.hand[-1]:
                    rank[p, s, d] = ranks[d, task.hand[-1]].mean()
                    ap[p, s, d] = scenario.judge[d, task.hand[-1]].mean()
    ends = np.where(np.isnan(scenario.curves).any(axis=2), np.nan, scenario.curves[..., -1])
    random_ap = [
        [expected_at_random(ends[d], scenario.judge[d], price) for d in range(customers)] for price in prices
    ]
    return Outcome(method.name, scenario.name, scenario.tasks, tuple(prices), rank, ap, np.array(random_ap))


def by_price(outcomes: Sequence[Outcome], prices: Sequence[int], at: int = 4) -> str:
    """A markdown table, best first: mean rank at each price; at one of them errors over orders and customers, and ΔAP.

    Args:
        outcomes: One a method; not all need every price, but ``at``.
        prices: The columns.
        at: Price of errors and ΔAP.
    """
    rows = []
    for outcome in sorted(outcomes, key=lambda each: float(each.rank[each.budgets.index(at)].mean())):
        over, gain = over_customers(outcome, at)
        means = dict(zip(outcome.budgets, outcome.rank.mean(axis=(1, 2))))
        cells = [f"{means[price]:.1f}" if price in means else "–" for price in prices]
        error = mean_and_errors(outcome.rank[outcome.budgets.index(at)])[1]
        seeds = str(outcome.rank.shape[1])
        rows.append(
            [outcome.method, *cells, two_digits(error), str(over), f"{gain.mean:+.2f}", str(gain), seeds]
        )
    head = [f"price {price}" for price in prices]
    return markdown_table(
        ["rank % of", *head, f"± orders, at {at}", OVER, f"ΔAP at {at}", OVER, "seeds"], rows
    )


def gains_by_price(outcomes: Sequence[Outcome], prices: Sequence[int]) -> str:
    """A markdown table in the order of ``outcomes``: ΔAP at each price, over as many random full trainings, summed over data sets."""
    rows = []
    for outcome in outcomes:
        gains = dict(zip(outcome.budgets, outcome.delta_ap().mean(axis=1)))
        rows.append([outcome.method, *(f"{gains[each]:+.1f}" if each in gains else "–" for each in prices)])
    return markdown_table(["ΔAP of", *(f"price {price}" for price in prices)], rows)
