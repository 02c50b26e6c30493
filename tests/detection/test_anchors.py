"""Anchors, their encoding, and matching against a plain loop over anchors and faces."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nni_hyperfd.detection.anchors import (
    FORCED_IOU,
    IGNORED,
    NEGATIVE,
    POSITIVE,
    Matching,
    _match_dense,
    anchors_per_level,
    corners,
    decode_boxes,
    decode_landmarks,
    encode_boxes,
    encode_landmarks,
    iou,
    match,
    priors,
)
from tests.fixtures.face_boxes import faces_of


def test_priors_lie_level_by_level_and_row_by_row() -> None:
    anchors = priors(64, 96)
    assert anchors_per_level(64, 96) == [2 * 8 * 12, 2 * 4 * 6, 2 * 2 * 3]
    assert len(anchors) == sum(anchors_per_level(64, 96))
    assert anchors[:3].tolist() == [[4, 4, 16, 16], [4, 4, 32, 32], [12, 4, 16, 16]]
    assert anchors[2 * 12].tolist() == [4, 12, 16, 16]
    assert anchors[192].tolist() == [8, 8, 64, 64]
    assert anchors[-1].tolist() == [80, 48, 512, 512]


def test_sides_that_no_stride_divides_are_covered() -> None:
    assert anchors_per_level(33, 50) == [2 * 5 * 7, 2 * 3 * 4, 2 * 2 * 2]
    assert len(priors(33, 50)) == sum(anchors_per_level(33, 50))


def test_encoding_by_hand() -> None:
    anchor = torch.tensor([20.0, 30.0, 16.0, 16.0])
    offsets = encode_boxes(torch.tensor([12.0, 20.0, 44.0, 52.0]), anchor)
    # center (28, 36): 8 / 1.6 and 6 / 1.6; sides 32: ln 2 / 0.2
    torch.testing.assert_close(offsets, torch.tensor([5.0, 3.75, *[float(np.log(2)) / 0.2] * 2]))


@given(
    box=st.tuples(st.floats(0, 200), st.floats(0, 200), st.floats(1, 300), st.floats(1, 300)),
    row=st.integers(0, 83),
)
def test_decoding_inverts_encoding(box: tuple[float, ...], row: int) -> None:
    x, y, width, height = box
    anchor = priors(64, 64)[row]
    corner = torch.tensor([x, y, x + width, y + height])
    torch.testing.assert_close(
        decode_boxes(encode_boxes(corner, anchor), anchor), corner, atol=1e-2, rtol=1e-4
    )
    points = torch.tensor([x, y, x + width, y, x, y + height, width, height, y, x])
    torch.testing.assert_close(
        decode_landmarks(encode_landmarks(points, anchor), anchor), points, atol=1e-2, rtol=1e-4
    )


def test_empty_boxes_and_wild_offsets_stay_finite() -> None:
    anchors = priors(32, 32)
    assert encode_boxes(torch.zeros(4), anchors).isfinite().all()
    assert decode_boxes(torch.full((len(anchors), 4), 1e4), anchors).isfinite().all()
    assert float(iou(torch.zeros(4), torch.tensor([0.0, 0.0, 1.0, 1.0]))) == 0


def slow_iou(a: np.ndarray, b: np.ndarray) -> np.float32:
    """Two boxes in float32, step by step."""
    width = np.float32(max(np.float32(0), min(a[2], b[2]) - max(a[0], b[0])))
    height = np.float32(max(np.float32(0), min(a[3], b[3]) - max(a[1], b[1])))
    both = width * height
    areas = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
    return np.float32(both / max(areas - both, np.float32(1e-9)))


def slow_match(
    boxes: np.ndarray, ignored: np.ndarray, anchors: np.ndarray, positive: float, negative: float
) -> list[tuple[int, int, float]]:
    """(label, face, IoU) of every anchor of one image, as the docstring of `match` says."""
    table = [[slow_iou(box, anchor) for box in boxes] for anchor in anchors]
    rows = []
    for overlaps in table:
        best = max(overlaps, default=np.float32(0))
        face = overlaps.index(best) if overlaps else 0
        label = POSITIVE if best >= positive else NEGATIVE if best < negative else IGNORED
        if label == POSITIVE and ignored[face]:
            label = IGNORED
        rows.append((label, face, best))
    claims: dict[int, tuple[float, int]] = {}
    for face in range(len(boxes)):
        column = [overlaps[face] for overlaps in table]
        anchor, overlap = int(np.argmax(column)), max(column)
        if not ignored[face] and overlap >= FORCED_IOU and overlap > claims.get(anchor, (0.0, 0))[0]:
            claims[anchor] = (overlap, face)
    for anchor, (overlap, face) in claims.items():
        rows[anchor] = (POSITIVE, face, overlap)
    return rows


# Whole and half pixels, so that faces often tie, touch, coincide with anchors and fall on thresholds.
coordinate = st.integers(0, 120).map(lambda value: value / 2)
face = st.tuples(coordinate, coordinate, coordinate, coordinate, st.booleans())


@settings(max_examples=60, deadline=None)
@given(
    images=st.lists(st.lists(face, max_size=5), min_size=1, max_size=3),
    threshold=st.sampled_from([0.3, 0.4, 0.5, 0.6]),
)
def test_matching_equals_a_plain_loop(images: list, threshold: float) -> None:
    anchors = priors(64, 64)
    given = faces_of(images)
    boxes, valid, ignored = given.boxes, given.valid, given.ignored
    found = match(boxes, valid, ignored, anchors, threshold, threshold / 2 + 0.05)
    for row, faces in enumerate(images):
        wanted = slow_match(
            boxes[row, : len(faces)].numpy(),
            ignored[row].numpy(),
            corners(anchors).numpy(),
            np.float32(threshold),
            np.float32(threshold / 2 + 0.05),
        )
        assert found.label[row].tolist() == [label for label, _, _ in wanted]
        np.testing.assert_allclose(found.iou[row].numpy(), [overlap for _, _, overlap in wanted], rtol=1e-5)
        assert [f for f, o in zip(found.face[row].tolist(), found.iou[row]) if o > 0] == [
            f for _, f, o in wanted if o > 0
        ]


def match_one(*faces: tuple[list[float], bool], positive: float = 0.5, negative: float = 0.3) -> Matching:
    boxes = torch.tensor([[box for box, _ in faces]])
    ignored = torch.tensor([[unclear for _, unclear in faces]])
    return match(boxes, torch.ones_like(ignored), ignored, priors(64, 64), positive, negative)


def test_a_face_that_fits_an_anchor_exactly() -> None:
    found = match_one(([4.0, 4.0, 20.0, 20.0], False))  # the 16-pixel anchor at (12, 12)
    anchor = priors(64, 64).tolist().index([12, 12, 16, 16])
    assert int(found.label[0, anchor]) == POSITIVE
    assert float(found.iou[0, anchor]) == 1


def test_an_ignored_face_makes_no_positive_and_no_negative() -> None:
    found = match_one(([4.0, 4.0, 20.0, 20.0], True))
    assert not (found.label == POSITIVE).any()
    assert torch.equal(found.label == IGNORED, found.iou >= 0.3)
    assert (found.label == IGNORED).any()


def test_a_face_keeps_its_claim_where_an_ignored_one_overlaps_more() -> None:
    exact = [4.0, 4.0, 20.0, 20.0]
    found = match_one((exact, True), ([4.0, 4.0, 20.0, 16.0], False))
    anchor = priors(64, 64).tolist().index([12, 12, 16, 16])
    assert (int(found.label[0, anchor]), int(found.face[0, anchor])) == (POSITIVE, 1)
    assert float(found.iou[0, anchor]) == pytest.approx(0.75)


def test_of_two_faces_that_claim_one_anchor_the_closer_one_gets_it() -> None:
    found = match_one(([5.0, 5.0, 20.0, 20.0], False), ([4.0, 4.0, 20.0, 20.0], False))
    anchor = priors(64, 64).tolist().index([12, 12, 16, 16])
    assert int(found.face[0, anchor]) == 1


def test_images_without_faces_are_all_negative() -> None:
    boxes, nobody = torch.zeros(2, 1, 4), torch.zeros(2, 1, dtype=torch.bool)
    found = match(boxes, nobody, nobody, priors(64, 64), 0.5, 0.3)
    assert (found.label == NEGATIVE).all()
    assert (found.iou == 0).all()


def test_a_large_batch_matched_in_parts_equals_the_dense_form() -> None:
    generator = torch.Generator().manual_seed(0)
    origin = torch.rand(9, 40, 2, generator=generator) * 200
    boxes = torch.cat([origin, origin + 4 + torch.rand(9, 40, 2, generator=generator) * 90], dim=-1)
    valid = torch.rand(9, 40, generator=generator) < 0.9
    ignored = torch.rand(9, 40, generator=generator) < 0.2
    anchors = priors(640, 640)
    found = match(boxes, valid, ignored, anchors, 0.5, 0.3)
    best, _, forced, _ = _match_dense(boxes, valid, ignored, corners(anchors))
    torch.testing.assert_close(found.iou, torch.where(forced >= FORCED_IOU, forced, best))


@pytest.mark.parametrize("pairs", [1, 84 * 3, 84 * 3 * 4, 84 * 3 * 40])
def test_faces_are_compared_block_by_block_on_a_device(pairs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of 1, 1, 4 and all 40 faces of three images; equal faces lie in different blocks, so ties cross them."""
    generator = torch.Generator().manual_seed(0)
    origin = torch.randint(0, 40, (3, 40, 2), generator=generator).float()
    boxes = torch.cat([origin, origin + torch.randint(8, 40, (3, 40, 2), generator=generator)], dim=-1)
    boxes[:, 30:] = boxes[:, :10]
    valid = torch.rand(3, 40, generator=generator) < 0.9
    ignored = torch.rand(3, 40, generator=generator) < 0.2
    anchors = corners(priors(64, 64))
    assert len(anchors) == 168
    whole = _match_dense(boxes, valid, ignored, anchors)
    monkeypatch.setattr("nni_hyperfd.detection.anchors.MOST_PAIRS_DENSE", 2 * pairs)
    for found, expected in zip(_match_dense(boxes, valid, ignored, anchors), whole):
        assert torch.equal(found, expected)


def test_a_crowd_takes_no_more_memory_than_a_few_faces(monkeypatch: pytest.MonkeyPatch) -> None:
    """The largest tensor that matching makes has as many entries as its blocks allow, on a device and for one image on a CPU."""
    sizes: list[int] = []
    plain = iou

    def watched(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        found = plain(a, b)
        sizes.append(found.numel())
        return found

    anchors = priors(64, 64)
    boxes = torch.tensor([4.0, 4.0, 40.0, 40.0]).expand(1, 5000, 4) + torch.arange(5000.0)[:, None] / 500
    valid, ignored = torch.ones(1, 5000, dtype=torch.bool), torch.zeros(1, 5000, dtype=torch.bool)
    expected = match(boxes, valid, ignored, anchors, 0.5, 0.3)
    monkeypatch.setattr("nni_hyperfd.detection.anchors.iou", watched)
    monkeypatch.setattr("nni_hyperfd.detection.anchors.MOST_PAIRS_DENSE", 20 * len(anchors))
    for found, known in zip(match(boxes, valid, ignored, anchors, 0.5, 0.3), expected):
        assert torch.equal(found, known)
    assert max(sizes) <= 20 * len(anchors)
    assert len(sizes) == 250
