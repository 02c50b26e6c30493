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
from trial_throughput import drawn_dataset, open_store, start

from nni_hyperfd.detection.training.augment import plan_crops
from nni_hyperfd.detection.training.budgets import get_budget
from nni_hyperfd.detection.training.fine_tuning import CPUEngine
from nni_hyperfd.spaces.hyperparameters import HyperParameters


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--budget", default="short")
    parser.add_argument("--steps", type=int, default=5, help="measured steps of each way")
    options = parser.parse_args()
    torch.set_num_threads(1)
    budget, rng = get_budget(options.budget), np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        store = open_store(drawn_dataset(Path(folder), 1024, 40), budget, Path(folder))
        ways = {"iou": HyperParameters(), "dynamic": HyperParameters(counts=(10,) * 9)}
        engines = {name: CPUEngine(start(), store, way, budget) for name, way in ways.items()}
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
