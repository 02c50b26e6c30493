"""Backbones are used where their weights lie, and never fetched."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.models import (
    MobileNet_V2_Weights,
    MobileNet_V3_Large_Weights,
    mobilenet_v2,
    mobilenet_v3_large,
)

from nni_hyperfd.errors import DataError
from nni_hyperfd.evidence import backbones
from nni_hyperfd.evidence.backbones import Package, backbone_features, checkpoint, checkpoints


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    rng = np.random.default_rng(0)
    paths = []
    for index in range(3):
        paths.append(tmp_path / f"{index}.png")
        Image.fromarray(rng.integers(0, 255, (40 + index, 60, 3), dtype=np.uint8)).save(paths[-1])
    return paths


def test_without_weights_there_are_no_features_and_no_download(
    images: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("the network was used"))
    monkeypatch.setattr(backbones, "PACKAGES", {"mobilenet_v2": Package("none", "no_such_package/in", "MIT")})
    assert backbone_features(images, checkpoints(tmp_path / "nowhere")) == {}


def test_features_are_those_before_the_head(images: list[Path], tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = mobilenet_v3_large().eval()
    path = tmp_path / MobileNet_V3_Large_Weights.IMAGENET1K_V1.url.rsplit("/", 1)[1]
    torch.save(model.state_dict(), path)
    assert checkpoints(tmp_path) == {"mobilenet_v3_large": path}
    found = backbone_features(images, checkpoints(tmp_path), batch=2)["mobilenet_v3_large"]
    assert found.shape == (3, 960)
    prepared = MobileNet_V3_Large_Weights.IMAGENET1K_V1.transforms(resize_size=224)
    with Image.open(images[1]) as image:
        square = image.convert("RGB").resize((224, 224), Image.Resampling.BILINEAR)
    with torch.no_grad():
        expected = model.avgpool(model.features(prepared(square)[None])).flatten()
    np.testing.assert_allclose(found[1], expected, atol=1e-4)


def test_damage_is_named(images: list[Path], tmp_path: Path) -> None:
    path = tmp_path / MobileNet_V3_Large_Weights.IMAGENET1K_V1.url.rsplit("/", 1)[1]
    path.write_bytes(b"not a checkpoint")
    with pytest.raises(DataError, match="mobilenet_v3_large"):
        backbone_features(images, {"mobilenet_v3_large": path})


def test_a_checkpoint_inside_a_package_is_found_and_one_in_the_cache_goes_first(
    images: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    weights = tmp_path / "weights_of_someone" / "inside"
    weights.mkdir(parents=True)
    (weights.parent / "__init__.py").write_text("raise RuntimeError('a package of weights need not be run')")
    name = MobileNet_V2_Weights.IMAGENET1K_V1.url.rsplit("/", 1)[1]
    torch.save(mobilenet_v2().state_dict(), weights / name)
    monkeypatch.syspath_prepend(tmp_path)
    package = Package("weights-of-someone", "weights_of_someone/inside", "MIT")
    monkeypatch.setattr(backbones, "PACKAGES", {"mobilenet_v2": package})
    empty = tmp_path / "hub"
    assert checkpoint("mobilenet_v2", empty) == weights / name
    assert backbone_features(images, checkpoints(empty))["mobilenet_v2"].shape == (3, 1280)
    empty.mkdir()
    (empty / name).write_bytes(b"")
    assert checkpoint("mobilenet_v2", empty) == empty / name


def test_weights_that_are_absent_are_told_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"resnet50 are not on this machine, and nothing is downloaded: put one of resnet50-"
    ):
        checkpoint("resnet50", tmp_path)


class TwelveChannels(nn.Module):
    """The outputs of CenterFace from a convolution to twelve channels, the widest map there is."""

    def __init__(self) -> None:
        super().__init__()
        self.wide, self.narrow = nn.Conv2d(3, 12, 4, stride=4), nn.Conv2d(12, 10, 1)

    def forward(self, data: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        points = self.narrow(self.wide(data))
        return points[:, :1], points[:, 1:3], points[:, 3:5], points


@pytest.mark.parametrize("as_module", [False, True])
def test_features_of_a_detector_are_its_widest_map_over_the_image(
    images: list[Path], tmp_path: Path, as_module: bool
) -> None:
    """The second form is how a package keeps its ONNX file inside a module."""
    torch.manual_seed(0)
    model, path = TwelveChannels().eval(), tmp_path / "detector.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(model, (torch.zeros(1, 3, 64, 64),), path, dynamo=False)
    if as_module:
        path = tmp_path / "weights.py"
        path.write_text(f"WEIGHTS = {path.with_name('detector.onnx').read_bytes()!r}\n")
    found = backbone_features(images, {"centerface": path}, batch=2)["centerface"]
    with Image.open(images[2]) as image:
        pixels = np.array(image.convert("RGB").resize((224, 224), Image.Resampling.BILINEAR))
    with torch.no_grad():
        expected = model.wide(torch.from_numpy(pixels).permute(2, 0, 1)[None].float()).mean((2, 3))[0]
    assert found.shape == (3, 12)
    np.testing.assert_allclose(found[2], expected, rtol=1e-3, atol=1e-2)


def test_an_unknown_network_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no network 'vgg' is known: take one of .*resnet50.*centerface"):
        checkpoint("vgg", tmp_path)
