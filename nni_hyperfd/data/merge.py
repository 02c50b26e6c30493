"""Several data sets as one, for the server's own images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from nni_hyperfd.data.dataset import FaceDataset
from nni_hyperfd.data.report import ClassCount, DataReport, Problem, Role
from nni_hyperfd.errors import DataError


def merge(name: str, datasets: Sequence[FaceDataset]) -> FaceDataset:
    """All images of ``datasets`` in order, each in the split it was in; the report counts what all found.

    Raises:
        DataError: There is nothing to merge.
    """
    if not datasets:
        raise DataError("no data set to merge: name at least one folder of server images")
    images = tuple(image for dataset in datasets for image in dataset.images)
    splits: dict[str, list[int]] = {"train": [], "val": [], "test": []}
    start = 0
    for dataset in datasets:
        for split, members in splits.items():
            members.extend(start + index for index in dataset.splits[split])
        start += len(dataset.images)
    reports = [dataset.report for dataset in datasets]
    counts: dict[Problem, int] = {}
    for report in reports:
        for problem, count in report.counts.items():
            counts[problem] = counts.get(problem, 0) + count
    report = replace(
        reports[0],
        name=name,
        format=", ".join(dict.fromkeys(report.format for report in reports)),
        images=len(images),
        faces=sum(report.faces for report in reports),
        ignored=sum(report.ignored for report in reports),
        splits={split: len(members) for split, members in splits.items()},
        split_source="; ".join(dict.fromkeys(report.split_source for report in reports)),
        classes=_classes(reports),
        split_sources={
            split: "; ".join(
                dict.fromkeys(report.split_sources.get(split, report.split_source) for report in reports)
            )
            for split in splits
        },
        left_out={
            f"{report.name}/{image}": problem
            for report in reports
            for image, problem in report.left_out.items()
        },
        notes=tuple(f"{report.name}: {note}" for report in reports for note in report.notes),
        counts=counts,
        examples={
            problem: names for report in reversed(reports) for problem, names in report.examples.items()
        },
    )
    root = datasets[0].root.parent
    return FaceDataset(name, root, images, {key: tuple(value) for key, value in splits.items()}, report)


def _classes(reports: Sequence[DataReport]) -> tuple[ClassCount, ...]:
    """Classes of the same name and role are one."""
    counts: dict[tuple[str | None, Role], ClassCount] = {}
    for each in (one for report in reports for one in report.classes):
        before = counts.get((each.name, each.role))
        counts[each.name, each.role] = replace(each, boxes=each.boxes + (before.boxes if before else 0))
    return tuple(sorted(counts.values(), key=lambda each: -each.boxes))
