"""HyperFD beside DYCORS in the space of dynamic assignment's counts, at prices 4, 10 and 60: every training of every search is a real one.

    python benchmarks/counts_by_price.py --data FOLDER --sets thermal

A training is that of the searches in ``hps_det.py``, on a random part of the training split and judged by val, and DYCORS' trainings are read
from its file. Both methods of HyperFD are asked of a version 0 without the rows of the sets that are searched here, and do not learn
from one set to the next. A search's rank is the position of its best training among all that any search had on the set; chance is the
expectation over DYCORS' first design, which covers the space. One search of each kind on a set: there is no error over searches.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hps_det import RESULTS, SEARCH_SEED, Ledger, part_of, trial_key
from newcomer import platform_without, proposals

from nni_hyperfd.data.dataset import load_dataset
from nni_hyperfd.data.pixels import open_pixels
from nni_hyperfd.detection.training.budgets import get_budget
from nni_hyperfd.evidence.comparison import expected_at_random, normalized_ranks
from nni_hyperfd.files import write_file
from nni_hyperfd.spaces.hyperparameters import COUNT_KEYS
from nni_hyperfd.spaces.standard import standard_search_space

PRICES = (4, 10, 60)
DESIGN = 2 * (len(COUNT_KEYS) + 1)
DYCORS, CHANCE = "DYCORS", "chance"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--sets", nargs="+", required=True, help="that hps_det.py has searched on")
    parser.add_argument("--budget", default="table")
    parser.add_argument("--share", type=float, default=0.5, help="part of the training split, as there")
    parser.add_argument("--most", nargs=2, type=int, default=(10, 60), metavar=("RANKED", "PLANNED"))
    parser.add_argument("--searches", type=Path, default=RESULTS.with_suffix(".json"), help="of hps_det.py")
    parser.add_argument("--platform", type=Path, help="kept folder of the version 0 without these sets")
    parser.add_argument(
        "--out", type=Path, help="results, without their suffix; named after the sets by default"
    )
    options = parser.parse_args()
    options.out = options.out or RESULTS.with_name(f"counts_by_price_{'_'.join(options.sets)}")
    torch.set_num_threads(1)
    budget, ledger = get_budget(options.budget), Ledger(options.out.with_suffix(".json"))
    dycors = Ledger(options.searches)
    side = 2 * max(budget.image_size, budget.evaluation_size)
    with tempfile.TemporaryDirectory() as folder:
        made, platform = options.platform or Path(folder) / "made", Path(folder) / "platform"
        platform_without(options.sets, made, options.budget)
        # Results stay in a platform: a run that goes on begins at its beginning, with the trainings that are known.
        shutil.copytree(made, platform)
        searches: dict[str, dict[str, list[float]]] = {}
        for name in options.sets:
            known = [
                dycors.done[key]["val_ap"]
                for number in range(max(PRICES))
                if (key := trial_key(options.budget, name, options.share, number)) in dycors.done
            ]
            searches[name] = {DYCORS: known}
            store = part_of(open_pixels(load_dataset(options.data / name), side), options.share)
            ranked, planned = options.most
            plans = [("hyperfd", price) for price in PRICES if price <= ranked] + [("hyperfd-gp", planned)]
            for method, trials in plans:

                def train(
                    parameters: Mapping[str, Any],
                    store: Any = store,
                    label: str = f"{name} {method} {trials}",
                ) -> float:
                    key = f"{label} {' '.join(str(parameters[each]) for each in COUNT_KEYS)}"
                    return float(ledger.train(key, store, parameters, budget, SEARCH_SEED)["val_ap"])

                counts = standard_search_space("assignment")
                found = proposals(options.data / name, platform, counts, method, trials, SEARCH_SEED, train)
                searches[name][f"{method} {trials}"] = [ap for _, ap in found]
                write_file(options.out.with_suffix(".md"), page(searches, options))


def page(searches: Mapping[str, Mapping[str, list[float]]], options: argparse.Namespace) -> str:
    lines = ["# HyperFD beside DYCORS in the space of counts, by price", ""]
    lines += [
        f"`benchmarks/counts_by_price.py`, budget `{options.budget}`.",
        "",
        *(__doc__ or "").split("\n")[4:],
    ]
    for name, found in searches.items():
        every = np.array([ap for aps in found.values() for ap in aps])
        ranks = normalized_ranks(every)
        lines += ["", f"## {name}: {len(every)} trainings", ""]
        lines += [
            "| method | " + " | ".join(f"price {price}: best AP on val, rank %" for price in PRICES) + " |"
        ]
        lines += ["|---" * (len(PRICES) + 1) + "|"]
        design = np.array(found[DYCORS][:DESIGN])
        placed = np.array([ranks[every == ap].mean() for ap in design])
        cells = [
            f"{expected_at_random(design, design, price):.3f}, {expected_at_random(design, placed, price):.0f}"
            if price < DESIGN
            else "–"
            for price in PRICES
        ]
        lines.append(f"| {CHANCE} | " + " | ".join(cells) + " |")
        for method in (DYCORS, "hyperfd", "hyperfd-gp"):
            cells = []
            for price in PRICES:
                # A ranking for 10 is another one than that for 4; what plans trial by trial, and DYCORS, go on.
                key = (
                    f"hyperfd {price}"
                    if method == "hyperfd"
                    else next((k for k in found if k.startswith(method)), "")
                )
                aps = found.get(key, [])[:price]
                cells.append(
                    f"{max(aps):.3f}, {ranks[every == max(aps)].mean():.0f}" if len(aps) == price else "–"
                )
            lines.append(f"| {method} | " + " | ".join(cells) + " |")
        lines += [""] + [f"* {key}: {' '.join(f'{ap:.3f}' for ap in aps)}" for key, aps in found.items()]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
