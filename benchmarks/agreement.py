"""How far two trainings of one configuration agree: two seeds of the budget `table`, and `table` against `short`.

    python benchmarks/agreement.py [--tables FILE...]

Of trainings that were measured (``hyperfd table build``), nothing is trained here: the committed tables by default.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

from nni_hyperfd.evidence.comparison import normalized_ranks
from nni_hyperfd.evidence.table import LookupTable

ROOT = Path(__file__).resolve().parent
COLUMNS = {"val_ap": "val", "test_ap": "test", "heldout_ap": "both"}
FEWEST = 4
"""Configurations that a correlation is taken over."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--tables",
        type=Path,
        nargs="+",
        default=[ROOT / "tables" / "hpo.csv.gz", ROOT / "results" / "short_rows.csv.gz"],
    )
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "agreement.md")
    options = parser.parse_args()
    table = LookupTable.merge(map(LookupTable.load, options.tables)).select(space="hpo")
    names = sorted({row.data_set for row in table})
    page = "\n".join([*between_seeds(table, names), "", *between_budgets(table, names)]) + "\n"
    options.out.write_text(page)
    print(page)


def common(first: LookupTable, second: LookupTable, name: str, column: str) -> tuple[np.ndarray, np.ndarray]:
    """The APs on one data set of the configurations that both tables have, in one order."""
    one, other = (
        {row.configuration: getattr(row, column) for row in table.select(data_sets=[name]) if not row.failure}
        for table in (first, second)
    )
    both = sorted(one.keys() & other.keys())
    return np.array([one[text] for text in both]), np.array([other[text] for text in both])


def correlation(first: np.ndarray, second: np.ndarray) -> float | None:
    """Spearman's; None where one of them is constant, such as AP 1 for all."""
    if len(first) < FEWEST or not np.ptp(first) or not np.ptp(second):
        return None
    return float(spearmanr(first, second).statistic)


def between_seeds(table: LookupTable, names: Sequence[str]) -> list[str]:
    """Noise of one training: the standard deviation of an AP, from pairs of seeds, and what it does to a ranking."""
    seeds = table.select(budget="table", seed=0), table.select(budget="table", seed=1)
    lines = [
        "## Two seeds of `table`",
        "",
        "| AP on | pairs | standard deviation, AP points | Spearman, mean over data sets | oracle of the other seed, rank % | best possible |",
        "|---|---|---|---|---|---|",
    ]
    for column, word in COLUMNS.items():
        squares, correlations, ranks, best = [], [], [], []
        for name in names:
            first, second = common(*seeds, name, column)
            if len(first) < FEWEST:
                continue
            squares += list((first - second) ** 2 / 2)
            correlations.append(correlation(first, second))
            for choose, judge in ((first, second), (second, first)):
                ranks.append(normalized_ranks(judge)[choose == choose.max()].mean())
                best.append(normalized_ranks(judge).min())
        known = [each for each in correlations if each is not None]
        lines.append(
            f"| {word} | {len(squares)} | {100 * np.sqrt(np.mean(squares)):.2f} | {np.mean(known):.2f} of {len(known)} | "
            f"{np.mean(ranks):.1f} | {np.mean(best):.1f} |"
        )
    return lines


def between_budgets(table: LookupTable, names: Sequence[str]) -> list[str]:
    """Whether the small budget orders configurations as the large one does."""
    lines = [
        "## `table` against `short`",
        "",
        "Spearman's correlation over configurations, one seed of `short`. The spread says how much there is to order: the standard deviation of",
        "AP on val over these configurations at `short`, in AP points.",
        "",
        f"| data set | configurations | {' | '.join(COLUMNS.values())} | spread |",
        "|---" * (len(COLUMNS) + 3) + "|",
    ]
    budgets = table.select(budget="table").over_seeds(), table.select(budget="short", seed=0)
    for name in names:
        cells, count, spread = [], 0, 0.0
        for column in COLUMNS:
            first, second = common(*budgets, name, column)
            found, count = correlation(first, second), len(first)
            cells.append("–" if found is None else f"{found:.2f}")
            if column == "val_ap" and count:
                spread = 100 * float(np.std(second))
        if count >= FEWEST:
            lines.append(f"| {name} | {count} | {' | '.join(cells)} | {spread:.2f} |")
    return lines


if __name__ == "__main__":
    main()
