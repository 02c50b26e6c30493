"""AP@50 after fine-tuning with the first choice: every data set, several seeds, learning curves.

    python benchmarks/accuracy.py --data SELFIES CARTOON_D ... [--budget short] [--seeds 3] [--sheets FOLDER]

What a trial hands out is measured: trained weights drawn back a little towards the base, or the base as it is where they do not beat it
on val; beside it what training reached. Finished trainings are kept in the results file, so an interrupted run goes on; those of
other base weights or of other settings are done again. ``--sheets`` draws the detections on six test images of every set, to look
at; pictures of people do not belong in a repository.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path

import matplotlib
from rows import Rows

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import torch

from nni_hyperfd.data.dataset import load_dataset
from nni_hyperfd.data.pixels import open_pixels
from nni_hyperfd.detection.evaluation.picture import draw_detections
from nni_hyperfd.detection.network.retinaface import RetinaFace
from nni_hyperfd.detection.network.weights import BASES, base_detector, base_id
from nni_hyperfd.detection.training.budgets import Budget, get_budget
from nni_hyperfd.detection.training.drawn_back import SHARE, draw_back
from nni_hyperfd.detection.training.fine_tuning import (
    CPUEngine,
    better,
    fine_tune,
    heldout_truth,
    measured,
)
from nni_hyperfd.spaces.hyperparameters import FIRST_CHOICE


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, nargs="+", required=True)
    parser.add_argument("--budget", default="short")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--base", type=Path, help="folder of base weights other than the shipped ones")
    parser.add_argument("--sheets", type=Path, help="folder for pictures of the detections")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    path, budget = file_of(options.out, options.budget), get_budget(options.budget)
    rows = Rows(path)
    settings = settings_of(budget) | {"base": base_of(options.base)}
    # Seed by seed, so that a run cut short has seen every data set.
    for seed in range(options.seeds):
        for folder in options.data:
            key = f"{folder.name}/{seed}"
            if rows.get(key, {}).get("settings") != settings:
                rows[key] = measure(folder, budget, seed, options.base, options.sheets)
                rows[key]["settings"] = settings
                rows.save()
                print(key, {name: rows[key][name] for name in ("base_test", "val", "test")}, flush=True)
    table = markdown(rows)
    path.with_suffix(".md").write_text(table)
    draw_curves(rows, path.with_suffix(".png"))
    print(table)


def file_of(folder: Path, budget: str) -> Path:
    """Where the results of a budget lie."""
    return folder / f"accuracy_{budget}.json"


def settings_of(budget: Budget) -> dict:
    """What a result depends on beside data, seed and weights."""
    return json.loads(json.dumps(asdict(budget))) | {
        "drawn back": SHARE,
        "configuration": FIRST_CHOICE.parameters(),
    }


def from_base(folder: Path | None) -> RetinaFace:
    """The standard detector from the base in ``folder``, or the shipped one."""
    return base_detector(BASES["standard"], folder)


def base_of(folder: Path | None) -> str:
    """Short hash of the base, as :func:`base_id` has it for the shipped one."""
    return sha256((folder / "standard.safetensors").read_bytes()).hexdigest()[:16] if folder else base_id()


def measure(folder: Path, budget: Budget, seed: int, base: Path | None, sheets: Path | None) -> dict:
    """One training with the first choice; the base's own AP stands at epoch 0 of the curve."""
    store = open_pixels(load_dataset(folder), 2 * max(budget.image_size, budget.evaluation_size))
    started = time.process_time()
    engine = CPUEngine(from_base(base), store, FIRST_CHOICE, budget)
    start = measured(engine, store, budget)
    outcome = fine_tune(engine, store, FIRST_CHOICE, budget, seed)
    chosen = better(start, draw_back(engine, start.state, outcome, store, budget))
    if sheets and seed == 0:
        sheets.mkdir(parents=True, exist_ok=True)
        truth = heldout_truth(store, budget)["test"]
        picture = sheets / f"{folder.name}.png"
        draw_detections(picture, store, "test", chosen.test_detections, truth, budget.evaluation_size)
    return {
        "base_test": round(start.test_ap, 4),
        "val": round(chosen.val_ap, 4),
        "test": round(chosen.test_ap, 4),
        "trained_val": round(outcome.val_ap, 4),
        "trained_test": round(outcome.test_ap, 4),
        "curve": [[0, round(start.val_ap, 4)]]
        + [[point.epoch, round(point.ap, 4)] for point in outcome.curve],
        "processor_seconds": round(time.process_time() - started, 1),
    }


def grouped(rows: dict[str, dict]) -> dict[str, list[dict]]:
    """Rows by data set, in the order of the first seed."""
    groups: dict[str, list[dict]] = {}
    for key, row in rows.items():
        groups.setdefault(key.split("/")[0], []).append(row)
    return groups


def markdown(rows: dict[str, dict]) -> str:
    """Mean ± standard deviation over seeds."""
    lines = [
        "| data set | base, test | trained, test | handed out, val | handed out, test | seeds |",
        "|---|---|---|---|---|---|",
    ]
    for name, group in grouped(rows).items():
        trained, val, test = (
            spread([row[what] for row in group]) for what in ("trained_test", "val", "test")
        )
        lines.append(f"| {name} | {group[0]['base_test']:.3f} | {trained} | {val} | {test} | {len(group)} |")
    return "\n".join(lines) + "\n"


def spread(values: list[float]) -> str:
    deviation = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.3f}{deviation}"


def draw_curves(rows: dict[str, dict], path: Path) -> None:
    """AP@50 on val over the epochs, a small panel a data set, a line a seed."""
    groups = grouped(rows)
    columns = 4
    lines = -(-len(groups) // columns)
    figure, axes = plt.subplots(
        lines, columns, figsize=(2.6 * columns, 1.9 * lines), squeeze=False, sharex=True, layout="constrained"
    )
    for axis in axes.flat:
        axis.set_visible(False)
    for axis, (name, group) in zip(axes.flat, groups.items()):
        axis.set_visible(True)
        for row in group:
            axis.plot(*zip(*row["curve"]), linewidth=1.2)
        axis.set_title(name, fontsize=9)
        axis.tick_params(labelsize=7)
        axis.set_ylim(0, 1.02)
        axis.grid(alpha=0.3)
    figure.supxlabel("epoch (0: the base as it is shipped)", fontsize=8)
    figure.supylabel("AP@50 on val", fontsize=8)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
