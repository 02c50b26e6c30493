"""The bootstrap over images against drawing, copying and matching everything anew."""

from __future__ import annotations

import numpy as np
import pytest

from nni_hyperfd.detection.evaluation.bootstrap import ap_interval, drawn_aps
from nni_hyperfd.detection.evaluation.detections import Detections, GroundTruth, ap50


def split(images: int, seed: int) -> tuple[Detections, GroundTruth]:
    """Faces in a row in each image, some ignored; detections near some of them, and others of nothing."""
    rng = np.random.default_rng(seed)
    face_image = np.sort(rng.integers(images, size=3 * images))
    column = np.arange(len(face_image)) * 40.0
    faces = np.stack([column, 0 * column, column + 30, 0 * column + 30], axis=1).astype(np.float32)
    chosen = rng.integers(len(faces), size=5 * images)
    boxes = faces[chosen] + rng.normal(0, 6, (len(chosen), 1)).astype(np.float32)
    scores = rng.permutation(len(chosen)) / len(chosen)  # no two are equal, so no order is left to chance
    truth = GroundTruth(face_image, faces, rng.random(len(faces)) < 0.2)
    return Detections(face_image[chosen], boxes, scores.astype(np.float32)), truth


def copied(found: Detections, truth: GroundTruth, drawn: np.ndarray) -> tuple[Detections, GroundTruth]:
    """The split of the ``drawn`` images, each a picture of its own."""
    rows = [np.flatnonzero(found.image == image) for image in drawn]
    faces = [np.flatnonzero(truth.image == image) for image in drawn]
    row, face = np.concatenate(rows), np.concatenate(faces)
    return (
        Detections(
            np.repeat(np.arange(len(drawn)), list(map(len, rows))), found.boxes[row], found.scores[row]
        ),
        GroundTruth(
            np.repeat(np.arange(len(drawn)), list(map(len, faces))), truth.boxes[face], truth.ignored[face]
        ),
    )


@pytest.mark.parametrize("seed", range(5))
def test_a_draw_is_the_ap_of_the_pictures_that_were_drawn(seed: int) -> None:
    images = 8
    found, truth = split(images, seed)
    aps = drawn_aps(found, truth, images, 20, np.random.default_rng(seed))
    rng = np.random.default_rng(seed)
    wanted = [ap50(*copied(found, truth, rng.integers(images, size=images))) for _ in range(20)]
    assert 0 < min(wanted) < max(wanted) < 1
    np.testing.assert_allclose(aps, wanted, atol=1e-12)


def test_by_hand_one_of_two_pictures_has_its_face_found() -> None:
    """Draws are (found, found), (found, missed) twice and (missed, missed): AP 1, ½, ½ and 0."""
    faces = np.array([[0, 0, 10, 10], [0, 0, 10, 10]], np.float32)
    truth = GroundTruth(np.array([0, 1]), faces, np.zeros(2, bool))
    found = Detections(np.array([0]), faces[:1], np.array([0.9], np.float32))
    aps = drawn_aps(found, truth, 2, 4000, np.random.default_rng(0))
    shares = [float(np.mean(aps == value)) for value in (0.0, 0.5, 1.0)]
    assert sum(shares) == 1
    np.testing.assert_allclose(shares, [0.25, 0.5, 0.25], atol=0.03)  # four standard deviations
    assert ap_interval(found, truth, 2) == (0.0, 1.0)


def test_the_same_seed_gives_the_same_interval_and_more_pictures_a_narrower_one() -> None:
    small, large = split(10, 1), split(400, 1)
    interval = ap_interval(*large, 400, draws=200, seed=3)
    assert interval == ap_interval(*large, 400, draws=200, seed=3)
    assert interval != ap_interval(*large, 400, draws=200, seed=4)
    assert interval.low < ap50(*large) < interval.high
    wide = ap_interval(*small, 10, draws=200)
    assert interval.high - interval.low < (wide.high - wide.low) / 2


def test_pictures_without_detections_or_faces_have_an_ap_of_zero() -> None:
    found, truth = split(3, 0)
    nothing = Detections(found.image[:0], found.boxes[:0], found.scores[:0])
    nobody = GroundTruth(truth.image[:0], truth.boxes[:0], truth.ignored[:0])
    assert ap_interval(nothing, truth, 3) == ap_interval(found, nobody, 3) == (0.0, 0.0)
