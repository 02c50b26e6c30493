"""What AutoHAS costs and what it finds: time and memory of a step against plain training, and AP@50 against searches of the joint space.

    python benchmarks/autohas.py --data OLDPHOTO ... [--budget table] [--seeds 0 1 2] [--platform FOLDER]
    python benchmarks/autohas.py --data OLDPHOTO --cost [--steps 4]

A step of plain training is that of the largest network and of MobileNetV2, in the arithmetic of the search. A search of the joint
space has four trainings: at random, by `hyperfd` and by `hyperfd-gp`, both asked of a version 0 without the rows of these data sets; of
the four the one that is best on val is compared. Processor seconds say what each cost. Every training is kept in the results
file, an interrupted run goes on with the next one, and the page beside it is written anew all the time.
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import resource
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from newcomer import platform_without, proposals
from rows import Rows

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
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS, help="in this order; all by default")
    parser.add_argument("--rate", type=float, help="of Adam for the encodings, in place of the search's own")
    parser.add_argument("--platform", type=Path, help="kept folder of the version 0 without these sets")
    parser.add_argument("--without", nargs="+", help="sets that it does not know; those of --data by default")
    parser.add_argument("--cost", action="store_true", help="time and memory of a step, and nothing else")
    options = parser.parse_args()
    rows = Rows(options.out)

    def once(key: str, measure: Callable[..., dict[str, Any]], *arguments: object) -> dict[str, Any]:
        if key not in rows:
            rows[key] = measure(*arguments)
            rows.save()
        print(key, rows[key], flush=True)
        return dict(rows[key])

    torch.set_num_threads(1)
    if options.cost:
        for kind in ("standard", "largest", "search"):
            once(f"cost {options.budget} {kind}", apart, kind, options.data[0], options.budget, options.steps)
        return
    folders = [folder.resolve() for folder in options.data]
    names = [folder.name for folder in folders]
    if options.rate is not None:
        for seed, folder in itertools.product(options.seeds, folders):
            automatic(once, folder, options.budget, seed, options.rate)
        return
    with tempfile.TemporaryDirectory() as home:
        made = options.platform or Path(home) / "made"
        for seed, way, folder in itertools.product(options.seeds, options.ways, folders):
            if way == "AutoHAS":
                automatic(once, folder, options.budget, seed)
            elif way == "default":
                default = Configuration(DEFAULT_HYPERPARAMETERS, mobilenet_v2()).parameters()
                key = f"default {options.budget} {folder.name} {seed}"
                once(key, trained, folder, options.budget, seed, default)
            elif way == "random":
                space = Space.from_search_space(standard_search_space("joint"))
                drawn = space.sample(100, np.random.default_rng(seed))[:TRIALS]
                for number, point in enumerate(drawn):
                    key = f"random {options.budget} {folder.name} {seed} {number}"
                    once(key, trained, folder, options.budget, seed, point.parameters())
            else:
                platform_without(options.without or names, made, options.budget)
                # Results stay in a platform: each run has a copy that has seen none.
                platform = Path(shutil.copytree(made, Path(home) / f"{way} {folder.name} {seed}"))
                proposed(once, way, folder, options.budget, seed, platform)
            write_file(options.out.with_suffix(".md"), page(rows, names, options))


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


def automatic(
    once: Callable[..., dict[str, Any]], folder: Path, name: str, seed: int, rate: float | None = None
) -> None:
    """AutoHAS' search, and the training of what it derived."""
    where = f"{name} {folder.name} {seed}" + (f" rate {rate:g}" if rate is not None else "")
    search = once(f"search {where}", searched, folder, name, seed, rate)
    once(f"derived {where}", trained, folder, name, seed, search["parameters"])


def proposed(
    once: Callable[..., dict[str, Any]], method: str, folder: Path, name: str, seed: int, platform: Path
) -> None:
    """Trainings of what the platform proposes in the joint space."""
    number = itertools.count()

    def train(parameters: Mapping[str, Any]) -> float:
        key = f"{method} {name} {folder.name} {seed} {next(number)}"
        return float(once(key, trained, folder, name, seed, parameters)["val"])

    joint = standard_search_space("joint")
    for _ in proposals(folder, platform, joint, method, TRIALS, seed, train, name):
        pass


