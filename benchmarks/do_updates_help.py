"""Does customer 200 start better than customer 1? What learns of customers against what learns of none, over customers in a row.

    python benchmarks/do_updates_help.py --customers 12 50 200 --minutes 60     # runs what is missing
    python benchmarks/do_updates_help.py --show                                 # only writes the page

Two kinds of rows: pseudo-customers from one end of an axis of appearance with the experience from the other (nni_hyperfd/evidence/pseudo.py), on which
whatever is to be decided is decided, and the real customers in random orders. A customer's *start* is the rank of what the method would try
first, before any trial. Settings that could be to blame are varied one at a time. Writes updates.json (every single rank) and updates.md
with a figure.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nni_hyperfd.errors import DataError
from nni_hyperfd.evidence.bootstrap import bootstrap
from nni_hyperfd.evidence.comparison import Scenario, best_found, normalized_ranks, task_order
from nni_hyperfd.evidence.inputs import Inputs
from nni_hyperfd.evidence.page import markdown_table
from nni_hyperfd.evidence.pseudo import in_a_row
from nni_hyperfd.evidence.rivals.base import Study
from nni_hyperfd.evidence.rivals.hyperfd import HyperFD
from nni_hyperfd.evidence.rivals.hyperfd_gp import HyperFDGP
from nni_hyperfd.evidence.runs import fingerprint
from nni_hyperfd.evidence.scenario import POOLED
from nni_hyperfd.files import write_file
from nni_hyperfd.ranker.settings import RankerSettings
from nni_hyperfd.spaces.standard import standard_space

ROOT = Path(__file__).parents[1]
REAL, PSEUDO = "real", "pseudo"


@dataclass(frozen=True)
class Variant:
    """What learns of customers.

    Args:
        method: ``hyperfd``, whose first choice is the ranker's, or ``hyperfd-gp``.
        changes: Of the ranker's settings in updates; all begin with the warm-up of the settings as they are shipped.
        remembers: Whether customers before take part in the process of hyperfd-gp.
    """

    method: str = "hyperfd"
    changes: Mapping[str, Any] = field(default_factory=dict)
    remembers: bool = True

    def made(self, space: str) -> HyperFD:
        """A run's method."""
        settings = RankerSettings(**self.changes)
        kind: type[HyperFD] = HyperFD
        if self.method == "hyperfd-gp":
            kind = HyperFDGP if self.remembers else Forgetful
        # What a warm-up looks at is left as it is shipped until the run has begun.
        made = kind(standard_space(space), replace(settings, learning_rate=RankerSettings().learning_rate))  # type: ignore[arg-type]
        made.after_warm_up = settings  # type: ignore[attr-defined]
        return made


class Forgetful(HyperFDGP):
    """No customer takes part in what is expected of the next."""

    def search(self, study: Study) -> None:
        super().search(study)
        self._past = []


FROZEN: Mapping[str, Any] = {"mode": "freeze_all"}
VARIANTS: Mapping[str, Variant] = {
    "hyperfd, frozen": Variant(changes=FROZEN),
    "hyperfd, updated as shipped": Variant(),
    "extractor frozen": Variant(changes={"mode": "freeze_extractor"}),
    "offline lists alone": Variant(changes={"ratio": (1000.0, 0.0, 1e-6)}),
    "customers' lists as often as offline ones": Variant(changes={"ratio": (2.0, 1.0, 1.0)}),
    "a tenth of the rate": Variant(changes={"learning_rate": 1e-5}),
    "sixteen lists a batch": Variant(changes={"lists": 16}),
    "no synaptic intelligence": Variant(changes={"synaptic_weight": 0.0}),
    "hyperfd-gp, frozen, forgets": Variant("hyperfd-gp", FROZEN, remembers=False),
    "hyperfd-gp, frozen, remembers": Variant("hyperfd-gp", FROZEN),
    "hyperfd-gp, updated, remembers (shipped)": Variant("hyperfd-gp"),
}
"""What may be learnt of customers; "offline lists alone" goes on with the warm-up and hears of no customer."""
BASELINES = {"hyperfd": "hyperfd, frozen", "hyperfd-gp": "hyperfd-gp, frozen, forgets"}
BUDGET = 4


