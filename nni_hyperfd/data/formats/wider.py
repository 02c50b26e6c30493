"""WIDER FACE text: a file name, a count, then ``x y w h blur expression illumination invalid occlusion pose`` lines.

Event folders (``0--Parade/name.jpg``), float coordinates and several files (train and val) are read. A face
whose invalid flag (eighth column) is set is ignored. An image without faces has the count 0 and one line of zeros.
"""

from __future__ import annotations

from collections.abc import Sequence

from nni_hyperfd.data.formats.annotation import Annotations, RawFace, from_corner_and_size, numbers
from nni_hyperfd.data.formats.folder import DataFolder, is_image_name
from nni_hyperfd.data.report import Problem

NAME = "wider"
TITLE = "WIDER FACE txt"
INVALID_COLUMN = 7


def find(folder: DataFolder) -> list[str]:
    """Text files whose first line is an image name and whose second is a count."""
    return [name for name in folder.with_suffix(".txt") if _looks_like(folder.head(name))]


def _looks_like(head: str) -> bool:
    lines = [line.strip() for line in head.splitlines() if line.strip()][:2]
    return len(lines) == 2 and is_image_name(lines[0]) and not lines[0].startswith("#") and lines[1].isdigit()


def read(folder: DataFolder, files: Sequence[str], annotations: Annotations) -> None:
    """See `Reader.read`."""
    for file in files:
        _read_file(folder.text(file), file, annotations)


def _read_file(text: str, file: str, annotations: Annotations) -> None:
    faces: list[RawFace] | None = None
    image = ""
    announced: int | None = None
    given = 0

    def close() -> None:
        # The line of zeros after a count of 0 is part of the format, not a surplus box.
        if announced is not None and given != announced and not (announced == 0 and given == 1):
            annotations.findings.add(Problem.WRONG_COUNT, image)

    for number, line in enumerate(text.splitlines(), start=1):
        fields = line.split()
        if not fields:
            continue
        if is_image_name(line.strip()):
            close()
            image, announced, given = line.strip(), None, 0
            faces = annotations.image(image, file)
            continue
        values = numbers(fields)
        if values is not None and len(values) == 1 and fields[0].isdigit() and image:
            announced = int(values[0]) if values[0] < 1e9 else -1
        elif values is not None and len(values) >= 4 and image:
            given += 1
            placeholder = announced == 0 and not any(values[:4])
            if faces is not None and not placeholder:
                invalid = len(values) > INVALID_COLUMN and values[INVALID_COLUMN] != 0
                faces.append(RawFace(from_corner_and_size(*values[:4]), ignored=invalid))
        else:
            annotations.malformed(f"{file}:{number}")
            if values is None:
                # Most likely a file name we do not understand: its boxes must not go to the image before it.
                close()
                faces, image, announced = None, "", None
    close()
