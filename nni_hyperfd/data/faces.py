"""A picture with its faces: each annotated face becomes a box and landmarks that a training can use, or a problem."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nni_hyperfd.data.formats.annotation import RawFace
from nni_hyperfd.data.formats.folder import ImageHeader
from nni_hyperfd.data.orientation import UPRIGHT, upright_boxes, upright_landmarks
from nni_hyperfd.data.report import Findings, Problem
from nni_hyperfd.data.tables import Size

LANDMARKS = 5
SMALLEST_SIDE = 1.0  # pixels; thinner boxes have no meaningful logarithm of their size
NO_FACE = 1.05  # pixels; what is not larger either way is a slip
SPECK = 4.0  # pixels; a slip that is longer may have been a face that one can see
TOLERANCE = 0.5  # pixels; rounding in annotation files moves edges by less


@dataclass(frozen=True, eq=False)
class FaceImage:
    """One image and its faces.

    Args:
        path: The image file.
        width, height: Size in pixels, upright (as EXIF asks viewers to turn it).
        boxes: ``[n, 4]`` float32, xmin ymin xmax ymax in pixels, inside the image, each side at least one pixel.
        landmarks: ``[n, 5, 2]`` float32, x y in pixels, NaN where absent.
        ignored: ``[n]`` bool, faces that count neither for nor against a detector.
        orientation: EXIF's, 1 where the file stores the picture upright.
    """

    path: Path
    width: int
    height: int
    boxes: NDArray[np.float32]
    landmarks: NDArray[np.float32]
    ignored: NDArray[np.bool_]
    orientation: int = UPRIGHT


def check_faces(
    path: Path, header: ImageHeader, faces: Sequence[RawFace], stored: bool, name: str, findings: Findings
) -> FaceImage | None:
    """The image with the faces that can be believed; None (counted) where a face that must be there cannot."""
    kept: dict[tuple[float, ...], tuple[NDArray[np.float32], bool]] = {}
    reason: Problem | None = None
    specks = 0
    for face in faces:
        face = _turned(face, header) if stored else face
        box = _check_box(face, header.upright, name, findings)
        if box is Problem.EMPTY_BOX and _is_speck(face):
            specks += 1
        elif isinstance(box, Problem):
            reason = reason or box
        elif box in kept:
            findings.add(Problem.REPEATED_BOX, name)
            kept[box] = (kept[box][0], kept[box][1] and face.ignored)
        else:
            kept[box] = (_check_landmarks(face, header.upright, name, findings), face.ignored)
    if reason is None and specks and not kept:
        reason = Problem.EMPTY_BOX
    if reason is not None:
        findings.leave_out(name, reason)
        return None
    count = len(kept)
    return FaceImage(
        path=path,
        width=header.upright[0],
        height=header.upright[1],
        boxes=np.array(list(kept), dtype=np.float32).reshape(count, 4),
        landmarks=np.array([points for points, _ in kept.values()], dtype=np.float32).reshape(
            count, LANDMARKS, 2
        ),
        ignored=np.array([ignored for _, ignored in kept.values()], dtype=bool),
        orientation=header.orientation,
    )


def _turned(face: RawFace, header: ImageHeader) -> RawFace:
    size = (header.width, header.height, header.orientation)
    a, b, c, d = upright_boxes(np.array([face.box], dtype=np.float64), *size)[0].tolist()
    landmarks = face.landmarks
    if landmarks is not None:
        points = upright_landmarks(np.array(landmarks, dtype=np.float64), *size)
        landmarks = tuple((float(x), float(y)) for x, y in points)
    return replace(face, box=(a, b, c, d), landmarks=landmarks)


def _is_speck(face: RawFace) -> bool:
    left, top, right, bottom = face.box
    return 0 <= right - left < SPECK and 0 <= bottom - top < SPECK


def _check_box(face: RawFace, size: Size, name: str, findings: Findings) -> tuple[float, ...] | Problem:
    def refuse(problem: Problem) -> Problem:
        findings.add(problem, name)
        return problem

    if not all(math.isfinite(value) for value in face.box):
        return refuse(Problem.BAD_NUMBER)
    left, top, right, bottom = face.box
    if right <= left or bottom <= top or max(right - left, bottom - top) <= NO_FACE:
        return refuse(Problem.EMPTY_BOX)
    clipped = (max(left, 0.0), max(top, 0.0), min(right, float(size[0])), min(bottom, float(size[1])))
    if clipped[2] <= clipped[0] or clipped[3] <= clipped[1]:
        return refuse(Problem.OUTSIDE_BOX)
    if clipped[2] - clipped[0] < SMALLEST_SIDE or clipped[3] - clipped[1] < SMALLEST_SIDE:
        return refuse(Problem.EMPTY_BOX)
    if max(abs(after - before) for after, before in zip(clipped, face.box)) > TOLERANCE:
        findings.add(Problem.CLIPPED_BOX, name)
    return clipped


def _check_landmarks(face: RawFace, size: Size, name: str, findings: Findings) -> NDArray[np.float32]:
    points = np.full((LANDMARKS, 2), np.nan, dtype=np.float32)
    if face.landmarks is None:
        return points
    # The box as annotated, since the landmarks of a face cut by the edge may lie outside the image as well.
    sides = np.array(size, dtype=np.float64)
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
