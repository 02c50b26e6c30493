"""AP at one IoU threshold as MMDetection defines it, without a loop over images or detections."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.integer[Any]]
Reals = NDArray[np.floating[Any]]
Flags = NDArray[np.bool_]

MOST_PAIRS = 2**21
"""Pairs of a detection and a face of its image that are compared at once, about 200 MB; pictures of crowds have many."""


def average_precision(
    image: Integers,
    boxes: Reals,
    scores: Reals,
    face_image: Integers,
    face_boxes: Reals,
    face_ignored: Flags,
    threshold: float = 0.5,
) -> float:
    """Area under the interpolated precision-recall curve.

    A detection looks only at the face it overlaps most (of equal ones a valid face before an ignored one). Of the
    detections of one face the first by score is right and the others are false; a detection whose best face
    is an ignored one counts for neither side.

    Args:
        image: ``[n]`` the image of each detection.
        boxes: ``[n, 4]`` corners of the detections.
        scores: ``[n]``; detections of equal scores keep their order.
        face_image: ``[m]`` the image of each face.
        face_boxes: ``[m, 4]`` corners of the faces.
        face_ignored: ``[m]`` bool.
        threshold: Smallest IoU of a match.

    Returns:
        AP in 0..1; 0 where there is no valid face or no detection.
    """
    total = int(np.count_nonzero(~face_ignored))
    if total == 0 or len(scores) == 0:
        return 0.0
    return area(matched(image, boxes, scores, face_image, face_boxes, face_ignored, threshold), total)


@dataclass(frozen=True)
class Matched:
    """What became of detections, the surest first.

    Args:
        order: ``[n]`` their positions in what was matched.
        right: ``[n]`` which of them found a face first; neither this nor ``wrong`` is true where the best face is an ignored one.
        wrong: ``[n]`` which of them did not.
    """

    order: NDArray[np.int64]
    right: Flags
    wrong: Flags


def matched(
    image: Integers,
    boxes: Reals,
    scores: Reals,
    face_image: Integers,
    face_boxes: Reals,
    face_ignored: Flags,
    threshold: float = 0.5,
) -> Matched:
    """Which detections are right; arguments and rules as for :func:`average_precision`."""
    if not len(face_ignored):
        everything = np.ones(len(scores), dtype=bool)
        return Matched(np.argsort(-scores, kind="stable"), ~everything, everything)
    order = np.argsort(-scores, kind="stable")
    face, overlap = best_faces(image[order], boxes[order], face_image, face_boxes, face_ignored)
    hit = overlap >= np.float32(threshold)
    neither = hit & face_ignored[face]
    first = np.zeros(len(order), dtype=bool)
    candidates = np.flatnonzero(hit)
    first[candidates[np.unique(face[candidates], return_index=True)[1]]] = True
    return Matched(order, first & ~neither, ~first & ~neither)


def curve(found: Matched, total: int, copies: Integers | None = None) -> tuple[Reals, Reals]:
    """Recall and interpolated precision ``[n]`` each, after each detection.

    Args:
        found: Of n detections.
        total: Valid faces, at least one.
        copies: ``[n]``, how often each detection of ``found`` counts, its image being there so many times; None: once.
    """
    weight = np.ones(len(found.order), np.int64) if copies is None else copies
    right, wrong = np.cumsum(found.right * weight), np.cumsum(found.wrong * weight)
    precision = right / np.maximum(right + wrong, 1)
    return right / total, np.maximum.accumulate(precision[::-1])[::-1]


def area(found: Matched, total: int, copies: Integers | None = None) -> float:
    """AP in 0..1: the area under the curve; arguments as for :func:`curve`."""
    recall, envelope = curve(found, total, copies)
    return float(np.sum(np.diff(recall, prepend=0.0) * envelope))


def best_faces(
    image: Integers, boxes: Reals, face_image: Integers, face_boxes: Reals, face_ignored: Flags
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The face of its own image that each detection overlaps most; arguments as for :func:`average_precision`.

    IoU is computed in float32 without the historical '+1'.

    Returns:
        Position of the face and IoU with it, ``[n]`` each; IoU 0 where it overlaps none.
    """
    order = np.lexsort((face_ignored, face_image))
    images = max(int(image.max(initial=-1)), int(face_image.max(initial=-1))) + 1
    count = np.bincount(face_image, minlength=images)
    if int(count[image].sum()) > MOST_PAIRS and len(image) > 1:
        middle = len(image) // 2
        first, second = (
            best_faces(image[half], boxes[half], face_image, face_boxes, face_ignored)
            for half in (slice(middle), slice(middle, None))
        )
        return np.concatenate([first[0], second[0]]), np.concatenate([first[1], second[1]])
    start = np.concatenate([[0], np.cumsum(count)[:-1]])
    repeats = count[image]
    pair = np.repeat(np.arange(len(image)), repeats)
    within = np.arange(len(pair)) - np.repeat(np.cumsum(repeats) - repeats, repeats)
    face = order[start[image][pair] + within]
    a, b = boxes.astype(np.float32)[pair], face_boxes.astype(np.float32)[face]
    side = np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2])
    shared = np.clip(side, 0, None).prod(1)
    union = (a[:, 2:] - a[:, :2]).prod(1) + (b[:, 2:] - b[:, :2]).prod(1) - shared
    overlap = shared / np.maximum(union, np.float32(1e-6))
    best, chosen = np.zeros(len(image), np.float32), np.zeros(len(image), np.int64)
    if len(pair):
        some = repeats > 0
        segment = (np.cumsum(repeats) - repeats)[some]
        best[some] = np.maximum.reduceat(overlap, segment)
        place = np.where(overlap == best[pair], np.arange(len(pair)), len(pair))
        chosen[some] = face[np.minimum.reduceat(place, segment)]
    return chosen, best
