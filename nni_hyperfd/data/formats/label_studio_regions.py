"""Regions of Label Studio: which results mark a place in the picture, what they are called, and the boxes around them.

A shape and its label are one result, or two where the project has a control for each. Two results of one region have the same id;
JSON-MIN leaves the ids out, but both have the same place.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from nni_hyperfd.data.flags import is_ignored
from nni_hyperfd.data.formats.annotation import Annotations, Box, Entry, RawFace
from nni_hyperfd.data.formats.around import hull, turned_ellipse
from nni_hyperfd.data.formats.shapes import real, reals, size
from nni_hyperfd.data.report import Problem
from nni_hyperfd.data.tables import Size

REMARKS = (
    "choices",
    "textarea",
    "text",  # what JSON-MIN has of a textarea
    "rating",
    "taxonomy",
    "number",
    "datetime",
    "pairwise",
    "relation",
)
"""Kinds of results that mark no place in the picture, though JSON-MIN repeats the place of their region in them."""
LABELS = "labels"
PLACE = ("x", "y", "width", "height", "radiusX", "radiusY")
RECTANGLE = {"x", "y", "width", "height", "rotation"}
AROUND = {"original_width", "original_height", "image_rotation", "id", "parentID"}
"""What JSON-MIN may have beside the numbers of a shape."""


def is_region(value: Any) -> bool:
    """Whether one value of a list in JSON-MIN is a region or its label, and no remark about it."""
    return (
        isinstance(value, dict)
        and ("original_width" in value or any(key.endswith(LABELS) for key in value))
        and _kind(value) not in REMARKS
    )


def marks_picture(region: Any) -> bool:
    """Whether a result marks a place in a picture, rather than words of a text, and is no remark."""
    if not isinstance(region, dict) or _kind(region) in REMARKS:
        return False
    return _kind(region) != LABELS or _has_place(region)


def _has_place(region: Mapping[str, Any]) -> bool:
    return not {"x", "points"}.isdisjoint(_value(region))


def add_regions(regions: Sequence[Any], entry: Entry, place: str, annotations: Annotations) -> None:
    """Add the faces of one annotation to ``entry``; whatever cannot be read is counted with its image, at ``place``."""
    results = [region for region in regions if isinstance(region, dict) and _kind(region) not in REMARKS]
    labels = [region for region in results if _kind(region) == LABELS]
    shapes = [region for region in results if _kind(region) != LABELS]
    names, flags = _names(labels), _flags(regions)
    for region in shapes:
        own = _label(region)
        called = [own] if own else names.get(_identity(region), [])
        if len(called) > 1 and region.get("id") is None:
            # Two regions may have the same place, and then nothing tells whose label is which.
            annotations.malformed(place, entry.image)
        else:
            ignored = is_ignored(flags.get(_identity(region), {}))
            _add_shape(region, ", ".join(called) or None, ignored, entry, place, annotations)
    marked = {_identity(region) for region in shapes}
    for region in labels:
        if _has_place(region) and _identity(region) not in marked:  # those of words have none
            annotations.malformed(place, entry.image, label=_label(region))
    for _ in (region for region in regions if not isinstance(region, dict)):
        annotations.malformed(place, entry.image)


def _names(labels: Iterable[Mapping[str, Any]]) -> dict[object, list[str]]:
    """What the regions are called by the controls for labels alone, each name once."""
    names: dict[object, list[str]] = {}
    for region in labels:
        called = names.setdefault(_identity(region), [])
        if (label := _label(region)) is not None and label not in called:
            called.append(label)
    return names


def _flags(regions: Iterable[Any]) -> dict[object, dict[str, Any]]:
    """What people have chosen for regions, as flags: ``difficult`` itself, or ``yes`` in a control of that name."""
    flags: dict[object, dict[str, Any]] = {}
    for region in regions:
        choices = _value(region).get("choices") if isinstance(region, dict) else None
        words = [str(each) for each in choices] if isinstance(choices, list) else []
        if words:
            chosen = dict.fromkeys(words, True) | {str(region.get("from_name")): word for word in words}
            flags.setdefault(_identity(region), {}).update(chosen)
    return flags


def _identity(region: Mapping[str, Any]) -> object:
    """What two results of one region share."""
    if region.get("id") is not None:
        return str(region["id"])
    value = _value(region)
    turn = real(value.get("rotation", 0))
    return (turn, *(real(value.get(side)) for side in PLACE), json.dumps(value.get("points")))


def _add_shape(
    region: Mapping[str, Any],
    label: str | None,
    ignored: bool,
    entry: Entry,
    place: str,
    annotations: Annotations,
) -> None:
    kind, frame = _kind(region), _frame(region, entry, annotations)
    if frame is None or region.get("image_rotation") not in (None, 0):
        annotations.malformed(place, entry.image, label=label)
    elif (box := _box(kind, region, frame)) is not None:
        entry.faces.append(RawFace(box, ignored, label=label))
    else:
        foreign = not kind.startswith(("rectangle", "ellipse", "polygon"))
        problem = Problem.UNREADABLE_SHAPE if foreign else Problem.MALFORMED_ENTRY
        annotations.malformed(place, entry.image, problem, label)


def _kind(region: Mapping[str, Any]) -> str:
    """Such as "rectanglelabels"; JSON-MIN tells it by the keys alone; empty where they tell nothing."""
    written = region.get("type")
    if isinstance(written, str):
        return written.casefold()
    value = _value(region)
    told = [key for key in value if key.endswith(LABELS)] + [key for key in value if key in REMARKS]
    if told:
        return told[0]
    if "points" in value:
        return "polygon"
    if "radiusX" in value:
        return "ellipse"
    return "rectangle" if "x" in value and value.keys() <= RECTANGLE | AROUND else ""


def _value(region: Mapping[str, Any]) -> Mapping[str, Any]:
    value = region.get("value", region)
    return value if isinstance(value, dict) else {}


def _label(region: Mapping[str, Any]) -> str | None:
    lists = (
        value for key, value in _value(region).items() if key.endswith(LABELS) and isinstance(value, list)
    )
    return ", ".join(str(each).strip() for each in next(lists, [])) or None


def _frame(region: Mapping[str, Any], entry: Entry, annotations: Annotations) -> Size | None:
    """Of what the numbers are percent; None where regions of one picture disagree."""
    stated = size(region.get("original_width"), region.get("original_height"))
    if stated is None:
        frame = entry.size or annotations.frame(entry.image)
        entry.fractions = entry.fractions or entry.size is None
        entry.size = frame
        return frame
    if entry.size is not None and entry.size != stated:
        return None
    entry.size = stated
    return stated


def _box(kind: str, region: Mapping[str, Any], frame: Size) -> Box | None:
    value = _value(region)
    across, down = frame[0] / 100, frame[1] / 100
    if kind.startswith("polygon"):
        points = value.get("points")
        pairs = [reals(point, 2) for point in points] if isinstance(points, list) else []
        if len(pairs) < 3 or any(pair is None for pair in pairs):
            return None
        return hull((pair[0] * across, pair[1] * down) for pair in pairs if pair is not None)
    degrees = real(value.get("rotation", 0))
    sides = ("radiusX", "radiusY") if kind.startswith("ellipse") else ("width", "height")
    found = reals([value.get(key) for key in ("x", "y", *sides)])
    if (
        found is None
        or degrees is None
        or not math.isfinite(degrees)
        or not kind.startswith(("rectangle", "ellipse"))
    ):
        return None
    x, y, width, height = found[0] * across, found[1] * down, found[2] * across, found[3] * down
    if kind.startswith("ellipse"):
        return turned_ellipse(x, y, width, height, degrees)
    if not degrees:
        return x, y, x + width, y + height
    # Turned clockwise about the top left corner, which stays, unlike the middle.
    sine, cosine = math.sin(math.radians(degrees)), math.cos(math.radians(degrees))
    corners = [(u, v) for u in (0.0, width) for v in (0.0, height)]
    return hull((x + u * cosine - v * sine, y + u * sine + v * cosine) for u, v in corners)
