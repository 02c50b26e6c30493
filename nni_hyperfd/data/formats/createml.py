"""CreateML json: a list of images, ``annotations`` with a ``label`` and ``coordinates`` (middle, width and height in pixels)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nni_hyperfd.data.flags import is_ignored
from nni_hyperfd.data.formats.annotation import Annotations, Box, Entry, RawFace
from nni_hyperfd.data.formats.folder import DataFolder
from nni_hyperfd.data.formats.shapes import reals
from nni_hyperfd.data.tables import corners_of
from nni_hyperfd.errors import DataError

NAME = "createml"
TITLE = "CreateML json"
LAYOUT = "centre and size"
NAMES = ("image", "imagefilename", "filename", "imageURL")


def find(folder: DataFolder) -> list[str]:
    """JSON files that mention ``coordinates`` of ``annotations``."""
    return [
        name
        for name in folder.with_suffix(".json")
        if '"coordinates"' in (text := folder.text(name))
        and ('"annotations"' in text or '"annotation"' in text)
        and '"images"' not in text
    ]


def read(folder: DataFolder, files: Sequence[str], annotations: Annotations) -> None:
    """See `Reader.read`."""
    for file in files:
        document = folder.required_json(file)
        if not isinstance(document, list):
            raise DataError(
                f"{folder.root / file} is no list of images, as the CreateML format has it: export it again."
            )
        entries = [
            _read_image(item, f"{file} image {place}", file, annotations)
            for place, item in enumerate(document)
        ]
        annotations.laid_out(
            [entry for entry in entries if entry is not None], file, LAYOUT, "as CreateML has them"
        )


def _read_image(item: Any, place: str, file: str, annotations: Annotations) -> Entry | None:
    name = (
        next((item[key] for key in NAMES if isinstance(item.get(key), str)), None)
        if isinstance(item, dict)
        else None
    )
    if not name:
        annotations.orphan(file, place)
        return None
    entry = annotations.entry(name, file, place)
    if entry is None:
        return None
    shapes = item.get("annotations", item.get("annotation"))
    entry.silent = True
    annotations.state(entry, item)
    if not isinstance(shapes, list):
        annotations.malformed(place, entry.image)
        return entry
    for shape in shapes:
        label = shape.get("label") if isinstance(shape, dict) else None
        label = label.strip() or None if isinstance(label, str) else None
        box = _box(shape) if isinstance(shape, dict) else None
        if box is None:
            annotations.malformed(place, entry.image, label=label)
        else:
            entry.faces.append(RawFace(box, is_ignored(shape), label=label))
    return entry


def _box(shape: Mapping[str, Any]) -> Box | None:
    where = shape.get("coordinates")
    values = (
        reals([where.get(key) for key in ("x", "y", "width", "height")]) if isinstance(where, dict) else None
    )
    return None if values is None else corners_of(values, LAYOUT)
