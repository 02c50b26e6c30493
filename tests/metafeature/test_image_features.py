"""Image-level features: what they refuse, and what survives a trip to disk."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from nni_hyperfd.errors import DataError
from nni_hyperfd.metafeature.features import ImageFeatures


def make(n: int = 5, frozen: bool = False) -> ImageFeatures:
    generator = torch.Generator().manual_seed(n)
    return ImageFeatures(
        torch.randn(n, 3, 86, generator=generator),
        torch.randn(n, 3, 86, generator=generator),
        torch.randint(0, 9, (n,), generator=generator),
        torch.randn(n, 2048, generator=generator) if frozen else None,
        torch.randn(n, 256, generator=generator) if frozen else None,
    )


@pytest.mark.parametrize("frozen", [False, True])
def test_disk_gives_back_the_same_tensors(tmp_path: Path, frozen: bool) -> None:
    features = make(frozen=frozen)
    features.save(tmp_path / "f.safetensors")
    loaded = ImageFeatures.load(tmp_path / "f.safetensors")
    assert loaded.tensors().keys() == features.tensors().keys()
    assert all(torch.equal(tensor, loaded.tensors()[name]) for name, tensor in features.tensors().items())
    assert [path.name for path in tmp_path.iterdir()] == ["f.safetensors"]


def test_subset_takes_the_images_in_the_order_asked_for() -> None:
    features = make()
    part = features.subset(torch.tensor([3, 0]))
    assert len(part) == 2
    assert torch.equal(part.gwap, torch.stack([features.gwap[3], features.gwap[0]]))
    assert part.boxes.tolist() == [features.boxes[3].item(), features.boxes[0].item()]


def test_shapes_that_clash_are_named() -> None:
    with pytest.raises(DataError, match=r"mean has shape \[4, 3, 86\], expected \[5, 3, 86\]"):
        ImageFeatures(torch.zeros(5, 3, 86), torch.zeros(4, 3, 86), torch.zeros(5, dtype=torch.long))


def test_values_that_are_not_finite_are_refused() -> None:
    broken = torch.zeros(2, 3, 86)
    broken[1, 2, 3] = torch.nan
    with pytest.raises(DataError, match="gwap holds values that are not finite"):
        ImageFeatures(broken, torch.zeros(2, 3, 86), torch.zeros(2, dtype=torch.long))


def test_no_image_is_refused() -> None:
    with pytest.raises(DataError, match="no image"):
        ImageFeatures(torch.zeros(0, 3, 86), torch.zeros(0, 3, 86), torch.zeros(0, dtype=torch.long))


def test_a_damaged_file_is_one_clear_sentence(tmp_path: Path) -> None:
    path = tmp_path / "f.safetensors"
    path.write_bytes(b"not tensors at all")
    with pytest.raises(DataError, match="delete it to compute them again"):
        ImageFeatures.load(path)
    with pytest.raises(DataError, match="cannot be read"):
        ImageFeatures.load(tmp_path / "absent")
