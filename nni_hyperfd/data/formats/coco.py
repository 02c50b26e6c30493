"""COCO json: ``images``, ``annotations`` with ``bbox`` (x, y, width, height), optional 5 ``keypoints``; crowds are ignored.

Keypoints with visibility 0 are absent; sets with another number of keypoints than five are read without them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from nni_hyperfd.data.formats.annotation import (
    NO_POINT,
    Annotations,
    Points,
    RawFace,
    from_corner_and_size,
)
from nni_hyperfd.data.formats.folder import SPLITS_FILE, DataFolder
from nni_hyperfd.data.report import Problem
from nni_hyperfd.errors import DataError

NAME = "coco"
TITLE = "COCO json"
KEYPOINTS = 5


def find(folder: DataFolder) -> list[str]:
    """JSON files that mention both ``images`` and ``annotations``."""
    return [
        name
        for name in folder.with_suffix(".json")
        if not name.endswith(SPLITS_FILE) and {'"images"', '"annotations"'} <= _mentions(folder, name)
    ]


def _mentions(folder: DataFolder, name: str) -> set[str]:
    text = folder.text(name)
    return {word for word in ('"images"', '"annotations"') if word in text}


def read(folder: DataFolder, files: Sequence[str], annotations: Annotations) -> None:
    """See `Reader.read`."""
    for file in files:
        try:
            document = json.loads(folder.text(file))
        except (ValueError, RecursionError) as error:
            raise DataError(f"{folder.root / file} is no valid JSON ({error}): write it again.") from error
        parts = [document.get(key) for key in ("images", "annotations")] if isinstance(document, dict) else []
        if len(parts) != 2 or not all(isinstance(part, list) for part in parts):
            raise DataError(
                f"{folder.root / file} lacks the lists 'images' and 'annotations' of the COCO format."
            )
        names = _category_names(document.get("categories"))
        images = _read_images(parts[0], file, annotations)
        for number, entry in enumerate(parts[1]):
            place = f"{file} annotation {number}"
            identity = _identity(entry.get("image_id")) if isinstance(entry, dict) else None
            if identity is None or identity not in images:
                annotations.malformed(place)
                continue
            faces = images[identity]
            face = _face(entry, names)
            if face is None:
                annotations.malformed(place)
            elif faces is not None:
                faces.append(face)


def _identity(value: Any) -> str | None:
    """Ids are compared as text, since some writers give numbers in one place and strings in another."""
    return str(value) if isinstance(value, int | str) else None


def _read_images(entries: list[Any], file: str, annotations: Annotations) -> dict[str, list[RawFace] | None]:
    images: dict[str, list[RawFace] | None] = {}
    for number, entry in enumerate(entries):
        name = entry.get("file_name") if isinstance(entry, dict) else None
        identity = _identity(entry.get("id")) if isinstance(entry, dict) else None
        if not isinstance(name, str) or identity is None or identity in images:
            annotations.malformed(f"{file} image {number}")
            continue
        found = annotations.resolve(name, file)
        images[identity] = None if found is None else annotations.faces.setdefault(found, [])
        header = annotations.folder.header(found) if found is not None else None
        declared = (entry.get("width"), entry.get("height"))
        if (
            header
            and all(isinstance(side, int | float) for side in declared)
            and declared != (header.width, header.height)
        ):
            annotations.findings.add(Problem.WRONG_SIZE, name)
    return images


def _category_names(categories: Any) -> dict[str, str]:
    names: dict[str, str] = {}
    for category in categories if isinstance(categories, list) else []:
        if isinstance(category, dict) and isinstance(category.get("name"), str):
            identity = _identity(category.get("id"))
            if identity is not None:
                names[identity] = category["name"]
    return names


def _face(entry: Mapping[str, Any], names: Mapping[str, str]) -> RawFace | None:
    box = _floats(entry.get("bbox"))
    if box is None or len(box) != 4:
        return None
    category = _identity(entry.get("category_id"))
    return RawFace(
        from_corner_and_size(*box),
        ignored=bool(entry.get("iscrowd", 0)) or bool(entry.get("ignore", 0)),
        landmarks=_landmarks(_floats(entry.get("keypoints"))),
        label=names.get(category) if category is not None else None,
    )


def _floats(values: Any) -> list[float] | None:
    if not isinstance(values, list) or not all(isinstance(value, int | float) for value in values):
        return None
    try:
        return [float(value) for value in values]
    except OverflowError:  # JSON knows integers of any length
        return None


def _landmarks(values: list[float] | None) -> Points | None:
    if values is None or len(values) != 3 * KEYPOINTS:
        return None
    return tuple(
        (x, y) if seen > 0 else NO_POINT for x, y, seen in zip(values[0::3], values[1::3], values[2::3])
    )
