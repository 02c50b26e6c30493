"""Backbones are used where their weights lie, and never fetched."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.models import (
    MobileNet_V2_Weights,
    MobileNet_V3_Large_Weights,
    mobilenet_v2,
    mobilenet_v3_large,
)

from nni_hyperfd.errors import DataError
from nni_hyperfd.evidence import backbones
from nni_hyperfd.evidence.backbones import backbone_features, checkpoint, checkpoints


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
    monkeypatch.setattr(
        backbones, "PACKAGES", {"mobilenet_v2": ("no-such-package", "no_such_package/weights")}
    )
    assert backbone_features(images, tmp_path / "nowhere") == {}


def test_features_are_those_before_the_head(images: list[Path], tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = mobilenet_v3_large().eval()
    path = tmp_path / MobileNet_V3_Large_Weights.IMAGENET1K_V1.url.rsplit("/", 1)[1]
    torch.save(model.state_dict(), path)
    assert checkpoints(tmp_path) == {"mobilenet_v3_large": path}
    found = backbone_features(images, tmp_path, batch=2)["mobilenet_v3_large"]
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
        backbone_features(images, tmp_path)


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
    monkeypatch.setattr(
        backbones, "PACKAGES", {"mobilenet_v2": ("weights-of-someone", "weights_of_someone/inside")}
    )
    empty = tmp_path / "hub"
    assert checkpoint("mobilenet_v2", empty) == weights / name
    assert backbone_features(images, empty)["mobilenet_v2"].shape == (3, 1280)
    empty.mkdir()
    (empty / name).write_bytes(b"")
    assert checkpoint("mobilenet_v2", empty) == empty / name


def test_weights_that_are_absent_are_told_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"resnet50 are not on this machine, and nothing is downloaded: put one of resnet50-"
    ):
        checkpoint("resnet50", tmp_path)
