"""What AutoHAS costs and what it finds: time and memory of a step against plain training, and AP@50 against searches of the joint space.

    python benchmarks/autohas.py --data OLDPHOTO ... [--budget table] [--seeds 0 1 2] [--platform FOLDER]
    python benchmarks/autohas.py --data OLDPHOTO --cost [--steps 4]

A step of plain training is that of the largest network and of MobileNetV2, in the arithmetic of the search. A search of the joint
space has four trainings: at random, by `hyperfd` and by `hyperfd-gp`, both asked of a version 0 without the rows of these data sets; of
the four the one that is best on val is compared. Processor seconds say what each cost. Every training is kept in the results
file, an interrupted run goes on with the next one, and the page beside it is written anew after each data set.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import resource
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from newcomer import platform_without, proposals

from nni_hyperfd.data.dataset import load_dataset
from nni_hyperfd.data.pixels import open_pixels
from nni_hyperfd.detection.autohas.search import Search
from nni_hyperfd.detection.network.weights import BASES, base_detector
from nni_hyperfd.detection.training.augment import plan_crops
from nni_hyperfd.detection.training.budgets import get_budget
from nni_hyperfd.detection.training.fine_tuning import CPUEngine
from nni_hyperfd.evidence.bootstrap import bootstrap
from nni_hyperfd.evidence.runner import PairRunner
from nni_hyperfd.evidence.table import canonical
from nni_hyperfd.files import write_file
from nni_hyperfd.spaces.architecture import largest, mobilenet_v2
from nni_hyperfd.spaces.configuration import Configuration, Scalar
from nni_hyperfd.spaces.hyperparameters import DEFAULT_HYPERPARAMETERS
from nni_hyperfd.spaces.space import Space
from nni_hyperfd.spaces.standard import standard_search_space

RESULTS = Path(__file__).parent / "results" / "autohas.json"
TRIALS = 4
WAYS = ("default", "AutoHAS", "random", "hyperfd", "hyperfd-gp")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, nargs="+", required=True)
    parser.add_argument("--budget", default="table")
    parser.add_argument("--steps", type=int, default=4, help="timed, after one that is not; an even number")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=RESULTS, help="results, as JSON")
    parser.add_argument("--rate", type=float, help="of Adam for the encodings, in place of the search's own")
    parser.add_argument("--platform", type=Path, help="kept folder of the version 0 without these sets")
    parser.add_argument("--without", nargs="+", help="sets that it does not know; those of --data by default")
    parser.add_argument("--cost", action="store_true", help="time and memory of a step, and nothing else")
    options = parser.parse_args()
    rows = json.loads(options.out.read_text()) if options.out.exists() else {}

    def once(key: str, measure: Callable[..., dict[str, Any]], *arguments: object) -> dict[str, Any]:
        if key not in rows:
            rows[key] = measure(*arguments)
            write_file(options.out, json.dumps(rows, indent=1))
        print(key, rows[key], flush=True)
        return dict(rows[key])

    torch.set_num_threads(1)
    if options.cost:
        for kind in ("standard", "largest", "search"):
            once(f"cost {options.budget} {kind}", apart, kind, options.data[0], options.budget, options.steps)
        return
    names = [folder.resolve().name for folder in options.data]
    with tempfile.TemporaryDirectory() as home:
        made = options.platform or Path(home) / "made"
        if options.rate is None:
            platform_without(options.without or names, made, options.budget)
        for seed in options.seeds:
            for folder in options.data:
                compare(once, folder.resolve(), seed, options, made, Path(home) / f"{folder.name} {seed}")
            if options.rate is None:
                write_file(options.out.with_suffix(".md"), page(rows, names, seed, options))


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


def searched(folder: Path, name: str, seed: int, rate: float | None) -> dict[str, Any]:
    """What the search derives, and its processor seconds."""
    budget = get_budget(name)
    store = open_pixels(load_dataset(folder), 2 * max(budget.image_size, budget.evaluation_size))
    search = Search(base_detector(largest()), store, budget, seed)
    if rate is not None:
        search.optimizer.param_groups[0]["lr"] = rate
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


def compare(
    once: Callable[..., dict[str, Any]],
    folder: Path,
    seed: int,
    options: argparse.Namespace,
    made: Path,
    platform: Path,
) -> None:
    """AutoHAS, the default configuration, and the searches of the joint space; with a rate of its own, AutoHAS alone."""
    name = options.budget
    where = f"{name} {folder.name} {seed}" + (f" rate {options.rate:g}" if options.rate else "")
    search = once(f"search {where}", searched, folder, name, seed, options.rate)
    once(f"derived {where}", trained, folder, name, seed, search["parameters"])
    if options.rate is not None:
        return
    default = Configuration(DEFAULT_HYPERPARAMETERS, mobilenet_v2())
    once(f"default {where}", trained, folder, name, seed, default.parameters())
    joint = standard_search_space("joint")
    drawn = Space.from_search_space(joint).sample(100, np.random.default_rng(seed))[:TRIALS]
    for number, point in enumerate(drawn):
        once(f"random {where} {number}", trained, folder, name, seed, point.parameters())
    # Results stay in a platform: each run has a copy that has seen none.
    shutil.copytree(made, platform)
    for method in ("hyperfd", "hyperfd-gp"):
        number = itertools.count()

        def train(
            parameters: Mapping[str, Any], method: str = method, number: Iterator[int] = number
        ) -> float:
            return float(
                once(f"{method} {where} {next(number)}", trained, folder, name, seed, parameters)["val"]
            )

        for _ in proposals(folder, platform, joint, method, TRIALS, seed, train, name):
            pass


def page(
    rows: Mapping[str, dict[str, Any]], names: Sequence[str], last: int, options: argparse.Namespace
) -> str:
    """What was found, set by set."""
    seeds = options.seeds[: options.seeds.index(last) + 1]
    lines = [
        "# AutoHAS beside searches of the joint space",
        "",
        f"`benchmarks/autohas.py`, budget `{options.budget}`, seeds {', '.join(map(str, seeds))}. AP@50 on val / test ± standard error over seeds, "
        f"each search at {TRIALS} trainings, of which the one that is best on val counts; the last lines have means over the sets, what they are "
        "ahead of the default on test with the bootstrap's 95 % interval over sets, and processor seconds, search and trainings together.",
        "",
        "| data set | " + " | ".join(WAYS) + " |",
        "|---" * (len(WAYS) + 1) + "|",
    ]
    tests: dict[str, list[float]] = {way: [] for way in WAYS}
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    for name in names:
        cells = []
        for way in WAYS:
            found = [chosen(rows, way, f"{options.budget} {name} {seed}") for seed in seeds]
            val, test, cost = (np.array([each[key] for each in found]) for key in ("val", "test", "seconds"))
            tests[way].append(float(test.mean()))
            seconds[way].append(float(cost.mean()))
            error = f" ± {test.std(ddof=1) / len(test) ** 0.5:.3f}" if len(test) > 1 else ""
            cells.append(f"{val.mean():.3f} / {test.mean():.3f}{error}")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    default = np.array(tests["default"])
    gains = {way: bootstrap(100 * (np.array(aps) - default)) for way, aps in tests.items()}
    lines += [
        "| ahead of the default, points | "
        + " | ".join("" if way == "default" else f"{gain.mean:+.1f} {gain}" for way, gain in gains.items())
        + " |",
        "| processor seconds | " + " | ".join(f"{np.mean(each):.0f}" for each in seconds.values()) + " |",
        "",
        "Entropies of the encodings at the end (1: undecided), network and hyper-parameters, means of the seeds; what the search derived before it was rounded:",
        "",
    ]
    for name in names:
        found = [rows[f"search {options.budget} {name} {seed}"] for seed in seeds]
        ends = [
            [each["ends"][f"{kind}_entropy"] for each in found] for kind in ("architecture", "hyperparameter")
        ]
        derived = "; ".join(f"{each['found']['lr']:.4f} and {each['found']['locw']:.1f}" for each in found)
        lines.append(
            f"* {name}: {np.mean(ends[0]):.2f} and {np.mean(ends[1]):.2f}; rate and location weight {derived}"
        )
    return "\n".join(lines) + "\n"


def chosen(rows: Mapping[str, dict[str, Any]], way: str, where: str) -> dict[str, float]:
    """AP on val and test, and processor seconds, of what a way ends with."""
    if way == "default":
        return rows[f"default {where}"]
    if way == "AutoHAS":
        spent = rows[f"search {where}"]["seconds"] + rows[f"derived {where}"]["seconds"]
        return {**rows[f"derived {where}"], "seconds": spent}
    tried = [rows[f"{way} {where} {number}"] for number in range(TRIALS)]
    return {**max(tried, key=lambda row: row["val"]), "seconds": sum(row["seconds"] for row in tried)}


if __name__ == "__main__":
    main()
