"""What every reader hands over: faces as annotated, before anything is checked against the image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from nni_hyperfd.data.formats.folder import AmbiguousName, DataFolder
from nni_hyperfd.data.report import Findings, Problem

Box = tuple[float, float, float, float]
Points = tuple[tuple[float, float], ...]
NO_POINT = (math.nan, math.nan)


@dataclass(frozen=True)
class RawFace:
    """One annotated box.

    Args:
        box: xmin, ymin, xmax, ymax in pixels, as annotated: may be inverted, outside or not finite.
        ignored: counts neither for nor against the detector.
        landmarks: five (x, y) in pixels in the order left eye, right eye, nose, left and right mouth
            corner as seen in the picture, (nan, nan) where absent; None when there are none.
        label: name of the class, None when the format has no names.
    """

    box: Box
    ignored: bool = False
    landmarks: Points | None = None
    label: str | None = None


class Reader(Protocol):
    """A module that reads one annotation format."""

    NAME: str
    TITLE: str

    def find(self, folder: DataFolder) -> list[str]:
        """Relative names of the annotation files of this format, from their names and first lines alone."""
        ...

    def read(self, folder: DataFolder, files: Sequence[str], annotations: Annotations) -> None:
        """Fill ``annotations`` from ``files``.

        Raises:
            DataError: a file as a whole cannot be used.
        """
        ...


class Annotations:
    """Faces by image, and what was found on the way; a reader calls ``image`` then appends to the list it returns."""

    def __init__(self, folder: DataFolder, findings: Findings) -> None:
        self.folder = folder
        self.findings = findings
        self.faces: dict[str, list[RawFace]] = {}
        self._resolved: dict[tuple[str, str], str | None] = {}

    def image(self, name: str, beside: str) -> list[RawFace] | None:
        """The list of faces of the image called ``name`` in annotation file ``beside``; None (counted) if it is missing."""
        found = self.resolve(name, beside)
        return None if found is None else self.faces.setdefault(found, [])

    def resolve(self, name: str, beside: str) -> str | None:
        """Like `DataFolder.resolve`, counting (once each) names that fit none or several images."""
        if (name, beside) not in self._resolved:
            self._resolved[name, beside] = self._resolve(name, beside)
        return self._resolved[name, beside]

    def _resolve(self, name: str, beside: str) -> str | None:
        try:
            found = self.folder.resolve(name, beside)
        except AmbiguousName:
            self.findings.add(Problem.AMBIGUOUS_IMAGE, name)
            return None
        if found is None:
            self.findings.add(Problem.MISSING_IMAGE, name)
        return found

    def malformed(self, where: str) -> None:
        """Count one line or entry that cannot be parsed."""
        self.findings.add(Problem.MALFORMED_ENTRY, where)


def numbers(fields: Sequence[str]) -> list[float] | None:
    """The fields as floats, or None when one of them is not a number."""
    try:
        return [float(field) for field in fields]
    except ValueError:
        return None


def from_corner_and_size(x: float, y: float, width: float, height: float) -> Box:
    """xmin, ymin, xmax, ymax of a box given as corner and size."""
    return x, y, x + width, y + height
