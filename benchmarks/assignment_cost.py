"""A training step with dynamic assignment beside one with IoU matching, step by step in turn: processor time, one thread.

python benchmarks/assignment_cost.py [--budget short] [--steps 5]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
import torch

from nni_hyperfd.data.dataset import load_dataset
from nni_hyperfd.data.pixels import open_pixels
from nni_hyperfd.detection.network.weights import base_detector
from nni_hyperfd.detection.training.augment import plan_crops
from nni_hyperfd.detection.training.budgets import get_budget
from nni_hyperfd.detection.training.fine_tuning import CPUEngine
from nni_hyperfd.spaces.architecture import mobilenet_v2
from nni_hyperfd.spaces.hyperparameters import HyperParameters


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of annotated face images")
    parser.add_argument("--budget", default="short")
    parser.add_argument("--steps", type=int, default=5, help="measured steps of each way")
    options = parser.parse_args()
    torch.set_num_threads(1)
    budget, rng = get_budget(options.budget), np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        store = open_pixels(load_dataset(options.data), 2 * budget.evaluation_size, Path(folder))
        ways = {"iou": HyperParameters(), "dynamic": HyperParameters(counts=(10,) * 9)}
        engines = {
            name: CPUEngine(base_detector(mobilenet_v2()), store, way, budget) for name, way in ways.items()
        }
        spent: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(options.steps + 1):
            plan = plan_crops(store, store.splits["train"], budget.batch_size, 0.3, rng)
            for name, engine in engines.items():
                started = time.process_time()
                engine.train(plan, 1e-4)
                spent[name].append(time.process_time() - started)
    seconds = {name: median(times[1:]) for name, times in spent.items()}  # the first one warms up
    print(f"{seconds}, ratio {seconds['dynamic'] / seconds['iou']:.3f}")


if __name__ == "__main__":
    main()
