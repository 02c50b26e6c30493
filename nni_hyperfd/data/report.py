"""What was found wrong or unusual in a customer's data, counted: one summary instead of a hundred warnings.

A report names files, so it stays on the customer's machine: it is printed or logged, never sent.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

EXAMPLES = 3
LONGEST_NAME = 60
LONGEST_NOTE = 240
LISTED_CLASSES = 8


class Problem(Enum):
    """Everything that loading may find; the value is (what was done, text of the line in the summary)."""

    BROKEN_IMAGE = ("left out", "images that cannot be opened")
    BROKEN_PIXELS = ("left out", "images whose pixels cannot be decoded")
    MISSING_IMAGE = ("left out", "annotated images that are not in the folder")
    AMBIGUOUS_IMAGE = ("left out", "annotated names that fit more than one image")
    UNANNOTATED_IMAGE = ("left out", "images without any annotation entry")
    SILENT_FILE = (
        "left out",
        "images that are named in a file without a single box, which says nothing of faces",
    )
    ORPHANS = ("left out", "images without a box in a file whose other boxes belong to no image of it")
    RENAMED = (
        "left out",
        "annotations that lie beside one image and name another, with nothing that decides between them (and the images they lie beside)",
    )
    CONTRADICTION = ("left out", "images of which two annotations say different things")
    SEVERAL_PICTURES = (
        "left out",
        "tasks with several pictures, of which nothing tells in which their boxes were drawn (and those pictures: make a task of each)",
    )
    REJECTED = (
        "left out",
        "images whose annotation a reviewer has rejected (annotate them again, or accept it)",
    )
    WRONG_SIZE = (
        "left out",
        "images whose size is not the annotated one (export again, or put the annotated images there)",
    )
    OTHER_WAY_ROUND = (
        "left out",
        "images that EXIF turns, whose boxes lead outside the annotated size and fit the other way round (where it is right, say so by exif)",
    )
    UNUSABLE = (
        "left out",
        "images that are marked as unusable (valid: false; a flag for the validation split is called is_valid)",
    )
    NO_SPLIT = ("left out", "images that are in none of the splits")
    MALFORMED_FILE = ("left out", "annotation files that cannot be parsed")
    MALFORMED_ENTRY = ("left out", "annotation lines or entries that cannot be parsed (and their images)")
    UNREADABLE_SHAPE = (
        "left out",
        "faces marked by a shape that has no box, such as a point or a mask (and their images)",
    )
    WRONG_COUNT = ("left out", "images with another number of boxes than announced")
    BAD_NUMBER = ("left out", "boxes with a number that is not finite (and their images)")
    EMPTY_BOX = (
        "left out",
        "boxes that are inverted or thinner than a pixel (and images that have no other, or a larger one)",
    )
    UNIT_DOUBT = (
        "left out",
        "boxes that are fractions among pixels, or pixels among fractions (and their images)",
    )
    OUTSIDE_BOX = ("left out", "boxes entirely outside their image (and their images)")
    OTHER_CLASS = ("left out", "boxes whose class is not a face")
    REPEATED_BOX = ("left out", "boxes given twice for one image")
    SPLIT_UNKNOWN = ("left out", "names in a list of a split that are no image of this set")
    SPLIT_REPEATED = ("repaired", "names in two splits, kept in one (test before val before train)")
    CLIPPED_BOX = ("repaired", "boxes clipped to their image")
    STRAY_LANDMARK = ("repaired", "landmarks far from their face, taken as absent")
    UNKNOWN_CLASS = (
        "ignored",
        "boxes of a class that has no name while others have: regions that count for nothing",
    )
    OTHER_NAME = (
        "look at",
        "annotations that name a file which is not there; the image of the annotation's own name is taken",
    )
    DECIDED_BY_SIZE = (
        "look at",
        "annotations that lie beside one image and name another, decided by the size that they state",
    )
    TURNED = ("look at", "images with an EXIF rotation (looked at upright)")
    SHARED_GROUP = ("look at", "images of which a copy is in another split as well")
    NO_FACES = ("kept", "images without faces")
    GRAYSCALE = ("kept", "grayscale images")
    ALPHA = ("kept", "images with transparency (drawn on black)")
    PALETTE = ("kept", "palette images")
    DEEP = ("kept", "images with more than 8 bits a channel (stretched to 8 by their own range)")

    @property
    def action(self) -> str:
        """'left out', 'ignored', 'repaired', 'look at' or 'kept'."""
        return self.value[0]

    @property
    def text(self) -> str:
        """Plural noun phrase for the summary."""
        return self.value[1]


class Role(Enum):
    """What boxes of a class are to the detector."""

    FACE = "faces"
    IGNORED = "ignored"  # regions that count neither for nor against it
    OTHER = "not faces"  # as if they were not annotated


@dataclass(frozen=True)
class ClassCount:
    """One class of the annotations.

    Args:
        name: As written; None: boxes without a class name.
        boxes: How many, as annotated.
        role: What they are to the detector.
        why: Half a sentence.
    """

    name: str | None
    boxes: int
    role: Role
    why: str

    def __str__(self) -> str:
        return f"{'(no name)' if self.name is None else printable(self.name)}: {self.boxes} {self.role.value} ({self.why})"


@dataclass
class Findings:
    """What readers and checks find while they go.

    Args:
        counts: How often each problem was met.
        examples: The first few names of each.
        left_out: Images that are not in the data set, each once, with the reason.
        notes: Decisions that hold for many files (encodings, units, orientation), a sentence each, in order.
    """

    counts: dict[Problem, int] = field(default_factory=dict)
    examples: dict[Problem, list[str]] = field(default_factory=dict)
    left_out: dict[str, Problem] = field(default_factory=dict)
    notes: dict[str, None] = field(default_factory=dict)

    @classmethod
    def of(cls, report: DataReport) -> Findings:
        """The findings that ``report`` was made of, to go on counting."""
        return cls(
            dict(report.counts),
            {problem: list(names) for problem, names in report.examples.items()},
            dict(report.left_out),
            dict.fromkeys(report.notes),
        )

    def note(self, sentence: str) -> None:
        """Remember ``sentence``, once."""
        self.notes[sentence] = None

    def leave_out(self, image: str, problem: Problem) -> None:
        """``image`` will not be in the data set; the first reason stays."""
        self.left_out.setdefault(image, problem)

    def add(self, problem: Problem, example: str, count: int = 1) -> None:
        """Count ``count`` cases of ``problem``, the first of them at ``example``."""
        if count <= 0:
            return
        self.counts[problem] = self.counts.get(problem, 0) + count
        names = self.examples.setdefault(problem, [])
        shown = printable(example)
        if len(names) < EXAMPLES and shown not in names:
            names.append(shown)


def printable(name: str, longest: int = LONGEST_NAME) -> str:
    """``name`` fit for one line of any terminal: names come from files and may hold anything."""
    plain = "".join(letter if letter.isprintable() else "?" for letter in name)
    return plain if len(plain) <= longest else "..." + plain[3 - longest :]


@dataclass(frozen=True)
class DataReport:
    """The summary of one loaded data set.

    Args:
        name: Name of the data set (its folder).
        format: Title of the annotation format.
        images: Number of usable images.
        faces: Number of faces that count.
        ignored: Number of faces that count for neither side (crowd, difficult, invalid).
        splits: Images in each split.
        split_source: Where the splits come from, in one phrase, such as "splits.json".
        counts: How often each problem was met (lines, boxes, images); absent means never.
        examples: The first few file names of each problem.
        classes: Every class of the annotations, the most frequent first; of the whole folder, also in a subset.
        split_sources: For each split, where its images come from.
        left_out: Every image of the folder that is not in the data set, with the reason.
        notes: Decisions about the whole folder, a sentence each.
    """

    name: str
    format: str
    images: int
    faces: int
    ignored: int
    splits: Mapping[str, int]
    split_source: str
    counts: Mapping[Problem, int]
    examples: Mapping[Problem, tuple[str, ...]]
    classes: tuple[ClassCount, ...] = ()
    split_sources: Mapping[str, str] = field(default_factory=dict)
    left_out: Mapping[str, Problem] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def left_out_by_reason(self) -> dict[Problem, int]:
        """How many images each reason has left out, the most frequent first."""
        return dict(Counter(self.left_out.values()).most_common())

    def count(self, problem: Problem) -> int:
        """How often ``problem`` was met."""
        return self.counts.get(problem, 0)

    def __str__(self) -> str:
        sizes = " / ".join(str(self.splits[name]) for name in ("train", "val", "test"))
        lines = [
            f"{self.name}: {self.images} images, {self.faces} faces"
            + (f" (+ {self.ignored} ignored)" if self.ignored else "")
            + f", {self.format}; train / val / test = {sizes} ({self.split_source})"
        ]
        if any(each.name is not None for each in self.classes):
            lines.append(
                f"  classes: {'; '.join(map(str, self.classes[:LISTED_CLASSES]))}{'; ...' if len(self.classes) > LISTED_CLASSES else ''}"
            )
        lines += [f"  note: {printable(note, LONGEST_NOTE)}" for note in self.notes]
        if self.left_out:
            reasons = "; ".join(
                f"{count} as {problem.text}" for problem, count in self.left_out_by_reason().items()
            )
            lines.append(
                f"  images left out: {len(self.left_out)} of {self.images + len(self.left_out)}: {reasons}"
            )
        for problem in Problem:
            count = self.count(problem)
            if count:
                names = self.examples.get(problem, ())
                shown = ", ".join(names) + (", ..." if count > len(names) else "")
                lines.append(f"  {problem.action}: {problem.text}: {count} ({shown})")
        return "\n".join(lines)
