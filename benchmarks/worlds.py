"""The belief of hyperfd-mf in synthetic worlds, each unkind to a method in a way of its own, beside what knows nothing of beginnings.

    python benchmarks/worlds.py [--worlds 6] [--out benchmarks/results/worlds.md]

Worlds are those of nni_hyperfd/evidence/worlds.py: 24 configurations, 12 offline sets, 6 customers, no images. "Every epoch" is the belief of
`hyperfd-mf` alone; "probes" begin many trainings and go on with the best by early AP. Minutes on one core.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from nni_hyperfd.evidence.comparison import mean_and_errors
from nni_hyperfd.evidence.curves import curve_methods, play
from nni_hyperfd.evidence.page import markdown_table, two_digits
from nni_hyperfd.evidence.worlds import WORLDS, make

ROOT = Path(__file__).resolve().parents[1]
PRICES = (1, 2, 3, 4)
OURS = "every epoch"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--worlds", type=int, default=6, help="of each kind")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "worlds.md")
    options = parser.parse_args()
    rows = []
    for name, kind in WORLDS.items():
        scenarios = [make(kind, seed) for seed in range(options.worlds)]
        cells, error = [], ""
        for method in curve_methods():
            # A world is a draw; within it one order of customers.
            ranks = np.stack([play(method, each, PRICES, (0,)).rank.mean(axis=(1, 2)) for each in scenarios])
            cells.append(", ".join(f"{mean:.1f}" for mean in ranks.mean(axis=0)))
            if method.name == OURS:
                error = two_digits(mean_and_errors(ranks[:, -1:])[1])
        rows.append([name, *cells, error])
        print(*rows[-1], sep=" | ", flush=True)
    head = ["world", *(method.name for method in curve_methods()), f"± of {OURS}, at 4"]
    text = f"{markdown_table(head, rows)}\nMean rank in % at prices of 1, 2, 3 and 4 full trainings; {options.worlds} worlds each, one order of customers; ± is the standard error over worlds.\n"
    options.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
