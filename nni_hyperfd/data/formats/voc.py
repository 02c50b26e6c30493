"""Pascal VOC: one XML file an image, ``object/bndbox`` with corners in pixels; difficult objects are ignored (`flags`).

Coordinates are taken as written (the 1-based pixels of the original challenge differ by less than a labeler's hand).
Three names say which image is meant: ``filename``, ``path`` and that of the XML file. Where they mean different images that
are all there, the size that the file states decides; where it cannot, none of them gets the boxes.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from xml.etree import ElementTree

from nni_hyperfd.data.flags import is_ignored
from nni_hyperfd.data.formats.annotation import Annotations, Box, RawFace, numbers
from nni_hyperfd.data.formats.around import hull, turned, turned_hull
from nni_hyperfd.data.formats.beside import image_beside
from nni_hyperfd.data.formats.folder import DataFolder
from nni_hyperfd.data.tables import Size
from nni_hyperfd.errors import DataError

NAME = "voc"
TITLE = "Pascal VOC xml"
CORNERS = ("xmin", "ymin", "xmax", "ymax")
TURNED = ("cx", "cy", "w", "h", "angle")


def find(folder: DataFolder) -> list[str]:
    """All XML files, when one of the first holds an ``annotation``."""
    files = folder.with_suffix(".xml")
    return (
        files
        if any(
            re.search(r"<(?:\w+:)?annotation[\s>/]", folder.head(name), re.IGNORECASE) for name in files[:20]
        )
        else []
    )


def read(folder: DataFolder, files: Sequence[str], annotations: Annotations) -> None:
    """See `Reader.read`."""
    parsed = 0
    for file in files:
        try:
            root = folder.xml(file)
        except (ElementTree.ParseError, ValueError):
            annotations.malformed_file(file, os.path.splitext(file)[0])
            continue
        _plain_tags(root)
        if root.tag != "annotation":
            annotations.malformed_file(file, os.path.splitext(file)[0])
            continue
        parsed += 1
        _read_image(root, file, annotations)
    if not parsed:
        raise DataError(
            f"none of the {len(files)} XML files in {folder.root} is a Pascal VOC annotation that can be parsed "
            "(well-formed, in the encoding that it declares): check how they were written."
        )


def _read_image(root: ElementTree.Element, file: str, annotations: Annotations) -> None:
    size = _size(root)
    names = [(root.findtext(tag) or "").strip() for tag in ("filename", "path")]
    image = image_beside(annotations, file, os.path.splitext(file)[0], names, size)
    if image is None:
        return
    entry = annotations.entry_of(image, file)
    entry.size = size
    objects = list(root.iter("object"))
    within = {id(box) for item in objects for box in item.iter("bndbox")}
    if any(id(box) not in within for box in root.iter("bndbox")):
        annotations.malformed(file, image)  # a face by another name than ``object`` is no background
    for item in objects:
        if (item.findtext("deleted") or "0").strip() == "1":
            continue  # LabelMe's web tool keeps what its users have deleted
        box = _box(item)
        if box is None:
            annotations.malformed(file, image)
            continue
        label = (item.findtext("name") or "").strip() or None
        flags = {**{each.tag: each.text for each in item}, "attributes": _attributes(item)}
        entry.faces.append(RawFace(box, is_ignored(flags), label=label))


def _plain_tags(root: ElementTree.Element) -> None:
    """Tags without namespaces and in small letters, as some writers have ``Object`` and ``XMin``."""
    for element in root.iter():
        if isinstance(element.tag, str):
            element.tag = element.tag.rpartition("}")[2].casefold()


def _size(root: ElementTree.Element) -> Size | None:
    values = numbers([root.findtext(f"size/{side}") or "" for side in ("width", "height")])
    return (values[0], values[1]) if values and min(values) > 0 else None


def _attributes(item: ElementTree.Element) -> dict[str, str]:
    """What CVAT adds to an object, which VOC itself knows nothing of: flags, and ``rotation`` in degrees."""
    return {
        (each.findtext("name") or "").strip().casefold(): (each.findtext("value") or "").strip()
        for each in item.iterfind("attributes/attribute")
    }


def _box(item: ElementTree.Element) -> Box | None:
    if any(len(item.findall(f"bndbox/{corner}")) > 1 for corner in CORNERS):
        return None
    corners = numbers([item.findtext(f"bndbox/{corner}") or "" for corner in CORNERS])
    if corners is not None:
        return turned((corners[0], corners[1], corners[2], corners[3]), _attributes(item).get("rotation"))
    middle = numbers([item.findtext(f"robndbox/{name}") or "" for name in TURNED])
    if middle is not None:
        x, y, width, height, radians = middle
        return turned_hull(x, y, width, height, radians * 57.29577951308232)
    polygon = item.find("polygon")
    if item.find("bndbox") is not None or polygon is None:
        return None
    values = numbers(
        [child.text or "" for child in polygon.iter() if child.tag[0] in "xy" and child.tag[1:].isdigit()]
    )
    return hull(zip(values[0::2], values[1::2])) if values and len(values) >= 6 else None
