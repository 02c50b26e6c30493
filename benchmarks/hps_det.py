"""Dynamic assignment beside IoU matching (HPS-Det): counts that DYCORS found on a sampled subset, on the same and on another data set.

    python benchmarks/hps_det.py --data FOLDER --sets thermal lowlight oldphoto [--searched thermal lowlight] [--server GROUPS WIDER200]

Each set of ``--searched`` is searched once on a random part of its training split, for the AP@50 on val. Then the whole training split of
every set is trained with IoU matching at its default and at the configuration that is best on val in lookup tables (whose trainings had
seed 0: other seeds see no favour of that choice), with dynamic assignment at 10 for every count, and with the counts found on each
searched set: on its own set that is the method, on another one its reuse (Table 7 of the paper). ``--server`` names the folders that together
are one more set. With ``--backbone`` the sets of ``--there`` are trained in the other network too. What is done is in the JSON file, after every training; the same command
goes on where it was stopped, and writes the page anew.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rows import Rows

from nni_hyperfd.data.dataset import FaceDataset, load_dataset
from nni_hyperfd.data.merge import merge
from nni_hyperfd.data.pixels import PixelStore, open_pixels
from nni_hyperfd.detection.network.weights import BASES, base_detector
from nni_hyperfd.detection.training.budgets import Budget, get_budget
from nni_hyperfd.detection.training.fine_tuning import CPUEngine, fine_tune
from nni_hyperfd.evidence.bootstrap import bootstrap
from nni_hyperfd.evidence.table import SERVER, LookupTable, parameters_of
from nni_hyperfd.files import write_file
from nni_hyperfd.recommendation.numeric_search import NumericSearch
from nni_hyperfd.spaces.hyperparameters import COUNT_KEYS, HyperParameters
from nni_hyperfd.spaces.standard import standard_search_space

RESULTS = Path(__file__).parent / "results" / "hps_det"
TABLES = (
    Path(__file__).parent / "tables" / "hpo.csv.gz",
    Path(__file__).parent / "results" / "hpo_216.csv.gz",
)
"""Some configurations on all data sets, and on five sets all others of the space."""
SEARCH_SEED = 1000
"""Of the search and of its trainings, unlike those that are compared."""
DEFAULT, TENS = "IoU 0.5", "dynamic, all counts 10"


class Ledger:
    """Results by key, in a file that is whole after every one of them."""

    def __init__(self, path: Path) -> None:
        self.done = Rows(path)

    def train(
        self,
        key: str,
        store: PixelStore,
        parameters: Mapping[str, Any],
        budget: Budget,
        seed: int,
        backbone: str = "standard",
    ) -> dict[str, Any]:
        """One training of the base called ``backbone``, unless it is known."""
        if key not in self.done:
            hyperparameters = HyperParameters.from_parameters(parameters)
            started = time.process_time()
            engine = CPUEngine(base_detector(BASES[backbone]), store, hyperparameters, budget)
            outcome = fine_tune(engine, store, hyperparameters, budget, seed)
            self.done[key] = {
                "parameters": dict(parameters),
                "val_ap": round(outcome.val_ap, 4),
                "test_ap": round(outcome.test_ap, 4),
                "processor_seconds": round(time.process_time() - started, 1),
                "faces_without": engine.faces_without,
            }
            self.done.save()
            print(key, self.done[key]["val_ap"], self.done[key]["test_ap"], flush=True)
        if self.done[key]["parameters"] != parameters:
            raise SystemExit(f"{self.done.path} holds {key!r} of another search: name another --out")
        return dict(self.done[key])


def search(
    name: str, store: PixelStore, budget: Budget, trials: int, stop: int, share: float, ledger: Ledger
) -> dict[str, Any]:
    """The counts with the highest AP@50 on val of ``stop`` trainings on a part of the training split, of a search planned for ``trials``.

    Test images are not looked at: val stands in their place, which also saves a fifth of the price.
    """
    sampled = part_of(store, share)
    dycors = NumericSearch(standard_search_space("assignment"), trials, SEARCH_SEED)
    tried = []
    for number in range(stop):
        counts = dict(dycors.ask(number))
        result = ledger.train(
            trial_key(budget.name, name, share, number), sampled, counts, budget, SEARCH_SEED
        )
        dycors.tell(number, -result["val_ap"])
        tried.append(result)
    return dict(max(tried, key=lambda result: result["val_ap"])["parameters"])


def pixels(dataset: FaceDataset, budget: Budget) -> PixelStore:
    """As large as trainings of this budget want them."""
    return open_pixels(dataset, 2 * max(budget.image_size, budget.evaluation_size))


def part_of(store: PixelStore, share: float) -> PixelStore:
    """What a search trains on: a random part of the training split, and val in the place of test."""
    train, val = store.splits["train"], store.splits["val"]
    order = np.random.default_rng(SEARCH_SEED).permutation(len(train))
    part = train[torch.from_numpy(np.sort(order[: round(share * len(train))]))]
    return replace(store, splits={"train": part, "val": val, "test": val})


def trial_key(budget: str, name: str, share: float, number: int) -> str:
    return f"search {budget} {name} {share:g} {number}"


def training_key(budget: str, name: str, way: str, seed: int, backbone: str = "standard") -> str:
    return " ".join([budget, *([backbone] if backbone != "standard" else []), name, way, str(seed)])


def best_of(table: LookupTable, names: Iterable[str], budget: str) -> tuple[dict[str, dict[str, Any]], int]:
    """For each set the configuration that is best on val, seed 0 alone; and of how many that is, on all sets as many."""
    best, known = {}, set()
    for name in names:
        rows = list(table.select("hpo", [name], budget, 0))
        trained = [row for row in rows if not row.failure]
        if not trained:
            raise SystemExit(f"the tables have no rows of {name} at {budget}: name others by --tables")
        best[name] = dict(parameters_of(max(trained, key=lambda row: row.val_ap).configuration))
        known.add(len(rows))
    if len(known) > 1:
        raise SystemExit(
            f"the tables have {min(known)} configurations of one set and {max(known)} of another: name by --tables "
            "those that have as many of all"
        )
    return best, known.pop()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--sets", nargs="+", default=["thermal", "oldphoto"])
    parser.add_argument("--searched", nargs="+", help="sets to search on; all by default")
    parser.add_argument("--budget", default="table", help="of what is compared (default: %(default)s)")
    parser.add_argument(
        "--search-budget",
        default="table",
        help="of the searches and the table's best (default: %(default)s)",
    )
    parser.add_argument("--trials", type=int, default=60, help="that a search is planned for")
    parser.add_argument("--stop", type=int, help="trainings after which a search ends before its plan does")
    parser.add_argument(
        "--share", type=float, default=0.5, help="part of the training split that is searched on"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--server", type=Path, nargs="+", help="folders of one more set, called 'server'")
    parser.add_argument("--backbone", choices=[name for name in BASES if name != "standard"])
    parser.add_argument(
        "--there", nargs="+", help="sets that are trained in the other network, too; all by default"
    )
    parser.add_argument(
        "--tables", type=Path, nargs="+", default=TABLES, help="where IoU matching is best is looked up there"
    )
    parser.add_argument("--out", type=Path, default=RESULTS, help="results, without their suffix")
    parser.add_argument("--page", type=Path, help="beside the results by default")
    options = parser.parse_args()
    options.searched = options.searched or options.sets
    options.stop = options.stop or options.trials
    options.there = options.there or options.sets
    torch.set_num_threads(1)
    budget, ledger = get_budget(options.budget), Ledger(options.out.with_suffix(".json"))
    searching = get_budget(options.search_budget)
    stores = {name: pixels(load_dataset(options.data / name), budget) for name in options.sets}
    if options.server:
        stores[SERVER] = pixels(merge(SERVER, [load_dataset(each) for each in options.server]), budget)
        options.sets = [*options.sets, SERVER]
    table = LookupTable.merge(map(LookupTable.load, options.tables))
    best, known = best_of(table, options.sets, searching.name)
    ways: dict[str, dict[str, Any] | None] = {
        DEFAULT: {},
        # Another configuration on each set.
        f"IoU, best of {known}": None,
        TENS: {"assign": "dynamic"},
    }
    for name in options.searched:
        store = pixels(load_dataset(options.data / name), searching)
        ways[f"dynamic, found on {name}"] = search(
            name, store, searching, options.trials, options.stop, options.share, ledger
        )
    for name, store in stores.items():
        for way, parameters in ways.items():
            for seed in options.seeds:
                key = training_key(budget.name, name, way, seed)
                ledger.train(key, store, best[name] if parameters is None else parameters, budget, seed)
    if options.backbone:
        ways_there = {way: parameters for way, parameters in ways.items() if parameters is not None}
        for name in options.there:
            for way, parameters in ways_there.items():
                for seed in options.seeds:
                    key = training_key(budget.name, name, way, seed, options.backbone)
                    ledger.train(key, stores[name], parameters, budget, seed, options.backbone)
    write_file(options.page or options.out.with_suffix(".md"), page(ledger, ways, best, known, options))


def page(
    ledger: Ledger,
    ways: Mapping[str, dict[str, Any] | None],
    best: Mapping[str, dict[str, Any]],
    known: int,
    options: argparse.Namespace,
) -> str:
    """Tables, counts, and what it cost."""
    lines = [
        "# Dynamic assignment (HPS-Det) beside IoU matching",
        "",
        f"`benchmarks/hps_det.py`: budget `{options.budget}`, seeds {', '.join(map(str, options.seeds))}; every search had {options.stop} "
        f"trainings of DYCORS, planned for {options.trials}, on {options.share:.0%} of the training split. AP@50 on val / test"
        + (
            ", means of the seeds, with the standard error over seeds for test."
            if len(options.seeds) > 1
            else "."
        )
        + " The last line has the means over the sets, with the bootstrap's 95 % interval over sets.",
        "",
        *results(ledger, ways, options, "standard", options.sets),
        "",
        f"Best of {known} configurations of the HPO space (on val, budget `{options.search_budget}`, seed 0): "
        + "; ".join(
            f"{name} {' '.join(f'{key}={value}' for key, value in parameters.items())}"
            for name, parameters in best.items()
        )
        + ".",
    ]
    if options.backbone:
        there = {way: parameters for way, parameters in ways.items() if parameters is not None}
        lines += [
            "",
            f"The same in another network, the base `{options.backbone}`; the counts are those found with MobileNetV2:",
            "",
            *results(ledger, there, options, options.backbone, options.there),
        ]
    lines += [
        "",
        "Counts found (level by level: low and wide, square, tall faces), and AP@50 on val of the trainings of each search:",
        "",
    ]
    design = 2 * (len(COUNT_KEYS) + 1)
    for name in options.searched:
        found = ways[f"dynamic, found on {name}"] or {}
        rows = [
            ledger.done[trial_key(options.search_budget, name, options.share, number)]
            for number in range(options.stop)
        ]
        aps = [row["val_ap"] for row in rows]
        seconds = sum(row["processor_seconds"] for row in rows)
        lines += [
            f"* {name}: {' '.join(str(found[key]) for key in COUNT_KEYS)}, training {int(np.argmax(aps)) + 1} of {options.stop}, "
            f"{seconds / 60:.0f} processor minutes together. Best of the first {min(design, options.stop)}, its design: {max(aps[:design]):.3f}; "
            f"of all: {max(aps):.3f}. In turn: {' '.join(f'{ap:.3f}' for ap in aps)}"
        ]
    if options.stop <= design:
        lines += [
            "",
            f"**{options.stop} trainings are no search by DYCORS**: its first {design} are a symmetric Latin hypercube, of which these are "
            "the first. They are the same for every set, so that sets may find the same counts; then nothing is said about reuse.",
        ]
    return "\n".join(lines) + "\n"


def results(
    ledger: Ledger, ways: Mapping[str, object], options: argparse.Namespace, backbone: str, names: list[str]
) -> list[str]:
    """A line for each data set, a column for each way; below them what each way is ahead of the first, with errors over the sets."""
    lines = ["| data set | " + " | ".join(ways) + " |", "|---" * (len(ways) + 1) + "|"]
    tests: dict[str, list[float]] = {way: [] for way in ways}
    for name in names:
        cells = []
        for way in ways:
            rows = [
                ledger.done[training_key(options.budget, name, way, seed, backbone)] for seed in options.seeds
            ]
            val, test = (np.array([row[split] for row in rows]) for split in ("val_ap", "test_ap"))
            tests[way].append(float(test.mean()))
            error = f" ± {test.std(ddof=1) / len(test) ** 0.5:.3f}" if len(test) > 1 else ""
            cells.append(f"{val.mean():.3f} / {test.mean():.3f}{error}")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    first = np.array(next(iter(tests.values())))
    gains = {way: bootstrap(100 * (np.array(aps) - first)) for way, aps in tests.items()}
    cells = ["" if not gain.mean else f"{gain.mean:+.1f} {gain}" for gain in gains.values()]
    return [*lines, "| on test ahead of the first, points | " + " | ".join(cells) + " |"]


if __name__ == "__main__":
    main()
