"""The losses of RetinaFace (Deng et al., 2020) with hard-negative mining (SSD, section 2.2)."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from nni_hyperfd.detection.anchors import NEGATIVE, POSITIVE
from nni_hyperfd.detection.network.retinaface import Predictions
from nni_hyperfd.detection.training.targets import Targets


class Losses(NamedTuple):
    """Parts of the loss, ``[]`` each; :meth:`total`, ``[]`` too, weighs them."""

    classification: Tensor
    boxes: Tensor
    landmarks: Tensor

    def total(self, location_weight: Tensor | float) -> Tensor:
        return self.classification + location_weight * self.boxes + self.landmarks


def mined_classification(logits: Tensor, label: Tensor, negative_ratio: Tensor | float) -> Tensor:
    """Cross-entropy over all positives and each image's hardest negatives, as a sum ``[]``.

    An image takes ``negative_ratio`` negatives for each positive, at least for one positive (so that images without
    faces teach, too) and never more than it has. The loss of a negative rises with its logit difference, so
    ranking by the one is ranking by the other.

    Args:
        logits: ``[B, A, 2]``.
        label: ``[B, A]`` (see :mod:`~nni_hyperfd.detection.anchors`).
        negative_ratio: ``[]`` negatives for each positive.
    """
    difference = logits[..., 1] - logits[..., 0]
    positive = label == POSITIVE
    wanted = positive.sum(1).clamp(min=1) * negative_ratio
    hardest = torch.where(label == NEGATIVE, difference, -torch.inf).sort(dim=1, descending=True).values
    rank = torch.arange(label.shape[1], device=label.device)
    mined = (rank < wanted.unsqueeze(1)) & (hardest > -torch.inf)
    hardest = torch.where(mined, hardest, 0.0)
    return (F.softplus(-difference) * positive).sum() + (F.softplus(hardest) * mined).sum()


def detection_losses(predictions: Predictions, targets: Targets, negative_ratio: Tensor | float) -> Losses:
    """All three parts; classification and boxes per positive anchor, landmarks per anchor that has them.

    ``negative_ratio`` is as for :func:`mined_classification`.
    """
    positive = targets.label == POSITIVE
    count = positive.sum().clamp(min=1)
    error = F.smooth_l1_loss(predictions.boxes, targets.boxes, reduction="none").sum(-1)
    marked = positive & ~targets.landmarks.isnan().any(-1)
    points = torch.where(marked.unsqueeze(-1), targets.landmarks, 0.0)
    point_error = F.smooth_l1_loss(predictions.landmarks, points, reduction="none").sum(-1)
    return Losses(
        mined_classification(predictions.logits, targets.label, negative_ratio) / count,
        torch.where(positive, error, 0.0).sum() / count,
        torch.where(marked, point_error, 0.0).sum() / marked.sum().clamp(min=1),
    )
