"""Ranks of hyperfd-gp and hyperfd-mf on the customers' tables when 1, 2 and 4 trials run at a time, as the tuner plays.

    python benchmarks/at_a_time.py [--orders 16] [--out benchmarks/results/at_a_time.md]

Both without φ. Trials of hyperfd-gp take equally long and begin evenly spread, so that the one that began first is done first; then the next is
planned, while the others run. It is played twice more on the APs on val alone, of which there are curves: without and with a look at
how far those others are, as the tuner has it. Workers of hyperfd-mf begin one after the other within the time of a validation, and each asks for the next part of a training when
the one before is done. Ranks are by the AP that is chosen by, so that luck in choosing has no part in them: the pooled one (hyperfd-gp), that
on val (all others).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from nni_hyperfd.errors import DataError
from nni_hyperfd.evidence.bootstrap import bootstrap
from nni_hyperfd.evidence.comparison import Scenario, normalized_ranks
from nni_hyperfd.evidence.inputs import Inputs
from nni_hyperfd.evidence.page import markdown_table
from nni_hyperfd.evidence.price import Priced
from nni_hyperfd.evidence.rivals.ensemble import describe_texts
from nni_hyperfd.evidence.scenario import POOLED
from nni_hyperfd.recommendation.gaussian.every_epoch import (
    Curves,
    EveryEpoch,
    Forerunner,
    Standing,
    Trainings,
)
from nni_hyperfd.recommendation.gaussian.learning_curves import Remaining
from nni_hyperfd.recommendation.gaussian.observed import FloatArray
from nni_hyperfd.recommendation.gaussian.search import Eye, GaussianSearch, Glimpses, Remembered
from nni_hyperfd.spaces.standard import standard_space

TABLES = Path(__file__).parent / "tables"
NOT_LOOKED_AT = np.zeros(0)
AT_A_TIME = (1, 2, 4)


class Trials:
    """``hyperfd-gp`` in one search space, whose customers come in some order.

    Args:
        scenario: Its table.
        beginnings: With curves of its trainings, for who sees how far trials are that run.
        name: In the page.
    """

    def __init__(
        self, scenario: Scenario, beginnings: Priced | None = None, name: str = "hyperfd-gp"
    ) -> None:
        known = scenario.experience
        described = _described(scenario)
        self.name, self._curves, self._remaining = name, None, None
        if beginnings is not None:
            self._curves = beginnings.curves
            self._remaining = Remaining.of(beginnings.offline.reshape(-1, beginnings.offline.shape[-1]))
        self._scenario, self._candidates = scenario, described[: known.candidates]
        self._eye = Eye(known.aps, described, np.zeros((len(known.aps), 0)))

    def ranks(self, order: Sequence[int], budget: int, at_a_time: int) -> list[float]:
        """Normalized rank in % for each customer, in the table's order."""
        past: list[Remembered] = []
        found = np.zeros(len(order))
        for customer in order:
            aps = self._experiment(past, customer, budget, at_a_time)
            found[customer] = _rank(self._scenario.choose[:, customer], aps)
            seen = ~np.isnan(aps)
            past.append(self._eye.finished(NOT_LOOKED_AT, self._candidates[seen], aps[seen]))
        return found.tolist()

    def _experiment(
        self, past: Sequence[Remembered], customer: int, budget: int, at_a_time: int
    ) -> FloatArray:
        true = self._scenario.choose[:, customer]
        search = GaussianSearch([self._eye.view(NOT_LOOKED_AT, self._candidates, past)])
        aps, failed = np.full(len(true), np.nan), np.zeros(len(true), dtype=bool)
        running: list[int] = []
        while True:
            while len(running) < at_a_time and (~np.isnan(aps)).sum() + len(running) < budget:
                out = np.zeros(len(true), dtype=bool)
                out[running] = True
                glimpses = self._seen(customer, running, at_a_time)
                running.append(int(search.plan(aps, out, failed, glimpses=glimpses).order[0]))
            if not running:
                return aps
            done = running.pop(0)
            aps[done], failed[done] = true[done], np.isnan(true[done])

    def _seen(self, customer: int, running: Sequence[int], at_a_time: int) -> Glimpses | None:
        """The newest validation of each that runs, oldest first; one begins whenever a share of 1 / at_a_time of a training is done."""
        if self._curves is None or self._remaining is None:
            return None
        times = self._curves.shape[-1]
        done = times * np.arange(len(running), 0, -1) // at_a_time
        at = np.array(running, dtype=np.intp)
        aps = self._curves[customer, at, done - 1]
        begun = (done > 0) & ~np.isnan(aps)
        return self._remaining.glimpses(at[begun], done[begun] / times, aps[begun])


