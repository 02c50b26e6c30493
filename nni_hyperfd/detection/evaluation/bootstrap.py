"""How far AP@50 would move with other pictures of the same kind: the bootstrap over images (Efron, 1979)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nni_hyperfd.detection.evaluation.average_precision import area
from nni_hyperfd.detection.evaluation.detections import Detections, GroundTruth, matched_at_50

DRAWS = 1000
LEVEL = 0.95


class APInterval(NamedTuple):
    """Ends of an interval of AP, 0..1."""

    low: float
    high: float


def ap_interval(
    detections: Detections,
    truth: GroundTruth,
    images: int,
    draws: int = DRAWS,
    level: float = LEVEL,
    seed: int = 0,
) -> APInterval:
    """Percentile interval of AP@50 at ``level``.

    ``images`` pictures are drawn with replacement, ``draws`` times, and each draw has its AP. Faces of one picture stay together,
    since they are found or missed together. Nothing is matched anew: a detection meets only faces of its own picture, so a
    picture that is drawn k times counts k times.
    """
    aps = drawn_aps(detections, truth, images, draws, np.random.default_rng(seed))
    low, high = np.quantile(aps, [(1 - level) / 2, (1 + level) / 2])
    return APInterval(float(low), float(high))


def drawn_aps(
    detections: Detections, truth: GroundTruth, images: int, draws: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """AP@50 of each draw, ``[draws]``; 0 where no face was drawn that counts."""
    found = matched_at_50(detections, truth)
    image = detections.image[found.order]
    faces = np.bincount(truth.image[~truth.ignored], minlength=images)
    aps = np.zeros(draws)
    for draw in range(draws):
        copies = np.bincount(rng.integers(images, size=images), minlength=images)
        total = int(copies @ faces)
        if total:
            aps[draw] = area(found, total, copies[image])
    return aps
