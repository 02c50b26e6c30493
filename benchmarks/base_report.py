"""AP@50 of the shipped base detectors before any fine-tuning, on every data set named, at several input sizes.

    python benchmarks/base_report.py --data GROUPS WIDER200 SELFIES ... [--out benchmarks/results]

RetinaFace-mnet0.25 stands beside them where the extra ``pretrain`` is installed. The bases never saw a val or test image of the
server's sets, nor any image of a customer's.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
from torch import Tensor, nn

from nni_hyperfd.detection.dataset import load_dataset
from nni_hyperfd.detection.evaluation import ap50, detect, evaluation_batches, ground_truth
from nni_hyperfd.detection.pixels import PixelStore, open_pixels
from nni_hyperfd.detection.retinaface import Predictions
from nni_hyperfd.detection.training import cpu_autocast
from nni_hyperfd.detection.weights import BASES, base_detector
from nni_hyperfd.errors import TrainingError

SIZES = (224, 320, 448, 720)
"""Short sides of evaluated images, pixels."""
MAX_SIDE = 1024


class FreeDetector(nn.Module):
    """RetinaFace-mnet0.25 as a detector of ours: its anchors are the same."""

    def __init__(self) -> None:
        super().__init__()
        sys.path.append(str(Path(__file__).parents[1] / "trial_code"))
        from teachers import Teacher

        self.teacher = Teacher()

    def forward(self, images: Tensor) -> Predictions:
        return self.teacher(images).predictions


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, nargs="+", required=True)
    parser.add_argument("--split", default="test", choices=("val", "test"))
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--base", type=Path, help="folder of other bases than the shipped ones")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    detectors: dict[str, nn.Module] = {
        name: base_detector(architecture, options.base) for name, architecture in BASES.items()
    }
    try:
        detectors["mnet0.25"] = FreeDetector()
    except TrainingError as error:
        print(f"no column for mnet0.25: {error}")
    header = [f"{name} {size}" for name in detectors for size in options.sizes]
    lines = ["| data set | " + " | ".join(header) + " |", "|---" * (1 + len(header)) + "|"]
    for folder in options.data:
        store = open_pixels(load_dataset(folder), MAX_SIDE)
        row = [
            f"{evaluate(model, store, options.split, size):.3f}"
            for model in detectors.values()
            for size in options.sizes
        ]
        lines.append(f"| {folder.name} | " + " | ".join(row) + " |")
        print(lines[-1], flush=True)
    options.out.mkdir(parents=True, exist_ok=True)
    title = f"AP@50 of the base detectors before any fine-tuning, {options.split} splits, by short side in pixels.\n\n"
    (options.out / "base.md").write_text(title + "\n".join(lines) + "\n")


def evaluate(model: nn.Module, store: PixelStore, split: str, size: int) -> float:
    """AP@50 of ``model`` on one split with short sides of ``size`` pixels."""
    indices = store.splits[split]
    with cpu_autocast():
        found = detect(model, evaluation_batches(store, indices, size))
    return ap50(found, ground_truth(store, indices, size))


if __name__ == "__main__":
    main()
