"""What was found wrong or unusual in a customer's data, counted: one summary instead of a hundred warnings.

A report names files, so it stays on the customer's machine: it is printed or logged, never sent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

EXAMPLES = 3
LONGEST_NAME = 60


class Problem(Enum):
    """Everything that loading may find; the value is (what was done, text of the line in the summary)."""

    BROKEN_IMAGE = ("left out", "images that cannot be opened")
    BROKEN_PIXELS = ("left out", "images whose pixels cannot be decoded")
    MISSING_IMAGE = ("left out", "annotated images that are not in the folder")
    AMBIGUOUS_IMAGE = ("left out", "annotated names that fit more than one image")
    UNANNOTATED_IMAGE = ("left out", "images without any annotation entry")
    NO_SPLIT = ("left out", "images that splits.json does not name")
    MALFORMED_FILE = ("left out", "annotation files that cannot be parsed")
    MALFORMED_ENTRY = ("left out", "annotation lines or entries that cannot be parsed")
    OTHER_CLASS = ("left out", "boxes whose class is not a face")
    BAD_NUMBER = ("left out", "boxes with a number that is not finite")
    EMPTY_BOX = ("left out", "boxes that are inverted or thinner than a pixel")
    OUTSIDE_BOX = ("left out", "boxes entirely outside their image")
    REPEATED_BOX = ("left out", "boxes given twice for one image")
    SPLIT_UNKNOWN = ("left out", "names in splits.json that are no image of this set")
    SPLIT_REPEATED = ("repaired", "names repeated in splits.json, kept once (test before val before train)")
    CLIPPED_BOX = ("repaired", "boxes clipped to their image")
    STRAY_LANDMARK = ("repaired", "landmarks far from their face, taken as absent")
    WRONG_COUNT = ("repaired", "images with another number of boxes than announced")
    WRONG_SIZE = ("look at", "images whose size differs from the annotated one (boxes are taken as pixels)")
    TURNED = ("look at", "images with an EXIF rotation (not applied: boxes refer to the pixels as stored)")
    NO_FACES = ("kept", "images without faces")
    GRAYSCALE = ("kept", "grayscale images")
    ALPHA = ("kept", "images with transparency (drawn on black)")
    PALETTE = ("kept", "palette images")
    DEEP = ("kept", "images with more than 8 bits a channel (stretched to 8 by their own range)")

    @property
    def action(self) -> str:
        """'left out', 'repaired', 'look at' or 'kept'."""
        return self.value[0]

    @property
    def text(self) -> str:
        """Plural noun phrase for the summary."""
        return self.value[1]


@dataclass
class Findings:
    """Counter that readers fill while they go; ``examples`` keeps the first few names of each kind."""

    counts: dict[Problem, int] = field(default_factory=dict)
    examples: dict[Problem, list[str]] = field(default_factory=dict)

    def add(self, problem: Problem, example: str, count: int = 1) -> None:
        """Count ``count`` cases of ``problem``, the first of them at ``example``."""
        if count <= 0:
            return
        self.counts[problem] = self.counts.get(problem, 0) + count
        names = self.examples.setdefault(problem, [])
        shown = _printable(example)
        if len(names) < EXAMPLES and shown not in names:
            names.append(shown)


def _printable(name: str) -> str:
    """``name`` fit for one line of any terminal: names come from files and may hold anything."""
    plain = "".join(letter if letter.isprintable() else "?" for letter in name)
    return plain if len(plain) <= LONGEST_NAME else "..." + plain[3 - LONGEST_NAME :]


@dataclass(frozen=True)
class DataReport:
    """The summary of one loaded data set.

    Args:
        name: name of the data set (its folder).
        format: title of the annotation format.
        images: number of usable images.
        faces: number of faces that count.
        ignored: number of faces that count for neither side (crowd, difficult, invalid).
        splits: images in each split.
        split_source: "splits.json" or how the split was drawn.
        counts: how often each problem was met; absent means never.
        examples: the first few file names of each problem.
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
        for problem in Problem:
            count = self.count(problem)
            if count:
                names = self.examples.get(problem, ())
                shown = ", ".join(names) + (", ..." if count > len(names) else "")
                lines.append(f"  {problem.action}: {problem.text}: {count} ({shown})")
        return "\n".join(lines)
