"""Weights on disk: what is saved comes back, and every other file is refused in one sentence."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from nni_hyperfd.detection.network.retinaface import RetinaFace
from nni_hyperfd.detection.network.weights import (
    BASES,
    base_detector,
    base_id,
    base_path,
    load_detector,
    save_detector,
)
from nni_hyperfd.errors import DataError
from nni_hyperfd.spaces.architecture import Architecture, Block, largest, mobilenet_v2

DiskFull = Callable[[int], AbstractContextManager[None]]


@pytest.fixture(scope="module")
def model() -> RetinaFace:
    model = RetinaFace(mobilenet_v2())
    model.reset_parameters(torch.Generator().manual_seed(0))
    return model.to(memory_format=torch.channels_last)


def test_what_is_saved_comes_back(model: RetinaFace, tmp_path: Path) -> None:
    save_detector(tmp_path / "a.safetensors", model, model.state_dict(), val_ap="0.5")
    back = load_detector(tmp_path / "a.safetensors")
    assert back.architecture == model.architecture
    for name, value in back.state_dict().items():
        assert value.dtype == model.state_dict()[name].dtype
        assert torch.equal(value, model.state_dict()[name]), name
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]


def test_half_precision_halves_the_file_and_keeps_statistics(model: RetinaFace, tmp_path: Path) -> None:
    save_detector(tmp_path / "full.safetensors", model, model.state_dict())
    save_detector(tmp_path / "half.safetensors", model, model.state_dict(), half=True)
    sizes = [(tmp_path / f"{name}.safetensors").stat().st_size for name in ("full", "half")]
    assert sizes[1] < 0.6 * sizes[0]
    back = load_detector(tmp_path / "half.safetensors").state_dict()
    for name, value in model.state_dict().items():
        assert back[name].dtype == value.dtype
        torch.testing.assert_close(back[name], value, atol=1e-3, rtol=1e-3 if value.ndim == 4 else 0)


def save(path: Path, tensors: dict[str, torch.Tensor], metadata: dict[str, str] | None) -> Path:
    save_file(tensors, path, metadata=metadata)
    return path


def test_every_other_file_is_refused(model: RetinaFace, tmp_path: Path) -> None:
    stages = [[[block.kernel, block.expand] for block in stage] for stage in mobilenet_v2().stages]
    named = {"architecture": json.dumps(stages)}
    state = {name: value.contiguous() for name, value in model.state_dict().items()}
    missing = {name: value for name, value in state.items() if "heads" not in name}
    reshaped = state | {"heads.0.bias": torch.zeros(3)}
    (tmp_path / "text.safetensors").write_text("not weights at all")
    (tmp_path / "empty.safetensors").write_bytes(b"")
    files = [
        tmp_path / "absent.safetensors",
        tmp_path,
        tmp_path / "text.safetensors",
        tmp_path / "empty.safetensors",
        save(tmp_path / "unnamed.safetensors", state, None),
        save(tmp_path / "no-json.safetensors", state, {"architecture": "mobilenet"}),
        save(tmp_path / "no-list.safetensors", state, {"architecture": "7"}),
        save(tmp_path / "not-of-the-space.safetensors", state, {"architecture": "[[[3, 9]]]"}),
        save(tmp_path / "missing.safetensors", missing, named),
        save(tmp_path / "more.safetensors", state | {"another": torch.zeros(1)}, named),
        save(tmp_path / "reshaped.safetensors", reshaped, named),
    ]
    for file in files:
        with pytest.raises(DataError) as caught:
            load_detector(file)
        assert str(file) in str(caught.value)
        assert "name a .safetensors file" in str(caught.value)


def test_a_full_disk_keeps_the_last_weights_and_leaves_nothing_behind(
    model: RetinaFace, tmp_path: Path, disk_full_after: DiskFull
) -> None:
    path = tmp_path / "best.safetensors"
    save_detector(path, model, model.state_dict())
    before = path.read_bytes()
    other = {name: value + 1 for name, value in model.state_dict().items()}
    with disk_full_after(500_000), pytest.raises(DataError, match="free some disk space"):
        save_detector(path, model, other)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["best.safetensors"]


def test_a_missing_folder_is_one_sentence(model: RetinaFace, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot write the weights"):
        save_detector(tmp_path / "absent" / "best.safetensors", model, model.state_dict())


@pytest.mark.parametrize("name", BASES)
def test_the_shipped_bases_load_and_are_small(name: str) -> None:
    assert load_detector(base_path(name)).architecture == BASES[name]
    assert sum(base_path(other).stat().st_size for other in BASES) < 5_000_000
    assert len(base_id()) == 16


def test_a_base_for_any_architecture(tmp_path: Path) -> None:
    for name, architecture in BASES.items():
        detector = RetinaFace(architecture)
        detector.reset_parameters(torch.Generator().manual_seed(len(name)))
        save_detector(tmp_path / f"{name}.safetensors", detector, detector.state_dict())
    standard = base_detector(mobilenet_v2(), tmp_path)
    assert torch.equal(
        standard.backbone.stem[0].weight,
        load_detector(tmp_path / "standard.safetensors").backbone.stem[0].weight,
    )
    small = Architecture(
        (
            mobilenet_v2().stages[0],
            *(tuple(Block(5, 4) for _ in blocks) for blocks in mobilenet_v2().stages[1:]),
        )
    )
    source = load_detector(tmp_path / "largest.safetensors")
    mapped = base_detector(small, tmp_path)
    assert mapped.architecture == small
    assert torch.equal(
        mapped.backbone.stages[2][1].depthwise[0].weight,
        source.backbone.stages[2][1].depthwise[0].weight[:64, :, 1:6, 1:6],
    )
    assert base_detector(largest(), tmp_path).architecture == largest()
    with pytest.raises(DataError, match=r"absent.*largest.safetensors"):
        base_detector(small, tmp_path / "absent")
