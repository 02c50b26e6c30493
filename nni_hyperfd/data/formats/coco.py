"""COCO json: ``images``, ``annotations`` with ``bbox`` (x, y, width, height), optional 5 ``keypoints``; crowds are ignored (`flags`).

Keypoints with visibility 0 are absent; sets with another number of keypoints than five are read without them. Where there is
no box, the one around the polygons of ``segmentation`` is taken. Of a box that CVAT has turned (its attribute ``rotation``, in
degrees) the box around it is taken.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nni_hyperfd.data.flags import is_ignored
from nni_hyperfd.data.formats.annotation import (
    NO_POINT,
    Annotations,
    Box,
    Entry,
    Points,
    RawFace,
    scores_told,
)
from nni_hyperfd.data.formats.around import hull, turned
from nni_hyperfd.data.formats.folder import SPLITS_FILE, DataFolder
from nni_hyperfd.data.formats.label_studio_coco import drawn_upright, is_label_studio
from nni_hyperfd.data.formats.shapes import id_text, reals, size
from nni_hyperfd.data.report import Problem
from nni_hyperfd.data.tables import corners_of
from nni_hyperfd.errors import DataError

NAME = "coco"
TITLE = "COCO json"
KEYPOINTS = 5
LAYOUT = "corner and size"
MODES = {0: "corners", 1: LAYOUT, 2: "corners", 3: LAYOUT}  # Detectron2's, in pixels and in fractions
NAME_KEYS = ("file_name", "filename", "path", "coco_url")


def find(folder: DataFolder) -> list[str]:
    """JSON files that mention ``images`` and ``annotations``, but for captions, which have no shapes."""
    found = []
    for name in folder.with_suffix(".json"):
        if not name.endswith(SPLITS_FILE):
            text = folder.text(name)
            if (
                '"images"' in text
                and '"annotations"' in text
                and not ('"caption"' in text and '"bbox"' not in text)
            ):
                found.append(name)
    return found


def read(folder: DataFolder, files: Sequence[str], annotations: Annotations) -> None:
    """See `Reader.read`."""
    for file in files:
        document = folder.required_json(file)
        parts: list[Any] = (
            [document.get(key) for key in ("images", "annotations")] if isinstance(document, dict) else []
        )
        if len(parts) != 2 or not all(isinstance(part, list) for part in parts):
            raise DataError(
                f"{folder.root / file} lacks the lists 'images' and 'annotations' of the COCO format."
            )
        names = _category_names(document.get("categories"), folder.root / file, annotations)
        annotations.class_names |= {*names.values()}
        images = _read_images(parts[0], file, annotations)
        found = drawn_upright(images, parts[1], annotations) if is_label_studio(document) else parts[1]
        for place, entry in enumerate(found):
            _read_annotation(entry, f"{file} annotation {place}", file, images, names, annotations)
        scored = sum(isinstance(entry, dict) and "score" in entry for entry in parts[1])
        if scored:
            annotations.findings.note(scores_told(file, scored))
        read_images = [image for image in images.values() if image is not None]
        annotations.laid_out(read_images, file, LAYOUT, "as COCO has them")


def _read_annotation(
    entry: Any,
    place: str,
    file: str,
    images: Mapping[str, Entry | None],
    names: Mapping[str, str],
    annotations: Annotations,
) -> None:
    identity = id_text(entry.get("image_id")) if isinstance(entry, dict) else None
    if identity is None or identity not in images:
        annotations.orphan(file, place)
        return
    image = images[identity]
    if image is None:
        return
    category = id_text(entry.get("category_id"))
    label = (
        names.get(category, category if category in names.values() else None)
        if category is not None
        else None
    )
    box = _box(entry)
    if box is None:
        shaped = "segmentation" in entry and entry.get("bbox") is None
        problem = Problem.UNREADABLE_SHAPE if shaped else Problem.MALFORMED_ENTRY
        annotations.malformed(place, image.image, problem, label)
        return
    image.faces.append(
        RawFace(
            box,
            ignored=is_ignored(entry),
            landmarks=_landmarks(reals(entry.get("keypoints"))),
            label=label,
            number=category,
        )
    )


def _read_images(entries: list[Any], file: str, annotations: Annotations) -> dict[str, Entry | None]:
    images: dict[str, Entry | None] = {}
    for place, entry in enumerate(entries):
        names = [entry.get(key) for key in NAME_KEYS] if isinstance(entry, dict) else []
        name = next((each for each in names if isinstance(each, str) and each.strip()), None)
        identity = id_text(entry.get("id")) if isinstance(entry, dict) else None
        if name is None or identity is None or identity in images:
            annotations.malformed(f"{file} image {place}")
            if name is not None and identity in images:
                _doubt(annotations, images[identity], name, file)
            continue
        found = annotations.entry(name, file, identity)
        images[identity] = found
        if found is not None:
            found.size, found.silent = size(entry.get("width"), entry.get("height")), True
            annotations.state(found, entry)
    return images


def _doubt(annotations: Annotations, first: Entry | None, name: str, file: str) -> None:
    """Two images share an id: their faces cannot be told apart."""
    for image in (first.image if first else None, annotations.resolve(name, file)):
        if image is not None:
            annotations.unread(image, Problem.MALFORMED_ENTRY)


def _category_names(categories: Any, where: Path, annotations: Annotations) -> dict[str, str]:
    """Names by id, each of one name; supercategories go to ``annotations.groups``, but for those that are the name of the whole project."""
    names: dict[str, str] = {}
    known = [each for each in categories if isinstance(each, dict)] if isinstance(categories, list) else []
    for category in known:
        identity = id_text(category.get("id"))
        if identity is not None and isinstance(category.get("name"), str | int):
            name = str(category["name"])
            if names.setdefault(identity, name) != name:
                raise DataError(
                    f"{where} has two categories of the id {identity}, {names[identity]!r} and {name!r}: give each an id of its own, "
                    "and its annotations that id."
                )
    for category in known:
        group = category.get("supercategory")
        if (
            isinstance(group, str)
            and group not in ("", "none", *names.values())
            and category.get("name") != group
        ):
            annotations.groups[str(category.get("name"))] = group
    return names


def _box(entry: Mapping[str, Any]) -> Box | None:
    sides = reals(entry.get("bbox"))
    if sides is not None and len(sides) == 4:
        attributes = entry.get("attributes")
        rotation = attributes.get("rotation") if isinstance(attributes, dict) else None
        mode = entry.get("bbox_mode", 1)
        if mode not in MODES:
            return None
        left, top, right, bottom = corners_of(sides, MODES[mode])
        return turned((left, top, right, bottom), rotation)
    if entry.get("bbox") not in (None, []):
        return None
    polygons = entry.get("segmentation")
    if not isinstance(polygons, list) or not polygons:
        return None
    values = [reals(polygon) for polygon in (polygons if isinstance(polygons[0], list) else [polygons])]
    if any(part is None or len(part) < 6 or len(part) % 2 for part in values):
        return None
    flat = [value for part in values if part is not None for value in part]
    return hull(zip(flat[0::2], flat[1::2]))


def _landmarks(values: list[float] | None) -> Points | None:
    if values is None or len(values) != 3 * KEYPOINTS:
        return None
    return tuple(
        (x, y) if seen > 0 else NO_POINT for x, y, seen in zip(values[0::3], values[1::3], values[2::3])
    )
