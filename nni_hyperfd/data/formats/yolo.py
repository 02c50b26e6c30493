"""YOLO text: one file an image, lines ``class x_center y_center width height`` as fractions of the image.

Behind the box may stand a confidence (and the number of a track), or five landmarks ``x y`` or ``x y visibility``; in place of a box, a polygon, of
which the surrounding box is taken. An image with an empty text file is one without faces; one without a text file is not
annotated. Class names: see `yolo_names`.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from nni_hyperfd.data.formats import retinaface_label, wider
from nni_hyperfd.data.formats.annotation import NO_POINT, Annotations, Points, RawFace, numbers
from nni_hyperfd.data.formats.around import hull
from nni_hyperfd.data.formats.folder import DataFolder, is_image_name
from nni_hyperfd.data.formats.yolo_names import ClassNames, is_class_file
from nni_hyperfd.data.formats.yolo_shapes import LANDMARKS, OUTSIDE, are_tracks, is_inside, is_track, shape_of
from nni_hyperfd.data.names import split_word
from nni_hyperfd.data.report import Problem
from nni_hyperfd.data.tables import ENOUGH, Size, corners_of, fits
from nni_hyperfd.errors import DataError

NAME = "yolo"
TITLE = "YOLO txt"


def find(folder: DataFolder) -> list[str]:
    """Text files that are called like an image, and lists of numbers beside them; no list of another format."""
    others = {*wider.find(folder), *retinaface_label.find(folder)}
    files = [name for name in folder.with_suffix(".txt") if name not in others and not is_class_file(name)]
    named = {name for name in files if folder.fits(os.path.splitext(name)[0]) and not _is_list(folder, name)}
    label_folders = {os.path.dirname(name) for name in named} or {
        os.path.dirname(name) for name in files if "labels" in name.split("/")[:-1]
    }
    return [
        name
        for name in files
        if name in named or (os.path.dirname(name) in label_folders and _looks_like(folder.head(name)))
    ]


def _is_list(folder: DataFolder, file: str) -> bool:
    """A list of image names for a split, which an image may happen to be called like."""
    first = folder.head(file).strip().splitlines()[:1]
    return split_word(os.path.basename(file)) is not None and bool(first) and is_image_name(first[0].strip())


def _looks_like(head: str) -> bool:
    values = numbers(head.split("\n", 1)[0].split())
    return values is not None and len(values) >= 5


@dataclass(frozen=True)
class _Line:
    """One line that consists of numbers: where it stands, its class, the numbers behind it, and its image."""

    place: str
    image: str
    file: str
    number: str
    values: tuple[float, ...]
    frame: Size


def read(folder: DataFolder, files: Sequence[str], annotations: Annotations) -> None:
    """See `Reader.read`."""
    names = ClassNames(folder)
    annotations.class_names |= names.every()
    lines = [line for file in files for line in _lines(file, annotations, names)]
    shapes = _shapes(lines, names)
    tracked = are_tracks([line.values for line in lines if shapes[len(line.values)] == "polygon"])
    if tracked:
        lines = _without_tracks(lines, shapes, names, annotations)
        shapes = _shapes(lines, names)
    elif tracked is None:  # a triangle, or a box of a model: nothing tells
        shapes = {count: None if shape == "polygon" else shape for count, shape in shapes.items()}
    if any(shape is not None and shape.startswith("points") for shape in shapes.values()):
        # No tool mixes them: a polygon among landmarks is a line that lacks a number.
        shapes = {count: None if shape == "polygon" else shape for count, shape in shapes.items()}
    _refuse_confidence_first([line for line in lines if len(line.values) == 5], annotations)
    _refuse_pixels([line for line in lines if shapes[len(line.values)] is not None], annotations)
    for line in lines:
        entry = annotations.entry_of(line.image, line.file)
        label = names.label(line.number, line.file)
        face = _face(line, shapes[len(line.values)], label)
        if face is None:
            annotations.malformed(line.place, line.image, label=label)
        elif _beyond(line, shapes[len(line.values)]):
            annotations.malformed(line.place, line.image, Problem.UNIT_DOUBT, label=label)
        else:
            entry.faces.append(face)
    pointed = sum((shapes[len(line.values)] or "").startswith("points") for line in lines)
    if pointed:
        annotations.findings.note(f"{pointed} faces have landmarks behind their boxes")
    polygons = sum(shapes[len(line.values)] == "polygon" for line in lines)
    if polygons:
        annotations.findings.note(
            f"{polygons} faces are polygons (of a segmentation export), taken as the boxes around them"
        )


def _shapes(lines: Sequence[_Line], names: ClassNames) -> dict[int, str | None]:
    """What lines are, by how many numbers they have (`shape_of`)."""
    return {
        count: shape_of([line.values for line in lines if len(line.values) == count], names.keypoints)
        for count in {len(line.values) for line in lines}
    }


def _without_tracks(
    lines: Sequence[_Line], shapes: Mapping[int, str | None], names: ClassNames, annotations: Annotations
) -> list[_Line]:
    """The lines of a set with tracks without them; one that should have a track and has none is not read."""
    kept: list[_Line] = []
    count = 0
    for line in lines:
        if shapes[len(line.values)] != "polygon":
            kept.append(line)
        elif is_track(line.values):
            kept.append(replace(line, values=line.values[:-2]))
            count += 1
        else:
            annotations.malformed(line.place, line.image, label=names.label(line.number, line.file))
    annotations.findings.note(
        f"{count} faces have a confidence and the number of a track behind them, passed over, as a model writes them: "
        "check that they are annotations and no detections"
    )
    return kept


def _lines(file: str, annotations: Annotations, names: ClassNames) -> list[_Line]:
    image = annotations.resolve(os.path.splitext(file)[0], "")
    frame = annotations.frame(image) if image is not None else None
    if image is None or frame is None:
        return []  # a broken image is counted once, by whoever checks all images
    entry = annotations.entry_of(image, file)
    entry.size, entry.fractions = frame, True
    found = []
    for number, line in enumerate(annotations.folder.text(file).splitlines(), start=1):
        fields = line.split()
        if len(fields) < 5 and line.count(",") >= 4:
            fields = line.replace(",", " ").split()
        if not fields:
            continue
        values = numbers(fields[1:])
        index = numbers(fields[:1])
        if values is None or len(values) < 4 or index is None or index[0] % 1 or index[0] < 0:
            known = names.label(fields[0], file) if index is not None else None
            annotations.malformed(f"{file}:{number}", image, label=known)
            continue
        found.append(_Line(f"{file}:{number}", image, file, f"{index[0]:.0f}", tuple(values), frame))
    return found


def _refuse_confidence_first(lines: Sequence[_Line], annotations: Annotations) -> None:
    """Some scripts write the confidence before the box; then boxes of lines as YOLO has them lead outside their pictures."""
    outside = [line for line in lines if not is_inside(line.values)]
    if len(outside) > len(lines) / 4 and all(is_inside(line.values[1:]) for line in lines):
        raise DataError(
            f"{len(outside)} of {len(lines)} boxes in the text files of {annotations.folder.root} lead outside their pictures "
            f"({outside[0].place}), and none if the number behind the class is a confidence: write class x_center y_center width height."
        )
    turned = [line for line in lines if not 0 <= line.values[4] <= 1 and line.values[4] % 1]
    if turned:
        raise DataError(
            f"{len(turned)} boxes in the text files of {annotations.folder.root} have a sixth number that is no confidence "
            f"({turned[0].place}), such as an angle: write boxes that are not turned, or turned ones as polygons."
        )
    if lines:
        annotations.findings.note(
            f"{len(lines)} boxes have a sixth number, taken as a confidence (or the number of a track) and passed over, as a model writes it: "
            "check that they are annotations and no detections"
        )


def _refuse_pixels(lines: Sequence[_Line], annotations: Annotations) -> None:
    """YOLO knows fractions only; a whole set of pixels, or of corners, is no YOLO and is asked about."""
    folder = annotations.folder
    boxes = [line for line in lines if len(line.values) in (4, 5)]
    beyond = [line for line in boxes if max(line.values[:4]) > 1 + 5 * OUTSIDE]
    if beyond and len(beyond) > len(boxes) / 2:
        raise DataError(
            f"{len(beyond)} of {len(boxes)} boxes in the text files of {folder.root} have numbers beyond 1 ({beyond[0].place}), while YOLO "
            "has fractions of the picture (class x_center y_center width height): divide by width and height, or export another format."
        )
    as_corners = [fits(line.values[:4], "corners", (1.0, 1.0)) for line in boxes]
    sticking = [line for line in boxes if not is_inside(line.values)]
    if len(boxes) >= ENOUGH and all(as_corners) and len(sticking) > len(boxes) / 4:
        raise DataError(
            f"{len(sticking)} of {len(boxes)} boxes in the text files of {folder.root} lead outside their pictures ({sticking[0].place}), "
            "and all of them fit as corners: YOLO has class x_center y_center width height; write them like that."
        )
    if boxes and all(as_corners):
        annotations.findings.note(
            f"all {len(boxes)} boxes of the text files would fit as corners as well; they are taken as class x_center y_center width height"
        )


def _beyond(line: _Line, shape: str | None) -> bool:
    """Whether a line has numbers that are no fractions."""
    values = line.values if shape == "polygon" else line.values[:4]
    return any(math.isfinite(value) and not -5 * OUTSIDE <= value <= 1 + 5 * OUTSIDE for value in values)


def _face(line: _Line, shape: str | None, label: str | None) -> RawFace | None:
    width, height = line.frame
    number = line.number
    if shape is None:
        return None
    if shape == "polygon":
        box = hull((x * width, y * height) for x, y in zip(line.values[0::2], line.values[1::2]))
        return None if box is None else RawFace(box, label=label, number=number)
    left, top, right, bottom = corners_of(line.values[:4], "centre and size")
    box = (left * width, top * height, right * width, bottom * height)
    return RawFace(box, landmarks=_landmarks(line, shape), label=label, number=number)


def _landmarks(line: _Line, shape: str) -> Points | None:
    if not shape.startswith("points"):
        return None
    dimension = int(shape[-1])
    tail = line.values[4 : 4 + LANDMARKS * dimension]
    if (len(line.values) - 4) // dimension != LANDMARKS:
        return None
    width, height = line.frame
    points = []
    for start in range(0, len(tail), dimension):
        x, y = tail[start : start + 2]
        seen = tail[start + 2] > 0 if dimension == 3 else x >= 0 and y >= 0
        points.append((x * width, y * height) if seen and math.isfinite(x + y) else NO_POINT)
    return tuple(points)
