"""Does remapping pay? Networks of the architecture space, started from the remapped base and from random weights.

    python benchmarks/remapping.py --data MASKS_STREET THERMAL [--budget short]

Three networks: the lightest, the middle and the heaviest of 100 sampled ones, by multiply-adds; none is a base. Both starts
train with the default hyper-parameters and the same seed. Finished trainings are kept in the results file.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from rows import Rows

from nni_hyperfd.data.dataset import load_dataset
from nni_hyperfd.data.pixels import open_pixels
from nni_hyperfd.detection.network.retinaface import RetinaFace
from nni_hyperfd.detection.network.weights import base_detector
from nni_hyperfd.detection.training.budgets import get_budget
from nni_hyperfd.detection.training.fine_tuning import CPUEngine, fine_tune
from nni_hyperfd.spaces.architecture import Architecture, backbone_flops
from nni_hyperfd.spaces.hyperparameters import DEFAULT_HYPERPARAMETERS
from nni_hyperfd.spaces.standard import standard_space

SAMPLED = 100
STARTS = ("remapped", "random")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, nargs="+", required=True)
    parser.add_argument("--budget", default="short")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / f"remapping_{options.budget}.json"
    rows = Rows(path)
    for folder in options.data:
        for name, architecture in networks().items():
            for start in STARTS:
                key = f"{folder.name}/{name}/{start}"
                if key not in rows:
                    rows[key] = measure(folder, architecture, start, options.budget)
                    rows.save()
                    print(key, rows[key], flush=True)
    table = markdown(rows)
    path.with_suffix(".md").write_text(table)
    print(table)


def networks() -> dict[str, Architecture]:
    """Name -> network, the lightest first."""
    sample = standard_space("nas").sample(SAMPLED, np.random.default_rng(0))
    found = sorted((point.architecture for point in sample if point.architecture), key=backbone_flops)
    return {"lightest": found[0], "middle": found[SAMPLED // 2], "heaviest": found[-1]}


def measure(folder: Path, architecture: Architecture, start: str, budget_name: str) -> dict:
    """AP@50 on val and test after the budget."""
    budget = get_budget(budget_name)
    store = open_pixels(load_dataset(folder), 2 * max(budget.image_size, budget.evaluation_size))
    if start == "remapped":
        model = base_detector(architecture)
    else:
        model = RetinaFace(architecture)
        model.reset_parameters(torch.Generator().manual_seed(0))
    engine = CPUEngine(model, store, DEFAULT_HYPERPARAMETERS, budget)
    outcome = fine_tune(engine, store, DEFAULT_HYPERPARAMETERS, budget, seed=0)
    return {"val": round(outcome.val_ap, 4), "test": round(outcome.test_ap, 4)}


def markdown(rows: dict[str, dict]) -> str:
    """A line for each data set and network."""
    flops = {name: backbone_flops(architecture) / 1e6 for name, architecture in networks().items()}
    lines = [
        "| data set | network | remapped: val | test | random: val | test |",
        "|---|---|---|---|---|---|",
    ]
    for place in dict.fromkeys(key.rpartition("/")[0] for key in rows):
        folder, name = place.split("/")
        found = [rows.get(f"{place}/{start}") for start in STARTS]
        if None not in found:
            aps = " | ".join(f"{row[split]:.3f}" for row in found for split in ("val", "test"))
            lines.append(f"| {folder} | {name}, {flops[name]:.0f}M | {aps} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
