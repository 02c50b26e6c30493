"""Annotated face images of one customer: loaded, checked, split, and described by one report.

Boxes refer to the pixels as stored in the file: an EXIF rotation is not applied, by the readers here or when
pixels are decoded, since annotation tools disagree about it; such images are counted in the report.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nni_hyperfd.data.formats import Annotations, DataFolder, RawFace, recognize
from nni_hyperfd.data.formats.folder import SPLITS_FILE, AmbiguousName, Header
from nni_hyperfd.data.report import DataReport, Findings, Problem
from nni_hyperfd.errors import DataError

__all__ = ["DataReport", "FaceDataset", "FaceImage", "Problem", "load_dataset", "subset", "without"]

SPLITS = ("train", "val", "test")
SPLIT_SHARES = (0.6, 0.1, 0.3)  # of the paper: 6:1:3
SPLIT_ALIASES = {"valid": "val", "validation": "val"}
LANDMARKS = 5
SMALLEST_SIDE = 1.0  # pixels; thinner boxes have no meaningful logarithm of their size
TOLERANCE = 0.5  # pixels; rounding in annotation files moves edges by less


@dataclass(frozen=True, eq=False)
class FaceImage:
    """One image and its faces.

    Args:
        path: the image file.
        width, height: size in pixels as stored.
        boxes: [n, 4] float32, xmin ymin xmax ymax in pixels, inside the image, each side at least one pixel.
        landmarks: [n, 5, 2] float32, x y in pixels, NaN where absent.
        ignored: [n] bool, faces that count neither for nor against a detector.
    """

    path: Path
    width: int
    height: int
    boxes: NDArray[np.float32]
    landmarks: NDArray[np.float32]
    ignored: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class FaceDataset:
    """The images of one customer.

    Args:
        name: name of the folder.
        root: the folder.
        images: sorted by path.
        splits: indices into ``images`` for "train", "val" and "test"; disjoint, not necessarily all images.
        report: what was found while loading.
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
            DataError: an image file has vanished since loading.
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
        for name in SPLITS:
            digest.update(json.dumps([name, list(self.splits[name])]).encode())
        return digest.hexdigest()


def load_dataset(folder: str | os.PathLike[str], format: str | None = None, seed: int = 0) -> FaceDataset:
    """Read a folder of annotated face images.

    Every box of the set is a face, unless its classes have names and one of them contains "face": then the
    others are left out. Only image headers are read here; `without` is for images whose pixels turn out broken.

    Args:
        folder: folder with images and annotations of one format, and optionally ``splits.json``:
            {"train": [names], "val": [names], "test": [names]}.
        format: "wider", "coco", "voc", "yolo", "retinaface" or "csv"; None to recognize it.
        seed: of the 6:1:3 split that is drawn when there is no ``splits.json``.

    Raises:
        DataError: nothing usable: the message says what, where and how to mend it.
    """
    source = DataFolder(folder)
    reader, files = recognize(source, format)
    findings = Findings()
    annotations = Annotations(source, findings)
    reader.read(source, files, annotations)
    for image in source.images:
        if image not in annotations.faces:
            findings.add(Problem.UNANNOTATED_IMAGE, image)
    names, images = _check_images(annotations)
    if not images:
        raise DataError(
            f"no annotated image of {source.root} can be used ({reader.TITLE}; {_in_short(findings)}): check image names and files."
        )
    if not any((~image.ignored).any() for image in images):
        raise DataError(
            f"no usable face box in {source.root} ({reader.TITLE}; {_in_short(findings)}): check the annotations."
        )
    splits, split_source = _splits(source, names, images, seed, findings)
    name = source.root.resolve().name
    report = _report(name, reader.TITLE, images, splits, split_source, findings)
    dataset = FaceDataset(name, source.root, tuple(images), splits, report)
    _require_usable_splits(dataset)
    return dataset


