"""What a student loses against a teacher with the same anchors (Hinton et al., 2015; one anchor teaches one anchor)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from nni_hyperfd.detection.anchors import IGNORED, NEGATIVE, POSITIVE
from nni_hyperfd.detection.network.retinaface import Predictions

SURE = 0.5
"""Face probability from which on an anchor of the teacher teaches its box and landmarks."""
CERTAIN = 0.7
"""Face probability from which on the teacher is believed against an annotation without that face."""


class DistillationLosses(NamedTuple):
    """Parts of the loss, ``[]`` each."""

    classification: Tensor
    boxes: Tensor
    landmarks: Tensor


def face_logit(predictions: Predictions) -> Tensor:
    """Log-odds of a face, ``[B, A]``."""
    return predictions.logits[..., 1] - predictions.logits[..., 0]


def distillation_losses(student: Predictions, teacher: Predictions, label: Tensor) -> DistillationLosses:
    """Classification of all anchors, boxes and landmarks where the teacher sees a face; each per such anchor.

    The cross-entropy towards the teacher's probability is weighed by how far the two are apart (quality focal loss,
    Li et al., 2020, equation 3, with exponent 1), so that the many anchors on which both see nothing weigh nothing.
    Boxes of annotated faces are the annotation's.

    Args:
        student: For B images.
        teacher: For the same images; it learns nothing.
        label: ``[B, A]``, what the annotation says of every anchor.
    """
    logit, target = face_logit(student), torch.sigmoid(face_logit(teacher))
    apart = (torch.sigmoid(logit.detach()) - target).abs()
    sure = target > SURE
    count = sure.sum().clamp(min=1)
    classification = (apart * F.binary_cross_entropy_with_logits(logit, target, reduction="none")).sum()
    boxes = F.smooth_l1_loss(student.boxes, teacher.boxes, reduction="none").sum(-1)
    points = F.smooth_l1_loss(student.landmarks, teacher.landmarks, reduction="none").sum(-1)
    return DistillationLosses(
        classification / count,
        (boxes * (sure & (label != POSITIVE))).sum() / count,
        (points * sure).sum() / count,
    )


def believe_teacher(label: Tensor, teacher: Predictions) -> Tensor:
    """``label`` ``[B, A]`` with background on which the teacher is certain of a face IGNORED: annotators overlook some."""
    certain = torch.sigmoid(face_logit(teacher)) > CERTAIN
    return torch.where(certain & (label == NEGATIVE), IGNORED, label).to(label.dtype)


def feature_loss(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
    """Mean squared difference ``[]`` of maps ``[B, C, H, W]``, relative to the teacher's variance, as a mean over levels.

    The teacher's C channels are compared with the student's first C.
    """
    parts = [
        F.mse_loss(own[:, : taught.shape[1]].float(), taught) / taught.var().clamp(min=1e-6)
        for own, taught in zip(student, teacher)
    ]
    return torch.stack(parts).mean()