def page(rows: Mapping[str, dict[str, Any]], names: Sequence[str], options: argparse.Namespace) -> str:
    """What was found, set by set, as far as it is there."""
    lines = [
        "# AutoHAS beside searches of the joint space",
        "",
        f"`benchmarks/autohas.py`, budget `{options.budget}`. AP@50 on val / test, means over seeds, with the standard error over seeds for test and how many seeds there are; "
        f"a search has {TRIALS} trainings, of which the one that is best on val counts. Below the sets: what a way is ahead of the default on test, the mean over the sets "
        "that it has and the bootstrap's 95 % interval over sets; processor seconds of search and trainings together.",
        "",
        "| data set | " + " | ".join(WAYS) + " |",
        "|---" * (len(WAYS) + 1) + "|",
    ]
    gains: dict[str, list[float]] = {way: [] for way in WAYS}
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    for name in names:
        cells = []
        base = {seed: chosen(rows, "default", f"{options.budget} {name} {seed}") for seed in options.seeds}
        for way in WAYS:
            there = {seed: chosen(rows, way, f"{options.budget} {name} {seed}") for seed in options.seeds}
            found = {seed: each for seed, each in there.items() if each}
            if not found:
                cells.append("–")
                continue
            val, test, cost = (
                np.array([each[key] for each in found.values()]) for key in ("val", "test", "seconds")
            )
            paired = [
                100 * (each["test"] - own["test"]) for seed, each in found.items() if (own := base[seed])
            ]
            gains[way] += [float(np.mean(paired))] if paired else []
            seconds[way].append(float(cost.mean()))
            error = f" ± {test.std(ddof=1) / len(test) ** 0.5:.3f}" if len(test) > 1 else ""
            cells.append(f"{val.mean():.3f} / {test.mean():.3f}{error} ({len(test)})")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    ahead = [f"{(b := bootstrap(np.array(each))).mean:+.1f} {b}" if each else "–" for each in gains.values()]
    lines += [
        "| ahead of the default, points | " + " | ".join(["", *ahead[1:]]) + " |",
        "| processor seconds | "
        + " | ".join(f"{np.mean(each):.0f}" if each else "–" for each in seconds.values())
        + " |",
        "",
        "Entropies of the encodings at the end (1: undecided), network / hyper-parameters; what the search derived before it was rounded:",
        "",
    ]
    for key, each in rows.items():
        if key.startswith("search "):
            ends, found = each["ends"], each["found"]
            lines.append(
                f"* {key.removeprefix('search ')}: {ends['architecture_entropy']:.2f} / {ends['hyperparameter_entropy']:.2f}; "
                f"rate {found['lr']:.4f}, location weight {found['locw']:.1f}"
                + (
                    f"; test {rows[derived]['test']:.3f}"
                    if (derived := key.replace("search", "derived")) in rows
                    else ""
                )
            )
    costs = {key: each for key, each in rows.items() if key.startswith("cost ")}
    if costs:
        lines += ["", "| a step of | processor seconds | MiB beyond what was there before |", "|---|---|---|"]
        lines += [
            f"| {key.removeprefix('cost ')} | {each['seconds']:.3f} | {each['mib']} |"
            for key, each in costs.items()
        ]
    return "\n".join(lines) + "\n"


def chosen(rows: Mapping[str, dict[str, Any]], way: str, where: str) -> dict[str, float]:
    """AP on val and test, and processor seconds, of what a way ends with; nothing where it has not ended."""
    if way in ("default", "AutoHAS"):
        wanted = [f"default {where}"] if way == "default" else [f"derived {where}", f"search {where}"]
    else:
        wanted = [f"{way} {where} {number}" for number in range(TRIALS)]
    if not all(key in rows for key in wanted):
        return {}
    trainings = [rows[key] for key in wanted if "val" in rows[key]]
    return {
        **max(trainings, key=lambda row: row["val"]),
        "seconds": sum(rows[key]["seconds"] for key in wanted),
    }


if __name__ == "__main__":
    main()
