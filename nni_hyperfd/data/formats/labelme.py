"""labelme: one JSON file an image, ``shapes`` with ``points`` in pixels.

Rectangles, polygons and circles become boxes, polygons of one group one box. Points and lines have none. As with Pascal VOC,
``imagePath``, the name of the file and the stated size tell which image is meant.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from nni_hyperfd.data.flags import is_ignored
from nni_hyperfd.data.formats.annotation import Annotations, Box, RawFace
from nni_hyperfd.data.formats.around import hull
from nni_hyperfd.data.formats.beside import image_beside
from nni_hyperfd.data.formats.documents import documents, with_broken
from nni_hyperfd.data.formats.folder import DataFolder
from nni_hyperfd.data.formats.shapes import box_around, reals, size
from nni_hyperfd.data.report import Problem

NAME = "labelme"
TITLE = "labelme json"
LEAST_POINTS = {"rectangle": 2, "polygon": 3, "rotation": 3, "linestrip": 0, "mask": 2}


def find(folder: DataFolder) -> list[str]:
    """All JSON files that have ``shapes`` and ``imagePath``, and those that lie beside them and are called like an image."""
    files = folder.with_suffix(".json")
    ours = [name for name in files if '"shapes"' in (text := folder.text(name)) and '"imagePath"' in text]
    return with_broken(folder, ours)


def read(folder: DataFolder, files: Sequence[str], annotations: Annotations) -> None:
    """See `Reader.read`."""
    for file, stem, document in documents(folder, files, "shapes", annotations):
        name = document.get("imagePath")
        stated = size(document.get("imageWidth"), document.get("imageHeight"))
        image = image_beside(annotations, file, stem, [name.strip() if isinstance(name, str) else ""], stated)
        if image is None:
            continue
        entry = annotations.entry_of(image, file)
        entry.size = stated
        annotations.state(entry, document.get("flags"))
        entry.faces.extend(_faces(document["shapes"], file, image, annotations))


def _faces(shapes: Sequence[Any], file: str, image: str, annotations: Annotations) -> list[RawFace]:
    faces: list[RawFace] = []
    grouped: dict[tuple[Any, Any], int] = {}
    for shape in shapes:
        if not isinstance(shape, dict):
            annotations.malformed(file, image)
            continue
        label = shape.get("label")
        label = label.strip() or None if isinstance(label, str) else None
        box = _box(shape)
        if box is None:
            known = shape.get("shape_type", "polygon") in ("rectangle", "polygon", "circle")
            annotations.malformed(
                file, image, Problem.MALFORMED_ENTRY if known else Problem.UNREADABLE_SHAPE, label
            )
            continue
        group = shape.get("group_id")
        key = (label, group)
        if isinstance(group, int) and shape.get("shape_type", "polygon") == "polygon" and key in grouped:
            first = faces[grouped[key]]
            before = first.box
            faces[grouped[key]] = RawFace(
                hull([before[:2], before[2:], box[:2], box[2:]]) or box,
                first.ignored or is_ignored(shape),
                label=label,
            )
            continue
        if isinstance(group, int) and shape.get("shape_type", "polygon") == "polygon":
            grouped[key] = len(faces)
        faces.append(RawFace(box, is_ignored(shape), label=label))
    return faces


def _box(shape: Mapping[str, Any]) -> Box | None:
    kind, points = shape.get("shape_type", "polygon"), shape.get("points")
    if kind == "circle" and isinstance(points, list) and len(points) == 2:
        middle, edge = reals(points[0], 2), reals(points[1], 2)
        if middle is None or edge is None:
            return None
        radius = math.dist(middle, edge)
        return middle[0] - radius, middle[1] - radius, middle[0] + radius, middle[1] + radius
    if kind in ("rectangle", "polygon", "rotation", "mask"):
        return box_around(points, LEAST_POINTS[kind])
    return None
