"""What every reader hands over: faces as annotated, before anything is checked against the image."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from nni_hyperfd.data.formats.folder import DataFolder
from nni_hyperfd.data.names import AmbiguousName, normalized_name
from nni_hyperfd.data.report import Findings, Problem
from nni_hyperfd.data.stated_split import speaking
from nni_hyperfd.data.tables import (
    Four,
    Size,
    corners_of,
    layout_by_evidence,
    layout_of_corners,
    numbers,
)

__all__ = ["NO_POINT", "Annotations", "Box", "Entry", "Points", "RawFace", "Reader", "numbers"]

Box = tuple[float, float, float, float]
Points = tuple[tuple[float, float], ...]
NO_POINT = (math.nan, math.nan)


@dataclass(frozen=True)
class RawFace:
    """One annotated box.

    Args:
        box: Corners xmin, ymin, xmax, ymax in pixels, as annotated: may be inverted, outside or not finite.
        ignored: Counts neither for nor against the detector.
        landmarks: Five (x, y) in pixels in the order left eye, right eye, nose, left and right mouth
            corner as seen in the picture, (nan, nan) where absent; None when there are none.
        label: Name of the class, None when it has none.
        number: Number of a class without a name, in formats that number their classes.
    """

    box: Box
    ignored: bool = False
    landmarks: Points | None = None
    label: str | None = None
    number: str | None = None


@dataclass
class Entry:
    """What one place of an annotation says of one image.

    Args:
        image: Name relative to the folder.
        file: The annotation file.
        faces: The reader appends to it.
        size: Width and height of the picture as the annotation states them; None: it does not.
        fractions: The boxes were fractions of the picture, so that ``size`` is taken from it and proves nothing.
        silent: The image is only named here, so that no box need not mean no face.
        split: "train", "val" or "test" where the annotation says so.
    """

    image: str
    file: str
    faces: list[RawFace] = field(default_factory=list)
    size: Size | None = None
    fractions: bool = False
    silent: bool = False
    split: str | None = None


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
            DataError: A file as a whole cannot be used.
        """
        ...


