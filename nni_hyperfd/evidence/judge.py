"""How every method would have fared on data sets that are not in this repository (``hyperfd table judge``).

The methods know what the committed tables know; the new data sets come as customers among the known ones, in random
orders, and only they are judged. Nothing is chosen by what comes out: trials, methods and orders are fixed beforehand.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from nni_hyperfd.errors import DataError
from nni_hyperfd.evidence.bootstrap import bootstrap
from nni_hyperfd.evidence.comparison import Outcome, Scenario
from nni_hyperfd.evidence.halves import only
from nni_hyperfd.evidence.inputs import Inputs
from nni_hyperfd.evidence.page import markdown_table, two_digits
from nni_hyperfd.evidence.table import SERVER, LookupTable
from nni_hyperfd.metafeature.features import ImageFeatures

QUICK = ("random", "best-on-server", "mean-rank", "portfolio", "rank-portfolio", "gp-prior", "tpe")
"""Methods that take seconds; judged unless others are named."""
LEAST = 5
"""Configurations without which a rank means nothing."""
SEEDS = 8
"""Orders in which the customers come."""


def with_newcomers(
    inputs: Inputs, rows: LookupTable, features: Mapping[str, ImageFeatures], budget: str
) -> Inputs:
    """The known customers and, behind them, new ones.

    Args:
        inputs: What is known.
        rows: Measured rows of the new data sets; those of other data sets and budgets are passed over.
        features: Name -> image-level features of a new data set's training images.
        budget: Of the rows in ``inputs``.

    Raises:
        DataError: A new data set has the name of a known one, or no row of that budget.
    """
    known = [name for name in features if name in inputs.data.customers or name == SERVER]
    if known:
        raise DataError(
            f"--data {known[0]} has the name of a data set that the tables know: rename its folder before it is measured."
        )
    mine = LookupTable(row for row in rows if row.data_set in features and row.budget == budget)
    for name in features:
        if not len(mine.select(data_sets=(name,))):
            raise DataError(
                f"--rows has no row of {name} with budget {budget!r}: measure it with "
                f"'hyperfd table build --data {name} --budget {budget}'."
            )
    base = {row.version for row in inputs.customers}
    other = sorted({row.version for row in mine} - base)
    if other:
        raise DataError(
            f"--rows were measured from the base detector {other[0]}, the tables from {', '.join(sorted(base))}: APs of two bases cannot be "
            "compared; measure them with the release that the tables are of."
        )
    customers = {**inputs.data.customers, **features}
    return replace(
        inputs,
        customers=LookupTable.merge([inputs.customers, mine]),
        data=replace(inputs.data, customers=customers),
        newcomers=tuple(features),
    )


def said_of(scenario: Scenario, newcomers: Sequence[str]) -> str:
    """How much of a space was measured on the new data sets, in one sentence.

    Raises:
        DataError: Too little to be ranked.
    """
    count = scenario.experience.candidates
    names = ", ".join(newcomers)
    if count < LEAST:
        raise DataError(
            f"{scenario.name}: only {count} configurations were measured on {names} and on the known customers as well, and fewer than {LEAST} "
            "say nothing; measure more with 'hyperfd table build --configurations' (its first ones are those that the tables have)."
        )
    return f"{count} configurations; judged: {names}, among {len(scenario.tasks)} customers"


def judged(
    find: Callable[[str], Callable[[], Outcome]], names: Sequence[str], newcomers: Sequence[str]
) -> Iterator[Outcome | str]:
    """Of each method its outcome on the new data sets, or one sentence why there is none.

    Args:
        find: From a name to what plays it.
        names: Of the methods.
        newcomers: Of the data sets.
    """
    for name in names:
        try:
            yield only(find(name)(), newcomers)
        except DataError as error:
            yield f"{name} is missing: {error}"


def verdict(outcomes: Sequence[Outcome], trials: int) -> str:
    """A markdown table, best method first: rank on each data set and in the mean, errors, ΔAP, and the distance to the first.

    ± orders is the standard error over orders of the customers; the intervals are over customers. The last column is the
    mean difference in rank to the first line, paired by customer: a method is behind where the whole interval is above 0.
    """
    ranked = sorted(outcomes, key=lambda each: float(each.rank[each.budgets.index(trials)].mean()))
    first = ranked[0].rank[ranked[0].budgets.index(trials)].mean(axis=0)
    rows = []
    for outcome in ranked:
        at = outcome.budgets.index(trials)
        ranks, seeds = outcome.rank[at].mean(axis=0), outcome.rank.shape[1]
        spread = outcome.rank[at].mean(axis=1).std(ddof=1) / math.sqrt(seeds) if seeds > 1 else math.nan
        over, behind = bootstrap(ranks), bootstrap(ranks - first)
        cells = [f"{value:.1f}" for value in ranks]
        gain = float(outcome.delta_ap()[at].mean())
        distance = "–" if outcome is ranked[0] else f"{behind.mean:+.1f} {behind}"
        rows.append(
            [
                outcome.method,
                *cells,
                f"{over.mean:.1f}",
                two_digits(spread),
                str(over),
                f"{gain:+.2f}",
                distance,
            ]
        )
    head = [
        "method",
        *ranked[0].tasks,
        "rank % ↓",
        "± orders",
        "95 % over customers",
        "ΔAP ↑",
        "behind the first",
    ]
    return markdown_table(head, rows)
