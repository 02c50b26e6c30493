"""Image-level features against the bare forward pass of the detector, on the same images, in one run.

    python benchmarks/feature_speed.py --data FOLDER [--images 256] [--repeats 5]

One thread; process CPU time, so that other work on the machine counts less. The issue's goal: a ratio of 0.7 or more.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import torch

from nni_hyperfd.data.dataset import load_dataset
from nni_hyperfd.data.pixels import open_pixels
from nni_hyperfd.detection.evaluation.detections import evaluation_batches
from nni_hyperfd.detection.network.precision import cpu_autocast
from nni_hyperfd.detection.network.weights import BASES, base_detector
from nni_hyperfd.metafeature.profile import PROFILE_SIZE, profile_images


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    store = open_pixels(load_dataset(options.data), 2 * PROFILE_SIZE)
    indices = store.splits["train"][: options.images]
    model = base_detector(BASES["standard"])
    model.eval()

    def bare() -> None:
        with torch.no_grad(), cpu_autocast():
            for batch in evaluation_batches(store, indices, PROFILE_SIZE):
                model(batch.images)

    def features() -> None:
        profile_images(model, store, indices)

    rates: dict[str, list[float]] = {"bare forward pass": [], "image-level features": []}
    bare()
    for _ in range(options.repeats):
        for name, run in zip(rates, (bare, features)):
            started = time.process_time()
            run()
            rates[name].append(len(indices) / (time.process_time() - started))
    middle = {name: statistics.median(found) for name, found in rates.items()}
    for name, found in rates.items():
        print(f"{name:22} {middle[name]:6.1f} images/s (least {min(found):.1f}, most {max(found):.1f})")
    pairs = [b / a for a, b in zip(*rates.values())]
    print(
        f"ratio features / bare: median {statistics.median(pairs):.2f} (least {min(pairs):.2f}, most {max(pairs):.2f})"
    )


if __name__ == "__main__":
    main()
