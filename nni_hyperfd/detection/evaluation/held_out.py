"""What a detector found on val and test, kept beside its weights: everything that a report draws.

The file stays in the trial's own folder on the customer's machine, since it names images and holds boxes.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nni_hyperfd.detection.evaluation.average_precision import curve
from nni_hyperfd.detection.evaluation.detections import Detections, GroundTruth, ap50, matched_at_50
from nni_hyperfd.errors import DataError
from nni_hyperfd.files import write_file

FILE_NAME = "detections.npz"
RESULT = "result.json"
"""Beside it: what the trial reports, and its curve."""

FORMAT = 1
SPLITS = ("val", "test")


@dataclass(frozen=True)
class HeldOut:
    """One split.

    names ``[n]``: paths of its images, relative to the folder of the data where they lie below it; size ``[n, 2]``: (height, width)
    at evaluation scale, which is that of all boxes.
    """

    names: tuple[str, ...]
    size: NDArray[np.int64]
    found: Detections
    truth: GroundTruth

    @property
    def ap(self) -> float:
        """AP@50, 0..1."""
        return ap50(self.found, self.truth)

    @property
    def faces(self) -> int:
        """Faces that count in AP."""
        return int(np.count_nonzero(~self.truth.ignored))

    def precision_recall(self) -> list[tuple[float, float]]:
        """Corners (recall, interpolated precision) of the steps under which AP is the area; none where nothing was found."""
        if not self.faces:
            return []
        recall, precision = curve(matched_at_50(self.found, self.truth), self.faces)
        before = np.concatenate([[0.0], recall[:-1]])
        rises = recall > before
        corners = np.stack([before, precision, recall, precision], axis=1)[rises]
        return [(float(x), float(y)) for x, y in corners.reshape(-1, 2)]


@dataclass(frozen=True)
class ImageMarks:
    """How one image fared among detections that are sure enough.

    Args:
        image: Its number in the split.
        right: How many of its detections are right.
        wrong: How many are false.
        missed: Faces that none found.
        rows: ``[k]`` its detections, as positions in those of the split.
        is_right: ``[k]`` which of them are right.
        is_wrong: ``[k]`` which of them are false.
    """

    image: int
    right: int
    wrong: int
    missed: int
    rows: NDArray[np.int64]
    is_right: NDArray[np.bool_]
    is_wrong: NDArray[np.bool_]


def marks_by_image(split: HeldOut, least_score: float) -> list[ImageMarks]:
    """Marks of every image, of detections with at least ``least_score``."""
    chosen = np.flatnonzero(split.found.scores >= least_score)
    sure = Detections(split.found.image[chosen], split.found.boxes[chosen], split.found.scores[chosen])
    known = matched_at_50(sure, split.truth)
    right, wrong = np.zeros(len(chosen), bool), np.zeros(len(chosen), bool)
    right[known.order], wrong[known.order] = known.right, known.wrong
    faces = np.bincount(split.truth.image[~split.truth.ignored], minlength=len(split.names))
    marks = []
    for number in range(len(split.names)):
        here = sure.image == number
        hits = int(right[here].sum())
        marks.append(
            ImageMarks(
                number,
                hits,
                int(wrong[here].sum()),
                int(faces[number]) - hits,
                chosen[here],
                right[here],
                wrong[here],
            )
        )
    return marks


def save_held_out(path: Path, splits: Mapping[str, HeldOut]) -> None:
    """Write ``splits`` to a compressed npz file, without pickle; a reader never sees half of it.

    Raises:
        OSError: The disk refuses.
    """
    arrays: dict[str, NDArray[np.generic]] = {"format": np.array(FORMAT)}
    for name, split in splits.items():
        arrays |= {
            f"{name}/names": np.array(split.names, dtype=np.str_),
            f"{name}/size": split.size.astype(np.int32),
            f"{name}/found/image": split.found.image.astype(np.int32),
            f"{name}/found/boxes": split.found.boxes.astype(np.float32),
            f"{name}/found/scores": split.found.scores.astype(np.float32),
            f"{name}/truth/image": split.truth.image.astype(np.int32),
            f"{name}/truth/boxes": split.truth.boxes.astype(np.float32),
            f"{name}/truth/ignored": split.truth.ignored.astype(bool),
        }
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)  # type: ignore[arg-type]  # its stubs name one keyword of its own
    write_file(path, content.getvalue())


def read_held_out(path: Path) -> dict[str, HeldOut]:
    """What :func:`save_held_out` wrote.

    Raises:
        DataError: The file cannot be read, is damaged, or was written by another version.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            if int(file["format"]) != FORMAT:
                raise DataError(f"the detections {path} were written by another version of nni_hyperfd")
            splits = {name: _split(file, name) for name in SPLITS}
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"the detections {path} cannot be read ({error})") from error
    return splits


def _split(file: Mapping[str, NDArray[np.generic]], name: str) -> HeldOut:
    """One split, with its shapes checked against each other."""
    names = tuple(str(each) for each in file[f"{name}/names"])
    size = file[f"{name}/size"].astype(np.int64).reshape(len(names), 2)
    found, truth = f"{name}/found", f"{name}/truth"
    image = file[f"{found}/image"].astype(np.int64)
    face = file[f"{truth}/image"].astype(np.int64)
    for each in (image, face):
        if len(each) and not 0 <= each.min() <= each.max() < len(names):
            raise ValueError(f"{name} speaks of an image that it does not name")
    return HeldOut(
        names,
        size,
        Detections(
            image,
            file[f"{found}/boxes"].astype(np.float32).reshape(len(image), 4),
            file[f"{found}/scores"].astype(np.float32).reshape(len(image)),
        ),
        GroundTruth(
            face,
            file[f"{truth}/boxes"].astype(np.float32).reshape(len(face), 4),
            file[f"{truth}/ignored"].astype(bool).reshape(len(face)),
        ),
    )
