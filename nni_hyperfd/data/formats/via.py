"""VGG Image Annotator 2: json (an export or a project) or csv, regions with ``shape_attributes`` in pixels.

Rectangles, circles, ellipses and polygons become boxes. Points and lines have none. The class is the value of the attribute
that is called like one, or of the only attribute.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from nni_hyperfd import strict_json
from nni_hyperfd.data.flags import is_ignored
from nni_hyperfd.data.formats.annotation import Annotations, Box, RawFace
from nni_hyperfd.data.formats.around import hull, turned_ellipse
from nni_hyperfd.data.formats.folder import DataFolder
from nni_hyperfd.data.formats.shapes import real, reals
from nni_hyperfd.data.report import Problem
from nni_hyperfd.data.tables import LABEL, plain, rows_of
from nni_hyperfd.errors import DataError

NAME = "via"
TITLE = "VIA json or csv"
COLUMNS = ("filename", "region_shape_attributes", "region_attributes")
FOREIGN = ("point", "polyline")


def find(folder: DataFolder) -> list[str]:
    """JSON and CSV files that mention ``shape_attributes`` of regions."""
    return [
        *(
            name
            for name in folder.with_suffix(".json")
            if '"shape_attributes"' in (text := folder.text(name)) or "_via_img_metadata" in text
        ),
        *(name for name in folder.with_suffix(".csv") if "region_shape_attributes" in folder.head(name)),
    ]


def read(folder: DataFolder, files: Sequence[str], annotations: Annotations) -> None:
    """See `Reader.read`."""
    for file in files:
        if file.casefold().endswith(".csv"):
            _read_csv(folder, file, annotations)
        else:
            _read_json(folder, file, annotations)


def _read_json(folder: DataFolder, file: str, annotations: Annotations) -> None:
    document = folder.required_json(file)
    if isinstance(document, dict) and isinstance(document.get("_via_img_metadata"), dict):
        document = document["_via_img_metadata"]
    items = list(document.values()) if isinstance(document, dict) else document
    if not isinstance(items, list):
        raise DataError(
            f"{folder.root / file} holds no images with regions, as VIA writes them: export it again."
        )
    for place, item in enumerate(items):
        name = item.get("filename") if isinstance(item, dict) else None
        if not isinstance(name, str) or not name.strip():
            annotations.orphan(file, f"{file} image {place}")
            continue
        entry = annotations.entry(name, file, str(place))
        if entry is None:
            continue
        entry.silent = True
        annotations.state(entry, item.get("file_attributes"))
        regions = item.get("regions")
        if isinstance(regions, dict):  # VIA 1
            regions = list(regions.values())
        if not isinstance(regions, list):
            annotations.malformed(f"{file} {name}", entry.image)
            continue
        for region in regions:
            where, what = (
                (region.get(key) for key in ("shape_attributes", "region_attributes"))
                if isinstance(region, dict)
                else (None, None)
            )
            _add(where, what, f"{file} {name}", entry.image, entry.faces, annotations)


def _read_csv(folder: DataFolder, file: str, annotations: Annotations) -> None:
    rows = rows_of(folder.text(file).lstrip(), ",")
    _, head = next(rows, (0, None))
    where = {name.strip(): position for position, name in enumerate(head or [])}
    if not {*COLUMNS} <= where.keys():
        raise DataError(
            f"{folder.root / file} lacks one of the columns {', '.join(COLUMNS)}, which VIA writes: export it again."
        )
    for place, row in rows:
        cells = (
            None
            if row is None or len(row) < len(where)
            else {name: row[position] for name, position in where.items()}
        )
        name = (
            (cells or {})
            .get("filename", row[where["filename"]] if row and len(row) > where["filename"] else "")
            .strip()
        )
        if not name:
            annotations.orphan(file, f"{file}:{place}")
            continue
        entry = annotations.entry(name, file)
        if entry is None:
            continue
        entry.silent = True
        if cells is None:
            annotations.malformed(f"{file}:{place}", entry.image)
            continue
        annotations.state(entry, _object(cells.get("file_attributes", "")))
        if cells.get("region_count", "").strip() == "0" or cells["region_shape_attributes"].strip() in (
            "",
            "{}",
        ):
            if cells.get("region_count", "0").strip() not in ("0", ""):
                annotations.malformed(f"{file}:{place}", entry.image)
            continue
        shape, attributes = _object(cells["region_shape_attributes"]), _object(cells["region_attributes"])
        _add(shape, attributes, f"{file}:{place}", entry.image, entry.faces, annotations)


def _object(text: str) -> dict[str, Any] | None:
    try:
        value = strict_json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _add(
    shape: Any, attributes: Any, place: str, image: str, faces: list[RawFace], annotations: Annotations
) -> None:
    label = _label(attributes) if isinstance(attributes, dict) else None
    box = _box(shape) if isinstance(shape, dict) else None
    if box is None:
        foreign = isinstance(shape, dict) and shape.get("name") in FOREIGN
        annotations.malformed(
            place, image, Problem.UNREADABLE_SHAPE if foreign else Problem.MALFORMED_ENTRY, label
        )
    else:
        ignored = isinstance(attributes, dict) and is_ignored(attributes)
        faces.append(RawFace(box, ignored, label=label))


def _label(attributes: Mapping[str, Any]) -> str | None:
    keys = [key for key in attributes if plain(str(key)) in LABEL] or (
        list(attributes) if len(attributes) == 1 else []
    )
    for key in keys:
        value = attributes[key]
        if isinstance(value, dict):  # check boxes
            value = next((name for name, chosen in value.items() if chosen in (True, "true", "1", 1)), None)
        if isinstance(value, str) and value.strip():
            return value.strip()
    return None


def _box(shape: Mapping[str, Any]) -> Box | None:
    kind = shape.get("name")

    def values(*names: str) -> list[float] | None:
        return reals([shape.get(name) for name in names])

    if kind == "rect":
        sides = values("x", "y", "width", "height")
        return None if sides is None else (sides[0], sides[1], sides[0] + sides[2], sides[1] + sides[3])
    if kind == "circle":
        sides = values("cx", "cy", "r")
        return None if sides is None else turned_ellipse(sides[0], sides[1], sides[2], sides[2], 0)
    if kind == "ellipse":
        sides, turn = values("cx", "cy", "rx", "ry"), real(shape.get("theta", 0))
        if sides is None or turn is None:
            return None
        return turned_ellipse(sides[0], sides[1], sides[2], sides[3], math.degrees(turn))
    if kind == "polygon":
        xs, ys = reals(shape.get("all_points_x")), reals(shape.get("all_points_y"))
        return hull(zip(xs, ys)) if xs is not None and ys is not None and len(xs) == len(ys) >= 3 else None
    return None
