"""The arithmetic of task-aware Hyperband: how many configurations train for how long, and which of them.

HyperSTAR's task-aware Hyperband (Mittal et al. 2020, §3.3) takes the recommendation's top n where Hyperband draws n at random; a share of
them may still be drawn. A *bracket* is successive halving over a population of its own: many begin with short trainings, the best
1/eta of a *rung* go on to trainings eta times as long. Brackets differ in how far they trust early results: the first one most, the
last one, which has nothing but trainings of full length, not at all.

The advisor of the plugin plays these, and so does the evidence's rival of that name.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

ETA = 2
"""1/eta of a rung goes on, unless the advisor's settings say otherwise."""


@dataclass(frozen=True)
class Rung:
    """``count`` configurations, each trained for ``epochs``."""

    count: int
    epochs: int


Bracket = list[Rung]


def rungs(budget: int, eta: int, longest: int, step: int = 1) -> Bracket:
    """The rungs of one bracket that has all of the budget, from many short trainings to few of full length.

    With s + 1 rungs and k survivors, rung i trains k·eta^(s − i) configurations for longest / eta^(s − i) epochs, rounded down to
    whole steps, so that no rung costs more than k full trainings. s is as large as ``budget`` and one step allow, and
    k = ⌊budget / (s + 1)⌋.

    Args:
        budget: B, full trainings that all rungs together may cost, at least 1.
        eta: 1/eta of a rung goes on to the next, at least 2.
        longest: Epochs of a full training, at least ``step``.
        step: Epochs between two validations. A trial trains until it can be validated, so another length would cost more than it says.
    """
    steps = _halvings(budget, eta, longest, step)
    survivors = budget // (steps + 1)
    return [Rung(survivors * eta**i, longest // (eta**i * step) * step) for i in range(steps, -1, -1)]


def hyperband(
    budget: int, eta: int, longest: int, step: int = 1, count: int | Literal["all"] = "all"
) -> list[Bracket]:
    """Hyperband's brackets (Li et al. 2018, Algorithm 1), the one that trusts early results most first.

    Each may cost budget / count full trainings. With s + 1 rungs it begins with ⌈budget / count / (s + 1) · eta^s⌉ configurations (fewer
    where that would cost more), and ⌊1/eta^i⌋ of them reach rung i; s falls by one from bracket to bracket. Of all brackets the last has
    s = 0; where budget is (s + 1)², the sizes are those of the paper.

    Args:
        budget: Full trainings that may be paid for, as for :func:`rungs`.
        eta: Of that many trainings in a rung one goes on.
        longest: Epochs of a full training.
        step: Epochs between two validations.
        count: Of brackets, no more than :func:`most_brackets`; "all": as many as that. One is :func:`rungs`.
    """
    possible = most_brackets(budget, eta, longest, step)
    brackets = possible if count == "all" else count
    assert brackets <= possible, "whoever names a number has asked for the most"
    if brackets == 1:
        return [rungs(budget, eta, longest, step)]
    first = brackets - 1 if count == "all" else _halvings(budget // brackets, eta, longest, step)
    share = budget * longest // brackets
    found = []
    for s in range(first, first - brackets, -1):
        sizes = (
            [Rung(n // eta**i, longest // (eta ** (s - i) * step) * step) for i in range(s + 1)]
            for n in range(-(-budget * eta**s // (brackets * (s + 1))), 0, -1)
        )
        found.append(next(each for each in sizes if price(each) <= share))
    return found


def most_brackets(budget: int, eta: int, longest: int, step: int = 1) -> int:
    """How many brackets fit into the budget and the length of a training; k of them want k² full trainings, each a length of its own.

    Args:
        budget: Full trainings that may be paid for.
        eta: Of that many trainings in a rung one goes on.
        longest: Epochs of a full training.
        step: Epochs between two validations.
    """
    return 1 + _halvings(math.isqrt(budget), eta, longest, step)


def price(bracket: Sequence[Rung]) -> int:
    """Epochs that all trainings of a bracket cost together."""
    return sum(rung.count * rung.epochs for rung in bracket)


def _halvings(budget: int, eta: int, longest: int, step: int) -> int:
    """The largest s such that s + 1 full trainings are paid for, and 1/eta^s of one can be validated."""
    steps = 0
    while steps + 1 < budget and eta ** (steps + 1) * step <= longest:
        steps += 1
    return steps


def recommended(bracket: Bracket, share: float) -> int:
    """How many of a bracket's first rung are recommended; the others are drawn at random."""
    # The tolerance keeps 0.7 · 10 = 7.000…1 from becoming a different number than it means.
    return math.ceil(share * bracket[0].count - 1e-9)


def populations(brackets: Sequence[Bracket], share: float, length: int) -> list[list[int]]:
    """Places in one list of configurations that belong to each bracket: those it begins with, then those that replace failed ones.

    The list has the recommended ones in front, best first, then the drawn ones, then spares. No place is given to two brackets. The
    recommendation's best go to the brackets that begin with the longest trainings: what is believed in most is not to be lost by an
    early result.

    Args:
        brackets: Those of :func:`hyperband`.
        share: Of each bracket's first rung that is recommended, in [0, 1].
        length: Of the list; where it is too short, those that begin with short trainings go without.
    """
    best = iter(range(min(length, sum(recommended(each, share) for each in brackets))))
    total = sum(each[0].count for each in brackets)
    drawn = iter(range(sum(recommended(each, share) for each in brackets), min(length, total)))
    found: list[list[int]] = []
    for bracket in reversed(brackets):
        top = recommended(bracket, share)
        found.insert(0, [*_take(best, top), *_take(drawn, bracket[0].count - top)])
    for number, places in enumerate(found):
        places.extend(range(total + number, length, len(found)))
    return found


def best_first(population: Sequence[int], results: Mapping[int, float]) -> list[int]:
    """Those of a rung that may go on: the members of ``population`` with a result (AP), best first; equals keep their order."""
    return sorted((each for each in population if each in results), key=lambda each: -results[each])


def _take(places: Iterator[int], count: int) -> list[int]:
    return [place for _, place in zip(range(count), places)]
