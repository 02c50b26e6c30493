"""CVAT for images: one XML with ``image`` elements and their shapes in pixels; ``subset`` is the customer's split.

Polygons, ellipses and boxes, turned or not, are taken as the boxes around them; masks by their rectangle. Points and lines have none.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from xml.etree import ElementTree

from nni_hyperfd.data.flags import is_ignored
from nni_hyperfd.data.formats.annotation import Annotations, Box, RawFace, numbers
from nni_hyperfd.data.formats.around import hull, turned_ellipse, turned_hull
from nni_hyperfd.data.formats.folder import DataFolder
from nni_hyperfd.data.names import split_word
from nni_hyperfd.data.report import Problem
from nni_hyperfd.data.tables import number
from nni_hyperfd.errors import DataError

NAME = "cvat"
TITLE = "CVAT for images xml"
SHAPES = ("box", "polygon", "ellipse", "mask", "points", "polyline", "cuboid", "skeleton")


def find(folder: DataFolder) -> list[str]:
    """XML files that begin with ``annotations``."""
    return [name for name in folder.with_suffix(".xml") if re.search(r"<annotations[\s>]", folder.head(name))]


def read(folder: DataFolder, files: Sequence[str], annotations: Annotations) -> None:
    """See `Reader.read`."""
    for file in files:
        try:
            root = folder.xml(file)
        except (ElementTree.ParseError, ValueError) as error:
            raise DataError(
                f"{folder.root / file} is no well-formed XML ({error}): export it again."
            ) from error
        if root.find("track") is not None:
            raise DataError(
                f"{folder.root / file} is 'CVAT for video', whose tracks name no picture files: export it as 'CVAT for images' or COCO."
            )
        for item in root.iter("image"):
            _read_image(item, file, annotations)


def _read_image(item: ElementTree.Element, file: str, annotations: Annotations) -> None:
    name = item.get("name", "").strip()
    subset = item.get("subset", "")
    if not name:
        annotations.orphan(file, f"{file} image {item.get('id')}")
        return
    placed = f"{subset}/{name}" if subset and annotations.folder.fits(f"{subset}/{name}") else name
    entry = annotations.entry(placed, file, str(item.get("id")))
    if entry is None:
        return
    sides = numbers([item.get("width") or "", item.get("height") or ""])
    entry.size = (sides[0], sides[1]) if sides and min(sides) > 0 else None
    entry.silent, entry.split = True, split_word(subset)
    for shape in item:
        if shape.tag not in SHAPES or shape.get("outside") == "1":
            continue  # what has left the picture is kept in tracks only to say so
        label = (shape.get("label") or "").strip() or None
        box = _box(shape)
        if box is None:
            known = shape.tag in ("box", "polygon", "ellipse")
            annotations.malformed(
                f"{file} {name}",
                entry.image,
                Problem.MALFORMED_ENTRY if known else Problem.UNREADABLE_SHAPE,
                label,
            )
        else:
            flags = {each.get("name", ""): each.text for each in shape.iterfind("attribute")}
            entry.faces.append(RawFace(box, is_ignored(flags), label=label))


def _box(shape: ElementTree.Element) -> Box | None:
    def values(*names: str) -> list[float] | None:
        return numbers([shape.get(name) or "" for name in names])

    turn = number(shape.get("rotation") or "0")
    if turn is None or not math.isfinite(turn):
        return None
    if shape.tag == "box":
        sides = values("xtl", "ytl", "xbr", "ybr")
        if sides is None:
            return None
        a, b, c, d = sides
        return (
            turned_hull((a + c) / 2, (b + d) / 2, c - a, d - b, turn)
            if turn and c > a and d > b
            else (a, b, c, d)
        )
    if shape.tag == "ellipse":
        sides = values("cx", "cy", "rx", "ry")
        return None if sides is None else turned_ellipse(sides[0], sides[1], sides[2], sides[3], turn)
    if shape.tag == "mask":
        sides = values("left", "top", "width", "height")
        return None if sides is None else (sides[0], sides[1], sides[0] + sides[2], sides[1] + sides[3])
    if shape.tag == "polygon":
        pairs = [numbers(pair.split(",")) for pair in (shape.get("points") or "").split(";")]
        if len(pairs) < 3 or any(pair is None or len(pair) != 2 for pair in pairs):
            return None
        return hull((pair[0], pair[1]) for pair in pairs if pair is not None)
    return None