def in_order(scenario: Scenario, order: Sequence[int]) -> Scenario:
    """The same customers, who come in this order."""
    return replace(
        scenario,
        tasks=tuple(scenario.tasks[d] for d in order),
        profiles=tuple(scenario.profiles[d] for d in order),
        choose=scenario.choose[:, order],
        judge=scenario.judge[:, order],
    )


def play(space: str, scenario: Scenario, variant: Variant, seed: int) -> dict[str, Any]:
    """Of each customer in a row the rank of its start and of the best of its four trials."""
    method = variant.made(space)
    method.reset(scenario.experience, seed % WARM_UPS)
    method._settings = method.after_warm_up  # type: ignore[attr-defined]
    ranks = normalized_ranks(scenario.judge)
    began, start, best = time.process_time(), [], []
    for d, profile in enumerate(scenario.profiles):
        if variant.method == "hyperfd":
            scores = method.scores(profile)[: len(ranks)]
            first = int(np.nanargmax(np.where(np.isnan(ranks[:, d]), np.nan, scores)))
        study = Study(profile, BUDGET, scenario.choose[:, d])
        method.search(study)
        if variant.method == "hyperfd-gp":
            # What failed cost nothing, and is no choice.
            first = next(trial.index for trial in study.trials if not np.isnan(trial.ap))
        start.append(float(ranks[first, d]))
        # Where every proposal is without a row, as pseudo-customers have few, nothing was found.
        best.append(float(ranks[best_found(study), d].mean()) if study.trials else float("nan"))
    return {"start": start, "best": best, "seconds": round(time.process_time() - began, 1)}


def key_of(inputs: Inputs, space: str) -> str:
    """Of what a space's runs rest on: those of another table or warm-up are dropped."""
    settings = hashlib.sha256(repr(RankerSettings()).encode()).hexdigest()[:8]
    return f"{fingerprint(inputs.scenario(space, POOLED))}-{settings}"


WARM_UPS = 2
"""Distinct ones; further seeds are other orders."""


