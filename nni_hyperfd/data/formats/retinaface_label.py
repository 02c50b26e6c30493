"""RetinaFace ``label.txt``: ``# name`` lines, then ``x y w h`` with five ``x y flag`` landmarks and a quality score.

Lines hold 4 numbers (box alone), 19 (with landmarks) or 20 (with the score). A negative landmark is absent.
"""

from __future__ import annotations

from collections.abc import Sequence

from nni_hyperfd.data.formats.annotation import (
    NO_POINT,
    Annotations,
    Points,
    RawFace,
    from_corner_and_size,
    numbers,
)
from nni_hyperfd.data.formats.folder import DataFolder, is_image_name

NAME = "retinaface"
TITLE = "RetinaFace label.txt"
COLUMNS = (4, 19, 20)


def find(folder: DataFolder) -> list[str]:
    """Text files whose first line is ``# name of an image``."""
    return [name for name in folder.with_suffix(".txt") if _looks_like(folder.head(name))]


def _looks_like(head: str) -> bool:
    lines = head.strip().splitlines()
    return bool(lines) and lines[0].startswith("#") and is_image_name(lines[0].strip())


def read(folder: DataFolder, files: Sequence[str], annotations: Annotations) -> None:
    """See `Reader.read`."""
    for file in files:
        faces: list[RawFace] | None = None
        named = False
        for number, line in enumerate(folder.text(file).splitlines(), start=1):
            if line.startswith("#"):
                named = True
                faces = annotations.image(line[1:].strip(), file)
            elif line.strip():
                values = numbers(line.split())
                if values is None or len(values) not in COLUMNS or not named:
                    annotations.malformed(f"{file}:{number}")
                elif faces is not None:
                    faces.append(RawFace(from_corner_and_size(*values[:4]), landmarks=_landmarks(values)))


def _landmarks(values: list[float]) -> Points | None:
    if len(values) == 4:
        return None
    pairs = [(values[start], values[start + 1]) for start in range(4, 19, 3)]
    return tuple((x, y) if x >= 0 and y >= 0 else NO_POINT for x, y in pairs)
