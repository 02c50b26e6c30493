"""AP@50 of the shipped base detectors before any fine-tuning, on every data set named, at several input sizes.

    python benchmarks/base_report.py --data GROUPS WIDER200 SELFIES ... [--out benchmarks/results]

RetinaFace-mnet0.25 stands beside them where the extra ``pretrain`` is installed. The bases never saw a val or test image of the
server's sets, nor any image of a customer's. Finished measurements are kept in base.json; those of other weights are not.
"""

from __future__ import annotations

import argparse
import sys
from hashlib import sha256
from pathlib import Path

import torch
from rows import Rows
from torch import Tensor, nn

from nni_hyperfd.data.dataset import load_dataset
from nni_hyperfd.data.pixels import PixelStore, open_pixels
from nni_hyperfd.detection.evaluation.detections import ap50, detect, evaluation_batches, ground_truth
from nni_hyperfd.detection.network.precision import cpu_autocast
from nni_hyperfd.detection.network.retinaface import Predictions
from nni_hyperfd.detection.network.weights import BASES, base_detector, base_path
from nni_hyperfd.errors import TrainingError

SIZES = (224, 320, 448, 720)
"""Short sides of evaluated images, pixels."""
MAX_SIDE = 1024


class FreeDetector(nn.Module):
    """RetinaFace-mnet0.25 as a detector of ours: its anchors are the same."""

    def __init__(self) -> None:
        super().__init__()
        sys.path.append(str(Path(__file__).parents[1] / "trial_code"))
        from teachers import MobileNetTeacher

        self.teacher = MobileNetTeacher()

    def forward(self, images: Tensor) -> Predictions:
        return self.teacher(images).predictions


NAMES = (*BASES, "mnet0.25")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, nargs="+", required=True)
    parser.add_argument("--detectors", nargs="+", choices=NAMES, default=NAMES)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    found = Rows(options.out / "base.json")
    for folder in options.data:
        store = open_pixels(load_dataset(folder), MAX_SIDE)
        for name in options.detectors:
            rows = found.setdefault(identity(name), {})
            missing = [size for size in options.sizes if f"{folder.name} {size}" not in rows]
            try:
                model = load(name) if missing else None
            except TrainingError as error:
                print(f"no column for {name}: {error}")
                continue
            for size in missing:
                rows[f"{folder.name} {size}"] = round(evaluate(model, store, "test", size), 4)
            found.save()
            print(
                f"{folder.name:14}{name:10}",
                *(rows[f"{folder.name} {size}"] for size in options.sizes),
                flush=True,
            )
    names = [name for name in NAMES if found.get(identity(name))]
    header = [f"{name} {size}" for name in names for size in options.sizes]
    lines = ["| data set | " + " | ".join(header) + " |", "|---" * (1 + len(header)) + "|"]
    for folder in options.data:
        cells = [
            found[identity(name)].get(f"{folder.name} {size}") for name in names for size in options.sizes
        ]
        lines.append(
            f"| {folder.name} | " + " | ".join("–" if x is None else f"{x:.3f}" for x in cells) + " |"
        )
    title = "AP@50 before any fine-tuning, test splits, by detector and short side in pixels.\n\n"
    (options.out / "base.md").write_text(title + "\n".join(lines) + "\n")


def identity(name: str) -> str:
    """What measurements are kept under: a detector's name and, of ours, a hash of its weights."""
    return f"{name} {sha256(base_path(name).read_bytes()).hexdigest()[:16]}" if name in BASES else name


def load(name: str) -> nn.Module:
    return base_detector(BASES[name]) if name in BASES else FreeDetector()


def evaluate(model: nn.Module, store: PixelStore, split: str, size: int) -> float:
    """AP@50 of ``model`` on one split with short sides of ``size`` pixels."""
    indices = store.splits[split]
    with cpu_autocast():
        found = detect(model, evaluation_batches(store, indices, size))
    return ap50(found, ground_truth(store, indices, size))


if __name__ == "__main__":
    main()
