"""What a student loses against its teacher, by hand."""

from __future__ import annotations

import math

import pytest
import torch

from nni_hyperfd.detection.anchors import IGNORED, NEGATIVE, POSITIVE
from nni_hyperfd.detection.network.retinaface import Predictions
from nni_hyperfd.detection.training.distillation import believe_teacher, distillation_losses, feature_loss


def outputs(log_odds: list[float], boxes: list[float], points: list[float]) -> Predictions:
    """One image; every anchor's box and landmarks have one value throughout."""
    face = torch.tensor(log_odds)
    return Predictions(
        torch.stack([torch.zeros_like(face), face], 1).unsqueeze(0),
        torch.tensor(boxes).view(1, -1, 1).expand(1, -1, 4),
        torch.tensor(points).view(1, -1, 1).expand(1, -1, 10),
    )


def test_every_part_by_hand() -> None:
    # Anchors: both see a face (annotated), the teacher alone sees one, both see none.
    student = outputs([2.0, 0.0, -3.0], [0.0, 0.5, 9.0], [0.2, 0.0, 9.0])
    teacher = outputs([2.0, 1.0, -3.0], [3.0, 0.0, 0.0], [0.0, 2.0, 0.0])
    label = torch.tensor([[POSITIVE, NEGATIVE, NEGATIVE]])
    losses = distillation_losses(student, teacher, label)
    wanted = 1 / (1 + math.exp(-1))
    cross_entropy = math.log(2)  # of a student who says one half, whatever the teacher says
    assert float(losses.classification) == pytest.approx((wanted - 0.5) * cross_entropy / 2, rel=1e-5)
    # Boxes: only the second anchor, since the first has an annotation: 4 values of smooth L1, 0.5 * 0.5^2.
    assert float(losses.boxes) == pytest.approx(4 * 0.125 / 2)
    # Landmarks: both; 10 * 0.5 * 0.2^2 and 10 * (2 - 0.5).
    assert float(losses.landmarks) == pytest.approx((10 * 0.02 + 10 * 1.5) / 2)


def test_a_teacher_who_sees_nothing_teaches_no_box() -> None:
    losses = distillation_losses(
        outputs([-1.0], [1.0], [1.0]), outputs([-4.0], [0.0], [0.0]), torch.tensor([[NEGATIVE]])
    )
    assert losses.boxes == 0
    assert losses.landmarks == 0
    assert losses.classification > 0


def test_the_gradient_goes_to_the_student_and_towards_the_teacher() -> None:
    logits = torch.zeros(1, 1, 2, requires_grad=True)
    student = outputs([0.0], [0.0], [0.0])._replace(logits=logits)
    distillation_losses(
        student, outputs([4.0], [0.0], [0.0]), torch.tensor([[NEGATIVE]])
    ).classification.backward()
    assert logits.grad is not None
    assert logits.grad[0, 0, 1] < 0 < logits.grad[0, 0, 0]


def test_only_a_certain_teacher_overrules_background() -> None:
    teacher = outputs([3.0, 0.5, 3.0, -3.0], [0.0] * 4, [0.0] * 4)
    label = torch.tensor([[NEGATIVE, NEGATIVE, POSITIVE, POSITIVE]], dtype=torch.int8)
    found = believe_teacher(label, teacher)
    assert found.tolist() == [[IGNORED, NEGATIVE, POSITIVE, POSITIVE]]
    assert found.dtype == torch.int8


def test_features_are_compared_where_the_teacher_has_channels() -> None:
    taught = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    own = torch.cat([taught + 2, torch.full((2, 5, 4, 4), 100.0)], 1)
    assert float(feature_loss([own, own], [taught, taught])) == pytest.approx(
        4 / float(taught.var()), rel=1e-5
    )