def page(space: str, runs: Mapping[str, Mapping[str, Any]]) -> str:
    """Start over the first and the last third of the customers, best of four, and learning against none, paired by customer."""
    text = ""
    rows_of = sorted(
        {tuple(name.split("|")[1:3]) for name in runs if name.split("|")[0] == space},
        key=lambda each: (each[0] == REAL, int(each[1])),
    )
    for kind, count in rows_of:
        mine: dict[str, dict[int, Mapping[str, Any]]] = {}
        for name, found in runs.items():
            where, row, customers, variant, seed = name.split("|")
            if (where, row, customers) == (space, kind, count):
                mine.setdefault(variant, {})[int(seed)] = found
        rows = []
        for variant in (each for each in VARIANTS if each in mine):
            seeds, baseline = mine[variant], BASELINES[VARIANTS[variant].method]
            start, best = (np.array([each[key] for each in seeds.values()]) for key in ("start", "best"))
            third = max(1, int(count) // 3)
            cells = [f"{start[:, :third].mean():.1f}", f"{start[:, -third:].mean():.1f}"]
            cells += [f"{start.mean():.1f}", f"{np.nanmean(best):.1f}"]
            frozen = mine.get(baseline, {})
            shared = [seed for seed in seeds if seed in frozen]
            for key in ("start", "best"):
                if variant == baseline or not shared:
                    cells.append("–")
                    continue
                # Of real customers by name, whatever the order: an order brings each of them once.
                gaps = [np.subtract(seeds[seed][key], frozen[seed][key]) for seed in shared]
                if kind == REAL:
                    back = [np.argsort(task_order(int(count), seed)) for seed in shared]
                    gaps = [gap[each] for gap, each in zip(gaps, back)]
                mean = np.mean(gaps, axis=0)
                over = bootstrap(mean[~np.isnan(mean)])
                cells.append(f"{over.mean:+.1f} {over}")
            minutes = sum(each["seconds"] for each in seeds.values()) / 60
            rows.append([variant, *cells, str(len(seeds)), f"{minutes:.1f}"])
        head = ["what learns", "start, first third", "last third", "start, all", "best of four"]
        head += ["start − none", "best − none", "seeds", "processor minutes"]
        title = f"{space.upper()}, {count} {kind} customers in a row"
        text += f"### {title}\n\n{markdown_table(head, rows)}\n"
    return text


SHOWN = (
    "hyperfd, frozen",
    "hyperfd, updated as shipped",
    "hyperfd-gp, frozen, forgets",
    "hyperfd-gp, frozen, remembers",
    "hyperfd-gp, updated, remembers (shipped)",
)


def figure(runs: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    """Start of the n-th customer, a running mean over a third of the customers, of the longest row of each kind."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    kinds = [kind for kind in (PSEUDO, REAL) if any(name.split("|")[1] == kind for name in runs)]
    shown, axes = plt.subplots(
        1, len(kinds), figsize=(6 * len(kinds), 4), layout="constrained", squeeze=False
    )
    for kind, axis in zip(kinds, axes[0]):
        names = [name for name in runs if name.split("|")[:2] == ["hpo", kind]]
        longest = max(int(name.split("|")[2]) for name in names)
        width = max(1, longest // 3)
        for variant in SHOWN:
            starts = [
                runs[name]["start"] for name in names if name.split("|")[2:4] == [str(longest), variant]
            ]
            if starts:
                mean = np.convolve(np.mean(starts, axis=0), np.ones(width) / width, "valid")
                axis.plot(np.arange(width, longest + 1), mean, label=variant)
        axis.set(xlabel=f"customer (mean of the last {width})", ylabel="rank of the first choice, %")
        axis.set(title=f"HPO, {kind} customers")
        axis.grid(alpha=0.3)
        axis.legend(fontsize=7)
    shown.savefig(path, dpi=110, metadata={"Software": None})
    plt.close(shown)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--customers", type=int, nargs="+", default=[12, 50], help="pseudo-customers in a row"
    )
    parser.add_argument("--spaces", nargs="+", default=["hpo"])
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--kinds", nargs="+", choices=(PSEUDO, REAL), default=[PSEUDO, REAL])
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
    keys = {space: key_of(inputs, space) for space in inputs.spaces()}
    kept = options.out / "updates.json"
    stored: dict[str, Any] = json.loads(kept.read_text()) if kept.exists() else {}
    theirs = stored.get("keys", {})
    runs: dict[str, Any] = {
        name: found
        for name, found in stored.get("runs", {}).items()
        if (space := name.split("|")[0]) in keys and theirs.get(space) == keys[space]
    }
    end = time.monotonic() + 60 * options.minutes
    for space in () if options.show else options.spaces:
        real = inputs.scenario(space, POOLED)
        rows = [(PSEUDO, count, seed) for count in options.customers for seed in range(options.seeds)]
        rows += [(REAL, len(real.tasks), seed) for seed in range(options.seeds)]
        for kind, count, seed in (each for each in rows if each[0] in options.kinds):
            try:
                scenario = (
                    in_order(real, task_order(count, seed))
                    if kind == REAL
                    else in_a_row(real.experience, count, seed)
                )
            except DataError as error:
                logging.warning("%s, %s: %s", space, kind, error)
                continue
            for variant in options.variants:
                name = f"{space}|{kind}|{count}|{variant}|{seed}"
                if name in runs or time.monotonic() > end:
                    continue
                runs[name] = play(space, scenario, VARIANTS[variant], seed)
                logging.info("%s: start %.1f", name, np.mean(runs[name]["start"]))
                write_file(kept, json.dumps({"keys": keys, "runs": runs}) + "\n")
    text = HEAD.format(base=base)
    if runs:
        figure(runs, options.out / "updates.png")
        text += "".join(page(space, runs) for space in options.spaces)
        text += "![start of the n-th customer](updates.png)\n"
    write_file(options.out / "updates.md", text)
    logging.info("%s", options.out / "updates.md")


HEAD = """# Do updates help?

Made by `python benchmarks/do_updates_help.py` from rows of the base `{base}`. Rank in percent of what is tried first (*start*) and of the best of four
trials; lower is better. Pseudo-customers are of a kind that the experience has not, made of a few offline sets, some of them drawn again and again;
real customers come in random orders. Differences are to the same method that learns of no customer; intervals are 95 % over customers, paired, and
too narrow for pseudo-customers, who share their sets. Of these, some have no row of what was proposed; they do not count in *best of four*.

"""

if __name__ == "__main__":
    main()
