"""A table with a header line: ``image,xmin,ymin,xmax,ymax`` and optionally ``label``, one face a row.

Columns may come in any order and others are passed over; ``filename`` and ``class`` serve for ``image`` and
``label``. A row with a name and empty coordinates stands for an image without faces.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence

from nni_hyperfd.data.formats.annotation import Annotations, RawFace, numbers
from nni_hyperfd.data.formats.folder import DataFolder
from nni_hyperfd.errors import DataError

NAME = "csv"
TITLE = "boxes.csv"
CORNERS = ("xmin", "ymin", "xmax", "ymax")
IMAGE_COLUMNS = ("image", "filename", "file_name")
LABEL_COLUMNS = ("label", "class")


def find(folder: DataFolder) -> list[str]:
    """CSV files whose header names an image column and four corners."""
    return [name for name in folder.with_suffix(".csv") if _columns(folder.head(name)) is not None]


def _columns(text: str) -> dict[str, int] | None:
    """Position of ``image``, the corners and, where present, ``label``; None when the header does not fit."""
    lines = text.lstrip().splitlines()
    header = [field.strip().strip('"').lower() for field in lines[0].split(",")] if lines else []
    where = {name: header.index(name) for name in CORNERS if name in header}
    for column, names in (("image", IMAGE_COLUMNS), ("label", LABEL_COLUMNS)):
        for name in names:
            if name in header and column not in where:
                where[column] = header.index(name)
    return where if {*CORNERS, "image"} <= where.keys() else None


def read(folder: DataFolder, files: Sequence[str], annotations: Annotations) -> None:
    """See `Reader.read`."""
    for file in files:
        text = folder.text(file).lstrip()
        where = _columns(text)
        if where is None:
            raise DataError(
                f"{folder.root / file} has no header line with image,xmin,ymin,xmax,ymax: add one."
            )
        rows = csv.reader(text.splitlines()[1:])
        number = 1
        while True:
            number += 1
            try:
                row = next(rows)
            except StopIteration:
                break
            except csv.Error:
                annotations.malformed(f"{file}:{number}")
                continue
            if row:
                _read_row(row, where, f"{file}:{number}", annotations)


def _read_row(row: list[str], where: dict[str, int], place: str, annotations: Annotations) -> None:
    needed = [where[name] for name in ("image", *CORNERS)]
    if max(needed) >= len(row) or not row[where["image"]].strip():
        annotations.malformed(place)
        return
    corners = [row[where[name]].strip() for name in CORNERS]
    values = numbers(corners) if any(corners) else []
    if values is None:
        annotations.malformed(place)
        return
    faces = annotations.image(row[where["image"]], place.rsplit(":", 1)[0])
    if faces is not None and values:
        position = where.get("label", len(row))
        label = row[position].strip() if position < len(row) else None
        faces.append(RawFace((values[0], values[1], values[2], values[3]), label=label or None))
