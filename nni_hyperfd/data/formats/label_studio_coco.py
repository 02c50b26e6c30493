"""COCO json as Label Studio writes it: sizes of the pictures as their files store them, boxes as browsers show them.

Its converter asks Pillow for width and height, which does not turn the picture as EXIF asks to; rectangles are in pixels of the
upright picture all the same. Polygons are percent of what Pillow says, and so were rectangles in 2022, then in whole pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nni_hyperfd.data.formats.annotation import Annotations, Entry
from nni_hyperfd.data.formats.shapes import id_text, reals

CONTRIBUTOR = "Label Studio"


def is_label_studio(document: Mapping[str, Any]) -> bool:
    """Whether Label Studio says that it has written a COCO document."""
    info = document.get("info")
    return isinstance(info, dict) and info.get("contributor") == CONTRIBUTOR


def drawn_upright(
    images: Mapping[str, Entry | None], boxes: Sequence[Any], annotations: Annotations
) -> Sequence[Any]:
    """The annotations of a document with their boxes in pixels of upright pictures; ``images`` get the upright sizes.

    Args:
        images: By id, with the sizes that the document states.
        boxes: Its annotations.
        annotations: Know the pictures.
    """
    stretch = {key: found for key, entry in images.items() if (found := _turn_size(entry, annotations))}
    rectangles = [each["bbox"] for each in boxes if _is_rectangle(each)]
    whole = all(isinstance(side, int) for sides in rectangles for side in sides)
    return [_stretched(each, stretch, whole) for each in boxes]


def _turn_size(entry: Entry | None, annotations: Annotations) -> tuple[float, float] | None:
    """Make the size of a picture that EXIF lays on its side the upright one; how much longer its two sides are then."""
    header = annotations.folder.header(entry.image) if entry else None
    if entry is None or header is None or entry.size != (header.width, header.height):
        return None
    entry.size = header.upright
    return entry.size[0] / header.width, entry.size[1] / header.height


def _is_rectangle(annotation: Any) -> bool:
    return (
        isinstance(annotation, dict)
        and not annotation.get("segmentation")
        and isinstance(annotation.get("bbox"), list)
    )


def _stretched(annotation: Any, stretch: Mapping[str, tuple[float, float]], whole: bool) -> Any:
    """An annotation whose box was percent of the picture as stored; any other as it is."""
    if not isinstance(annotation, dict) or (_is_rectangle(annotation) and not whole):
        return annotation
    across, down = stretch.get(id_text(annotation.get("image_id")) or "", (1.0, 1.0))
    sides = reals(annotation.get("bbox"), 4)
    if sides is None or across == down:
        return annotation
    return {**annotation, "bbox": [side * by for side, by in zip(sides, (across, down, across, down))]}
