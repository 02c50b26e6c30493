"""What somebody should know of a data set before hours are spent on it; the terminal and the page show the same."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nni_hyperfd.data.dataset import FaceDataset, FaceImage, without
from nni_hyperfd.data.likeness import Likeness, across, likeness
from nni_hyperfd.data.report import Problem
from nni_hyperfd.detection.anchors import SIZES
from nni_hyperfd.detection.evaluation.detections import IGNORED_SIDE, LONGEST_SHAPE, REFERENCE_SIDE
from nni_hyperfd.detection.training.budgets import Budget

NOISY_POINTS = 3.0
"""AP points (one standard deviation) above which choosing among trainings by val is choosing by luck."""

SMALL_SHARE = 0.1
"""Share of faces under the size rule from which on it is worth a warning."""

ALIKE_SHARE = 0.01
"""Share of images that look like one in another split from which on AP is no longer that of new pictures."""

TYPICAL_AP = 0.8


@dataclass(frozen=True)
class SplitFacts:
    """One split.

    Args:
        images, with_faces: Images, and those with a face that counts in AP.
        faces: Faces that count in AP@50.
        small: Annotated faces that do not, because they are under the size rule.
        ignored: Annotated as ignored.
        sides: Of all faces that are not annotated as ignored, the shorter side in pixels where the picture's short side is 720,
            ``[n]``.
        source: Where its images come from.
    """

    name: str
    images: int
    with_faces: int
    faces: int
    small: int
    ignored: int
    sides: NDArray[np.float64]
    source: str

    @property
    def points(self) -> float:
        """About one standard deviation of AP@50, in points, by the split's size alone; see :func:`noise_in_points`."""
        return noise_in_points(self.with_faces)


@dataclass(frozen=True)
class DataFacts:
    """Everything that ``hyperfd data`` shows."""

    dataset: FaceDataset
    likeness: Likeness
    splits: tuple[SplitFacts, ...]
    budget: Budget

    @property
    def same_across(self) -> tuple[tuple[int, ...], ...]:
        """Groups of equal files that lie in more than one split."""
        return across(self.likeness.same, self.dataset)

    @property
    def alike_across(self) -> tuple[tuple[int, ...], ...]:
        """Groups of pictures that are the same or nearly so, in more than one split."""
        return across(self.likeness.alike, self.dataset)

    def warnings(self) -> list[str]:
        """What matters for AP, a sentence each, the worst first."""
        said = []
        if self.same_across:
            said.append(
                f"{_count(self.same_across)} are in more than one split, byte for byte: what is trained on is tested with. Delete "
                "copies, or write splits.json."
            )
        alike = sum(map(len, self.alike_across))
        if alike >= ALIKE_SHARE * len(self.dataset.images) and len(self.alike_across) > len(self.same_across):
            said.append(
                f"{alike} images look like another one in another split (frames of "
                "one video, copies of one photograph?): AP on val and test is higher than on new pictures."
            )
        for split in self.splits:
            total = split.faces + split.small
            if split.name != "train" and total and split.small >= SMALL_SHARE * total:
                said.append(
                    f"{split.small} of the {total} faces in {split.name} ({100 * split.small / total:.0f} %) are under {IGNORED_SIDE} pixels "
                    f"where the short side is {REFERENCE_SIDE}: they count neither for nor against a detector."
                )
            if split.name != "train" and split.points > NOISY_POINTS:
                what = "choosing between trainings" if split.name == "val" else "the final figure"
                said.append(
                    f"{split.name} has {split.with_faces} images with faces that count: AP@50 on it is known to about ± {split.points:.0f} "
                    f"points (one standard deviation), so {what} is partly luck. Put more images into it."
                )
        smallest = SIZES[0][0]
        train = next(split for split in self.splits if split.name == "train")
        tiny = int((train.sides * self.budget.evaluation_size / REFERENCE_SIDE < smallest / 2).sum())
        if len(train.sides) and tiny >= SMALL_SHARE * len(train.sides):
            said.append(
                f"{tiny} of the {len(train.sides)} faces in train are under half the smallest anchor ({smallest} pixels) at the "
                f"{self.budget.evaluation_size} pixels of the budget {self.budget.name!r}: a longer budget looks at larger pictures."
            )
        return said


def noise_in_points(images: int, ap: float = TYPICAL_AP) -> float:
    """About one standard deviation of AP, in points of 100, over a draw of ``images`` pictures with faces.

    Each picture is taken for one independent draw that is right with probability ``ap``, whence 100 √(ap (1 − ap) / n): faces
    of one picture are found or missed together, so their number would promise too much. ``hyperfd report`` measures the same by
    drawing the images again (bootstrap).
    """
    return 100 * math.sqrt(ap * (1 - ap) / images) if images else math.inf


def data_facts(dataset: FaceDataset, budget: Budget) -> DataFacts:
    """Looks at every image once; those that cannot be decoded are left out and counted in the report.

    Raises:
        DataError: Nothing usable is left of a split.
    """
    found = likeness(dataset)
    if found.undecodable:
        dataset = without(dataset, found.undecodable)
        found = likeness(dataset)
    return DataFacts(dataset, found, tuple(_split(dataset, name) for name in dataset.splits), budget)


def shorter_sides(images: Sequence[FaceImage]) -> NDArray[np.float64]:
    """Shorter side ``[n]`` of every face that is not ignored, in pixels at the reference scale (short side 720)."""
    sides = [np.empty(0)]
    for image in images:
        if len(image.boxes):
            short = max(min(image.width, image.height), max(image.width, image.height) / LONGEST_SHAPE)
            boxes = image.boxes[~image.ignored].astype(np.float64)
            sides.append((boxes[:, 2:] - boxes[:, :2]).min(axis=1) * REFERENCE_SIDE / short)
    return np.concatenate(sides)


def _split(dataset: FaceDataset, name: str) -> SplitFacts:
    images = dataset.split(name)
    sides = shorter_sides(images)
    small = int((sides < IGNORED_SIDE).sum())
    return SplitFacts(
        name=name,
        images=len(images),
        with_faces=sum(bool((shorter_sides([image]) >= IGNORED_SIDE).any()) for image in images),
        faces=len(sides) - small,
        small=small,
        ignored=sum(int(image.ignored.sum()) for image in images),
        sides=sides,
        source=dataset.report.split_sources.get(name, dataset.report.split_source),
    )


def problems(facts: DataFacts) -> list[tuple[str, int, str, str]]:
    """(what was done, how often, with what, examples) for everything that loading found."""
    report = facts.dataset.report
    rows = []
    for problem in Problem:
        if report.count(problem):
            rows.append(
                (
                    problem.action,
                    report.count(problem),
                    problem.text,
                    ", ".join(report.examples.get(problem, ())),
                )
            )
    return rows


def _count(groups: tuple[tuple[int, ...], ...]) -> str:
    return f"{sum(map(len, groups))} images"
