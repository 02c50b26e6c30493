"""Dynamic assignment beside IoU matching (HPS-Det): counts that DYCORS found on a sampled subset, on the same and on another data set.

    python benchmarks/hps_det.py --data FOLDER --sets thermal oldphoto [--searched thermal] [--budget table] [--trials 30] [--seeds 0 1 2]

Each set of ``--searched`` is searched once on a random part of its training split, for the AP@50 on val. Then the whole training split of
every set is trained with IoU matching at its default, with dynamic assignment at 10 for every count, and with the counts found on each
searched set: on its own set that is the method, on another one its reuse (Table 7 of the paper). What is done is in the JSON file, after
every training; the same command goes on where it was stopped, and writes the page anew.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nni_hyperfd.data.dataset import load_dataset
from nni_hyperfd.data.pixels import PixelStore, open_pixels
from nni_hyperfd.detection.network.weights import base_detector
from nni_hyperfd.detection.training.budgets import Budget, get_budget
from nni_hyperfd.detection.training.fine_tuning import CPUEngine, fine_tune
from nni_hyperfd.files import write_file
from nni_hyperfd.recommendation.numeric_search import NumericSearch
from nni_hyperfd.spaces.architecture import mobilenet_v2
from nni_hyperfd.spaces.hyperparameters import COUNT_KEYS, HyperParameters
from nni_hyperfd.spaces.standard import standard_search_space

RESULTS = Path(__file__).parent / "results" / "hps_det"
SEARCH_SEED = 1000
"""Of the search and of its trainings, unlike those that are compared."""


class Ledger:
    """Results by key, in a file that is whole after every one of them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.done: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}

    def train(
        self, key: str, store: PixelStore, parameters: dict[str, Any], budget: Budget, seed: int
    ) -> dict[str, Any]:
        """One training, unless it is known."""
        if key not in self.done:
            hyperparameters = HyperParameters.from_parameters(parameters)
            engine = CPUEngine(base_detector(mobilenet_v2()), store, hyperparameters, budget)
            outcome = fine_tune(engine, store, hyperparameters, budget, seed)
            self.done[key] = {
                "parameters": parameters,
                "val_ap": round(outcome.val_ap, 4),
                "test_ap": round(outcome.test_ap, 4),
                "seconds": round(outcome.seconds, 1),
                "faces_without": engine.faces_without,
            }
            write_file(self.path, json.dumps(self.done, indent=1))
            print(key, self.done[key]["val_ap"], self.done[key]["test_ap"], flush=True)
        if self.done[key]["parameters"] != parameters:
            raise SystemExit(f"{self.path} holds {key!r} of another search: name another --out")
        return dict(self.done[key])


def search(
    name: str, store: PixelStore, budget: Budget, trials: int, share: float, ledger: Ledger
) -> dict[str, Any]:
    """The counts with the highest AP@50 on val of ``trials`` trainings on a part of the training split."""
    train = store.splits["train"]
    order = np.random.default_rng(SEARCH_SEED).permutation(len(train))
    part = train[torch.from_numpy(np.sort(order[: round(share * len(train))]))]
    sampled = replace(store, splits={**store.splits, "train": part})
    dycors = NumericSearch(standard_search_space("assignment"), trials, SEARCH_SEED)
    tried = []
    for number in range(trials):
        counts = dict(dycors.ask(number))
        result = ledger.train(
            f"search {budget.name} {name} {share:g} {number}", sampled, counts, budget, SEARCH_SEED
        )
        dycors.tell(number, -result["val_ap"])
        tried.append(result)
    return dict(max(tried, key=lambda result: result["val_ap"])["parameters"])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--sets", nargs="+", default=["thermal", "oldphoto"])
    parser.add_argument("--searched", nargs="+", help="sets to search on; all by default")
    parser.add_argument("--budget", default="table")
    parser.add_argument("--trials", type=int, default=30, help="trainings of each search")
    parser.add_argument(
        "--share", type=float, default=0.5, help="part of the training split that is searched on"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=RESULTS, help="results, without their suffix")
    options = parser.parse_args()
    options.searched = options.searched or options.sets
    torch.set_num_threads(1)
    budget, ledger = get_budget(options.budget), Ledger(options.out.with_suffix(".json"))
    side = 2 * max(budget.image_size, budget.evaluation_size)
    stores = {name: open_pixels(load_dataset(options.data / name), side) for name in options.sets}
    ways: dict[str, dict[str, Any]] = {"IoU 0.5": {}, "dynamic, all counts 10": {"assign": "dynamic"}}
    for name, store in stores.items():
        for way, parameters in ways.items():
            for seed in options.seeds:
                ledger.train(f"{budget.name} {name} {way} {seed}", store, parameters, budget, seed)
    for name in options.searched:
        found = search(name, stores[name], budget, options.trials, options.share, ledger)
        ways[f"dynamic, found on {name}"] = found
    for name, store in stores.items():
        for way, parameters in ways.items():
            for seed in options.seeds:
                ledger.train(f"{budget.name} {name} {way} {seed}", store, parameters, budget, seed)
    write_file(options.out.with_suffix(".md"), page(ledger, ways, options))


def page(ledger: Ledger, ways: dict[str, dict[str, Any]], options: argparse.Namespace) -> str:
    """The table and the counts."""
    lines = [
        "# Dynamic assignment (HPS-Det) beside IoU matching",
        "",
        f"`benchmarks/hps_det.py`: budget `{options.budget}`, seeds {', '.join(map(str, options.seeds))}; every search had {options.trials} "
        f"trainings of DYCORS on {options.share:.0%} of the training split. AP@50 on val / test"
        + (", means of the seeds." if len(options.seeds) > 1 else "."),
        "",
        "| data set | " + " | ".join(ways) + " |",
        "|---" * (len(ways) + 1) + "|",
    ]
    for name in options.sets:
        cells = []
        for way in ways:
            rows = [ledger.done[f"{options.budget} {name} {way} {seed}"] for seed in options.seeds]
            cells.append(
                " / ".join(f"{np.mean([row[split] for row in rows]):.3f}" for split in ("val_ap", "test_ap"))
            )
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    lines += [
        "",
        "Counts found (level by level: low and wide, square, tall faces), and AP@50 on val of the trainings of each search:",
        "",
    ]
    for name in options.searched:
        found = ways[f"dynamic, found on {name}"]
        aps = [
            ledger.done[f"search {options.budget} {name} {options.share:g} {n}"]["val_ap"]
            for n in range(options.trials)
        ]
        lines.append(
            f"* {name}: {' '.join(str(found[key]) for key in COUNT_KEYS)}; {' '.join(f'{ap:.3f}' for ap in aps)}"
        )
    design = 2 * (len(COUNT_KEYS) + 1)
    if options.trials <= design:
        lines += [
            "",
            f"**{options.trials} trainings are no search by DYCORS**: its first {design} are a symmetric Latin hypercube, of which these are "
            "the first. They are the same for every set, so that sets may find the same counts; then nothing is said about reuse.",
        ]
    lines += ["", "One seed or few, and small splits: differences of a few points are noise."]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
