"""A trained detector as an ONNX file, for programs that know nothing of torch or of this package."""

from __future__ import annotations

import io
import warnings
from copy import deepcopy
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from nni_hyperfd.detection.anchors import SIZES, STRIDES, decode_boxes, decode_landmarks
from nni_hyperfd.detection.network.retinaface import RetinaFace
from nni_hyperfd.errors import DataError, TrainingError
from nni_hyperfd.files import write_file

OPSET = 17
INPUT = "images"
OUTPUTS = ("scores", "boxes", "landmarks")


class Decoded(nn.Module):
    """A detector whose outputs need no anchors: scores ``[1, A]`` in 0..1, boxes ``[1, A, 4]`` (corners) and landmarks
    ``[1, A, 10]`` (x, y alternating) in pixels. Overlapping boxes are left to a non-maximum suppression outside."""

    def __init__(self, model: RetinaFace) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        maps = self.model.context(images)
        logits, boxes, landmarks = self.model.predict(maps)
        anchors = torch.cat([grid(x, stride, sizes) for x, stride, sizes in zip(maps, STRIDES, SIZES)])
        scores = torch.sigmoid(logits[..., 1] - logits[..., 0])
        return scores, decode_boxes(boxes, anchors), decode_landmarks(landmarks, anchors)


def grid(level: Tensor, stride: int, sizes: tuple[int, ...]) -> Tensor:
    """Anchors of one map, as :func:`anchors.priors` has them, out of operations that follow the size of the image."""
    ones = torch.ones_like(level[0, 0])
    y, x = ((ones.cumsum(axis) - 0.5) * stride for axis in (0, 1))
    anchors = [torch.stack([x, y, ones * side, ones * side], dim=-1) for side in sizes]
    return torch.stack(anchors, dim=2).reshape(-1, 4)


def export_onnx(model: RetinaFace, path: Path) -> None:
    """Writes ``model`` to ``path``; needs the package ``onnx``. A reader never sees half a file.

    The input is one RGB image, upright as EXIF asks viewers to turn it, ``images`` float32 ``[1, 3, H, W]`` in 0..255, H and W multiples of 32, at any size;
    the outputs are those of :class:`Decoded`.

    Raises:
        DataError: where the disk refuses.
        TrainingError: where this torch cannot export.
    """
    whole = Decoded(deepcopy(model).cpu().float().eval())
    content = io.BytesIO()
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter(
                "ignore"
            )  # torch says that this exporter will go; the new one needs another package
            torch.onnx.export(
                whole,
                (torch.zeros(1, 3, 96, 128),),
                cast(Any, content),  # this exporter writes into a buffer, whatever its annotation says
                input_names=[INPUT],
                output_names=list(OUTPUTS),
                opset_version=OPSET,
                dynamic_axes={INPUT: {2: "height", 3: "width"}, **{name: {1: "anchors"} for name in OUTPUTS}},
                dynamo=False,
            )
    except Exception as error:
        # Exporters answer with whatever goes wrong inside them.
        raise TrainingError(
            f"torch {torch.__version__} cannot export the detector as ONNX: {error!r}"
        ) from error
    try:
        write_file(path, content.getvalue())
    except OSError as error:
        raise DataError(
            f"cannot write {path} ({error.strerror or error}): free some disk space or name another folder"
        ) from error
