"""Ranks of hyperfd-gp (without φ) on the customers' tables when 1, 2 and 4 trials run at a time, as the tuner plays.

    python benchmarks/at_a_time.py [--orders 4] [--out benchmarks/results/at_a_time.md]

Trials take equally long, so that the one that began first is done first; then the next is planned, while the others run.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from nni_hyperfd.evidence.comparison import Scenario
from nni_hyperfd.evidence.inputs import Inputs
from nni_hyperfd.evidence.rivals.ensemble import describe_texts
from nni_hyperfd.evidence.scenario import POOLED
from nni_hyperfd.recommendation.gaussian.observed import FloatArray
from nni_hyperfd.recommendation.gaussian.search import Eye, GaussianSearch, Remembered
from nni_hyperfd.spaces.standard import standard_space

TABLES = Path(__file__).parent / "tables"
NOT_LOOKED_AT = np.zeros(0)


class Player:
    """One search space, whose customers come in some order."""

    def __init__(self, scenario: Scenario) -> None:
        known = scenario.experience
        kind = scenario.name.split(",")[0]
        described = describe_texts(standard_space(kind), known.configurations)  # type: ignore[arg-type]
        self._scenario, self._candidates = scenario, described[: known.candidates]
        self._eye = Eye(known.aps, described, np.zeros((len(known.aps), 0)))

    def ranks(self, order: Sequence[int], budget: int, at_a_time: int) -> list[float]:
        """Normalized rank in % for each customer."""
        past: list[Remembered] = []
        found = []
        for customer in order:
            aps = self._experiment(past, self._scenario.choose[:, customer], budget, at_a_time)
            judge = self._scenario.judge[:, customer]
            chosen = judge[int(np.nanargmax(aps))]
            above, ties = (judge > chosen).sum(), (judge == chosen).sum() - 1
            found.append(100 * float(above + ties / 2) / (len(judge) - 1))
            seen = ~np.isnan(aps)
            past.append(self._eye.finished(NOT_LOOKED_AT, self._candidates[seen], aps[seen]))
        return found

    def _experiment(
        self, past: Sequence[Remembered], true: FloatArray, budget: int, at_a_time: int
    ) -> FloatArray:
        search = GaussianSearch([self._eye.view(NOT_LOOKED_AT, self._candidates, past)])
        aps, failed = np.full(len(true), np.nan), np.zeros(len(true), dtype=bool)
        running: list[int] = []
        while True:
            while len(running) < at_a_time and (~np.isnan(aps)).sum() + len(running) < budget:
                out = np.zeros(len(true), dtype=bool)
                out[running] = True
                running.append(int(search.plan(aps, out, failed).order[0]))
            if not running:
                return aps
            done = running.pop(0)
            aps[done], failed[done] = true[done], np.isnan(true[done])


def main() -> None:
    """Write a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--orders", type=int, default=4, help="in which customers come")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    inputs = Inputs.load(TABLES, sorted(TABLES.glob("*.csv.gz")), "table")
    lines = ["| space | B | 1 at a time | 2 | 4 |", "|---|---|---|---|---|"]
    for space in inputs.spaces():
        scenario = inputs.scenario(space, POOLED)
        player = Player(scenario)
        orders = [
            np.random.default_rng(seed).permutation(len(scenario.tasks)).tolist()
            for seed in range(options.orders)
        ]
        for budget in (4, 8):
            means = [
                np.mean([player.ranks(order, budget, at_a_time) for order in orders])
                for at_a_time in (1, 2, 4)
            ]
            lines.append(f"| {space} | {budget} | " + " | ".join(f"{mean:.2f}" for mean in means) + " |")
            print(lines[-1], flush=True)
    if options.out:
        options.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
