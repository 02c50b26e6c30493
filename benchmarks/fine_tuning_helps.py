"""Does fine-tuning help? The base detector as it is against the best of four recommended configurations, on test.

    python benchmarks/fine_tuning_helps.py --data SELFIES CARTOON_D ... [--budget smoke] [--out benchmarks/results]

The platform is fresh for every data set (version 0), so no set profits from another one. The best of the four is
chosen on val. Finished data sets are kept in the results file; an interrupted run goes on with the next one.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import torch
from rows import Rows

from nni_hyperfd.customer.customer import Customer
from nni_hyperfd.customer.settings import Settings
from nni_hyperfd.data.dataset import load_dataset
from nni_hyperfd.data.pixels import open_pixels
from nni_hyperfd.detection.evaluation.detections import ap50, detect, evaluation_batches, ground_truth
from nni_hyperfd.detection.network.precision import cpu_autocast
from nni_hyperfd.detection.network.weights import BASES, base_detector
from nni_hyperfd.detection.training.budgets import get_budget
from nni_hyperfd.evidence.runner import PairRunner
from nni_hyperfd.evidence.table import canonical
from nni_hyperfd.plugin.opening import platform_of
from nni_hyperfd.spaces.standard import standard_search_space


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, nargs="+", required=True)
    parser.add_argument("--budget", default="smoke")
    parser.add_argument("--space", default="hpo", choices=("hpo", "nas", "joint"))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / f"fine_tuning_{options.space}_{options.budget}.json"
    rows = Rows(path)
    for folder in options.data:
        if folder.name not in rows:
            rows[folder.name] = measure(folder, options.space, options.budget)
            rows.save()
            print(folder.name, rows[folder.name], flush=True)
    table = markdown(rows)
    path.with_suffix(".md").write_text(table)
    print(table)


def measure(folder: Path, space: str, budget: str) -> dict:
    """AP@50 on test before and after, and each of the four trials."""
    with tempfile.TemporaryDirectory() as platform:
        settings = Settings.from_class_args({"data": str(folder), "platform": platform, "budget": 4})
        recommended = Customer(settings, standard_search_space(space), platform_of(settings)).preview()
    run = PairRunner({folder.name: folder})
    trials = []
    for configuration in recommended.configurations:
        text = canonical(configuration.parameters)
        outcome = run(folder.name, text, budget, 0, "cpu")
        trials.append({"configuration": text, "val": outcome.val_ap, "test": outcome.test_ap})
    best = max(trials, key=lambda trial: trial["val"])
    return {"base": zero_shot(folder, budget), "best": best["test"], "trials": trials}


def zero_shot(folder: Path, budget: str) -> float:
    """AP@50 on test of the standard base without fine-tuning, at the evaluation size of ``budget``."""
    settings = get_budget(budget)
    store = open_pixels(load_dataset(folder), 2 * max(settings.image_size, settings.evaluation_size))
    test = store.splits["test"]
    with cpu_autocast():
        found = detect(
            base_detector(BASES["standard"]), evaluation_batches(store, test, settings.evaluation_size)
        )
    return ap50(found, ground_truth(store, test, settings.evaluation_size))


def markdown(rows: dict[str, dict]) -> str:
    """The table, and the count."""
    lines = ["| data set | base, test AP@50 | best of four, test AP@50 | gain |", "|---|---|---|---|"]
    for name, row in rows.items():
        gain = row["best"] - row["base"]
        lines.append(f"| {name} | {row['base']:.3f} | {row['best']:.3f} | {gain:+.3f} |")
    better = sum(row["best"] > row["base"] for row in rows.values())
    lines.append(f"\nFine-tuning is ahead on {better} of {len(rows)} data sets.\n")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
