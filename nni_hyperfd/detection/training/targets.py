"""From crops of faces to what every anchor should predict: matching and encoding, before the network runs."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from nni_hyperfd.data.pixels import Faces
from nni_hyperfd.detection.anchors import encode_boxes, encode_landmarks, match, priors
from nni_hyperfd.spaces.hyperparameters import HyperParameters


@dataclass(frozen=True)
class Targets:
    """label ``[T, A]`` int8 (see :mod:`anchors`); boxes ``[T, A, 4]`` and landmarks ``[T, A, 10]`` encoded,
    NaN landmarks where the face has none; values under non-positive anchors mean nothing."""

    label: Tensor
    boxes: Tensor
    landmarks: Tensor

    def tensors(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.label, self.boxes, self.landmarks


def make_targets(faces: Faces, size: int, hyperparameters: HyperParameters) -> Targets:
    """Targets of square crops of side ``size`` pixels."""
    anchors = priors(size, size, faces.boxes.device)
    found = match(
        faces.boxes,
        faces.valid,
        faces.ignored,
        anchors,
        hyperparameters.iou_threshold,
        hyperparameters.negative_threshold,
    )
    boxes = faces.boxes.gather(1, found.face.unsqueeze(-1).expand(-1, -1, 4))
    points = faces.landmarks.gather(1, found.face.unsqueeze(-1).expand(-1, -1, 10))
    return Targets(found.label, encode_boxes(boxes, anchors), encode_landmarks(points, anchors))
