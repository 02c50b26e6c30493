"""Annotation formats: one reader a file, recognised from the folder's content or named by the user."""

from __future__ import annotations

from nni_hyperfd.data.formats import (
    boxes_csv,
    coco,
    createml,
    cvat,
    label_studio,
    labelme,
    retinaface_label,
    supervisely,
    via,
    voc,
    wider,
    yolo,
)
from nni_hyperfd.data.formats.annotation import Annotations, RawFace, Reader
from nni_hyperfd.data.formats.folder import DataFolder
from nni_hyperfd.data.formats.foreign import foreign_format, foreign_lines
from nni_hyperfd.errors import DataError

__all__ = ["READERS", "Annotations", "DataFolder", "RawFace", "Reader", "recognize"]

READERS: dict[str, Reader] = {
    reader.NAME: reader
    for reader in (
        wider,
        coco,
        voc,
        yolo,
        retinaface_label,
        boxes_csv,
        cvat,
        labelme,
        createml,
        via,
        supervisely,
        label_studio,
    )
}


def recognize(folder: DataFolder, name: str | None = None) -> tuple[Reader, list[str]]:
    """The reader for a folder and the annotation files it will read.

    Args:
        folder: The data folder.
        name: A key of ``READERS``, or None to recognize the format from the files.

    Raises:
        DataError: An unknown name, no annotation of a known format, or several formats at once.
    """
    if name is not None:
        if name not in READERS:
            raise DataError(f"unknown annotation format {name!r}: use one of {', '.join(READERS)}.")
        files = READERS[name].find(folder)
        if not files:
            raise DataError(
                f"no {READERS[name].TITLE} annotations in {folder.root}: check the folder or leave the format out."
            )
        return READERS[name], files
    found = [(reader, files) for reader in READERS.values() if (files := reader.find(folder))]
    foreign = foreign_format(folder) if not found else None
    if [reader for reader, _ in found] == [yolo]:
        foreign = foreign_lines(folder, found[0][1])
    if foreign is not None:
        raise DataError(
            f"{folder.root / foreign[1]} looks like {foreign[0]}, which is not read: give the set as COCO json, Pascal VOC or YOLO txt."
        )
    if not found:
        titles = ", ".join(f"{reader.TITLE} ({key})" for key, reader in READERS.items())
        tables = boxes_csv.misread(folder)
        if tables:
            raise DataError(
                f"{folder.root / tables[0]} has no columns for an image and its box: add {boxes_csv.NEEDED}, or another annotation ({titles})."
            )
        raise DataError(f"no annotations of a known format in {folder.root}: add them as one of {titles}.")
    if len(found) > 1:
        what = " and ".join(f"{reader.TITLE} ({files[0]})" for reader, files in found)
        keys = ", ".join(reader.NAME for reader, _ in found)
        raise DataError(f"{folder.root} holds {what}: remove all but one, or name the format ({keys}).")
    return found[0]
