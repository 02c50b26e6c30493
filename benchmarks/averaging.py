"""Do averaged weights lower the noise of one training? Every way of averaging on the same trainings, beside none.

    python benchmarks/averaging.py --data CATS THERMAL OLDPHOTO [--budget table] [--seeds 3]

All ways are read off one training of the default configuration, so they differ in nothing else: the weights that are best on val (what a
trial hands out), those of the last epoch, the mean of the last three epochs, an exponential moving average over steps, and points on the
line between the base and the last epoch (WiSE-FT: Wortsman et al., CVPR 2022, "Robust fine-tuning of zero-shot models", eq. 1).
Finished trainings are kept in the results file.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path

import torch
from rows import Rows
from torch import Tensor

from nni_hyperfd.data.dataset import load_dataset
from nni_hyperfd.data.pixels import open_pixels
from nni_hyperfd.detection.network.weights import BASES, base_detector, base_id
from nni_hyperfd.detection.training.budgets import get_budget
from nni_hyperfd.detection.training.drawn_back import between
from nni_hyperfd.detection.training.fine_tuning import CPUEngine, fine_tune, measured
from nni_hyperfd.spaces.hyperparameters import DEFAULT_HYPERPARAMETERS

DECAYS = (0.9, 0.97)
"""Of the moving averages, per optimizer step."""
SHARES = (0.5, 0.7, 0.85)
"""Of the way from the base to the last epoch."""
LAST = 3
"""Epochs whose mean is taken."""

Weights = dict[str, Tensor]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, nargs="+", required=True)
    parser.add_argument("--budget", default="table")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / f"averaging_{options.budget}.json"
    rows = Rows(path)
    for seed in range(options.seeds):
        for folder in options.data:
            key = f"{folder.name}/{seed}"
            if rows.get(key, {}).get("base") != base_id():
                rows[key] = {"base": base_id()} | measure(folder, options.budget, seed)
                rows.save()
                print(key, rows[key], flush=True)
    table = markdown(rows)
    path.with_suffix(".md").write_text(table)
    print(table)


def measure(folder: Path, name: str, seed: int) -> dict[str, list[float]]:
    """AP@50 on val and on test of every way of averaging, from one training."""
    budget = get_budget(name)
    store = open_pixels(load_dataset(folder), 2 * max(budget.image_size, budget.evaluation_size))
    model = base_detector(BASES["standard"])
    averages: dict[float, Weights] = {}

    def average() -> None:
        for decay, weights in averages.items():
            averages[decay] = between(weights, model.state_dict(), 1 - decay)

    engine = CPUEngine(model, store, DEFAULT_HYPERPARAMETERS, budget, on_step=average)
    base = engine.state()
    averages.update((decay, engine.state()) for decay in DECAYS)
    epochs: list[Weights] = []
    best = fine_tune(
        engine, store, DEFAULT_HYPERPARAMETERS, budget, seed, lambda _, at: epochs.append(at.state())
    )
    candidates = {
        "best on val": best.state,
        "last epoch": epochs[-1],
        f"mean of {LAST} epochs": mean(epochs[-LAST:]),
        **{f"moving average {decay:g}": weights for decay, weights in averages.items()},
        **{f"{share:.0%} of the way": between(base, epochs[-1], share) for share in SHARES},
    }
    found = {}
    for way, weights in candidates.items():
        model.load_state_dict(weights)
        at = measured(CPUEngine(model, store, DEFAULT_HYPERPARAMETERS, budget), store, budget)
        found[way] = [round(at.val_ap, 4), round(at.test_ap, 4)]
    return found


def mean(weights: list[Weights]) -> Weights:
    """Their arithmetic mean; whole numbers are those of the last."""
    return {
        name: torch.stack([each[name] for each in weights]).mean(0) if value.is_floating_point() else value
        for name, value in weights[-1].items()
    }


def markdown(rows: dict[str, dict]) -> str:
    """Test AP@50 of every way: the mean over seeds and its standard deviation, and the mean of both over data sets."""
    names = list(dict.fromkeys(key.split("/")[0] for key in rows))
    ways = [way for way in next(iter(rows.values())) if way != "base"]
    lines = [
        f"Test AP@50, {len(rows) // len(names)} seeds: mean ± standard deviation over seeds.",
        "",
        f"| data set | {' | '.join(ways)} |",
        "|---" * (len(ways) + 1) + "|",
    ]
    means: dict[str, list[float]] = {way: [] for way in ways}
    spreads: dict[str, list[float]] = {way: [] for way in ways}
    for name in names:
        cells = []
        for way in ways:
            values = [row[way][1] for key, row in rows.items() if key.split("/")[0] == name]
            means[way].append(statistics.mean(values))
            spreads[way].append(statistics.stdev(values) if len(values) > 1 else 0.0)
            cells.append(f"{means[way][-1]:.3f} ± {spreads[way][-1]:.3f}")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    together = (f"{statistics.mean(means[way]):.3f} ± {statistics.mean(spreads[way]):.3f}" for way in ways)
    lines.append(f"| mean | {' | '.join(together)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