class PartsOfTrainings:
    """``hyperfd-mf``, see :class:`Trials`; ``budget`` is a price."""

    name = "hyperfd-mf"

    def __init__(self, priced: Priced) -> None:
        self._priced, known = priced, priced.scenario.experience
        described = _described(priced.scenario)
        self._fitted = EveryEpoch(Curves(priced.offline, described, np.zeros((len(known.aps), 0))))
        self._candidates = described[: known.candidates]

    def ranks(self, order: Sequence[int], budget: int, at_a_time: int) -> list[float]:
        """Normalized rank in % for each customer, in the table's order."""
        past: list[Forerunner] = []
        found = np.zeros(len(order))
        for each in order:
            customer = self._fitted.customer(NOT_LOOKED_AT, self._candidates, past)
            seen = experiment(customer, self._priced.curves[each], budget, at_a_time)
            found[each] = _rank(self._priced.curves[each, :, -1], seen[:, -1])
            past.append(self._fitted.finished(NOT_LOOKED_AT, self._candidates, seen))
        return found.tolist()


def experiment(customer: Trainings, curves: FloatArray, price: int, at_a_time: int) -> FloatArray:
    """``[K, T]`` what was seen; workers take turns, and in each turn of one its trial makes a validation."""
    count, length = curves.shape
    seen, failed = np.full((count, length), np.nan), np.zeros(count, dtype=bool)
    until, left = np.zeros(count, dtype=np.intp), price * length
    tasks: list[int | None] = [None] * at_a_time
    while True:
        for worker, task in enumerate(tasks):
            if task is not None:
                at = int((~np.isnan(seen[task])).sum())
                seen[task, at] = curves[task, at]
                failed[task] = np.isnan(curves[task, at])
                if failed[task] or at + 1 == until[task]:
                    until[task], tasks[worker] = 0, None
            if tasks[worker] is None:
                standing = Standing(seen, failed, left, until)
                order = customer.plan(standing).order
                if len(order):
                    tasks[worker] = begun = int(order[0])
                    until[begun] = standing.stop(begun)
                    left -= int(until[begun] - standing.done[begun])
        if all(task is None for task in tasks):
            return seen


def _described(scenario: Scenario) -> FloatArray:
    kind = scenario.name.split(",")[0]
    return describe_texts(standard_space(kind), scenario.experience.configurations)  # type: ignore[arg-type]


def _rank(true: FloatArray, aps: FloatArray) -> float:
    return float(normalized_ranks(true)[int(np.nanargmax(aps))])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--orders", type=int, default=16, help="in which customers come")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    inputs = Inputs.load(TABLES, sorted(TABLES.glob("*.csv.gz")), "table")
    rows = []
    for space in inputs.spaces():
        players: list[Trials | PartsOfTrainings] = [Trials(inputs.scenario(space, POOLED))]
        try:
            priced = Priced.of(inputs, space)
            players += [
                Trials(priced.scenario, name="hyperfd-gp on val"),
                Trials(priced.scenario, priced, "hyperfd-gp on val, sees beginnings"),
                PartsOfTrainings(priced),
            ]
        except DataError as error:
            print(error)
        for player in players:
            customers = len(inputs.scenario(space, POOLED).tasks)
            orders = [
                np.random.default_rng(seed).permutation(customers).tolist() for seed in range(options.orders)
            ]
            for budget in (2, 4, 8):
                ranks = [
                    np.array([player.ranks(order, budget, each) for order in orders]).mean(axis=0)
                    for each in AT_A_TIME
                ]
                lost = [bootstrap(each - ranks[0]) for each in ranks[1:]]
                cells = [f"{each.mean():.2f}" for each in ranks] + [
                    f"{each.mean:+.2f} {each}" for each in lost
                ]
                rows.append([space, player.name, str(budget), *cells])
                print(*rows[-1], flush=True)
    head = [
        "space",
        "method",
        "price",
        *(f"{each} at a time" for each in AT_A_TIME),
        "2 loses",
        "4 lose",
    ]
    text = f"{markdown_table(head, rows)}\n{options.orders} orders of customers; intervals are 95 % over customers, paired.\n"
    if options.out:
        options.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
