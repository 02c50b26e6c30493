"""What a table of boxes is, told by its first line, and by its columns as a whole."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from nni_hyperfd.data.formats.folder import is_image_name
from nni_hyperfd.data.names import SPLIT_WORDS
from nni_hyperfd.data.tables import Header, delimiter_of, header_of, number, numbers, plain, rows_of
from nni_hyperfd.errors import DataError

__all__ = ["Table", "header_line", "refuse_second_boxes", "split_column", "without_preface"]

_SEPARATOR = re.compile(r'"?sep=."?', re.IGNORECASE)

Table = Sequence[tuple[int, list[str] | None]]
"""Line numbers and fields."""


def header_line(text: str) -> tuple[str, Header] | None:
    """Delimiter and header of a table; None where it has no box."""
    for line in text.splitlines()[:1]:
        delimiter = delimiter_of(line)
        fields = next((row for _, row in rows_of(line, delimiter) if row), None)
        if not fields or "region_shape_attributes" in fields:
            return None  # VIA's
        header = header_of(fields)
        if header is not None:
            return delimiter, header
        if len(fields) < 5 or numbers(fields[1:5]) is None:
            return None
        if is_image_name(fields[0].strip()):
            return delimiter, Header(
                0, (1, 2, 3, 4), None, label=5 if len(fields) > 5 else None, named=False, columns=len(fields)
            )
        if len(fields) == 8 and is_image_name(fields[5].strip()) and numbers(fields[6:]) is not None:
            return delimiter, Header(  # makesense.ai
                5, (1, 2, 3, 4), "corner and size", size=(6, 7), label=0, named=False, columns=8
            )
    return None


def without_preface(text: str) -> str:
    """The text without what may stand before a table: empty lines, and Excel's ``sep=;``."""
    first, _, rest = text.lstrip().partition("\n")
    return rest if _SEPARATOR.fullmatch(first.strip()) else text.lstrip()


def refuse_second_boxes(table: Table, header: Header, where: Path) -> None:
    """A second box in a row, which would be passed over as if it were no face.

    Raises:
        DataError: A row has one.
    """
    for place, fields in table:
        filled = [
            position
            for position in header.more
            if fields is not None and position < len(fields) and number(fields[position]) is not None
        ]
        if filled:
            raise DataError(
                f"{where} has more than one box in a row ({header.names[filled[0]]!r} in row {place}): write a row for each face."
            )


def split_column(table: Table, header: Header) -> int | None:
    """The column that holds nothing but words for splits, and several, whatever it is called."""
    used = {header.image, header.label, *header.box}
    for position in range(len(header.names)):
        words = {
            plain(fields[position])
            for _, fields in table
            if fields is not None and position < len(fields) and fields[position].strip()
        }
        if (
            position not in used
            and words <= SPLIT_WORDS.keys()
            and len({SPLIT_WORDS[word] for word in words}) > 1
        ):
            return position
    return None
