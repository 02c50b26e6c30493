"""Numbers and boxes out of JSON documents, where anything may stand for anything."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from nni_hyperfd.data.formats.annotation import Box
from nni_hyperfd.data.formats.around import hull
from nni_hyperfd.data.tables import Size, number


def real(value: Any) -> float | None:
    """A finite or infinite number, also between quotes; None for everything else, truth values among it."""
    if isinstance(value, str):
        return number(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:  # JSON knows integers of any length
        return None


def reals(values: Any, count: int | None = None) -> list[float] | None:
    """A list of numbers, of ``count`` where that is given."""
    if not isinstance(values, list) or (count is not None and len(values) != count):
        return None
    found = [real(value) for value in values]
    return None if any(value is None for value in found) else [value for value in found if value is not None]


def id_text(value: Any) -> str | None:
    """An id as text, by which ids are compared, since some writers give numbers in one place and strings in another."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value) if isinstance(value, int | str) and not isinstance(value, bool) else None


def size(width: Any, height: Any) -> Size | None:
    """Width and height that a document states; None where they are absent or senseless."""
    sides = reals([width, height])
    return (
        (sides[0], sides[1])
        if sides is not None and min(sides) > 0 and all(map(math.isfinite, sides))
        else None
    )


def box_around(points: Any, least: int = 2) -> Box | None:
    """The box around ``[[x, y], ...]``; None where there are fewer than ``least``, or one is no point."""
    if not isinstance(points, list) or len(points) < least:
        return None
    pairs: list[Sequence[float]] = []
    for point in points:
        pair = reals(point, 2)
        if pair is None:
            return None
        pairs.append(pair)
    return hull((x, y) for x, y in pairs)
