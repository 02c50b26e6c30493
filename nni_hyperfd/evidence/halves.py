"""Which customers a method may be designed on, and which nobody looks at before it is done (a protocol that cannot flatter).

The rule was written down before any row of the tables with curves was looked at: the design half has those three customers whose
learning curves METHOD.md §11 was written from, and then the first of the others by alphabet. The untouched half is therefore no random
one; it holds other kinds of pictures (nothing drawn, for one) and tests what a newcomer would see. Tables of earlier releases, on
an earlier base and without curves, were looked at for all twelve.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nni_hyperfd.evidence.comparison import Outcome

DESIGN = ("cats", "oldphoto", "thermal", "cartoon_d", "cartoon_f", "cartoon_l")
UNTOUCHED = ("lowlight", "masks_pasted", "masks_street", "selfies", "video", "weather")


def halves(tasks: Sequence[str]) -> Mapping[str, list[str]]:
    """The customers at hand by half; a customer that is of neither, such as a user's own, is nobody's to design on: untouched."""
    return {
        "design": [name for name in tasks if name in DESIGN],
        "untouched": [name for name in tasks if name not in DESIGN],
    }


def only(outcome: Outcome, names: Sequence[str]) -> Outcome:
    """An outcome on some of its tasks."""
    at = [outcome.tasks.index(name) for name in names]
    return Outcome(
        outcome.method,
        outcome.scenario,
        tuple(outcome.tasks[d] for d in at),
        outcome.budgets,
        outcome.rank[:, :, at],
        outcome.ap[:, :, at],
        outcome.random_ap[:, at],
    )
