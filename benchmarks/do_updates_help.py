"""Does customer 200 start better than customer 1? Updates against a ranker that nothing moves, over pseudo-customers in a row.

    python benchmarks/do_updates_help.py --customers 12 50 200 --minutes 60     # runs what is missing
    python benchmarks/do_updates_help.py --show                                 # only writes the page

Customers come from one end of an axis of appearance, the experience from the other (nni_hyperfd/evidence/pseudo.py). A customer's *start* is the
rank of the configuration that the ranker of the day holds best, before any trial. Settings that could be to blame are varied one at a time.
Writes updates.json (every single rank) and updates.md with a figure.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nni_hyperfd.errors import DataError
from nni_hyperfd.evidence.bootstrap import bootstrap
from nni_hyperfd.evidence.comparison import best_found, normalized_ranks
from nni_hyperfd.evidence.inputs import Inputs
from nni_hyperfd.evidence.page import markdown_table
from nni_hyperfd.evidence.pseudo import in_a_row
from nni_hyperfd.evidence.rivals.base import Study
from nni_hyperfd.evidence.rivals.hyperfd import HyperFD
from nni_hyperfd.evidence.scenario import POOLED
from nni_hyperfd.files import write_file
from nni_hyperfd.ranker.settings import RankerSettings
from nni_hyperfd.spaces.standard import standard_space

ROOT = Path(__file__).parents[1]
VARIANTS: Mapping[str, dict[str, Any]] = {
    "frozen": {"mode": "freeze_all"},
    "as shipped": {},
    "extractor frozen": {"mode": "freeze_extractor"},
    "offline lists alone": {"ratio": (1000.0, 0.0, 1e-6)},
    "no offline lists": {"ratio": (0.0, 1.0, 1.0)},
    "customers' lists as often as offline ones": {"ratio": (2.0, 1.0, 1.0)},
    "a tenth of the rate": {"learning_rate": 1e-5},
    "no synaptic intelligence": {"synaptic_weight": 0.0},
    "ten times synaptic intelligence": {"synaptic_weight": 100_000.0},
}
"""What an update may do; "offline lists alone" goes on with the warm-up and hears of no customer."""
BUDGET = 4


def play(space: str, inputs: Inputs, variant: str, customers: int, seed: int) -> dict[str, Any]:
    """Of each customer in a row the rank of its start and of the best of its four trials."""
    scenario = in_a_row(inputs.scenario(space, POOLED).experience, customers, seed)
    changes = dict(VARIANTS[variant])
    settings = RankerSettings(**changes)
    # All variants begin with the warm-up of the settings as they are shipped.
    rate = changes.pop("learning_rate", None)
    ranker = HyperFD(standard_space(space), RankerSettings(**changes) if rate else settings)  # type: ignore[arg-type]
    ranker.reset(scenario.experience, seed)
    ranker._settings = settings
    ranks = normalized_ranks(scenario.judge)
    began, start, best = time.process_time(), [], []
    for d, profile in enumerate(scenario.profiles):
        scores = ranker.scores(profile)[: len(ranks)]
        start.append(float(ranks[np.nanargmax(np.where(np.isnan(ranks[:, d]), np.nan, scores)), d]))
        study = Study(profile, BUDGET, scenario.choose[:, d])
        ranker.search(study)
        best.append(float(ranks[best_found(study), d].mean()))
    return {"start": start, "best": best, "seconds": round(time.process_time() - began, 1)}


def page(space: str, runs: Mapping[str, Mapping[str, Any]], image: str) -> str:
    """Start and best of four over the first and the last quarter of the customers, and updates against none, paired by customer."""
    text = ""
    for count in sorted({int(name.split("|")[2]) for name in runs if name.split("|")[0] == space}):
        mine: dict[str, dict[int, Mapping[str, Any]]] = {}
        for name, found in runs.items():
            where, variant, customers, seed = name.split("|")
            if where == space and int(customers) == count:
                mine.setdefault(variant, {})[int(seed)] = found
        rows = []
        for variant in (each for each in VARIANTS if each in mine):
            seeds = mine[variant]
            start, best = (np.array([each[key] for each in seeds.values()]) for key in ("start", "best"))
            quarter = max(1, count // 4)
            cells = [
                f"{start[:, :quarter].mean():.1f}",
                f"{start[:, -quarter:].mean():.1f}",
                f"{start.mean():.1f}",
            ]
            cells.append(f"{best.mean():.1f}")
            frozen = mine.get("frozen", {})
            shared = [seed for seed in seeds if seed in frozen]
            for key in ("start", "best"):
                if variant == "frozen" or not shared:
                    cells.append("–")
                    continue
                gaps = np.array([np.subtract(seeds[seed][key], frozen[seed][key]) for seed in shared]).mean(
                    axis=0
                )
                over = bootstrap(gaps)
                cells.append(f"{over.mean:+.1f} {over}")
            rows.append(
                [
                    variant,
                    *cells,
                    str(len(seeds)),
                    f"{sum(each['seconds'] for each in seeds.values()) / 60:.0f}",
                ]
            )
        head = [
            "updates",
            "start, first quarter",
            "last quarter",
            "start, all",
            "best of four",
            "start − frozen",
            "best − frozen",
        ]
        text += f"### {space.upper()}, {count} customers in a row\n\n{markdown_table([*head, 'seeds', 'processor minutes'], rows)}\n"
    return f"{text}![start of the n-th customer]({image})\n"


def figure(space: str, runs: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    """Start of the n-th customer, a running mean over a quarter of the customers, of the longest row."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    shown, axis = plt.subplots(figsize=(7, 4), layout="constrained")
    names = [name for name in runs if name.split("|")[0] == space]
    longest = max(int(name.split("|")[2]) for name in names)
    for variant in VARIANTS:
        starts = [runs[name]["start"] for name in names if name.split("|")[1:3] == [variant, str(longest)]]
        if starts:
            mean, width = np.mean(starts, axis=0), max(1, longest // 4)
            axis.plot(
                np.arange(width, longest + 1),
                np.convolve(mean, np.ones(width) / width, "valid"),
                label=variant,
            )
    axis.set(
        xlabel=f"customer (mean of the last {max(1, longest // 4)})",
        ylabel="rank of the first choice, %",
        title=space.upper(),
    )
    axis.grid(alpha=0.3)
    axis.legend(fontsize=7)
    shown.savefig(path, dpi=110, metadata={"Software": None})
    plt.close(shown)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--customers", type=int, nargs="+", default=[12, 50, 200])
    parser.add_argument("--spaces", nargs="+", default=["hpo", "nas"])
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--show", action="store_true", help="make no run")
    parser.add_argument("--inputs", type=Path, default=ROOT / "benchmarks" / "tables")
    parser.add_argument("--tables", type=Path, nargs="+", help="by default *.csv.gz in --inputs")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no run after this long")
    options = parser.parse_args()
    torch.set_num_threads(1)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    inputs = Inputs.load(options.inputs, options.tables or sorted(options.inputs.glob("*.csv.gz")), "table")
    options.out.mkdir(parents=True, exist_ok=True)
    base = next(iter(inputs.offline)).version
    kept = options.out / "updates.json"
    stored: dict[str, Any] = json.loads(kept.read_text()) if kept.exists() else {}
    runs: dict[str, Any] = stored.get("runs", {}) if stored.get("base") == base else {}
    end = time.monotonic() + 60 * options.minutes
    for customers in options.customers:
        for seed in range(options.seeds):
            for space in options.spaces:
                for variant in options.variants:
                    name = f"{space}|{variant}|{customers}|{seed}"
                    if name in runs or options.show or time.monotonic() > end:
                        continue
                    try:
                        runs[name] = play(space, inputs, variant, customers, seed)
                    except DataError as error:
                        logging.warning("%s: %s", name, error)
                        continue
                    logging.info("%s: start %.1f", name, np.mean(runs[name]["start"]))
                    write_file(kept, json.dumps({"base": base, "runs": runs}) + "\n")
    text = HEAD.format(base=base)
    for space in options.spaces:
        if any(name.split("|")[0] == space for name in runs):
            figure(space, runs, options.out / f"updates_{space}.png")
            text += page(space, runs, f"updates_{space}.png")
    write_file(options.out / "updates.md", text)
    logging.info("%s", options.out / "updates.md")


HEAD = """# Do updates help?

Made by `python benchmarks/do_updates_help.py` from offline rows of the base `{base}`. Pseudo-customers in a row, of a kind that the experience
has not; rank in percent of the ranker's first choice before any trial (*start*), and of the best of four trials. Differences are to the ranker
that nothing moves, on the same customers; intervals are 95 % over customers, paired.

"""

if __name__ == "__main__":
    main()
