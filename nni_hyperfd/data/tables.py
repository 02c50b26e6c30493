"""Tables of boxes as spreadsheets, scripts and annotation tools write them: delimiter, header, numbers."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

DELIMITERS = (",", ";", "\t", "|")
NUMBER = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[-+]?[0-9]+)?|[-+]?(nan|inf(inity)?)", re.IGNORECASE)
DECIMAL_COMMA = re.compile(r"[-+]?[0-9]*,[0-9]+")

IMAGE = (
    "image", "filename", "imagename", "imagefilename", "file", "imagefile", "imagepath", "filepath", "path", "imageid",
    "img", "imgname", "imgpath", "imgid", "imgfile", "imageurl", "url", "picture", "photo", "frame", "frameid", "bild", "name", "id",
)  # fmt: skip
LABEL = (
    "label", "class", "classname", "labelname", "category", "categoryname", "object", "objectname", "type", "cls", "tag",
    "classid", "categoryid", "labelid", "target", "name", "klasse",
)  # fmt: skip
BOX = ("bbox", "box", "boundingbox", "boxes", "bboxes", "facebox", "rect", "rectangle", "coordinates")
IMAGE_SIZE = (
    *((f"{of}width", f"{of}height") for of in ("image", "img", "frame", "picture", "orig", "original")),
    ("imagew", "imageh"),
    ("imgw", "imgh"),
)
_PREFIXES = ("", "bbox", "box", "face", "rect", "boundingbox", "region")
CORNERS = tuple(
    (f"{p}{a}", f"{p}{b}", f"{p}{c}", f"{p}{d}")
    for p in _PREFIXES
    for a, b, c, d in (
        ("xmin", "ymin", "xmax", "ymax"),
        ("x0", "y0", "x1", "y1"),
        ("x1", "y1", "x2", "y2"),
        ("left", "top", "right", "bottom"),
        ("xtl", "ytl", "xbr", "ybr"),
        ("minx", "miny", "maxx", "maxy"),
        ("xleft", "ytop", "xright", "ybottom"),
        ("xstart", "ystart", "xend", "yend"),
        ("startx", "starty", "endx", "endy"),
        ("topleftx", "toplefty", "bottomrightx", "bottomrighty"),
        ("x", "y", "x2", "y2"),
    )
)  # fmt: skip
CENTRES = tuple(
    (f"{p}{a}", f"{p}{b}", f"{q}{c}", f"{q}{d}")
    for p in _PREFIXES
    for q in dict.fromkeys((p, ""))
    for a, b in (
        ("cx", "cy"),
        ("xcenter", "ycenter"),
        ("centerx", "centery"),
        ("xcentre", "ycentre"),
        ("xc", "yc"),
    )
    for c, d in (("w", "h"), ("width", "height"))
)
SIZES = tuple(
    (f"{p}{a}", f"{p}{b}", f"{q}{c}", f"{q}{d}")
    for p in _PREFIXES
    for q in dict.fromkeys((p, "", "bbox", "box"))
    for a, b in (
        ("x", "y"),
        ("xmin", "ymin"),
        ("left", "top"),
        ("x1", "y1"),
        ("x0", "y0"),
        ("topleftx", "toplefty"),
    )
    for c, d in (("w", "h"), ("width", "height"), ("wid", "hei"))
)
_POINT = re.compile(r"[xy][1-9][0-9]*")
LAYOUTS = ("corners", "corner and size", "centre and size")


@dataclass(frozen=True)
class Header:
    """Where a table has what.

    Args:
        image: Position of the name of the picture.
        box: Positions of four numbers, or of one cell that holds all four.
        layout: One of ``LAYOUTS``; None: not told by the header, to be found from the numbers.
        size: Positions of the picture's width and height.
        label: Position, None where there is none.
        named: Whether the first line is this header, rather than the first face.
        more: Positions of the numbers of further boxes in a row: columns called like those of ``box``, once more or with a number.
        columns: How many there are.
        names: Of all columns, () where the table has none.
    """

    image: int
    box: tuple[int, ...]
    layout: str | None
    size: tuple[int, int] | None = None
    label: int | None = None
    more: tuple[int, ...] = ()
    named: bool = True
    columns: int = 0
    names: tuple[str, ...] = ()


def plain(name: str) -> str:
    """A column's name without case, blanks and marks: "X_Min" and "xmin" are the same."""
    return re.sub(r"[\W_]+", "", name).casefold()


def _stem(name: str) -> str:
    return name.rstrip("0123456789")


def delimiter_of(line: str) -> str:
    """What separates the columns of a header line: the delimiter that makes most of them."""
    return max(
        DELIMITERS, key=lambda mark: max((len(row or ()) for _, row in rows_of(line, mark)), default=0)
    )


