"""RetinaFace ``label.txt``: ``# name`` lines, then ``x y w h`` with five ``x y flag`` landmarks and a quality score.

Lines hold 4 numbers (box alone), 19 (with landmarks) or 20 (with the score). A negative landmark is absent. SCRFD's
``labelv2.txt`` of the same tools tells the size of the picture, ``# name width height``, and has corners: ``x1 y1 x2 y2``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from nni_hyperfd.data.formats.annotation import (
    NO_POINT,
    Annotations,
    Entry,
    Points,
    RawFace,
    numbers,
)
from nni_hyperfd.data.formats.folder import DataFolder, is_image_name
from nni_hyperfd.data.tables import Size, corners_of

NAME = "retinaface"
TITLE = "RetinaFace label.txt"
COLUMNS = (4, 14, 15, 19, 20)
NAMED = re.compile(r"^#\s*(?P<name>.*?)(?:\s+(?P<width>\d+(?:\.0*)?)\s+(?P<height>\d+(?:\.0*)?))?\s*$")


def find(folder: DataFolder) -> list[str]:
    """Text files whose first line is ``# name of an image``, with or without its size."""
    return [name for name in folder.with_suffix(".txt") if _looks_like(folder.head(name))]


def _looks_like(head: str) -> bool:
    lines = head.strip().splitlines()
    return bool(lines) and lines[0].startswith("#") and is_image_name(_named(lines[0])[0])


def _named(line: str) -> tuple[str, Size | None]:
    """Name of the image, and its size where the line tells it."""
    whole = line[1:].strip()
    match = NAMED.match(line.strip())
    if is_image_name(whole) or match is None or match["width"] is None:
        return whole, None
    return match["name"].strip(), (float(match["width"]), float(match["height"]))


_Block = tuple[Entry, bool, list[list[float]]]
"""An image, whether its size is told, and the numbers of its faces."""


def read(folder: DataFolder, files: Sequence[str], annotations: Annotations) -> None:
    """See `Reader.read`."""
    for file in files:
        blocks: list[_Block] = []
        lines: list[list[float]] | None = None
        entry: Entry | None = None
        named = False
        for place, line in enumerate(folder.text(file).splitlines(), start=1):
            if line.lstrip().startswith("#"):
                name, size = _named(line.lstrip())
                named = True
                entry = annotations.entry(name, file, str(place))
                lines = None
                if entry is not None:
                    entry.size, entry.silent = size, True
                    lines = []
                    blocks.append((entry, size is not None, lines))
            elif line.strip():
                values = numbers(line.split())
                if not named:
                    annotations.orphan(file, f"{file}:{place}")
                elif values is None or len(values) not in COLUMNS:
                    annotations.malformed(f"{file}:{place}", entry.image if entry else None)
                elif lines is not None:
                    lines.append(values)
        _add(blocks, file, annotations)


def _add(blocks: Sequence[_Block], file: str, annotations: Annotations) -> None:
    """Faces of a whole file, once it is clear what its numbers are."""
    for sized in (False, True):
        lines = [
            (entry, values) for entry, had_size, found in blocks if had_size is sized for values in found
        ]
        boxes = [values[:4] for _, values in lines if any(values[:4])]
        frames = [entry.size or annotations.frame(entry.image) for entry, values in lines if any(values[:4])]
        expected = "corners" if sized else "corner and size"
        layout = annotations.layout(file, boxes, frames, expected, "as the format has it")
        for entry, values in lines:
            entry.faces.append(RawFace(corners_of(values[:4], layout), landmarks=_landmarks(values)))


def _landmarks(values: list[float]) -> Points | None:
    if len(values) == 4:
        return None
    step = 2 if len(values) in (14, 15) else 3
    pairs = [(values[start], values[start + 1]) for start in range(4, 4 + 5 * step, step)]
    return tuple((x, y) if x >= 0 and y >= 0 else NO_POINT for x, y in pairs)
