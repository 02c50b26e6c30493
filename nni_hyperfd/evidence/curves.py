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
from nni_hyperfd.evidence.bootstrap import bootstrap
from nni_hyperfd.evidence.comparison import expected_at_random, normalized_ranks, task_order
from nni_hyperfd.evidence.page import lines
from nni_hyperfd.evidence.rivals.portfolio import greedy_portfolio
from nni_hyperfd.evidence.table import LookupTable
from nni_hyperfd.recommendation.gaussian.every_epoch import Curves, EveryEpoch

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
        raise DataError("no row has a learning curve: measure them anew with --budget curves.")
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
class CurveScenario:
    """Customers whose trainings can be played.

    Args:
        name: Of the scenario.
        offline: What is known beforehand.
        curves: ``[D, K, T]`` AP of the customers' validations; NaN in all of T: the training fails at once.
        looks: ``[D, F]`` of the customers.
        judge: ``[D, K]`` AP by which what is in hand is ranked.
    """

    name: str
    offline: Curves
    curves: FloatArray
    looks: FloatArray
    judge: FloatArray


class CurveTask:
    """One customer. Hands out validations for a price and notes what is in hand."""

    def __init__(self, looks: FloatArray, curves: FloatArray, validations: int) -> None:
        self.looks = looks
        self.seen: FloatArray = np.full_like(curves, np.nan)
        self.failed = np.zeros(len(curves), dtype=bool)
        self.left = validations
        self.hand: list[list[int]] = []
        """After each validation that was paid: the ended trainings of the best AP, none before the first end."""
        self.__curves = curves

    @property
    def length(self) -> int:
        """Validations of a full training."""
        return len(self.seen[0])

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
    def reset(self, offline: Curves, seed: int) -> None:
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

    def __init__(self, name: str, order: Callable[[Curves, np.random.Generator], Sequence[int]]) -> None:
        self.name = name  # type: ignore[misc]
        self._order = order

    def reset(self, offline: Curves, seed: int) -> None:
        self._offline, self._rng = offline, np.random.default_rng([seed, 2])

    def search(self, task: CurveTask) -> None:
        for index in self._order(self._offline, self._rng):
            for _ in range(task.length):
                if task.left <= 0 or np.isnan(task.go_on(int(index))):
                    break


class Probes(CurveMethod):
    """The trap of METHOD.md §11: three probes of one validation for each full training's price, then the best of them to the end."""

    name = "probes, by early AP"

    def reset(self, offline: Curves, seed: int) -> None:
        self._order = offline.portfolio

    def search(self, task: CurveTask) -> None:
        for index in self._order[: task.left // 2]:
            task.go_on(int(index))
        early = np.where(np.isnan(task.seen[:, 0]), -1.0, task.seen[:, 0])
        for index in np.argsort(-early, kind="stable"):
            while task.left > 0 and not task.failed[index] and np.isnan(task.seen[index, -1]):
                task.go_on(int(index))


class HyperFDMF(CurveMethod):
    """Every epoch counts: :mod:`~nni_hyperfd.recommendation.gaussian.every_epoch`."""

    name = "hyperfd-mf"

    def __init__(self) -> None:
        self._fitted: tuple[Curves, EveryEpoch] | None = None

    def reset(self, offline: Curves, seed: int) -> None:
        if self._fitted is None or self._fitted[0] is not offline:
            self._fitted = offline, EveryEpoch(offline)
        self._method = self._fitted[1].fresh()

    def search(self, task: CurveTask) -> None:
        customer = self._method.customer(task.looks)
        while (index := customer.next(task.seen, task.failed, task.left)) is not None:
            task.go_on(index)
        self._method.learn(customer, task.seen)


def portfolio_order(ends: FloatArray) -> NDArray[np.intp]:
    """``[K]``: the greedy portfolio on ranks over complete rows ``[S, K]``, then the rest by mean rank."""
    ranks = normalized_ranks(ends.T).T
    return np.array(greedy_portfolio(ranks, ends.shape[1]), dtype=np.intp)


def _mean_order(offline: Curves, rng: np.random.Generator) -> Sequence[int]:
    order: list[int] = np.argsort(np.nanmean(normalized_ranks(offline.aps[..., -1].T), axis=1)).tolist()
    return order


def curve_methods() -> list[CurveMethod]:
    """All that are compared."""
    return [
        FullTrainings("random", lambda offline, rng: rng.permutation(len(offline.described)).tolist()),
        FullTrainings("mean-rank", _mean_order),
        FullTrainings("portfolio", lambda offline, rng: offline.portfolio.tolist()),
        Probes(),
        HyperFDMF(),
    ]


@dataclass(frozen=True, eq=False)
class PriceOutcome:
    """What one method reached.

    Args:
        method: Its name.
        prices: N prices.
        rank: ``[N, seeds, D]`` normalized rank in percent of what is in hand; 100 where nothing is.
        ap: ``[N, seeds, D]`` its judged AP; that of the worst where nothing is in hand.
        random_ap: ``[N, D]`` AP of as many random full trainings, exactly.
    """

    method: str
    prices: tuple[int, ...]
    rank: FloatArray
    ap: FloatArray
    random_ap: FloatArray

    def delta_ap(self) -> FloatArray:
        """``[N, seeds]`` ΔAP in AP points, summed over customers."""
        return 100.0 * (self.ap - self.random_ap[:, None]).sum(axis=2)


def play(
    method: CurveMethod,
    scenario: CurveScenario,
    prices: Sequence[int] = PRICES,
    seeds: Sequence[int] = range(4),
) -> PriceOutcome:
    """All customers in an order that depends on the seed alone, for each price anew: a method may plan by what it has to spend."""
    customers, _, length = scenario.curves.shape
    ranks = normalized_ranks(scenario.judge.T).T
    rank = np.full((len(prices), len(seeds), customers), 100.0)
    ap = np.tile(np.nanmin(scenario.judge, axis=1), (len(prices), len(seeds), 1))
    for p, price in enumerate(prices):
        for s, seed in enumerate(seeds):
            method.reset(scenario.offline, seed)
            for d in task_order(customers, seed):
                task = CurveTask(scenario.looks[d], scenario.curves[d], price * length)
                method.search(task)
                if task.hand and task.hand[-1]:
                    rank[p, s, d] = ranks[d, task.hand[-1]].mean()
                    ap[p, s, d] = scenario.judge[d, task.hand[-1]].mean()
    ends = np.where(np.isnan(scenario.curves).any(axis=2), np.nan, scenario.curves[..., -1])
    random_ap = [
        [expected_at_random(ends[d], scenario.judge[d], price) for d in range(customers)] for price in prices
    ]
    return PriceOutcome(method.name, tuple(prices), rank, ap, np.array(random_ap))


def by_price(outcomes: Sequence[PriceOutcome]) -> str:
    """A markdown table: mean rank at each price, and at the last one the 95 % interval over customers and ΔAP."""
    rows = []
    for outcome in outcomes:
        means = outcome.rank.mean(axis=(1, 2))
        over = bootstrap(outcome.rank[-1].mean(axis=0))
        cells = [f"{value:.1f}" for value in means]
        seeds = outcome.rank.shape[1]
        spread = outcome.rank[-1].mean(axis=1).std(ddof=1) / np.sqrt(seeds) if seeds > 1 else np.nan
        gain = outcome.delta_ap()[-1].mean()
        rows.append([outcome.method, *cells, f"{spread:.2f}", str(over), f"{gain:+.2f}"])
    prices = [f"price {price}" for price in outcomes[0].prices]
    return lines(["rank % of", *prices, "± orders", "95 % over customers", "ΔAP"], rows)
