"""A table with a header line: the image, a box, and optionally a class, one face a row.

Columns may come in any order, under the names that Kaggle, Open Images, TensorFlow, RetinaNet and spreadsheets give them
(`tables`); others are passed over. Delimiter, decimal commas, and fractions or pixels are told by the whole table. A row
with a name and an empty box stands for an image without faces. Rows without a header, ``image,x1,y1,x2,y2,class``, are
read where the numbers tell corners from sizes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nni_hyperfd.data.flags import IGNORED, is_ignored
from nni_hyperfd.data.formats.annotation import Annotations, RawFace, scores_told
from nni_hyperfd.data.formats.boxes_table import (
    header_line,
    refuse_second_boxes,
    split_column,
    without_preface,
)
from nni_hyperfd.data.formats.folder import DataFolder
from nni_hyperfd.data.report import Problem
from nni_hyperfd.data.tables import (
    Header,
    Size,
    are_fractions,
    corners_of,
    four_in_one,
    layouts_that_fit,
    number,
    numbers,
    plain,
    rows_of,
)
from nni_hyperfd.errors import DataError

NAME = "csv"
TITLE = "boxes.csv"
SUFFIXES = (".csv", ".tsv")
SCORES = frozenset({"score", "confidence", "conf", "probability"})
HEADERLESS = ("corners", "corner and size")
NO_FACE = "no face"  # the class of rows whose column is_face denies it
NEEDED = "a header line such as image,xmin,ymin,xmax,ymax,label"


def find(folder: DataFolder) -> list[str]:
    """CSV files whose header names an image column and a box, or whose rows are an image name and four numbers; text files with such a header."""
    files = [name for suffix in SUFFIXES for name in folder.with_suffix(suffix)]
    return [
        name
        for name in [*files, *folder.with_suffix(".txt")]
        if (found := header_line(without_preface(folder.head(name)))) is not None
        and (found[1].named or name in files)
    ]


def misread(folder: DataFolder) -> list[str]:
    """Tables that are none of ours, for the refusal of a folder in which nothing else is known."""
    return [name for suffix in SUFFIXES for name in folder.with_suffix(suffix)]


def _is_false(text: str) -> bool:
    return number(text) == 0 or plain(text) in ("false", "no")


@dataclass(frozen=True)
class _Row:
    place: str
    image: str
    box: tuple[float, ...] | None
    size: Size | None
    label: str | None
    ignored: bool


def read(folder: DataFolder, files: Sequence[str], annotations: Annotations) -> None:
    """See `Reader.read`."""
    for file in files:
        text = without_preface(folder.text(file))
        found = header_line(text)
        if found is None:
            raise DataError(f"{folder.root / file} has no columns for an image and its box: add {NEEDED}.")
        delimiter, header = found
        table = list(rows_of(text, delimiter))[1 if header.named else 0 :]
        refuse_second_boxes(table, header, folder.root / file)
        splits = split_column(table, header)
        rows = [
            row
            for place, fields in table
            if (row := _row(fields, header, splits, f"{file}:{place}", file, annotations)) is not None
        ]
        scores = [place for place, name in enumerate(header.names) if plain(name) in SCORES]
        scored = sum(
            number(fields[place]) not in (None, 0, 1)  # Open Images writes 1 for what people have drawn
            for _, fields in table
            for place in scores
            if fields is not None and place < len(fields)
        )
        if scored:
            annotations.findings.note(scores_told(file, scored))
        _add(rows, header, file, annotations)


def _row(
    fields: list[str] | None,
    header: Header,
    splits: int | None,
    place: str,
    file: str,
    annotations: Annotations,
) -> _Row | None:
    """A row whose image is known; one that cannot be read is counted, and its image left out."""
    if fields is None or header.image >= len(fields) or not fields[header.image].strip():
        annotations.malformed(place)
        return None
    name = fields[header.image].strip()
    entry = annotations.entry(name, file)
    if entry is None:
        return None

    def cell(position: int | None) -> str:
        return fields[position].strip() if position is not None and position < len(fields) else ""

    if any(field.strip() for field in fields[header.columns :]):
        annotations.malformed(
            place, entry.image
        )  # a decimal comma or a comma in a name: no telling which column is which
        return None
    label = cell(header.label) or None
    said = next((cell(column) for column, name in enumerate(header.names) if plain(name) == "isface"), "")
    if said:
        label = NO_FACE if _is_false(said) else label or "face"
    cells = [cell(position) for position in header.box]
    if not any(cells) and max(header.box) < len(fields):
        values: list[float] | None = []
    elif len(header.box) == 1:
        values = four_in_one(cells[0])
    else:
        values = numbers(cells)
    if values is None:
        annotations.malformed(place, entry.image, label=label)
        return None
    sides = numbers([cell(position) for position in header.size]) if header.size else None
    used = {header.image, header.label, *header.box}
    others = {
        "split" if position == splits else word: cell(position)
        for position, word in enumerate(header.names)
        if position not in used
    }
    # A flag such as ``invalid`` is of the box in its row, not of the picture.
    annotations.state(entry, {word: said for word, said in others.items() if plain(word) not in IGNORED})
    return _Row(
        place,
        name,
        tuple(values) or None,
        (sides[0], sides[1]) if sides and min(sides) > 0 else None,
        label,
        is_ignored(others),
    )


def _add(rows: Sequence[_Row], header: Header, file: str, annotations: Annotations) -> None:
    boxes = [row.box for row in rows if row.box is not None]
    fractions = are_fractions(boxes)
    sizes = [_shown(row, file, fractions, annotations) for row in rows if row.box is not None]
    layout = _layout(boxes, sizes, header, file, annotations)
    if fractions:
        annotations.findings.note(
            f"{file}: boxes are fractions of their pictures: none of {4 * len(boxes)} numbers is beyond 1"
        )
    for row in rows:
        entry = annotations.entry(row.image, file)
        if entry is None:
            continue
        entry.size = entry.size or row.size
        if row.box is None:
            continue
        a, b, c, d = corners_of(row.box, layout)
        if fractions:
            frame = entry.size or annotations.frame(entry.image)
            if frame is None:
                continue  # a broken image
            entry.fractions = entry.fractions or entry.size is None
            entry.size = frame
            a, b, c, d = a * frame[0], b * frame[1], c * frame[0], d * frame[1]
        if row.size is not None and entry.size != row.size:
            annotations.malformed(row.place, entry.image, Problem.WRONG_SIZE)
        entry.faces.append(RawFace((a, b, c, d), ignored=row.ignored, label=row.label))


def _shown(row: _Row, file: str, fractions: bool, annotations: Annotations) -> Size | None:
    if fractions:
        return 1.0, 1.0
    image = annotations.resolve(row.image, file)
    return row.size or (annotations.frame(image) if image is not None else None)


def _layout(
    boxes: Sequence[tuple[float, ...]],
    sizes: Sequence[Size | None],
    header: Header,
    file: str,
    annotations: Annotations,
) -> str:
    """What the four numbers are: as the header says unless the whole table denies it, else what alone fits.

    Raises:
        DataError: The numbers fit in several ways, or in none.
    """
    where = annotations.folder.root / file
    if header.layout is not None:
        return annotations.layout(file, boxes, sizes, header.layout, "as its header says")
    possible = [layout for layout in layouts_that_fit(boxes, sizes, 0.99) if layout in HEADERLESS]
    sides_first = [(a, c, b, d) for a, b, c, d in boxes]
    if possible == ["corner and size"] and "corners" in layouts_that_fit(sides_first, sizes, 0.99):
        possible.append("xmin,xmax,ymin,ymax")
    if not boxes or len(possible) == 1:
        return (possible or ["corners"])[0]
    raise DataError(
        f"{where} does not say what the four numbers of a box are, and they fit {' as well as '.join(possible) or 'in no way'}: "
        f"add {NEEDED} (or x,y,width,height)."
    )
