"""What AutoHAS costs and what it finds: time and memory of a step against plain training, and test AP@50 against random.

    python benchmarks/autohas.py --data OLDPHOTO ... [--budget table] [--steps 4] [--seeds 0] [--cost]

A step of plain training is that of the largest network and of MobileNetV2, in the arithmetic of the search. Random configurations of
the joint space get the price of the search, its processor seconds plus those of the training that follows; the one that is best on val
is compared. Every training is kept in the results file, and an interrupted run goes on with the next one.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nni_hyperfd.data.dataset import load_dataset
from nni_hyperfd.data.pixels import open_pixels
from nni_hyperfd.detection.autohas.search import Search
from nni_hyperfd.detection.network.weights import BASES, base_detector
from nni_hyperfd.detection.training.augment import plan_crops
from nni_hyperfd.detection.training.budgets import get_budget
from nni_hyperfd.detection.training.fine_tuning import CPUEngine
from nni_hyperfd.evidence.runner import PairRunner
from nni_hyperfd.evidence.table import canonical
from nni_hyperfd.spaces.architecture import largest, mobilenet_v2
from nni_hyperfd.spaces.configuration import Configuration, Scalar
from nni_hyperfd.spaces.hyperparameters import DEFAULT_HYPERPARAMETERS
from nni_hyperfd.spaces.space import Space
from nni_hyperfd.spaces.standard import standard_search_space

RESULTS = Path(__file__).parent / "results" / "autohas.json"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, nargs="+", required=True)
    parser.add_argument("--budget", default="table")
    parser.add_argument("--steps", type=int, default=4, help="timed, after one that is not; an even number")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--cost", action="store_true", help="time and memory of a step, and nothing else")
    options = parser.parse_args()
    rows = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}

    def once(key: str, measure: Callable[..., dict[str, Any]], *arguments: object) -> dict[str, Any]:
        if key not in rows:
            rows[key] = measure(*arguments)
            RESULTS.write_text(json.dumps(rows, indent=1))
        print(key, rows[key], flush=True)
        return dict(rows[key])

    torch.set_num_threads(1)
    if options.cost:
        for kind in ("standard", "largest", "search"):
            once(f"cost {options.budget} {kind}", apart, kind, options.data[0], options.budget, options.steps)
        return
    for folder in options.data:
        for seed in options.seeds:
            compare(once, folder, options.budget, seed)


def apart(kind: str, folder: Path, budget: str, steps: int) -> dict[str, float]:
    """:func:`cost` in a process of its own, whose peak of memory is its alone."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(cost, (kind, folder, budget, steps))


def cost(kind: str, folder: Path, name: str, steps: int) -> dict[str, float]:
    """Processor seconds of a step, and MiB that the steps need beyond what was there before."""
    torch.set_num_threads(1)
    budget = get_budget(name)
    store = open_pixels(load_dataset(folder), 2 * max(budget.image_size, budget.evaluation_size))
    if kind == "search":
        step = Search(base_detector(largest()), store, budget, seed=0).step
    else:
        engine = CPUEngine(base_detector(BASES[kind]), store, DEFAULT_HYPERPARAMETERS, budget)
        rng, train = np.random.default_rng(0), store.splits["train"]

        def step() -> object:
            return engine.train(plan_crops(store, train, budget.batch_size, 0.3, rng), 1e-3)

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    step()
    seconds = []
    for _ in range(steps):
        started = time.process_time()
        step()
        seconds.append(time.process_time() - started)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"seconds": round(float(np.mean(seconds)), 3), "mib": round((peak - before) / 1024)}


def searched(folder: Path, name: str, seed: int) -> dict[str, Any]:
    """What the search derives, and its processor seconds."""
    budget = get_budget(name)
    store = open_pixels(load_dataset(folder), 2 * max(budget.image_size, budget.evaluation_size))
    search = Search(base_detector(largest()), store, budget, seed)
    started = time.process_time()
    for _ in range(search.steps):
        progress = search.step()
    configuration, found = search.derive()
    return {
        "seconds": round(time.process_time() - started, 1),
        "found": found,
        "ends": asdict(progress),
        "parameters": configuration.parameters(),
    }


def trained(folder: Path, name: str, seed: int, parameters: Mapping[str, Scalar]) -> dict[str, Any]:
    """AP@50 of one training, and its processor seconds."""
    started = time.process_time()
    outcome = PairRunner({folder.name: folder})(folder.name, canonical(parameters), name, seed, "cpu")
    return {
        "seconds": round(time.process_time() - started, 1),
        "val": round(outcome.val_ap, 4),
        "test": round(outcome.test_ap, 4),
        "parameters": dict(parameters),
    }


def compare(once: Callable[..., dict[str, Any]], folder: Path, name: str, seed: int) -> None:
    """The derived configuration, the default one, and random ones for as long as the price of the first lasts."""
    where = f"{name} {folder.name} {seed}"
    search = once(f"search {where}", searched, folder, name, seed)
    derived = once(f"derived {where}", trained, folder, name, seed, search["parameters"])
    default = Configuration(DEFAULT_HYPERPARAMETERS, mobilenet_v2())
    once(f"default {where}", trained, folder, name, seed, default.parameters())
    left = search["seconds"] + derived["seconds"]
    space = Space.from_search_space(standard_search_space("joint"))
    for number, drawn in enumerate(space.sample(100, np.random.default_rng(seed))):
        if left <= 0:
            return
        # The last one is trained to its end: chance gets a little more than its price.
        left -= once(f"random {where} {number}", trained, folder, name, seed, drawn.parameters())["seconds"]


if __name__ == "__main__":
    main()