def header_of(fields: Sequence[str]) -> Header | None:
    """What a header line says, None where it names no picture or no box."""
    where: dict[str, int] = {}
    for position, name in enumerate(fields):
        where.setdefault(plain(name), position)
    image = next((where[name] for name in IMAGE if name in where), None)
    if image is None:
        return None
    if {
        "x3",
        "y3",
    } <= where.keys():  # then x1, y1, x2, y2 are points of a face or of a polygon, and no corners
        where = {name: position for name, position in where.items() if not _POINT.fullmatch(name)}
    box, layout, taken = _box(where)
    if box is None:
        return None
    used = {image, *box}
    size = next((pair for pair in IMAGE_SIZE if {*pair} <= where.keys()), None)
    if size is None and {"width", "height"} <= where.keys() - {*taken}:
        size = ("width", "height")
    label = next((where[name] for name in LABEL if name in where and where[name] not in used), None)
    stems = {_stem(name) for name in taken}
    more = [
        position
        for position, name in enumerate(map(plain, fields))
        if name in where
        and position not in used
        and _stem(name) in stems
        and (name in taken or name != _stem(name))
    ]
    return Header(
        image,
        box,
        layout,
        (where[size[0]], where[size[1]]) if size else None,
        label,
        more=tuple(more) if len(more) >= len(box) else (),
        columns=len(fields),
        names=tuple(fields),
    )


def _box(where: Mapping[str, int]) -> tuple[tuple[int, ...] | None, str | None, tuple[str, ...]]:
    for layout, choices in zip(LAYOUTS, (CORNERS, SIZES, CENTRES)):
        for names in choices:
            seconds = names[2:] == ("x2", "y2") and {"w2", "width2"} & where.keys()  # of a second box
            if {*names} <= where.keys() and not seconds:
                return tuple(where[name] for name in names), layout, names
    one = next((name for name in BOX if name in where), None)
    return ((where[one],), None, (one,)) if one else (None, None, ())


def rows_of(text: str, delimiter: str) -> Iterator[tuple[int, list[str] | None]]:
    """Line number and fields of every row that is not empty; None for one that is no row of a table."""
    # Python 3.10 reads no row that holds NUL, which no file's name has.
    lines = text.replace("\0", "\ufffd").splitlines()
    rows = csv.reader(lines, delimiter=delimiter)
    while True:
        try:
            row = next(rows)
        except StopIteration:
            return
        except csv.Error:
            yield rows.line_num, None
            continue
        if any(cell.strip() for cell in row):
            yield rows.line_num, row


def number(text: str) -> float | None:
    """A number as programs or, with a decimal comma, as spreadsheets write it; None where it is none."""
    word = text.strip()
    if DECIMAL_COMMA.fullmatch(word):
        word = word.replace(",", ".")
    # Not everything that Python takes: "1_000" and digits of other scripts are slips here.
    return float(word) if NUMBER.fullmatch(word) else None


def numbers(fields: Sequence[str]) -> list[float] | None:
    """The fields as numbers, or None when one of them is none."""
    values = [number(field) for field in fields]
    return (
        None if any(value is None for value in values) else [value for value in values if value is not None]
    )


def four_in_one(cell: str) -> list[float] | None:
    """Four numbers of one cell: "[10, 20, 30, 40]", "10 20 30 40"."""
    words = re.split(r"[\s,;]+", cell.strip().strip("[](){}").strip())
    values = numbers(words)
    return values if values is not None and len(values) == 4 else None


Size = tuple[float, float]
Four = Sequence[float]
ENOUGH = 3  # boxes: fewer prove nothing against what a format says
MANY = 8  # boxes and pictures: fewer may lie wherever they like
REACH = 75.0  # percent of a picture, in which the faces of many pictures come to lie
MIDDLE = 0.05  # of the picture: how much nearer its middle boxes must lie to tell one reading from another
ROOM = 0.02  # of the picture: how far rounding and boxes over the edge may lead outside


def are_fractions(boxes: Sequence[Four]) -> bool:
    """Whether the numbers of a whole table are fractions of the picture: none beyond 1, and not all of them whole."""
    values = [value for box in boxes for value in box if math.isfinite(value)]
    return bool(values) and max(map(abs, values)) <= 1 + 5 * ROOM and any(value % 1 for value in values)


def may_be_percent(boxes: Sequence[Four], pictures: Sequence[Size]) -> bool:
    """Whether boxes (as corners) in all of 0 to 100, and none beyond, leave open that they are percent of ``pictures``."""
    values = [value for box in boxes for value in box]
    return (
        bool(values)
        and all(map(math.isfinite, values))
        and 50 < max(values) <= 100
        and min(values) >= 0
        and any(max(size) > 100 * (1 + ROOM) or min(size) < 100 * (1 - ROOM) for size in pictures)
    )