def subset(dataset: FaceDataset, indices: Iterable[int]) -> FaceDataset:
    """The images at ``indices``, in that order, each in the split it was in; a split may be left empty.

    Raises:
        DataError: an index is repeated or out of range.
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
    findings = Findings(
        dict(dataset.report.counts), {key: list(names) for key, names in dataset.report.examples.items()}
    )
    report = _report(
        dataset.name, dataset.report.format, images, splits, dataset.report.split_source, findings
    )
    return replace(dataset, images=images, splits=splits, report=report)


def without(dataset: FaceDataset, undecodable: Iterable[int]) -> FaceDataset:
    """The data set without the images whose pixels could not be decoded, which its report then counts.

    Raises:
        DataError: a split has no images or no faces left.
    """
    dropped = set(undecodable)
    if not dropped:
        return dataset
    kept = subset(dataset, (index for index in range(len(dataset.images)) if index not in dropped))
    findings = Findings(
        dict(kept.report.counts), {key: list(names) for key, names in kept.report.examples.items()}
    )
    for index in sorted(dropped):
        findings.add(Problem.BROKEN_PIXELS, dataset.images[index].path.name)
    report = _report(
        kept.name, kept.report.format, kept.images, kept.splits, kept.report.split_source, findings
    )
    kept = replace(kept, report=report)
    _require_usable_splits(kept)
    return kept


def _report(
    name: str,
    title: str,
    images: Sequence[FaceImage],
    splits: Mapping[str, tuple[int, ...]],
    split_source: str,
    findings: Findings,
) -> DataReport:
    ignored = sum(int(image.ignored.sum()) for image in images)
    return DataReport(
        name=name,
        format=title,
        images=len(images),
        faces=sum(len(image.boxes) for image in images) - ignored,
        ignored=ignored,
        splits={split: len(members) for split, members in splits.items()},
        split_source=split_source,
        counts=dict(findings.counts),
        examples={problem: tuple(names) for problem, names in findings.examples.items()},
    )


def _in_short(findings: Findings) -> str:
    worst = sorted(findings.counts.items(), key=lambda item: -item[1])[:3]
    return ", ".join(f"{count} {problem.text}" for problem, count in worst) or "nothing else was wrong"


def _check_images(annotations: Annotations) -> tuple[list[str], list[FaceImage]]:
    findings = annotations.findings
    labels = {face.label.casefold() for faces in annotations.faces.values() for face in faces if face.label}
    face_labels = {label for label in labels if "face" in label}
    names: list[str] = []
    images: list[FaceImage] = []
    for name in sorted(annotations.faces):
        header = annotations.folder.header(name)
        if header is None:
            findings.add(Problem.BROKEN_IMAGE, name)
            continue
        _note_kind(header, name, findings)
        faces = [
            face
            for face in annotations.faces[name]
            if not face_labels or face.label is None or face.label.casefold() in face_labels
        ]
        findings.add(Problem.OTHER_CLASS, name, len(annotations.faces[name]) - len(faces))
        names.append(name)
        images.append(_check_faces(annotations.folder.root / name, header, faces, name, findings))
        if not len(images[-1].boxes):
            findings.add(Problem.NO_FACES, name)
    return names, images


def _note_kind(header: Header, name: str, findings: Findings) -> None:
    if header.turned:
        findings.add(Problem.TURNED, name)
    if header.mode == "P":
        findings.add(Problem.PALETTE, name)
    elif header.mode in ("1", "L", "LA", "La"):
        findings.add(Problem.GRAYSCALE, name)
    elif header.mode.startswith(("I", "F")):
        findings.add(Problem.DEEP, name)
    if header.transparent:
        findings.add(Problem.ALPHA, name)


def _check_faces(
    path: Path, header: Header, faces: Sequence[RawFace], name: str, findings: Findings
) -> FaceImage:
    kept: dict[tuple[float, ...], tuple[NDArray[np.float32], bool]] = {}
    for face in faces:
        box = _check_box(face, header, name, findings)
        if box is None:
            continue
        if box in kept:
            findings.add(Problem.REPEATED_BOX, name)
            continue
        kept[box] = (_check_landmarks(face, header, name, findings), face.ignored)
    count = len(kept)
    return FaceImage(
        path=path,
        width=header.width,
        height=header.height,
        boxes=np.array(list(kept), dtype=np.float32).reshape(count, 4),
        landmarks=np.array([points for points, _ in kept.values()], dtype=np.float32).reshape(
            count, LANDMARKS, 2
        ),
        ignored=np.array([ignored for _, ignored in kept.values()], dtype=bool),
    )


def _check_box(face: RawFace, header: Header, name: str, findings: Findings) -> tuple[float, ...] | None:
    if not all(math.isfinite(value) for value in face.box):
        findings.add(Problem.BAD_NUMBER, name)
        return None
    left, top, right, bottom = face.box
    if right <= left or bottom <= top:
        findings.add(Problem.EMPTY_BOX, name)
        return None
    clipped = (
        max(left, 0.0),
        max(top, 0.0),
        min(right, float(header.width)),
        min(bottom, float(header.height)),
    )
    if clipped[2] <= clipped[0] or clipped[3] <= clipped[1]:
        findings.add(Problem.OUTSIDE_BOX, name)
        return None
    if clipped[2] - clipped[0] < SMALLEST_SIDE or clipped[3] - clipped[1] < SMALLEST_SIDE:
        findings.add(Problem.EMPTY_BOX, name)
        return None
    if max(abs(after - before) for after, before in zip(clipped, face.box)) > TOLERANCE:
        findings.add(Problem.CLIPPED_BOX, name)
    return clipped


def _check_landmarks(face: RawFace, header: Header, name: str, findings: Findings) -> NDArray[np.float32]:
    points = np.full((LANDMARKS, 2), np.nan, dtype=np.float32)
    if face.landmarks is None:
        return points
    # The box as annotated, since the landmarks of a face cut by the edge may lie outside the image as well.
    sides = np.array([header.width, header.height], dtype=np.float64)
    low, high = np.clip(np.reshape(face.box, (2, 2)), -sides, 2 * sides)
    for index, point in enumerate(np.asarray(face.landmarks)):
        if np.isnan(point).any():
            continue
        # An eye more than a face away from its face is a slip of the pen that would spoil the regression.
        if (point >= low - (high - low)).all() and (point <= high + (high - low)).all():
            points[index] = point
        else:
            findings.add(Problem.STRAY_LANDMARK, name)
    return points


def _splits(
    source: DataFolder, names: list[str], images: list[FaceImage], seed: int, findings: Findings
) -> tuple[dict[str, tuple[int, ...]], str]:
    if (source.root / SPLITS_FILE).exists():
        return _read_splits(source, names, findings), SPLITS_FILE
    with_faces = sum(bool((~image.ignored).any()) for image in images)
    if with_faces < len(SPLITS):
        raise DataError(
            f"{source.root} has only {with_faces} usable images with faces, too few for train, val and test: add images."
        )
    return _draw_splits(images, seed), f"drawn 6:1:3 with seed {seed}"


def _draw_splits(images: Sequence[FaceImage], seed: int) -> dict[str, tuple[int, ...]]:
    """6:1:3, drawn apart for images with and without faces, so that no split is without faces by bad luck."""
    rng = np.random.default_rng(seed)
    members: dict[str, list[int]] = {name: [] for name in SPLITS}
    has_faces = np.array([(~image.ignored).any() for image in images])
    for group in (np.flatnonzero(has_faces), np.flatnonzero(~has_faces)):
        order = rng.permutation(group)
        smallest = 1 if len(group) >= len(SPLITS) else 0
        val = max(smallest, round(SPLIT_SHARES[1] * len(group)))
        test = max(smallest, round(SPLIT_SHARES[2] * len(group)))
        for name, part in zip(("val", "test", "train"), np.split(order, [val, val + test])):
            members[name] += part.tolist()
    return {name: tuple(sorted(members[name])) for name in SPLITS}


def _read_splits(source: DataFolder, names: list[str], findings: Findings) -> dict[str, tuple[int, ...]]:
    path = source.root / SPLITS_FILE
    try:
        document = json.loads(source.text(SPLITS_FILE))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is no valid JSON ({error}): write it again or remove it.") from error
    listed = (
        {SPLIT_ALIASES.get(key, key): value for key, value in document.items()}
        if isinstance(document, dict)
        else {}
    )
    for split in SPLITS:
        if not isinstance(listed.get(split), list) or not all(
            isinstance(name, str) for name in listed[split]
        ):
            raise DataError(
                f"{path} has no list of file names called {split!r}: give train, val and test, or remove the file."
            )
    position = {name: index for index, name in enumerate(names)}
    taken: set[int] = set()
    splits: dict[str, tuple[int, ...]] = {}
    for split in reversed(SPLITS):  # an image in two splits must not be trained on and measured with
        members: list[int] = []
        for name in listed[split]:
            found = _resolve_quietly(source, name)
            if found is None:
                findings.add(Problem.SPLIT_UNKNOWN, name)
            elif found in position:
                if position[found] in taken:
                    findings.add(Problem.SPLIT_REPEATED, name)
                else:
                    taken.add(position[found])
                    members.append(position[found])
        splits[split] = tuple(sorted(members))
    for name, index in position.items():
        if index not in taken:
            findings.add(Problem.NO_SPLIT, name)
    return {split: splits[split] for split in SPLITS}


def _resolve_quietly(source: DataFolder, name: str) -> str | None:
    try:
        return source.resolve(name)
    except AmbiguousName:
        return None


def _require_usable_splits(dataset: FaceDataset) -> None:
    for split in SPLITS:
        images = dataset.split(split)
        if not images:
            raise DataError(
                f"the {split} split of {dataset.root} is empty ({dataset.report.split_source}): name images of this folder in it."
            )
        if not any((~image.ignored).any() for image in images):
            raise DataError(
                f"the {split} split of {dataset.root} has no face ({dataset.report.split_source}): put annotated faces into it."
            )
