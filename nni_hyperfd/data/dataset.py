"""Annotated face images of one customer: loaded, checked, split, and described by one report.

Pictures are upright as EXIF asks viewers to turn them, and boxes refer to the upright picture: see `orientation`.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from nni_hyperfd.data.check import check
from nni_hyperfd.data.draw import SPLITS
from nni_hyperfd.data.faces import FaceImage
from nni_hyperfd.data.formats import Annotations, DataFolder, recognize
from nni_hyperfd.data.orientation import UPRIGHT
from nni_hyperfd.data.reading import EXIF
from nni_hyperfd.data.report import DataReport, Findings, Problem
from nni_hyperfd.data.splits import split
from nni_hyperfd.errors import DataError

__all__ = ["DataReport", "FaceDataset", "FaceImage", "Problem", "load_dataset", "subset", "without"]


@dataclass(frozen=True, eq=False)
class FaceDataset:
    """The images of one customer.

    Args:
        name: Name of the folder.
        root: The folder.
        images: Sorted by path.
        splits: Indices into ``images`` for "train", "val" and "test"; disjoint, not necessarily all images.
        report: What was found while loading.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from nni_hyperfd.synthetic import generate
        >>> with TemporaryDirectory() as folder:
        ...     _ = generate(folder, "crowd", images=10)
        ...     faces = load_dataset(folder)
        >>> {name: len(faces.split(name)) for name in faces.splits}
        {'train': 6, 'val': 1, 'test': 3}
        >>> faces.images[0].boxes.shape[1]
        4
    """

    name: str
    root: Path
    images: tuple[FaceImage, ...]
    splits: Mapping[str, tuple[int, ...]]
    report: DataReport

    def split(self, name: str) -> tuple[FaceImage, ...]:
        """The images of one split."""
        return tuple(self.images[index] for index in self.splits[name])

    def fingerprint(self) -> str:
        """Hexadecimal hash of image bytes, boxes and splits; file names do not enter. The key of every cache.

        Raises:
            DataError: An image file has vanished since loading.
        """
        digest = hashlib.blake2b(digest_size=16)
        for image in self.images:
            try:
                content = image.path.read_bytes()
            except OSError as error:
                raise DataError(
                    f"cannot read {image.path} any more: {error.strerror or error}; load the data again."
                ) from error
            digest.update(len(content).to_bytes(8, "little"))
            digest.update(content)
            digest.update(len(image.boxes).to_bytes(8, "little"))
            for array in (image.boxes, np.nan_to_num(image.landmarks, nan=-1.0), image.ignored):
                digest.update(np.ascontiguousarray(array).tobytes())
            if image.orientation != UPRIGHT:  # pixels of older versions of this package lie
                digest.update(f"upright from {image.orientation}".encode())
        for name in SPLITS:
            digest.update(json.dumps([name, list(self.splits[name])]).encode())
        return digest.hexdigest()


def load_dataset(
    folder: str | os.PathLike[str],
    format: str | None = None,
    seed: int = 0,
    faces: Iterable[str] | None = None,
    ignore: Iterable[str] | None = None,
    exif: str | None = None,
) -> FaceDataset:
    """Read a folder of annotated face images.

    Which classes are faces is told by their names (`formats.classes`), or by ``faces``. Only image headers are read here;
    `without` is for images whose pixels turn out broken.

    Args:
        folder: Folder with images and annotations of one format, and optionally the customer's own splits (`splits`),
            such as ``splits.json``: {"train": [names], "val": [names], "test": [names]}.
        format: One of ``reading.FORMATS``; None to recognize it.
        seed: Of the 6:1:3 split that is drawn where the customer has made none.
        faces: Names of the classes that are faces.
        ignore: Names of the classes whose boxes count neither for nor against a detector.
        exif: "upright" or "stored": how pictures that EXIF turns were annotated, where nothing tells.

    Raises:
        DataError: Nothing usable: the message says what, where and how to mend it.
    """
    if isinstance(faces, str) or isinstance(ignore, str):
        raise DataError(f"faces and ignore are lists of class names: write [{faces or ignore}].")
    if exif not in (None, *EXIF):
        raise DataError(f"exif is {exif!r}: say {' or '.join(EXIF)}, or leave it out.")
    source = DataFolder(folder)
    reader, files = recognize(source, format)
    findings = Findings()
    annotations = Annotations(source, findings, exif)
    reader.read(source, files, annotations)
    checked = check(annotations, faces, ignore)
    if not checked.images:
        raise DataError(
            f"no annotated image of {source.root} can be used ({reader.TITLE}; {_in_short(findings)}): check image names and files."
        )
    if not any((~image.ignored).any() for image in checked.images):
        raise DataError(
            f"no usable face box in {source.root} ({reader.TITLE}; {_in_short(findings)}): check the annotations."
        )
    splits = split(annotations, files, checked.names, checked.images, seed)
    name = source.root.resolve().name
    images = tuple(checked.images)
    report = DataReport(
        name=name,
        format=reader.TITLE,
        **_totals(images, splits.members),
        split_source=splits.source,
        split_sources=splits.sources,
        counts={},
        examples={},
        classes=checked.classes,
    )
    dataset = FaceDataset(name, source.root, images, splits.members, _with_findings(report, findings))
    _require_usable_splits(dataset)
    return dataset


def subset(dataset: FaceDataset, indices: Iterable[int]) -> FaceDataset:
    """The images at ``indices``, in that order, each in the split it was in; a split may be left empty.

    Raises:
        DataError: An index is repeated or out of range.
    """
    chosen = [int(index) for index in indices]
    if len(set(chosen)) != len(chosen) or any(not 0 <= index < len(dataset.images) for index in chosen):
        raise DataError(
            f"cannot take a subset of {dataset.name}: indices must be distinct and within 0..{len(dataset.images) - 1}."
        )
    position = {index: new for new, index in enumerate(chosen)}
    images = tuple(dataset.images[index] for index in chosen)
    splits = {
        name: tuple(sorted(position[index] for index in members if index in position))
        for name, members in dataset.splits.items()
    }
    report = replace(dataset.report, **_totals(images, splits))
    return replace(dataset, images=images, splits=splits, report=report)


def without(dataset: FaceDataset, undecodable: Iterable[int]) -> FaceDataset:
    """The data set without the images whose pixels could not be decoded, which its report then counts.

    Raises:
        DataError: A split has no images or no faces left.
    """
    dropped = set(undecodable)
    if not dropped:
        return dataset
    kept = subset(dataset, (index for index in range(len(dataset.images)) if index not in dropped))
    findings = Findings.of(kept.report)
    for index in sorted(dropped):
        image = dataset.images[index].path
        findings.add(Problem.BROKEN_PIXELS, image.name)
        findings.leave_out(os.path.relpath(image, dataset.root), Problem.BROKEN_PIXELS)
    kept = replace(kept, report=_with_findings(kept.report, findings))
    _require_usable_splits(kept)
    return kept


def _totals(images: Sequence[FaceImage], splits: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    """What a report counts of the images themselves."""
    ignored = sum(int(image.ignored.sum()) for image in images)
    return {
        "images": len(images),
        "faces": sum(len(image.boxes) for image in images) - ignored,
        "ignored": ignored,
        "splits": {word: len(members) for word, members in splits.items()},
    }


def _with_findings(report: DataReport, findings: Findings) -> DataReport:
    return replace(
        report,
        counts=dict(findings.counts),
        examples={problem: tuple(names) for problem, names in findings.examples.items()},
        left_out=dict(findings.left_out),
        notes=tuple(findings.notes),
    )


def _in_short(findings: Findings) -> str:
    worst = sorted(findings.counts.items(), key=lambda item: -item[1])[:3]
    return ", ".join(f"{count} {problem.text}" for problem, count in worst) or "nothing else was wrong"


def _require_usable_splits(dataset: FaceDataset) -> None:
    for word in SPLITS:
        images = dataset.split(word)
        source = dataset.report.split_sources.get(word, dataset.report.split_source)
        if not images:
            raise DataError(
                f"the {word} split of {dataset.root} is empty ({source}): name images of this folder in it."
            )
        if not any((~image.ignored).any() for image in images):
            raise DataError(
                f"the {word} split of {dataset.root} has no face ({source}): put annotated faces into it."
            )
