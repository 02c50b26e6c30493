"""Boxes around shapes that are none: points, and rectangles and ellipses that were turned."""

from __future__ import annotations

import math
from collections.abc import Iterable

from nni_hyperfd.data.formats.annotation import Box
from nni_hyperfd.data.tables import number


def hull(points: Iterable[tuple[float, float]]) -> Box | None:
    """The box around points; None where there are fewer than two, or one is not finite."""
    corners = list(points)
    if len(corners) < 2 or not all(math.isfinite(x) and math.isfinite(y) for x, y in corners):
        return None
    xs, ys = [x for x, _ in corners], [y for _, y in corners]
    return min(xs), min(ys), max(xs), max(ys)


def turned(box: Box, rotation: object) -> Box | None:
    """The box around ``box`` turned by ``rotation`` in degrees, CVAT's attribute of that name in other formats than its own.

    None where the rotation is no number; the box itself where there is none.
    """
    if rotation in (None, ""):
        return box
    degrees = number(str(rotation))
    if degrees is None or not math.isfinite(degrees):
        return None
    left, top, right, bottom = box
    if not degrees % 360 or not (right > left and bottom > top):
        return box
    return turned_hull((left + right) / 2, (top + bottom) / 2, right - left, bottom - top, degrees)


def turned_hull(x: float, y: float, width: float, height: float, degrees: float) -> Box | None:
    """The box around a rectangle with the middle ``(x, y)`` that is turned by ``degrees``."""
    if not math.isfinite(degrees):
        return None
    sine, cosine = math.sin(math.radians(degrees)), math.cos(math.radians(degrees))
    corners = [(a * width / 2, b * height / 2) for a in (-1, 1) for b in (-1, 1)]
    return hull((x + u * cosine - v * sine, y + u * sine + v * cosine) for u, v in corners)


def turned_ellipse(x: float, y: float, across: float, down: float, degrees: float) -> Box | None:
    """The box around an ellipse with the middle ``(x, y)`` and two half axes that is turned by ``degrees``.

    A point of it is ``across * cos(t)`` along the one axis and ``down * sin(t)`` along the other, so that half of the box is
    ``hypot(across * cos(a), down * sin(a))`` wide. A circle stays as large as it is.
    """
    if not math.isfinite(degrees):
        return None
    sine, cosine = math.sin(math.radians(degrees)), math.cos(math.radians(degrees))
    width, height = math.hypot(across * cosine, down * sine), math.hypot(across * sine, down * cosine)
    return hull([(x - width, y - height), (x + width, y + height)])
