"""Successive halving over a ranked list of configurations.

HyperSTAR's task-aware Hyperband (§3.3 there) takes the recommendation's top n where Hyperband draws n at random. Of
Hyperband's brackets this is the one that trusts early results most, sized so that all its trials together cost no
more than B trainings of full length.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Rung:
    """``count`` configurations, each trained for ``epochs``."""

    count: int
    epochs: int


def rungs(budget: int, eta: int, longest: int, step: int = 1) -> list[Rung]:
    """The rungs from many short trainings to few of full length.

    With s + 1 rungs and k survivors, rung i trains k·eta^(s − i) configurations for longest / eta^(s − i) epochs, rounded down to
    whole steps, so that no rung costs more than k full trainings. s is as large as ``budget`` and one step allow, and
    k = ⌊budget / (s + 1)⌋.

    Args:
        budget: B, full trainings that all rungs together may cost, at least 1.
        eta: 1/eta of a rung goes on to the next, at least 2.
        longest: epochs of a full training, at least ``step``.
        step: epochs between two validations. A trial trains until it can be validated, so another length would cost more than it says.
    """
    steps = 0
    while steps + 1 < budget and eta ** (steps + 1) * step <= longest:
        steps += 1
    survivors = budget // (steps + 1)
    return [Rung(survivors * eta**i, longest // (eta**i * step) * step) for i in range(steps, -1, -1)]
