"""The exported network says what the one in torch says, at any size and for any number of images."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest
import torch

from nni_hyperfd.detection.anchors import SIZES, STRIDES, decode_boxes, decode_landmarks, priors
from nni_hyperfd.detection.network.export import OPSET, OUTPUTS, TOLERANCE, export_onnx, grid, onnx_difference
from nni_hyperfd.detection.network.retinaface import RetinaFace
from nni_hyperfd.detection.network.weights import base_detector
from nni_hyperfd.errors import DataError, TrainingError
from nni_hyperfd.spaces.architecture import Architecture, mobilenet_v2

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")


@pytest.mark.parametrize(("height", "width"), [(64, 96), (160, 32)])
def test_the_anchors_are_those_of_training(height: int, width: int) -> None:
    maps = [torch.zeros(1, 80, height // stride, width // stride) for stride in STRIDES]
    anchors = torch.cat([grid(*level) for level in zip(maps, STRIDES, SIZES)])
    assert torch.equal(anchors, priors(height, width))


@pytest.mark.parametrize(
    "architecture",
    [mobilenet_v2(), Architecture.from_codes([0, 40, 9, 500, 77, 300, 5])],
    ids=["standard", "odd"],
)
def test_onnxruntime_agrees_with_torch(architecture: Architecture, tmp_path: Path) -> None:
    model = base_detector(architecture).train()
    path = tmp_path / "best.onnx"
    export_onnx(model, path)
    assert model.training  # the model itself is left as it was
    for trace in (b".py", str(tmp_path).encode(), str(Path.home()).encode() + b"/"):
        assert trace not in path.read_bytes()  # the file names nothing of this machine
    exported = onnx.load(path)
    onnx.checker.check_model(exported)
    assert exported.opset_import[0].version == OPSET
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    assert [output.name for output in session.get_outputs()] == list(OUTPUTS)
    model.eval()
    for batch, height, width in ((1, 96, 128), (1, 64, 64), (3, 160, 224)):  # the first alone was traced
        images = torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(height)) * 255
        with torch.no_grad():
            logits, boxes, landmarks = model(images)
        anchors = priors(height, width)
        wanted = (
            logits.softmax(-1)[..., 1],
            decode_boxes(boxes, anchors),
            decode_landmarks(landmarks, anchors),
        )
        for name, mine, theirs in zip(OUTPUTS, wanted, session.run(None, {"images": images.numpy()})):
            np.testing.assert_allclose(theirs, mine.numpy(), atol=1e-3, rtol=1e-3, err_msg=name)


def test_the_difference_is_seen(tmp_path: Path) -> None:
    model, path = base_detector(mobilenet_v2()), tmp_path / "best.onnx"
    export_onnx(model, path)
    same = onnx_difference(model, path)
    assert same.scores < TOLERANCE.scores
    assert same.pixels < TOLERANCE.pixels
    with torch.no_grad():
        model.heads[0].bias += 0.1  # type: ignore[union-attr,operator]
    other = onnx_difference(model, path)
    assert other.pixels > TOLERANCE.pixels
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(TrainingError, match="cannot be run"):
        onnx_difference(model, path)


def test_a_full_disk_keeps_the_last_file(
    tmp_path: Path, disk_full_after: Callable[[int], AbstractContextManager[None]]
) -> None:
    (tmp_path / "a.onnx").write_bytes(b"before")
    with disk_full_after(100_000), pytest.raises(DataError, match="free some disk space"):
        export_onnx(RetinaFace(mobilenet_v2()), tmp_path / "a.onnx")
    assert (tmp_path / "a.onnx").read_bytes() == b"before"
    assert [path.name for path in tmp_path.iterdir()] == ["a.onnx"]
