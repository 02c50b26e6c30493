"""Flags that tools let people set: which values are set, and which flags of a box take it out of what counts."""

from __future__ import annotations

from collections.abc import Mapping

from nni_hyperfd.data.tables import number, plain

__all__ = ["FALSE", "IGNORED", "TRUE", "is_ignored", "is_set"]

TRUE = frozenset({"true", "yes", "y", "t", "x", "ja", "wahr"})
FALSE = frozenset({"false", "no", "n", "f", "nein", "falsch"})
IGNORED = frozenset(
    prefix + word
    for prefix in ("", "is")
    for word in ("ignore", "ignored", "crowd", "groupof", "difficult", "invalid")
)
"""Flags of boxes that count neither for nor against a detector, in one spelling (`tables.plain`)."""


def is_set(value: object) -> bool:
    """Whether a flag with this value is set; -1 is how Open Images writes that nobody knows."""
    if isinstance(value, str):
        found = number(value)
        return value.strip().casefold() in TRUE or (found is not None and found > 0)
    return isinstance(value, int | float) and value > 0


def is_ignored(fields: Mapping[str, object]) -> bool:
    """Whether fields of a box, or of a group among them such as ``attributes``, hold a flag of `IGNORED` that is set."""
    groups = [fields, *(value for value in fields.values() if isinstance(value, Mapping))]
    return any(
        plain(str(name)) in IGNORED and is_set(value) for group in groups for name, value in group.items()
    )
