"""A trained detector as an ONNX file, for programs that know nothing of torch or of this package."""

from __future__ import annotations

import io
import warnings
from copy import deepcopy
from pathlib import Path
from typing import Any, NamedTuple, cast

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
    """A detector whose outputs need no anchors.

    They are scores ``[B, A]`` in 0..1, boxes ``[B, A, 4]`` (corners) and landmarks ``[B, A, 10]`` (x, y alternating) in
    pixels. Overlapping boxes are left to a non-maximum suppression outside.
    """

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
    """Anchors of one map ``[B, C, h, w]``, as :func:`anchors.priors` has them, out of operations that follow the size of the image."""
    ones = torch.ones_like(level[0, 0])
    y, x = ((ones.cumsum(axis) - 0.5) * stride for axis in (0, 1))
    anchors = [torch.stack([x, y, ones * side, ones * side], dim=-1) for side in sizes]
    return torch.stack(anchors, dim=2).reshape(-1, 4)


def export_onnx(model: RetinaFace, path: Path) -> None:
    """Writes ``model`` to ``path``; needs the package ``onnx``. A reader never sees half a file.

    The input is any number of RGB images of one size, upright as EXIF asks viewers to turn them: ``images`` float32
    ``[B, 3, H, W]`` in 0..255, B, H and W free, H and W multiples of 32;
    the outputs are those of :class:`Decoded`.

    Raises:
        DataError: Where the disk refuses.
        TrainingError: Where this torch cannot export.
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
                dynamic_axes={
                    INPUT: {0: "batch", 2: "height", 3: "width"},
                    **{name: {0: "batch", 1: "anchors"} for name in OUTPUTS},
                },
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


class Difference(NamedTuple):
    """Largest differences between an exported network and the one in torch: of scores (0..1), and of box edges in pixels."""

    scores: float
    pixels: float


TOLERANCE = Difference(1e-3, 0.1)
"""What rounding may make of it; more is a fault of the export."""
CHECKED_SHAPES = ((1, 96, 128), (3, 160, 96))
"""(images, height, width) of the noise on which an exported network is compared."""


def onnx_difference(model: RetinaFace, path: Path) -> Difference:
    """Runs the file ``path`` beside ``model`` on noise of several shapes.

    Raises:
        TrainingError: The package ``onnxruntime`` is absent, or the file cannot be run.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise TrainingError(
            "an exported detector is compared by the package onnxruntime: pip install 'nni-hyperfd[compare]'"
        ) from error
    whole = Decoded(deepcopy(model).cpu().float().eval())
    noise = torch.Generator().manual_seed(0)
    scores, pixels = 0.0, 0.0
    try:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        session = onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
        for batch, height, width in CHECKED_SHAPES:
            images = torch.rand(batch, 3, height, width, generator=noise) * 255
            with torch.no_grad():
                mine = whole(images)
            theirs = [torch.from_numpy(each) for each in session.run(None, {INPUT: images.numpy()})]
            scores = max(scores, float((mine[0] - theirs[0]).abs().max()))
            pixels = max(pixels, float((mine[1] - theirs[1]).abs().max()))
    except Exception as error:
        # ONNX Runtime has exceptions of its own for each of its failures.
        raise TrainingError(f"the exported detector {path} cannot be run: {error}") from error
    return Difference(scores, pixels)