class Annotations:
    """All entries of a folder, and what was found on the way.

    What cannot be read is never background: a reader calls ``unread`` for the image of everything it has to pass over.

    Args:
        exif: "stored" where pictures that EXIF turns were annotated lying; otherwise upright.

    Attributes:
        groups: Class to the group that the annotation puts it in (COCO's supercategory).
        stated: What fields say of images (`stated_split.speaking`), in the order of reading.
        class_names: Those that are listed for numbered classes, whether or not a box is of them.
    """

    def __init__(self, folder: DataFolder, findings: Findings, exif: str | None = None) -> None:
        self.folder = folder
        self.findings = findings
        self.exif = exif
        self.groups: dict[str, str] = {}
        self.class_names: set[str] = set()
        self.orphans: set[str] = set()
        self.stated: list[tuple[Entry, dict[str, str]]] = []
        self.missed: list[tuple[str, Problem, str | None]] = []
        self._entries: dict[tuple[str, str], Entry] = {}
        self._resolved: dict[tuple[str, str], str | None] = {}

    def entries(self) -> Iterator[Entry]:
        """All entries, in the order of reading."""
        return iter(self._entries.values())

    @property
    def faces(self) -> dict[str, list[RawFace]]:
        """All faces of each image that has an entry."""
        found: dict[str, list[RawFace]] = {}
        for entry in self.entries():
            found.setdefault(entry.image, []).extend(entry.faces)
        return found

    def entry(self, name: str, file: str, key: str | None = None) -> Entry | None:
        """The entry of the image that annotation file ``file`` calls ``name``; None (counted) where there is no such image.

        Args:
            name: As the file writes it.
            file: The annotation file.
            key: Tells entries of one file apart; by default the name, so that lines of one image make one entry.
        """
        found = self.resolve(name, file)
        if found is None:
            return None
        return self.entry_of(found, file, normalized_name(name) if key is None else key)

    def entry_of(self, image: str, file: str, key: str = "") -> Entry:
        """The entry of an image that is known."""
        return self._entries.setdefault((image, f"{file}\0{key}"), Entry(image, file))

    def layout(
        self, file: str, boxes: Sequence[Four], sizes: Sequence[Size | None], expected: str, says: str
    ) -> str:
        """What the four numbers of each box of ``file`` are: as expected, unless only another layout fits all of them, which is noted.

        Args:
            file: The annotation file.
            boxes: As it has them.
            sizes: Of their pictures.
            expected: The layout of the format.
            says: Who expects it, as the note ends.
        """
        found = layout_by_evidence(boxes, sizes, expected) or expected
        if found != expected:
            self.findings.note(
                f"{file}: boxes are taken as {found}, which all of them fit, and not as {expected}, {says}"
            )
        return found

    def laid_out(self, entries: Iterable[Entry], file: str, expected: str, says: str) -> None:
        """Lay the faces of a whole file out anew, where its numbers turn out to be others than expected; see `layout`."""
        own = [entry for entry in entries if entry.faces]
        told = [(face.box, entry.size or self.frame(entry.image)) for entry in own for face in entry.faces]
        boxes = [layout_of_corners(box, expected) for box, _ in told]
        layout = self.layout(file, boxes, [frame for _, frame in told], expected, says)
        if layout == expected:
            return
        for entry in own:
            entry.faces = [
                replace(face, box=corners_of(layout_of_corners(face.box, expected), layout))
                for face in entry.faces
            ]

    def state(self, entry: Entry, fields: Any) -> None:
        """Keep what fields of an image say of it as a whole, until all are read (`statements.settle`)."""
        if said := speaking(fields):
            self.stated.append((entry, said))

    def resolve(self, name: str, beside: str) -> str | None:
        """Like `DataFolder.resolve`, counting (once each) names that fit none or several images; the latter are left out."""
        if (name, beside) not in self._resolved:
            self._resolved[name, beside] = self._resolve(name, beside)
        return self._resolved[name, beside]

    def _resolve(self, name: str, beside: str) -> str | None:
        try:
            found = self.folder.resolve(name, beside)
        except AmbiguousName as error:
            self.findings.add(Problem.AMBIGUOUS_IMAGE, name)
            for image in error.images:
                self.unread(image, Problem.AMBIGUOUS_IMAGE)
            return None
        if found is None:
            self.findings.add(Problem.MISSING_IMAGE, name)
        return found

    def frame(self, image: str) -> Size | None:
        """Size of a picture as its annotator saw it, as far as can be known without a stated one; None if it is broken."""
        header = self.folder.header(image)
        if header is None:
            return None
        return (header.width, header.height) if self.exif == "stored" else header.upright

    def malformed(
        self,
        where: str,
        image: str | None = None,
        problem: Problem = Problem.MALFORMED_ENTRY,
        label: str | None = None,
    ) -> None:
        """Count one line or entry that cannot be read.

        Its image, where it is known, is left out, unless the class called ``label`` turns out to be no face.
        """
        self.findings.add(problem, where)
        if image is not None:
            self.missed.append((image, problem, label))

    def malformed_file(self, file: str, *stems: str) -> None:
        """Count a file that cannot be parsed; the image that is named like it is left out."""
        self.findings.add(Problem.MALFORMED_FILE, file)
        for stem in stems:
            try:
                image = self.folder.resolve(stem)
            except AmbiguousName as error:
                for image in error.images:
                    self.unread(image, Problem.MALFORMED_FILE)
            else:
                if image is not None:
                    self.unread(image, Problem.MALFORMED_FILE)

    def unread(self, image: str, problem: Problem) -> None:
        """Something that was said of ``image`` is not understood: it is left out, whatever else is known of it."""
        self.findings.leave_out(image, problem)

    def orphan(self, file: str, where: str) -> None:
        """A box of ``file`` belongs to no image of it: one of its images may lack a face."""
        self.findings.add(Problem.MALFORMED_ENTRY, where)
        self.orphans.add(file)


def scores_told(file: str, count: int) -> str:
    """The sentence about boxes with a score, which a model writes and an annotator does not."""
    return f"{file}: {count} boxes have a score, which is passed over, as a model writes it: check that they are annotations and no detections"
