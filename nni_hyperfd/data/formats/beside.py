"""Annotations of one image a file: the image is told by the file's own name and by names inside it, which may disagree."""

from __future__ import annotations

from collections.abc import Sequence

from nni_hyperfd.data.formats.annotation import Annotations
from nni_hyperfd.data.names import AmbiguousName
from nni_hyperfd.data.report import Problem
from nni_hyperfd.data.tables import Size


def image_beside(
    annotations: Annotations, file: str, stem: str, names: Sequence[str], size: Size | None
) -> str | None:
    """The image that an annotation file means; None (counted) where there is none, or where it cannot be told.

    Args:
        annotations: Of the folder, where what cannot be told is counted.
        file: The annotation file.
        stem: The name that an image of the same name would have, with or without a suffix.
        names: What the file calls its image, most trusted first; empty ones are passed over.
        size: What the file states.
    """
    own, fitting = _resolve(annotations, stem, "")
    meant: list[str] = []
    for name in filter(None, names):
        found, several = _resolve(annotations, name, file)
        if found is None and own in several:
            found = own
        if found is not None and found not in meant:
            meant.append(found)
        elif found is None and len(several) > 1 and not meant:
            fitting = fitting or several
    if own is not None and own in fitting and not meant:
        meant = [own]
    choices = [*([own] if own is not None else []), *(image for image in meant if image != own)]
    if len(choices) > 1 and size is not None:
        choices = [image for image in choices if _has_size(annotations, image, size)] or choices
    if len(choices) == 1:
        if own is not None and not meant and any(names):
            annotations.findings.add(Problem.OTHER_NAME, file)
        elif own is not None and meant not in ([], [own]):
            annotations.findings.add(Problem.DECIDED_BY_SIZE, file)
        return choices[0]
    if choices:
        annotations.findings.add(Problem.RENAMED, file)
        for image in choices if own is None else [own]:  # the others may have files of their own name
            annotations.unread(image, Problem.RENAMED)
        return None
    if fitting:
        annotations.findings.add(Problem.AMBIGUOUS_IMAGE, file)
        for image in fitting:
            annotations.unread(image, Problem.AMBIGUOUS_IMAGE)
    else:
        annotations.findings.add(Problem.MISSING_IMAGE, next(filter(None, names), stem))
    return None


def _resolve(annotations: Annotations, name: str, beside: str) -> tuple[str | None, tuple[str, ...]]:
    try:
        return annotations.folder.resolve(name, beside), ()
    except AmbiguousName as error:
        return None, error.images


def _has_size(annotations: Annotations, image: str, size: Size) -> bool:
    header = annotations.folder.header(image)
    return header is not None and size in ((header.width, header.height), header.upright)
