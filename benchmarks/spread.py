"""How far offline sets spread against customers: by what configurations reach on them, not by what their images look like.

    python benchmarks/spread.py --inputs benchmarks/tables --rows ROWS...

A data set's *AP pattern* is its AP over configurations less its own mean; a recommender can only learn that patterns differ from
sets whose patterns do. Two figures for each group of sets, both in AP points (hundredths):

* **own spread**: root mean square of what remains of the APs when each set has a mean of its own and all sets of the group share one
  effect for every value of every parameter, and for every pair of optimizer and learning rate (least squares, divided by its
  degrees of freedom). Effects of values stand in for those of configurations because offline sets share hardly any of these.
* **from customers**: root mean square, over sets, of the standard deviation of the AP less what the effects fitted to the customers
  (to the others, for a customer) say of the configuration.

Both contain the noise of one training, which is shown where customers were measured with two seeds.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nni_hyperfd.evidence.conventions import MARK
from nni_hyperfd.evidence.offline_sets import OfflineSets
from nni_hyperfd.evidence.table import SERVER, LookupTable, parameters_of

CUSTOMERS = "customers"
LEAST = 2
"""Fewer configurations than this have no pattern."""
Patterns = Mapping[str, Mapping[str, float]]
"""Set -> configuration -> AP in points."""


def groups_of(folder: Path) -> dict[str, str]:
    """Offline set -> its group: the file it is from, or the convention of its labels."""
    found = {}
    for path in sorted(folder.glob("offline_sets*.json")):
        kind = path.stem.removeprefix("offline_sets").strip("_") or "plain"
        for part in OfflineSets.load(path).sets:
            convention, mark, _ = part.name.partition(MARK)
            found[part.name] = f"labels: {convention}" if mark else kind
    return found


def patterns(rows: LookupTable, seed: int | None = None) -> dict[str, dict[str, float]]:
    """AP over val and test pooled, in points; means over seeds, or of one seed."""
    chosen = rows.select(seed=seed) if seed is not None else rows.over_seeds()
    found: dict[str, dict[str, float]] = {}
    for row in chosen:
        if not row.failure:
            found.setdefault(row.data_set, {})[row.configuration] = 100 * row.heldout_ap
    return {name: aps for name, aps in found.items() if len(aps) >= LEAST}


def values_of(configuration: str) -> list[str]:
    """The values that have an effect."""
    found = parameters_of(configuration)
    together = {"optimizer", "lr"} <= found.keys()
    pair = [f"{found['optimizer']} at {found['lr']}"] if together else []
    return [f"{name}={value}" for name, value in found.items()] + pair


@dataclass(frozen=True)
class Effects:
    """A mean for each set and an effect for each value: what least squares leave of the APs."""

    of: Mapping[str, float]
    rest: float
    """Sum of squares."""
    left: int
    """Degrees of freedom."""

    @classmethod
    def fit(cls, sets: Patterns) -> Effects:
        cells = [(name, values_of(text), ap) for name, aps in sets.items() for text, ap in aps.items()]
        place = {key: column for column, key in enumerate(dict.fromkeys(v for _, vs, _ in cells for v in vs))}
        start = {name: len(place) + column for column, name in enumerate(sets)}
        design = np.zeros((len(cells), len(place) + len(start)))
        for line, (name, values, _) in enumerate(cells):
            design[line, [start[name], *(place[value] for value in values)]] = 1
        aps = np.array([ap for *_, ap in cells])
        solved, _, rank, _ = np.linalg.lstsq(design, aps, rcond=None)
        of = {key: float(solved[column]) for key, column in place.items()}
        return cls(of, float(((aps - design @ solved) ** 2).sum()), len(cells) - int(rank))

    def on(self, configuration: str) -> float:
        """The sum of the effects of a configuration's values; NaN where one was never seen."""
        return sum(self.of.get(value, float("nan")) for value in values_of(configuration))