def are_percent(boxes: Sequence[Four], pictures: Sequence[Size]) -> bool:
    """Whether boxes (as corners), one for each of ``pictures``, are most likely percent of them.

    Faces of many pictures do not all lie in one corner of at most a ninth of the area; in smaller pictures, they lie about
    the middle in one of the two readings only, and all over them in it; and in pictures under 100 pixels percent lead outside.
    """
    if not may_be_percent(boxes, pictures):
        return False
    if len(boxes) >= MANY and min(min(size) for size in pictures) >= 300:
        return True
    # Whole numbers speak for pixels, where the pictures are small enough for either.
    finer = sum(any(value % 1 for value in box) for box in boxes)
    if len(boxes) < ENOUGH or finer < len(boxes) / 2:
        return False
    if sum(not fits(box, "corners", size) for box, size in zip(boxes, pictures)) > len(boxes) / 4:
        return True
    if any(max(box[side] for box in boxes) < REACH for side in (2, 3)):
        return False

    def beside(scales: Sequence[Size]) -> float:
        """How far the middle of all boxes lies from that of their pictures, in fractions, where 1 is ``scales``."""
        across = sum((box[0] + box[2]) / 2 / scale[0] for box, scale in zip(boxes, scales)) / len(boxes)
        down = sum((box[1] + box[3]) / 2 / scale[1] for box, scale in zip(boxes, scales)) / len(boxes)
        return max(abs(across - 0.5), abs(down - 0.5))

    return beside([(100.0, 100.0)] * len(boxes)) + MIDDLE < beside(pictures)


def corners_of(box: Four, layout: str) -> tuple[float, float, float, float]:
    """xmin, ymin, xmax, ymax of a box in one of the ``LAYOUTS``."""
    a, b, c, d = box
    if layout == "corners":
        return a, b, c, d
    return (
        (a, b, a + c, b + d) if layout == "corner and size" else (a - c / 2, b - d / 2, a + c / 2, b + d / 2)
    )


def layout_of_corners(corners: Four, layout: str) -> tuple[float, float, float, float]:
    """The four numbers in one of the ``LAYOUTS`` of which `corners_of` makes ``corners``."""
    left, top, right, bottom = corners
    if layout == "corners":
        return left, top, right, bottom
    sides = right - left, bottom - top
    return (
        (left, top, *sides)
        if layout == "corner and size"
        else ((left + right) / 2, (top + bottom) / 2, *sides)
    )


def fits(box: Four, layout: str, size: Size | None) -> bool:
    """Whether a box that is read in ``layout`` has sides and lies in a picture of ``size`` (None: anywhere right of 0)."""
    left, top, right, bottom = corners_of(box, layout)
    width, height = size or (math.inf, math.inf)
    pixel = 0.0 if size == (1, 1) else 1.0  # of fractions, nothing else would tell
    room_x, room_y = (ROOM * width + pixel, ROOM * height + pixel) if size else (1.0, 1.0)
    return (
        right > left
        and bottom > top
        and left >= -room_x
        and top >= -room_y
        and right <= width + room_x
        and bottom <= height + room_y
    )


def layouts_that_fit(boxes: Sequence[Four], sizes: Sequence[Size | None], share: float = 1.0) -> list[str]:
    """The layouts in which at least ``share`` of the boxes of a table fit their pictures."""
    finite = [(box, size) for box, size in zip(boxes, sizes) if all(map(math.isfinite, box))]
    return [
        layout
        for layout in LAYOUTS
        if finite and sum(fits(box, layout, size) for box, size in finite) >= share * len(finite)
    ]


def layout_by_evidence(boxes: Sequence[Four], sizes: Sequence[Size | None], expected: str) -> str | None:
    """What the boxes of a table are: as expected, or another layout that all of them fit; None: neither.

    At least half of them must fit their pictures as expected. Centres that are given out for corners lead outside less often:
    then, in a table of some length, three quarters must.
    """
    if not boxes or expected in layouts_that_fit(boxes, sizes, 0.75):
        return expected
    fitting = layouts_that_fit(boxes, sizes)
    if expected == "corner and size" and len(boxes) >= MANY and fitting == ["centre and size"]:
        return "centre and size"
    if expected in layouts_that_fit(boxes, sizes, 0.5):
        return expected
    others = (
        ("corners", "corner and size") if expected == "corner and size" else ("corner and size", "corners")
    )
    return next((other for other in others if len(boxes) >= ENOUGH and other in fitting), None)
