"""What AutoHAS costs and what it finds: time and memory of a step against plain training, and test AP@50 against random.

    python benchmarks/autohas.py --data OLDPHOTO ... [--budget table] [--steps 4] [--seeds 0] [--cost-only]

A step of plain training is that of the largest network and of MobileNetV2, in float32 as the search's. Random configurations
get the price of the search: its seconds plus one training, in seconds of training. What is finished is kept in the results
file; an interrupted run goes on with the next part.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import time
from pathlib import Path

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
from nni_hyperfd.spaces.architecture import largest
from nni_hyperfd.spaces.hyperparameters import DEFAULT_HYPERPARAMETERS
from nni_hyperfd.spaces.space import Space, standard_search_space

RESULTS = Path(__file__).parent / "results" / "autohas.json"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, nargs="+", required=True)
    parser.add_argument("--budget", default="table")
    parser.add_argument("--steps", type=int, default=4, help="timed, after one that is not; an even number")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--cost-only", action="store_true")
    options = parser.parse_args()
    rows = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}

    def once(key: str, measure, *arguments) -> None:  # type: ignore[no-untyped-def]
        if key not in rows:
            rows[key] = measure(*arguments)
            RESULTS.write_text(json.dumps(rows, indent=1))
        print(key, rows[key], flush=True)

    for kind in ("standard", "largest", "search"):
        once(f"cost {options.budget} {kind}", apart, kind, options.data[0], options.budget, options.steps)
    if options.cost_only:
        return
    for folder in options.data:
        for seed in options.seeds:
            once(f"found {options.budget} {folder.name} {seed}", compare, folder, options.budget, seed)


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


def compare(folder: Path, name: str, seed: int) -> dict[str, object]:
    """Test AP@50 of what the search derives, and of random configurations as long as the price lasts."""
    torch.set_num_threads(1)
    budget, run = get_budget(name), PairRunner({folder.name: folder})
    store = open_pixels(load_dataset(folder), 2 * max(budget.image_size, budget.evaluation_size))
    search = Search(base_detector(largest()), store, budget, seed)
    started = time.process_time()
    for _ in range(search.steps):
        search.step()
    configuration, found = search.derive()

    def trained(parameters) -> dict[str, float]:  # type: ignore[no-untyped-def]
        outcome = run(folder.name, canonical(parameters), name, seed, "cpu")
        return {"val": outcome.val_ap, "test": outcome.test_ap}

    derived = trained(configuration.parameters())
    price = time.process_time() - started
    space = Space.from_search_space(standard_search_space("joint"))
    tried, started = [], time.process_time()
    drawn = iter(space.sample(100, np.random.default_rng(seed)))
    while time.process_time() - started < price:
        tried.append(trained(next(drawn).parameters()))
    best = max(tried, key=lambda each: each["val"])
    return {
        "price_s": round(price, 1),
        "found": found,
        "derived": derived,
        "random": best,
        "tried": len(tried),
    }


if __name__ == "__main__":
    main()
