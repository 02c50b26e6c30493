"""Disguises change pixels as they say, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nni_hyperfd.data.pixels import Faces
from nni_hyperfd.detection.training.disguise import (
    add_noise,
    cover,
    darken,
    disguise,
    false_colors,
    flatten_tones,
    gray,
    haze,
    lower_resolution,
)


@pytest.fixture
def pixels() -> torch.Tensor:
    return torch.randint(
        0, 256, (6, 3, 32, 48), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )


@pytest.fixture
def faces() -> Faces:
    boxes = torch.tensor([[[4.0, 4.0, 24.0, 28.0], [30.0, 2.0, 40.0, 12.0]]]).repeat(6, 1, 1)
    valid = torch.ones(6, 2, dtype=torch.bool)
    return Faces(boxes, valid, ~valid, torch.full((6, 2, 10), torch.nan))


def test_a_disguise_is_drawn_by_its_generator_alone(pixels: torch.Tensor, faces: Faces) -> None:
    before = pixels.clone()
    first, again, other = (disguise(pixels, faces, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(pixels, before)
    assert first.shape == pixels.shape
    assert first.dtype == torch.uint8


def test_a_cover_hides_part_of_large_faces_only(pixels: torch.Tensor, faces: Faces) -> None:
    changed = (cover(pixels, faces, np.random.default_rng(0), chance=1.0) != pixels).any(1)
    assert not changed[:, :, 25:].any()  # the small face and the background
    inside = changed[:, 4:28, 4:24].float().mean((1, 2))
    assert ((inside > 0.1) & (inside < 0.7)).all()
    assert changed.sum() == changed[:, 4:28, 4:24].sum()


@pytest.mark.parametrize(
    "change", [flatten_tones, lower_resolution, haze, gray, false_colors, darken, add_noise]
)
def test_every_change_keeps_shape_and_changes_something(change, pixels: torch.Tensor) -> None:  # type: ignore[no-untyped-def]
    x = pixels.float()
    found = change(x.clone(), np.random.default_rng(0))
    assert found.shape == x.shape
    assert torch.isfinite(found).all()
    assert not torch.equal(found, x)


def test_what_the_changes_say(pixels: torch.Tensor) -> None:
    x, rng = pixels.float(), np.random.default_rng(0)
    flat = gray(x, rng)
    assert torch.equal(flat[:, 0], flat[:, 1])
    assert torch.equal(flat[:, 1], flat[:, 2])
    assert all(len(picture.unique()) <= 12 for picture in flatten_tones(x, rng))
    assert (haze(x, rng).std((1, 2, 3)) < 0.85 * x.std((1, 2, 3))).all()
    assert (darken(x, rng).mean((1, 2, 3)) < x.mean((1, 2, 3))).all()
    smooth = lower_resolution(x, rng)
    assert smooth.diff(dim=-1).abs().mean() < 0.8 * x.diff(dim=-1).abs().mean()
    # One gray value has one false color.
    colored, value = false_colors(flat, rng)[0].flatten(1), flat[0, 0].flatten()
    same = value == value[0]
    assert torch.allclose(colored[:, same], colored[:, same][:, :1].expand(-1, int(same.sum())))
