"""Supervisely: ``ann/NAME.json`` beside ``img/NAME``, ``objects`` with ``geometryType`` and points in pixels.

Rectangles and polygons become boxes, bitmaps the box around them. Points and lines have none.
"""

from __future__ import annotations

import base64
import binascii
import io
import os
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image

from nni_hyperfd.data.flags import is_ignored
from nni_hyperfd.data.formats.annotation import Annotations, Box, RawFace
from nni_hyperfd.data.formats.documents import documents, with_broken
from nni_hyperfd.data.formats.folder import DataFolder
from nni_hyperfd.data.formats.shapes import box_around, reals, size
from nni_hyperfd.data.names import split_of_path
from nni_hyperfd.data.report import Problem

NAME = "supervisely"
TITLE = "Supervisely json"


def find(folder: DataFolder) -> list[str]:
    """All JSON files that have ``objects`` and ``size``, and those beside them that are called like an image."""
    files = folder.with_suffix(".json")
    ours = [
        name
        for name in files
        if '"objects"' in (text := folder.text(name)) and '"size"' in text and '"images"' not in text
    ]
    return with_broken(folder, ours)


def read(folder: DataFolder, files: Sequence[str], annotations: Annotations) -> None:
    """See `Reader.read`."""
    for file, stem, document in documents(folder, files, "objects", annotations):
        entry = annotations.entry(stem, "", file)
        if entry is None:
            continue
        sides = document.get("size")
        entry.size = size(sides.get("width"), sides.get("height")) if isinstance(sides, dict) else None
        entry.split = split_of_path(os.path.dirname(file))
        annotations.state(entry, _tags(document))
        for item in document["objects"]:
            label = item.get("classTitle") if isinstance(item, dict) else None
            label = label.strip() or None if isinstance(label, str) else None
            box = _box(item) if isinstance(item, dict) else None
            if box is None:
                known = isinstance(item, dict) and item.get("geometryType") in (
                    "rectangle",
                    "polygon",
                    "bitmap",
                )
                annotations.malformed(
                    file,
                    entry.image,
                    Problem.MALFORMED_ENTRY
                    if known or not isinstance(item, dict)
                    else Problem.UNREADABLE_SHAPE,
                    label,
                )
            else:
                entry.faces.append(RawFace(box, is_ignored(_tags(item)), label=label))


def _tags(tagged: Mapping[str, Any]) -> dict[str, Any]:
    """Tags by name; one without a value says all by being there."""
    tags = tagged.get("tags")
    named = [tag for tag in tags if isinstance(tag, dict)] if isinstance(tags, list) else []
    return {str(tag.get("name")): True if tag.get("value") is None else tag["value"] for tag in named}


def _box(item: Mapping[str, Any]) -> Box | None:
    kind = item.get("geometryType")
    if kind in ("rectangle", "polygon"):
        points = item.get("points")
        return (
            box_around(points.get("exterior"), 2 if kind == "rectangle" else 3)
            if isinstance(points, dict)
            else None
        )
    bitmap = item.get("bitmap")
    if kind != "bitmap" or not isinstance(bitmap, dict):
        return None
    origin = reals(bitmap.get("origin"), 2)
    data = bitmap.get("data")
    if origin is None or not isinstance(data, str):
        return None
    try:
        packed = zlib.decompressobj().decompress(base64.b64decode(data), 1 << 26)
        with Image.open(io.BytesIO(packed)) as mask:
            width, height = mask.size
    except (binascii.Error, ValueError, zlib.error, OSError):
        return None
    return origin[0], origin[1], origin[0] + width, origin[1] + height