def own_spread(sets: Patterns) -> tuple[float, int]:
    """Root mean square that a group's own effects leave, and its degrees of freedom (NaN where 0)."""
    fitted = Effects.fit(sets)
    return (float(np.sqrt(fitted.rest / fitted.left)) if fitted.left else float("nan")), fitted.left


def from_customers(sets: Patterns, customers: Patterns) -> float:
    """Root mean square over sets of how far a pattern is from what customers' effects say; NaN without others."""
    distances = []
    for name, aps in sets.items():
        others = Effects.fit({each: found for each, found in customers.items() if each != name})
        apart = [ap - others.on(text) for text, ap in aps.items() if not np.isnan(others.on(text))]
        if len(apart) >= LEAST:
            distances.append(np.var(apart, ddof=1))
    return float(np.sqrt(np.mean(distances))) if distances else float("nan")


def noise(rows: LookupTable) -> float:
    """Standard deviation of one training's AP in a pattern, from the pairs that two seeds have; NaN without them."""
    first, second = (patterns(rows, seed) for seed in (0, 1))
    variances: list[NDArray[np.floating]] = []
    for name in first.keys() & second.keys():
        shared = sorted(first[name].keys() & second[name].keys())
        if len(shared) >= LEAST:
            both = np.array([[found[name][text] for text in shared] for found in (first, second)])
            variances.append(np.var(both[0] - both[1], ddof=1) / 2)
    return float(np.sqrt(np.mean(variances))) if variances else float("nan")


def report(rows: LookupTable, groups: Mapping[str, str], space: str) -> str:
    """A markdown section with one line a group."""
    rows = rows.select(space=space)
    found = patterns(rows)
    members: dict[str, dict[str, dict[str, float]]] = {CUSTOMERS: {}}
    for name, aps in found.items():
        if name != SERVER:
            members.setdefault(groups.get(name, CUSTOMERS), {})[name] = aps
    offline = [group for group in members if group != CUSTOMERS]
    if offline:
        members["all offline sets"] = {name: aps for group in offline for name, aps in members[group].items()}
    lines: list[Sequence[object]] = []
    for group in (CUSTOMERS, *sorted(offline), *(["all offline sets"] if offline else [])):
        sets = members[group]
        spread, left = own_spread(sets)
        apart = from_customers(sets, members[CUSTOMERS])
        count = sum(map(len, sets.values()))
        lines.append((group, len(sets), count, _points(spread), left, _points(apart)))
    head = ("sets", "number", "pairs", "own spread", "degrees of freedom", "from customers")
    one = noise(rows.select(data_sets=tuple(members[CUSTOMERS])))
    said = f"Noise of one training: {_points(one)}." if one == one else "No second seed: noise unknown."
    return f"## {space}\n\n{_markdown(head, lines)}\n\n{said}\n"


def _points(value: float) -> str:
    return f"{value:.2f}" if value == value else "–"


def _markdown(head: Sequence[str], lines: Sequence[Sequence[object]]) -> str:
    rows = [head, ["---"] * len(head), *lines]
    return "\n".join("| " + " | ".join(map(str, row)) + " |" for row in rows)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--inputs", type=Path, required=True, help="folder with offline_sets*.json")
    parser.add_argument("--rows", type=Path, nargs="+", required=True, help="*.jsonl or *.csv.gz")
    parser.add_argument("--budget", default="table")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "spread.md")
    options = parser.parse_args()
    rows = LookupTable.merge(LookupTable.load(path) for path in options.rows).select(budget=options.budget)
    groups = groups_of(options.inputs)
    spaces = sorted({row.space for row in rows})
    about = __doc__.split("\n\n", 2)[2].strip()
    text = "# Spread of offline sets against customers\n\n" + about + "\n\n"
    options.out.write_text(text + "\n".join(report(rows, groups, space) for space in spaces))
    print(options.out.read_text())


if __name__ == "__main__":
    main()
