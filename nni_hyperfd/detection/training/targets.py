"""From crops of faces to what every anchor should predict: by IoU before the network runs, or by what it predicted; and its encoding."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from nni_hyperfd.data.pixels import Faces
from nni_hyperfd.detection.anchors import anchors_per_level, encode_boxes, encode_landmarks, match, priors
from nni_hyperfd.detection.network.retinaface import Predictions
from nni_hyperfd.detection.training.assignment import assign, combined_losses, find_candidates
from nni_hyperfd.spaces.hyperparameters import HyperParameters


@dataclass(frozen=True)
class Targets:
    """What the network is to answer at each anchor; values under non-positive anchors mean nothing.

    Args:
        label: ``[T, A]`` int8 (see :mod:`anchors`).
        boxes: ``[T, A, 4]`` encoded.
        landmarks: ``[T, A, 10]`` encoded, NaN where the face has none.
        faces_without: Faces that no anchor could be given to, of dynamic assignment.
    """

    label: Tensor
    boxes: Tensor
    landmarks: Tensor
    faces_without: int = 0

    def tensors(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.label, self.boxes, self.landmarks


def make_targets(
    faces: Faces, size: int, hyperparameters: HyperParameters, predictions: Predictions | None = None
) -> Targets:
    """Targets of square crops of side ``size`` pixels, by IoU; or, where ``hyperparameters`` have counts, by ``predictions`` on them."""
    anchors = priors(size, size, faces.boxes.device)
    if hyperparameters.counts is None or predictions is None:
        found = match(
            faces.boxes,
            faces.valid,
            faces.ignored,
            anchors,
            hyperparameters.iou_threshold,
            hyperparameters.negative_threshold,
        )
        return _encoded(faces, anchors, found.label, found.face)
    candidates = find_candidates(
        faces,
        anchors,
        anchors_per_level(size, size),
        hyperparameters.counts,
        hyperparameters.negative_threshold,
    )
    given = assign(candidates, combined_losses(predictions, candidates, faces.boxes, anchors))
    return _encoded(faces, anchors, given.label, given.face, candidates.without())


def _encoded(faces: Faces, anchors: Tensor, label: Tensor, face: Tensor, faces_without: int = 0) -> Targets:
    boxes = faces.boxes.gather(1, face.unsqueeze(-1).expand(-1, -1, 4))
    points = faces.landmarks.gather(1, face.unsqueeze(-1).expand(-1, -1, 10))
    return Targets(label, encode_boxes(boxes, anchors), encode_landmarks(points, anchors), faces_without)
