"""AP@50 of the shipped base detectors before any fine-tuning, on every data set named.

    python benchmarks/base_report.py --data GROUPS WIDER200 SELFIES ... [--out benchmarks/results]

Images are evaluated at the size of the `short` budget. The bases never saw a val or test image of the server's sets.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from nni_hyperfd.data.dataset import load_dataset
from nni_hyperfd.data.pixels import open_pixels
from nni_hyperfd.detection.evaluation.detections import ap50, detect, evaluation_batches, ground_truth
from nni_hyperfd.detection.network.weights import BASES, base_detector
from nni_hyperfd.detection.training.budgets import get_budget
from nni_hyperfd.detection.training.fine_tuning import cpu_autocast


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, nargs="+", required=True)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    budget = get_budget("short")
    header = [f"{name} {split}" for name in BASES for split in ("val", "test")]
    lines = ["| data set | " + " | ".join(header) + " |", "|---" * (1 + len(header)) + "|"]
    for folder in options.data:
        store = open_pixels(load_dataset(folder), 2 * budget.evaluation_size)
        row = []
        for architecture in BASES.values():
            model = base_detector(architecture)
            for split in ("val", "test"):
                indices = store.splits[split]
                with cpu_autocast():
                    found = detect(model, evaluation_batches(store, indices, budget.evaluation_size))
                row.append(ap50(found, ground_truth(store, indices, budget.evaluation_size)))
        lines.append(f"| {folder.name} | " + " | ".join(f"{value:.3f}" for value in row) + " |")
        print(lines[-1], flush=True)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "base.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
