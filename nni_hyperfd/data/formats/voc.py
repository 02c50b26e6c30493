"""Pascal VOC: one XML file an image, ``object/bndbox`` with corners in pixels; difficult objects are ignored.

Coordinates are taken as written (the 1-based pixels of the original challenge differ by less than a labeler's hand).
The image is the one named by ``filename``, else the one with the name of the XML file.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from xml.etree import ElementTree

from nni_hyperfd.data.formats.annotation import Annotations, RawFace, numbers
from nni_hyperfd.data.formats.folder import AmbiguousName, DataFolder
from nni_hyperfd.data.report import Problem
from nni_hyperfd.errors import DataError

NAME = "voc"
TITLE = "Pascal VOC xml"
CORNERS = ("xmin", "ymin", "xmax", "ymax")


def find(folder: DataFolder) -> list[str]:
    """All XML files, when the first of them holds an ``annotation``."""
    files = folder.with_suffix(".xml")
    return files if any("<annotation" in folder.head(name) for name in files[:20]) else []


def read(folder: DataFolder, files: Sequence[str], annotations: Annotations) -> None:
    """See `Reader.read`."""
    parsed = 0
    for file in files:
        try:
            root = ElementTree.fromstring(folder.bytes(file))
        except (ElementTree.ParseError, ValueError, LookupError):
            annotations.findings.add(Problem.MALFORMED_FILE, file)
            continue
        if root.tag != "annotation":
            annotations.findings.add(Problem.MALFORMED_FILE, file)
            continue
        parsed += 1
        _read_image(root, file, annotations)
    if not parsed:
        raise DataError(
            f"none of the {len(files)} XML files in {folder.root} is a Pascal VOC annotation: check how they were written."
        )


def _read_image(root: ElementTree.Element, file: str, annotations: Annotations) -> None:
    image = _image(root, file, annotations)
    if image is None:
        return
    faces = annotations.faces.setdefault(image, [])
    declared = numbers([(root.findtext(f"size/{side}") or "0") for side in ("width", "height")])
    header = annotations.folder.header(image)
    if declared and all(declared) and header and declared != [header.width, header.height]:
        annotations.findings.add(Problem.WRONG_SIZE, image)
    for item in root.iter("object"):
        values = numbers([item.findtext(f"bndbox/{corner}") or "" for corner in CORNERS])
        if values is None:
            annotations.malformed(file)
            continue
        difficult = (item.findtext("difficult") or "0").strip() not in ("0", "")
        label = (item.findtext("name") or "").strip() or None
        faces.append(RawFace((values[0], values[1], values[2], values[3]), ignored=difficult, label=label))


def _image(root: ElementTree.Element, file: str, annotations: Annotations) -> str | None:
    named = (root.findtext("filename") or "").strip()
    stem = os.path.splitext(file)[0]
    try:
        found = annotations.folder.resolve(named, file) if named else None
    except AmbiguousName:
        found = None
    return found if found is not None else annotations.resolve(stem, "")
