"""Detectors of others: read as what they are, measured as ours are, and refused in one sentence where they are neither."""

from __future__ import annotations

import io
import sys
import warnings
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nni_hyperfd.data.dataset import load_dataset
from nni_hyperfd.data.pixels import PixelStore, open_pixels
from nni_hyperfd.detection.evaluation.detections import Batch, detect, evaluation_batches
from nni_hyperfd.detection.evaluation.foreign import RETINAFACE_MEAN, ForeignDetector, reached
from nni_hyperfd.detection.network.export import export_onnx
from nni_hyperfd.detection.network.retinaface import RetinaFace
from nni_hyperfd.detection.network.weights import base_detector
from nni_hyperfd.errors import DataError
from nni_hyperfd.spaces.architecture import mobilenet_v2

SIZE = 96


@pytest.fixture(scope="module")
def store(drawn_faces: Path, tmp_path_factory: pytest.TempPathFactory) -> PixelStore:
    return open_pixels(load_dataset(drawn_faces), 2 * SIZE, tmp_path_factory.mktemp("cache"))


def exported(module: nn.Module, outputs: int, dynamic: bool = True) -> bytes:
    """``module`` as ONNX; with ``dynamic`` false, for images of 64 x 64 alone."""
    content, names = io.BytesIO(), [f"out{number}" for number in range(outputs)]
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module.eval(),
            (torch.zeros(1, 3, 64, 64),),
            content,
            input_names=["data"],
            output_names=names,
            opset_version=17,
            dynamic_axes={"data": {2: "h", 3: "w"}} if dynamic else None,
            dynamo=False,
        )
    return content.getvalue()


class PublicRetinaFace(nn.Module):
    """Our own network behind the inputs and outputs of the public exports: BGR less a mean; boxes, softmax, points."""

    def __init__(self, model: RetinaFace) -> None:
        super().__init__()
        self.model = model

    def forward(self, data: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        found = self.model((data + torch.tensor(RETINAFACE_MEAN).view(3, 1, 1)).flip(1))
        return found.boxes, torch.softmax(found.logits, -1), found.landmarks


class FourMaps(nn.Module):
    """The outputs of CenterFace; heat is how red a cell is, every box is 24 high and 8 wide, a quarter cell off its place."""

    def forward(self, data: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        heat = F.avg_pool2d(data[:, :1] / 255, 4)
        size = torch.log(torch.tensor([24 / 4, 8 / 4])).view(1, 2, 1, 1)
        offset = torch.tensor([0.25, -0.25]).view(1, 2, 1, 1)
        return heat, size + 0 * heat, offset + 0 * heat, torch.cat([0 * heat] * 10, 1)


def same(found, wanted) -> None:  # type: ignore[no-untyped-def]
    """Detections agree up to what two implementations of one arithmetic differ by, whatever their order."""
    assert len(found.scores) == len(wanted.scores) > 10
    for name in ("boxes", "scores"):
        one, other = (np.sort(getattr(x, name).astype(float), axis=0) for x in (found, wanted))
        np.testing.assert_allclose(one, other, rtol=1e-2, atol=2e-2)
    assert (np.bincount(found.image) == np.bincount(wanted.image)).all()


@pytest.mark.parametrize("kind", ["own", "retinaface"])
def test_our_own_network_is_found_again_behind_an_export(
    store: PixelStore, tmp_path: Path, kind: str
) -> None:
    model = base_detector(mobilenet_v2()).eval()
    wanted = detect(model, evaluation_batches(store, store.splits["test"], SIZE))
    if kind == "own":
        export_onnx(model, tmp_path / "model.onnx")
    else:
        (tmp_path / "model.onnx").write_bytes(exported(PublicRetinaFace(model), 3))
    detector = ForeignDetector.read(tmp_path / "model.onnx")
    same(detector.detect(evaluation_batches(store, store.splits["test"], SIZE)), wanted)


@pytest.mark.parametrize("dynamic", [True, False])
def test_the_four_maps_of_centerface_by_hand(dynamic: bool) -> None:
    """One red cell, 5 down and 3 across, in an image of 64 x 96: its box lies around (5.75, 3.25) cells of 4 pixels."""
    image = torch.zeros(1, 3, 64, 96, dtype=torch.uint8)
    image[0, 0, 20:24, 12:16] = 204
    detector = ForeignDetector("maps.onnx", exported(FourMaps(), 4, dynamic))
    batch = Batch(image, torch.tensor([0]), torch.tensor([[64, 96]]))
    found = detector.detect(iter([batch]))
    assert found.scores == pytest.approx([0.8])
    assert found.boxes[0] == pytest.approx([13 - 4, 23 - 12, 13 + 4, 23 + 12])


def test_a_rival_is_measured_at_the_size_that_is_its_best(store: PixelStore, tmp_path: Path) -> None:
    """One that finds nothing but in images of one size: that size is chosen, and the test split is seen at it alone."""
    seen: list[int] = []

    class Choosy:
        def detect(self, batches):  # type: ignore[no-untyped-def]
            batches = list(batches)
            seen.append(min(int(batch.size.min()) for batch in batches))
            model = base_detector(mobilenet_v2())
            found = detect(model, batches)
            return (
                found if seen[-1] == 144 else type(found)(found.image[:0], found.boxes[:0], found.scores[:0])
            )

    best = reached(Choosy(), store, SIZE)
    assert seen == [96, 144, 192, 144]
    assert best.size == 144
    assert best.val_ap > 0
    assert best.test_ap > 0


class Classifier(nn.Module):
    def forward(self, data: Tensor) -> Tensor:
        return data.mean((2, 3))


class OfOneSize(nn.Module):
    def forward(self, data: Tensor) -> Tensor:
        return data.reshape(1, 3 * 64 * 64)


def test_what_is_no_detector_is_refused_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DataError, match=r"cannot read the detector .*absent.onnx .*name an .onnx file"):
        ForeignDetector.read(tmp_path / "absent.onnx")
    for content in (b"", b"no model", onnx.ModelProto().SerializeToString()):
        with pytest.raises(DataError, match=r"a.onnx is no ONNX model .*name an .onnx file"):
            ForeignDetector("a.onnx", content)
    with pytest.raises(
        DataError, match=r"its outputs are \(1, 3\), and neither those of RetinaFace with 252 anchors nor"
    ):
        ForeignDetector("a.onnx", exported(Classifier(), 1))
    with pytest.raises(DataError, match=r"does not take one image of any size .*free height and width"):
        ForeignDetector("a.onnx", exported(OfOneSize(), 1, dynamic=False))
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(
        DataError, match=r"needs the package onnxruntime: pip install 'nni-hyperfd\[compare\]'"
    ):
        ForeignDetector("a.onnx", b"")
