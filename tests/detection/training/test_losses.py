"""Losses against plain loops, and what absent landmarks, absent faces and few anchors must not do."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from nni_hyperfd.detection.anchors import IGNORED, NEGATIVE, POSITIVE
from nni_hyperfd.detection.network.retinaface import Predictions
from nni_hyperfd.detection.training.losses import Losses, detection_losses, mined_classification
from nni_hyperfd.detection.training.targets import Targets


def slow_classification(logits: Tensor, label: Tensor, ratio: float) -> float:
    """Sum of the cross-entropies of the positives and of each image's negatives with the largest ones."""
    total = 0.0
    for scores, labels in zip(logits.double(), label.tolist()):
        entropy = [
            float(-F.log_softmax(row, dim=0)[int(one == POSITIVE)]) for row, one in zip(scores, labels)
        ]
        positive = [loss for loss, one in zip(entropy, labels) if one == POSITIVE]
        negative = sorted((loss for loss, one in zip(entropy, labels) if one == NEGATIVE), reverse=True)
        wanted = math.ceil(max(1, len(positive)) * ratio)
        total += sum(positive) + sum(negative[:wanted])
    return total


@settings(max_examples=60, deadline=None)
@given(
    labels=st.integers(1, 12).flatmap(
        lambda anchors: st.lists(
            st.lists(st.sampled_from([POSITIVE, NEGATIVE, IGNORED]), min_size=anchors, max_size=anchors),
            min_size=1,
            max_size=4,
        )
    ),
    ratio=st.sampled_from([0.5, 1.0, 2.0, 2.5, 7.0, 1000.0]),
    seed=st.integers(0, 2**31),
)
def test_mining_equals_a_plain_loop(labels: list[list[int]], ratio: float, seed: int) -> None:
    label = torch.tensor(labels, dtype=torch.int8)
    logits = torch.randn(*label.shape, 2, generator=torch.Generator().manual_seed(seed)) * 4
    mined = mined_classification(logits, label, ratio)
    assert float(mined) == pytest.approx(slow_classification(logits, label, ratio), rel=1e-4, abs=1e-5)


def chosen(label: Tensor, logits: Tensor, ratio: float) -> Tensor:
    """Which anchors a loss teaches."""
    logits = logits.clone().requires_grad_()
    mined_classification(logits, label, ratio).backward()
    return (logits.grad != 0).any(-1)


def test_an_image_without_faces_still_teaches_its_hardest_negatives() -> None:
    label = torch.zeros(1, 10, dtype=torch.int8)
    logits = torch.stack([torch.zeros(10), torch.arange(10.0)], dim=-1).unsqueeze(0)
    assert chosen(label, logits, 3)[0].nonzero().squeeze(1).tolist() == [7, 8, 9]


def test_no_more_negatives_are_taken_than_there_are_and_no_ignored_anchor_ever() -> None:
    label = torch.tensor([[POSITIVE, POSITIVE, NEGATIVE, IGNORED, IGNORED]], dtype=torch.int8)
    logits = torch.tensor([[[0.0, 1.0], [0.0, 2.0], [0.0, -3.0], [0.0, 50.0], [0.0, 60.0]]])
    assert chosen(label, logits, 7)[0].tolist() == [True, True, True, False, False]


def make(anchors: int, positive: list[int], generator: torch.Generator) -> tuple[Predictions, Targets]:
    """Random predictions and targets of one image; the anchors ``positive`` are positive, without landmarks."""
    predictions = Predictions(
        *(torch.randn(1, anchors, width, generator=generator, requires_grad=True) for width in (2, 4, 10))
    )
    label = torch.zeros(1, anchors, dtype=torch.int8)
    label[0, positive] = POSITIVE
    boxes = torch.randn(1, anchors, 4, generator=generator) * 3
    return predictions, Targets(label, boxes, torch.full((1, anchors, 10), torch.nan))


def smooth_l1(a: Tensor, b: Tensor) -> float:
    """0.5 d² below one, |d| − 0.5 above (Fast R-CNN, equation 3), summed over the coordinates."""
    return sum(
        0.5 * d * d if d < 1 else d - 0.5
        for d in (abs(float(x) - float(y)) for x, y in zip(a.tolist(), b.tolist()))
    )


def test_parts_by_hand() -> None:
    predictions, targets = make(6, [1, 4], torch.Generator().manual_seed(0))
    predictions = Predictions(*(part.detach() for part in predictions))
    targets.landmarks[0, 4] = torch.linspace(-2, 2, 10)
    losses = detection_losses(predictions, targets, 1.0)
    boxes = sum(smooth_l1(predictions.boxes[0, a], targets.boxes[0, a]) for a in (1, 4)) / 2
    assert float(losses.boxes) == pytest.approx(boxes, rel=1e-5)
    # One of the two faces has landmarks: their normalizer is one anchor, not two.
    assert float(losses.landmarks) == pytest.approx(
        smooth_l1(predictions.landmarks[0, 4], targets.landmarks[0, 4]), rel=1e-5
    )
    assert float(losses.classification) == pytest.approx(
        slow_classification(predictions.logits, targets.label, 1.0) / 2, rel=1e-5
    )
    assert float(losses.total(4.0)) == pytest.approx(
        float(losses.classification) + 4 * float(losses.boxes) + float(losses.landmarks), rel=1e-6
    )


@pytest.mark.parametrize("absent", ["all", "one point"])
def test_faces_without_landmarks_teach_none_and_spoil_nothing(absent: str) -> None:
    predictions, targets = make(5, [0, 2], torch.Generator().manual_seed(1))
    if absent == "one point":
        targets.landmarks.fill_(1.0)
        targets.landmarks[..., 6:8] = torch.nan
    losses = detection_losses(predictions, targets, 2.0)
    assert losses.landmarks.item() == 0
    losses.total(2.0).backward()
    for part in predictions:
        assert part.grad.isfinite().all()
    assert (predictions.landmarks.grad == 0).all()
    assert (predictions.boxes.grad[0, [0, 2]] != 0).any()
    assert (predictions.boxes.grad[0, [1, 3, 4]] == 0).all()


def test_a_batch_without_any_face_gives_finite_losses() -> None:
    predictions, targets = make(5, [], torch.Generator().manual_seed(2))
    losses = detection_losses(predictions, targets, 7.0)
    assert all(bool(part.isfinite()) for part in losses)
    assert float(losses.boxes) == float(losses.landmarks) == 0
    assert float(losses.classification) > 0


def test_settings_may_be_tensors_so_that_a_captured_step_can_change_them() -> None:
    predictions, targets = make(8, [3], torch.Generator().manual_seed(3))
    plain = detection_losses(predictions, targets, 2.0).total(4.0)
    held = detection_losses(predictions, targets, torch.tensor(2.0)).total(torch.tensor(4.0))
    torch.testing.assert_close(plain, held)


def test_enormous_logits_do_not_overflow() -> None:
    predictions = Predictions(
        torch.tensor([[[0.0, 1e4], [0.0, -1e4], [0.0, 1e4]]]), torch.zeros(1, 3, 4), torch.zeros(1, 3, 10)
    )
    label = torch.tensor([[NEGATIVE, POSITIVE, POSITIVE]], dtype=torch.int8)
    losses = detection_losses(predictions, Targets(label, torch.zeros(1, 3, 4), torch.zeros(1, 3, 10)), 1.0)
    assert losses == Losses(*losses)
    assert float(losses.classification) == pytest.approx(1e4)
