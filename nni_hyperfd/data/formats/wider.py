"""WIDER FACE text: a file name, a count, then ``x y w h blur expression illumination invalid occlusion pose`` lines.

Event folders (``0--Parade/name.jpg``), float coordinates and several files (train and val) are read. A face
whose invalid flag (eighth column) is set is ignored. An image without faces has one line of zeros, behind the count 0 or 1.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from nni_hyperfd.data.formats.annotation import Annotations, Entry, RawFace, numbers
from nni_hyperfd.data.formats.folder import DataFolder, is_image_name
from nni_hyperfd.data.report import Problem
from nni_hyperfd.data.tables import corners_of

NAME = "wider"
TITLE = "WIDER FACE txt"
INVALID_COLUMN = 7
COLUMNS = (4, 10)
LAYOUT = "corner and size"


def find(folder: DataFolder) -> list[str]:
    """Text files whose first line is an image name and whose second is a count."""
    return [name for name in folder.with_suffix(".txt") if _looks_like(folder.head(name))]


def _looks_like(head: str) -> bool:
    lines = [line.strip() for line in head.splitlines() if line.strip()][:3]
    if len(lines) < 2 or not is_image_name(lines[0]) or lines[0].startswith("#") or not lines[1].isdigit():
        return False
    first = numbers(lines[2].split()) if len(lines) == 3 else None
    # Two radii, an angle, a middle and 1: an ellipse of FDDB.
    return not (first and len(first) == 6 and first[5] == 1 and abs(first[2]) <= math.pi)


@dataclass
class _Block:
    """What a file says of one image: where it begins, the count that it announces, and the numbers of its faces."""

    place: str
    name: str
    announced: int | None = None
    lines: list[list[float]] = field(default_factory=list)

    def boxes(self) -> list[list[float]]:
        """The lines that are faces: a single line of zeros is how the format says that there is none."""
        empty = self.announced in (0, 1) and len(self.lines) == 1 and not any(self.lines[0][:4])
        return [] if empty else self.lines

    def is_complete(self) -> bool:
        """Whether there are as many lines as announced."""
        return self.announced == len(self.lines) or (self.announced == 0 and not self.boxes())


def read(folder: DataFolder, files: Sequence[str], annotations: Annotations) -> None:
    """See `Reader.read`."""
    for file in files:
        _add(_blocks(folder.text(file), file, annotations), file, annotations)


def _lengths(text: str) -> set[int]:
    """How many numbers a face may have: as the format says, or as most lines of this file have."""
    lengths = Counter(
        len(line.split()) for line in text.splitlines() if line.split() and not is_image_name(line.strip())
    )
    del lengths[1]
    return {*COLUMNS, *(length for length, _ in lengths.most_common(1) if length >= 4)}


def _blocks(text: str, file: str, annotations: Annotations) -> list[_Block]:
    lengths = _lengths(text)
    blocks: list[_Block] = []
    block: _Block | None = None
    for number, line in enumerate(text.splitlines(), start=1):
        fields = line.split()
        if not fields:
            continue
        if is_image_name(line.strip()):
            block = _Block(f"{file}:{number}", line.strip())
            blocks.append(block)
            continue
        values = numbers(fields)
        if block is not None and block.announced is None and len(fields) == 1 and fields[0].isdigit():
            block.announced = int(fields[0][:9])
        elif block is not None and values is not None and len(values) in lengths:
            block.lines.append(values)
        else:
            image = annotations.resolve(block.name, file) if block is not None else None
            annotations.malformed(f"{file}:{number}", image)
            if values is None:
                # Most likely a file name we do not understand: its boxes must not go to the image before it.
                block = None
    return blocks


def _add(blocks: Sequence[_Block], file: str, annotations: Annotations) -> None:
    entries: list[tuple[Entry, _Block]] = []
    for block in blocks:
        entry = annotations.entry(block.name, file, block.place)
        if entry is None:
            continue
        entries.append((entry, block))
        if not block.is_complete():
            annotations.findings.add(Problem.WRONG_COUNT, block.name)
            annotations.unread(entry.image, Problem.WRONG_COUNT)
    told = [
        (annotations.frame(entry.image), values[:4])
        for entry, block in entries
        for values in block.boxes()
        if any(values[:4])
    ]
    frames, boxes = [frame for frame, _ in told], [box for _, box in told]
    layout = annotations.layout(file, boxes, frames, LAYOUT, "as the format has it")
    for entry, block in entries:
        for values in block.boxes():
            invalid = len(values) > INVALID_COLUMN and values[INVALID_COLUMN] != 0
            entry.faces.append(RawFace(corners_of(values[:4], layout), ignored=invalid))
