"""Dynamic assignment against a twin in plain loops over images, faces and anchors."""

from __future__ import annotations

import math
from collections import Counter

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from nni_hyperfd.detection.anchors import (
    IGNORED,
    NEGATIVE,
    POSITIVE,
    anchors_per_level,
    corners,
    decode_boxes,
    iou,
    priors,
)
from nni_hyperfd.detection.network.retinaface import Predictions
from nni_hyperfd.detection.training import assignment
from nni_hyperfd.detection.training.assignment import Candidates, assign, combined_losses, find_candidates
from tests.fixtures.face_boxes import Box, faces_of

SIZE, NEGATIVE_IOU = 64, 0.3
LEAST_OVERLAP = float(torch.tensor(0.1))
"""A tenth as float32, which is a little more: an IoU of exactly that is none that is larger."""
ANCHORS, LEVELS = priors(SIZE, SIZE), anchors_per_level(SIZE, SIZE)
SQUARES = corners(ANCHORS)


def slow_candidates(image: list[Box], boxes: Tensor, counts: list[int]) -> dict[int, tuple[int, list[int]]]:
    """Face -> (how many positives it wants, its candidates), one by one."""
    found = {}
    for face, (*_, unclear) in enumerate(image):
        if unclear:
            continue
        overlaps = [float(iou(boxes[face], square)) for square in SQUARES]
        best, level = overlaps.index(max(overlaps)), 0
        while best >= sum(LEVELS[: level + 1]):
            level += 1
        x0, y0, x1, y1 = boxes[face].tolist()
        ratio = (y1 - y0) / (x1 - x0)
        aspect = 0 if ratio <= 0.5 else 1 if ratio <= 2 else 2
        found[face] = (
            counts[3 * level + aspect],
            [a for a, overlap in enumerate(overlaps) if overlap > LEAST_OVERLAP],
        )
    return found


def slow_labels(image: list[Box], boxes: Tensor) -> list[int]:
    """Labels where nothing is positive: ignored regions, and negatives."""
    labels = []
    for square in SQUARES:
        overlaps = [float(iou(box, square)) for box in boxes[: len(image)]]
        region = max((o for o, face in zip(overlaps, image) if face[4]), default=0.0)
        rival = max((o for o, face in zip(overlaps, image) if not face[4]), default=0.0)
        labels.append(IGNORED if region >= NEGATIVE_IOU and region > rival else NEGATIVE)
    return labels


# Half pixels, and losses of few values, so that faces often coincide and losses often tie.
half = st.integers(0, 120).map(lambda value: value / 2)
face_boxes = st.tuples(half, half, half, half, st.sampled_from([False, False, False, True]))


@settings(max_examples=25, deadline=None)
@example(images=[[(41.5, 52.0, 13.0, 53.0, False)]], counts=[200] * 9, seed=0, ties=False)
@given(
    images=st.lists(st.lists(face_boxes, max_size=4), min_size=1, max_size=3),
    counts=st.lists(st.integers(1, 20), min_size=9, max_size=9),
    seed=st.integers(0, 99),
    ties=st.booleans(),
)
def test_assignment_equals_plain_loops(
    images: list[list[Box]], counts: list[int], seed: int, ties: bool
) -> None:
    faces = faces_of(images)
    found = find_candidates(faces, ANCHORS, LEVELS, counts, NEGATIVE_IOU)
    generator = torch.Generator().manual_seed(seed)
    table = torch.rand(*faces.valid.shape, len(ANCHORS), generator=generator)
    table = (table * 3).round() if ties else table
    result = assign(found, table[found.image[found.face], found.row[found.face], found.anchor])
    without = 0
    for number, image in enumerate(images):
        candidates = slow_candidates(image, faces.boxes[number], counts)
        without += sum(not anchors for _, anchors in candidates.values())
        labels, owners = slow_labels(image, faces.boxes[number]), {}
        for face, (wanted, anchors) in candidates.items():
            for anchor in sorted(anchors, key=lambda a: (float(table[number, face, a]), a))[:wanted]:
                rival = owners.get(anchor)
                if rival is None or table[number, face, anchor] < table[number, rival, anchor]:
                    owners[anchor] = face
                labels[anchor] = POSITIVE
        assert result.label[number].tolist() == labels
        assert {a: int(result.face[number, a]) for a in owners} == owners
        # Where no anchor is wanted twice, a face gets all that it wants and has candidates for.
        got = Counter(owners.values())
        for face, (wanted, anchors) in candidates.items():
            if len(candidates) == 1:
                assert got[face] == min(wanted, len(anchors))
    assert found.without() == without


def test_an_anchor_wanted_twice_goes_to_the_lower_loss() -> None:
    pairs = torch.tensor([0, 0, 1, 1]), torch.tensor([5, 6, 5, 7])
    nothing = torch.zeros(1, 9, dtype=torch.bool)
    two = Candidates(
        torch.zeros(2, dtype=torch.long), torch.tensor([0, 3]), torch.tensor([1, 2]), *pairs, nothing
    )
    result = assign(two, torch.tensor([0.4, 0.5, 0.3, 0.9]))
    # The first face wanted anchor 5 alone; it does not fall back on its second choice.
    assert result.label.tolist() == [[0, 0, 0, 0, 0, POSITIVE, 0, POSITIVE, 0]]
    assert result.face[0, [5, 7]].tolist() == [3, 3]


def test_a_face_too_small_for_any_anchor_is_counted() -> None:
    faces = faces_of([[(10.0, 10.0, 2.0, 2.0, False), (0.0, 0.0, 31.0, 31.0, False)]])
    assert find_candidates(faces, ANCHORS, LEVELS, [1] * 9, NEGATIVE_IOU).without() == 1


def test_many_faces_are_compared_block_by_block(monkeypatch: pytest.MonkeyPatch) -> None:
    faces = faces_of([[(3.0 * i, 2.0 * i, 10.0 + i, 12.0, False) for i in range(7)]] * 2)
    whole = find_candidates(faces, ANCHORS, LEVELS, list(range(1, 10)), NEGATIVE_IOU)
    monkeypatch.setattr(assignment, "MOST_PAIRS", 3 * len(ANCHORS))
    for one, other in zip(find_candidates(faces, ANCHORS, LEVELS, list(range(1, 10)), NEGATIVE_IOU), whole):
        assert torch.equal(one, other)


def test_the_combined_loss_by_hand() -> None:
    faces = faces_of([[(4.0, 4.0, 15.0, 15.0, False)]])
    found = find_candidates(faces, ANCHORS, LEVELS, [1] * 9, NEGATIVE_IOU)
    generator = torch.Generator().manual_seed(0)
    shapes = [(1, len(ANCHORS), width) for width in (2, 4, 10)]
    predictions = Predictions(*(torch.randn(s, generator=generator).requires_grad_() for s in shapes))
    losses = combined_losses(predictions, found, faces.boxes, ANCHORS)
    assert not losses.requires_grad
    for loss, anchor in zip(losses.tolist(), found.anchor.tolist()):
        background, face = predictions.logits[0, anchor].tolist()
        box = decode_boxes(predictions.boxes[0, anchor], ANCHORS[anchor])
        overlap = max(1e-6, float(iou(box, faces.boxes[0, 0])))
        probability = math.exp(face) / (math.exp(face) + math.exp(background))
        assert loss == pytest.approx(-math.log(probability) - math.log(overlap), abs=1e-4)
