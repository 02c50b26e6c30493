"""YOLO text: one file an image, lines ``class x_center y_center width height`` as fractions of the image.

Lines of 20 columns carry five landmarks ``x y visibility`` behind the box. As the format has it, an image
without a text file, or with an empty one, is an image without faces. Class names come from ``classes.txt``.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence

from nni_hyperfd.data.formats import retinaface_label, wider
from nni_hyperfd.data.formats.annotation import NO_POINT, Annotations, Points, RawFace, numbers
from nni_hyperfd.data.formats.folder import AmbiguousName, DataFolder, Header

NAME = "yolo"
TITLE = "YOLO txt"
CLASS_FILES = ("classes.txt", "obj.names")
BOX_COLUMNS, LANDMARK_COLUMNS = 5, 20


def find(folder: DataFolder) -> list[str]:
    """Text files that are called like an image, and lists of numbers beside them; no list of another format."""
    others = {*wider.find(folder), *retinaface_label.find(folder)}
    files = [name for name in folder.with_suffix(".txt") if name not in others]
    named = {name for name in files if _fits_an_image(folder, name)}
    label_folders = {os.path.dirname(name) for name in named} or {
        os.path.dirname(name) for name in files if "labels" in name.split("/")[:-1]
    }
    return [
        name
        for name in files
        if name in named or (os.path.dirname(name) in label_folders and _looks_like(folder.head(name)))
    ]


def _fits_an_image(folder: DataFolder, file: str) -> bool:
    try:
        return folder.resolve(os.path.splitext(file)[0]) is not None
    except AmbiguousName:
        return True


def _looks_like(head: str) -> bool:
    lines = head.split("\n", 1)
    values = numbers(lines[0].split())
    return values is not None and len(values) in (BOX_COLUMNS, LANDMARK_COLUMNS)


def read(folder: DataFolder, files: Sequence[str], annotations: Annotations) -> None:
    """See `Reader.read`."""
    names = _class_names(folder)
    for image in folder.images:
        annotations.faces.setdefault(image, [])
    for file in files:
        image = annotations.resolve(os.path.splitext(file)[0], "")
        header = folder.header(image) if image is not None else None
        if image is None or header is None:
            continue  # a broken image is counted once, by whoever checks all images
        for number, line in enumerate(folder.text(file).splitlines(), start=1):
            fields = line.split()
            if fields:
                values = numbers(fields[1:])
                if values is None or len(fields) not in (BOX_COLUMNS, LANDMARK_COLUMNS):
                    annotations.malformed(f"{file}:{number}")
                else:
                    annotations.faces[image].append(_face(values, header, names.get(fields[0])))


def _face(values: list[float], header: Header, label: str | None) -> RawFace:
    x, y, width, height = values[:4]
    box = (
        (x - width / 2) * header.width,
        (y - height / 2) * header.height,
        (x + width / 2) * header.width,
        (y + height / 2) * header.height,
    )
    return RawFace(box, landmarks=_landmarks(values[4:], header), label=label)


def _landmarks(values: list[float], header: Header) -> Points | None:
    if not values:
        return None
    points = zip(values[0::3], values[1::3], values[2::3])
    return tuple(
        (x * header.width, y * header.height) if seen > 0 and math.isfinite(x + y) else NO_POINT
        for x, y, seen in points
    )


def _class_names(folder: DataFolder) -> dict[str, str]:
    """Class number (as text) to name, empty when the set does not name its classes."""
    for file in [*folder.with_suffix(CLASS_FILES[0]), *folder.with_suffix(CLASS_FILES[1])]:
        if os.path.basename(file) in CLASS_FILES:
            return {str(number): line.strip() for number, line in enumerate(folder.text(file).splitlines())}
    return {}
