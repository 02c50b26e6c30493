"""Label Studio's own json (JSON and JSON-MIN): tasks with ``annotations``, whose regions are in percent of the picture.

Rectangles (turned ones: the box around them), ellipses and polygons become boxes; key points and brushes have none. A task that
nobody has submitted says nothing of its picture, whatever a model predicted for it; one that was submitted without a region has no
faces. Several annotators of one picture must agree, unless one annotation is marked as the ground truth.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

from nni_hyperfd.data.flags import is_ignored
from nni_hyperfd.data.formats.annotation import Annotations, Box, Entry, RawFace, hull, turned_hull
from nni_hyperfd.data.formats.folder import DataFolder, is_image_name
from nni_hyperfd.data.formats.shapes import real, reals, size
from nni_hyperfd.data.names import spellings
from nni_hyperfd.data.report import Problem
from nni_hyperfd.data.tables import Size
from nni_hyperfd.errors import DataError

NAME = "labelstudio"
TITLE = "Label Studio json"
REMARKS = ("choices", "textarea", "rating", "taxonomy", "number", "datetime", "pairwise", "relation")
"""Kinds of results that mark no place in the picture."""


def find(folder: DataFolder) -> list[str]:
    """JSON files that mention the ``result`` of annotations of ``data``, or the ``original_width`` of regions."""
    found = []
    for name in folder.with_suffix(".json"):
        text = folder.text(name)
        tasks = (
            '"data"' in text and '"result"' in text and ('"annotations"' in text or '"completions"' in text)
        )
        if (tasks or '"original_width"' in text) and '"images"' not in text:
            found.append(name)
    return found


def read(folder: DataFolder, files: Sequence[str], annotations: Annotations) -> None:
    """See `Reader.read`."""
    for file in files:
        document = folder.required_json(file)
        if not isinstance(document, list | dict):
            raise DataError(
                f"{folder.root / file} is no list of tasks, as Label Studio writes it: export it again."
            )
        for place, task in enumerate(document if isinstance(document, list) else [document]):
            _read_task(task, f"{file} task {place}", file, annotations)


def _read_task(task: Any, place: str, file: str, annotations: Annotations) -> None:
    name = _name(task, annotations, file) if isinstance(task, dict) else None
    if name is None:
        annotations.orphan(file, place)
        return
    for number, regions in enumerate(_submitted(task)):
        entry = annotations.entry(name, file, f"{place} {number}")
        if entry is None:
            return
        annotations.state(entry, task.get("data", task))
        if isinstance(regions, list):
            _add(regions, entry, place, annotations)
        else:
            annotations.malformed(place, entry.image)


def _name(task: Mapping[str, Any], annotations: Annotations, file: str) -> str | None:
    """What a task calls its picture: the value of its data that looks like an image, the first that is one before others."""
    data = task.get("data")
    values = [*(data if isinstance(data, dict) else task).values(), task.get("file_upload")]
    names = [value for value in values if isinstance(value, str) and _may_be_image(value)]
    return next((name for name in names if annotations.folder.fits(name)), next(iter(names), None))


def _may_be_image(text: str) -> bool:
    return len(text) < 4096 and any(is_image_name(os.path.basename(form)) for form in spellings(text))


def _submitted(task: Mapping[str, Any]) -> list[Any]:
    """Regions of every annotation that counts."""
    if (
        "data" not in task
    ):  # JSON-MIN has the lists of regions beside the picture, and none where there is no region
        lists = [value for value in task.values() if isinstance(value, list) and any(map(_is_region, value))]
        return [[region for regions in lists for region in regions]] if lists else []
    versions = task.get("annotations", task.get("completions"))
    if not isinstance(versions, list):
        return [None]
    kept = [each for each in versions if not (isinstance(each, dict) and each.get("was_cancelled") is True)]
    best = [each for each in kept if isinstance(each, dict) and each.get("ground_truth") is True]
    return [each.get("result") if isinstance(each, dict) else None for each in best or kept]


def _is_region(value: Any) -> bool:
    return isinstance(value, dict) and (
        "original_width" in value or any(key.endswith("labels") for key in value)
    )


def _add(regions: Sequence[Any], entry: Entry, place: str, annotations: Annotations) -> None:
    # A rectangle and its label are two results of one id, where the project has a control for each.
    labels: dict[str, str] = {}
    flags: dict[str, dict[str, Any]] = {}
    for region in regions:
        if isinstance(region, dict) and _kind(region) == "choices":
            flags.setdefault(str(region.get("id")), {}).update(_chosen(region))
        if isinstance(region, dict) and (label := _label(region)) is not None:
            labels.setdefault(str(region.get("id")), label)
    for region in regions:
        kind = _kind(region) if isinstance(region, dict) else ""
        if kind in REMARKS or kind == "labels":
            continue
        label = (_label(region) or labels.get(str(region.get("id")))) if isinstance(region, dict) else None
        frame = _frame(region, entry, annotations) if isinstance(region, dict) else None
        if frame is None or region.get("image_rotation") not in (None, 0):
            annotations.malformed(place, entry.image, label=label)
        elif (box := _box(kind, region, frame)) is not None:
            ignored = is_ignored(flags.get(str(region.get("id")), {}))
            entry.faces.append(RawFace(box, ignored, label=label))
        else:
            foreign = not kind.startswith(("rectangle", "ellipse", "polygon"))
            problem = Problem.UNREADABLE_SHAPE if foreign else Problem.MALFORMED_ENTRY
            annotations.malformed(place, entry.image, problem, label)


def _kind(region: Mapping[str, Any]) -> str:
    """Such as "rectanglelabels"; JSON-MIN tells it by the key that holds the labels."""
    written = region.get("type")
    if isinstance(written, str):
        return written.casefold()
    return next((key for key in region if key.endswith("labels")), "rectangle")


def _value(region: Mapping[str, Any]) -> Mapping[str, Any]:
    value = region.get("value", region)
    return value if isinstance(value, dict) else {}


def _label(region: Mapping[str, Any]) -> str | None:
    lists = (
        value for key, value in _value(region).items() if key.endswith("labels") and isinstance(value, list)
    )
    return ", ".join(str(each).strip() for each in next(lists, [])) or None


def _chosen(region: Mapping[str, Any]) -> dict[str, Any]:
    """What people have chosen for a region, as flags: ``difficult`` itself, or ``yes`` in a control of that name."""
    choices = _value(region).get("choices")
    words = [str(each) for each in choices] if isinstance(choices, list) else []
    return dict.fromkeys(words, True) | {str(region.get("from_name")): word for word in words}


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
    if found is None or degrees is None or not kind.startswith(("rectangle", "ellipse")):
        return None
    x, y, width, height = found[0] * across, found[1] * down, found[2] * across, found[3] * down
    if kind.startswith("ellipse"):
        return turned_hull(x, y, 2 * width, 2 * height, degrees)
    if not degrees:
        return x, y, x + width, y + height
    # Turned clockwise about the top left corner, which stays, unlike the middle.
    sine, cosine = math.sin(math.radians(degrees)), math.cos(math.radians(degrees))
    corners = [(u, v) for u in (0.0, width) for v in (0.0, height)]
    return hull((x + u * cosine - v * sine, y + u * sine + v * cosine) for u, v in corners)
