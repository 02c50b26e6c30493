"""How pictures that EXIF turns were annotated: upright, as browsers show them, or lying, as their files store them.

The size that an annotation states tells, or boxes that only one of the two pictures has room for. Some writers take the size from
the file and the boxes from a browser, so that sizes are believed only as long as no more boxes speak against them than for them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from nni_hyperfd.data.formats.annotation import Annotations, Entry
from nni_hyperfd.data.formats.folder import ImageHeader
from nni_hyperfd.data.orientation import SIDEWAYS
from nni_hyperfd.data.reading import EXIF
from nni_hyperfd.data.report import Findings, Problem
from nni_hyperfd.data.tables import Size

AS_UPRIGHT, AS_STORED = EXIF
SIZE_TOLERANCE = 1.0  # pixels; between a stated size and the picture's
OVER_THE_EDGE = 0.05  # of a side; boxes of faces that the edge cuts lead outside by less


def annotated_as_stored(entries: Mapping[str, Entry], annotations: Annotations) -> set[str]:
    """Images whose boxes refer to the picture as the file stores it, lying, rather than upright.

    Those of which nothing tells are taken like those that tell, as one tool made them all; else as the settings say; else
    upright. Images whose boxes contradict a size that is believed are left out.
    """
    told: dict[str, str | None] = {}
    by_size: dict[str, str] = {}
    by_boxes: dict[str, str] = {}
    for name, entry in entries.items():
        header = annotations.folder.header(name)
        if header is None or not header.turned:
            continue
        annotations.findings.add(Problem.TURNED, name)
        told[name] = None
        if entry.fractions or header.orientation not in SIDEWAYS or header.width == header.height:
            continue
        size = _of_size(entry.size, header) if entry.size else None
        boxes = _with_room(entry, header, OVER_THE_EDGE if entry.size else 0.0)
        told[name] = size if entry.size else boxes
        if size is not None:
            by_size[name] = size
            by_boxes |= {name: boxes} if boxes else {}
    for claim, other in ((AS_STORED, AS_UPRIGHT), (AS_UPRIGHT, AS_STORED)):
        claiming = [name for name, size in by_size.items() if size == claim]
        told |= _weighed(claiming, claim, other, by_boxes, annotations)
    unclear = [name for name, how in told.items() if how is None]
    how = _without_a_word(unclear, {found for found in told.values() if found}, annotations)
    return {name for name, found in told.items() if (found or how) == AS_STORED}


def is_size(stated: Size, size: Size) -> bool:
    """Whether a stated size is that of a picture, but for rounding."""
    return all(abs(one - other) <= SIZE_TOLERANCE for one, other in zip(stated, size))


def _of_size(stated: Size, header: ImageHeader) -> str | None:
    if is_size(stated, header.upright):
        # Of a picture that is square but for a pixel, both are.
        return None if is_size(stated, (header.width, header.height)) else AS_UPRIGHT
    return AS_STORED if is_size(stated, (header.width, header.height)) else None


def _with_room(entry: Entry, header: ImageHeader, edge: float) -> str | None:
    """Which of the two pictures alone has room for all boxes, when they may lead outside by ``edge`` of its sides."""
    lying = _has_room((header.width, header.height), entry, edge)
    upright = _has_room(header.upright, entry, edge)
    return None if lying == upright else AS_STORED if lying else AS_UPRIGHT


def _has_room(size: Size, entry: Entry, edge: float) -> bool:
    right, bottom = (side * (1 + edge) + 1 for side in size)
    return all(face.box[2] <= right and face.box[3] <= bottom for face in entry.faces)


def _weighed(
    claiming: list[str], claim: str, other: str, by_boxes: Mapping[str, str], annotations: Annotations
) -> dict[str, str | None]:
    """What is to be believed of images whose sizes claim one thing, where boxes of some tell the other."""
    against = [name for name in claiming if by_boxes.get(name) == other]
    if not against or annotations.exif == claim:
        return {}
    if len(against) <= Counter(by_boxes.get(name) for name in claiming)[claim]:
        _leave_out(against, annotations.findings)
        return {}
    annotations.findings.note(
        f"{len(claiming)} pictures that EXIF turns, such as {against[0]}, are not taken as the size that they state ({claim}), as boxes of "
        f"{len(against)} fit {other} only; if boxes lie beside the faces, say exif: {claim} in classArgs or --exif {claim}"
    )
    return {name: by_boxes.get(name) for name in claiming}


def _leave_out(names: list[str], findings: Findings) -> None:
    for name in names:
        findings.add(Problem.OTHER_WAY_ROUND, name)
        findings.leave_out(name, Problem.OTHER_WAY_ROUND)


def _without_a_word(unclear: list[str], told: set[str], annotations: Annotations) -> str:
    """How pictures are taken of which nothing tells, which is noted."""
    if not unclear or annotations.exif is not None:
        return annotations.exif or AS_UPRIGHT
    if len(told) == 1:
        (how,) = told
        annotations.findings.note(
            f"{len(unclear)} pictures that EXIF turns are taken as {how}, like those whose annotations tell"
        )
        return how
    annotations.findings.note(
        f"{len(unclear)} pictures that EXIF turns, such as {unclear[0]}, are taken as annotated upright, which nothing tells; "
        "if their boxes lie beside the faces, say exif: stored in classArgs or --exif stored"
    )
    return AS_UPRIGHT
