"""Crops, flips and colors: where things are afterwards, and what no draw may produce."""

from __future__ import annotations

import colorsys
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nni_hyperfd.data.pixels import Faces, PixelStore
from nni_hyperfd.detection.training.augment import (
    CropPlan,
    color_matrices,
    crop_faces,
    crop_pixels,
    crop_resident,
    plan_crops,
    recolor,
)

MakeStore = Callable[..., PixelStore]


@pytest.fixture(scope="session")
def random_store(store_of: MakeStore) -> MakeStore:
    """``random_store(rng)``: images of many shapes with up to three faces each, some of them ignored."""

    def make(rng: np.random.Generator) -> PixelStore:
        pictures, faces = [], []
        for _ in range(5):
            height, width = rng.integers(20, 90, 2)
            pictures.append(np.zeros((height, width, 3), np.uint8))
            low = rng.uniform(0, 0.8, (rng.integers(0, 4), 2)) * (width, height)
            size = rng.uniform(0.05, 1, low.shape) * ((width, height) - low)
            faces.append([(*a, *(a + b), bool(rng.random() < 0.3)) for a, b in zip(low, size)])
        return store_of(pictures, faces)

    return make


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**31), ratio=st.floats(0.01, 1.0), samples=st.integers(1, 40))
def test_crops_lie_in_their_image_and_hold_a_face(
    random_store: MakeStore, seed: int, ratio: float, samples: int
) -> None:
    rng = np.random.default_rng(seed)
    store = random_store(rng)
    plan = plan_crops(store, torch.arange(5), samples, ratio, rng)
    assert len(plan.image) == len(plan.crop) == len(plan.flip) == len(plan.color) == samples
    height, width = store.sizes[plan.image].T
    x0, y0, side = plan.crop.T
    short = torch.minimum(height, width)
    assert (side >= (short * ratio).floor().clamp(min=1)).all()
    assert (side <= short).all()
    assert (x0 >= 0).all() and (y0 >= 0).all()  # noqa: PT018
    assert (x0 + side <= width).all() and (y0 + side <= height).all()  # noqa: PT018
    inside = crop_faces(store.faces, plan, 64)
    countable = store.faces.valid & ~store.faces.ignored
    has_face = countable[plan.image].any(1)
    assert ((inside.valid & ~inside.ignored).any(1) == has_face).all()


def test_all_images_take_their_turn(random_store: MakeStore) -> None:
    rng = np.random.default_rng(0)
    plan = plan_crops(random_store(rng), torch.tensor([4, 1, 3]), 9, 0.3, rng)
    for start in (0, 3, 6):
        assert sorted(plan.image[start : start + 3].tolist()) == [1, 3, 4]


def test_every_place_of_an_image_without_faces_is_reached(store_of: MakeStore) -> None:
    store = store_of([np.zeros((8, 12, 3), np.uint8)], [[]])
    plan = plan_crops(store, torch.tensor([0]), 400, 0.5, np.random.default_rng(0))
    exact = plan.crop[plan.crop[:, 2] == 6]
    assert set(exact[:, 0].tolist()) == set(range(7))
    assert set(exact[:, 1].tolist()) == set(range(3))


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    flip=st.booleans(),
    resident=st.booleans(),
)
def test_boxes_follow_the_pixels(store_of: MakeStore, seed: int, flip: bool, resident: bool) -> None:
    """A white rectangle, cropped, scaled and flipped, is where its box says."""
    rng = np.random.default_rng(seed)
    picture = np.zeros((70, 90, 3), np.uint8)
    x, y, width, height = rng.integers((10, 10, 14, 14), (40, 30, 40, 36))
    picture[y : y + height, x : x + width] = 255
    store = store_of([picture], [[(x, y, x + width, y + height, False)]])
    drawn = plan_crops(store, torch.tensor([0]), 1, 0.5, rng)
    plan = CropPlan(drawn.image, drawn.crop, torch.tensor([flip]), drawn.color)
    pixels = crop_resident(store.padded(90), plan, 96) if resident else crop_pixels(store, plan, 96).float()
    box = crop_faces(store.faces, plan, 96).boxes[0, 0]
    rows, columns = (pixels[0, 0] > 127).nonzero(as_tuple=True)
    seen = torch.tensor([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]).float()
    torch.testing.assert_close(seen, box, atol=1.01, rtol=0)


def test_a_flip_swaps_eyes_and_corners_of_the_mouth(store_of: MakeStore) -> None:
    store = store_of(
        [np.zeros((100, 100, 3), np.uint8)], [[(20, 20, 80, 80, False), (40, 40, 60, 60, False)]]
    )
    points = torch.tensor([30.0, 40, 70, 41, 50, 55, 35, 70, 65, 71])
    store.faces.landmarks[0, 0] = points
    plan = CropPlan(
        torch.tensor([0, 0]),
        torch.tensor([[0, 0, 100]] * 2),
        torch.tensor([False, True]),
        torch.zeros(2, 3, 4),
    )
    found = crop_faces(store.faces, plan, 200)
    assert found.landmarks[0, 0].tolist() == (points * 2).tolist()
    assert found.landmarks[1, 0].tolist() == [60, 82, 140, 80, 100, 110, 70, 142, 130, 140]
    assert found.landmarks[:, 1].isnan().all()  # a face without landmarks gets none
    assert found.boxes[1, 0].tolist() == [40, 40, 160, 160]


def test_a_face_counts_where_its_center_is(store_of: MakeStore) -> None:
    store = store_of(
        [np.zeros((100, 100, 3), np.uint8)],
        [[(0, 0, 58, 58, False), (0, 0, 62, 58, False), (60, 10, 90, 40, True)]],
    )
    plan = CropPlan(
        torch.tensor([0]), torch.tensor([[30, 0, 50]]), torch.tensor([False]), torch.zeros(1, 3, 4)
    )
    found: Faces = crop_faces(store.faces, plan, 50)
    assert found.valid[0].tolist() == [False, True, True]
    assert found.ignored[0].tolist() == [False, False, True]
    assert found.boxes[0, 1].tolist() == [0, 0, 32, 50]  # cut at the edges of the crop


def test_colors_by_hand() -> None:
    pixels = torch.tensor([[[[10]], [[100]], [[250]]]], dtype=torch.uint8)
    color = torch.tensor([[[2.0, 0, 0, -32], [0, 0.5, 0, 0], [0, 0, 1, 32]]])
    assert recolor(pixels, color).flatten().tolist() == [0, 50, 255]
    identity = torch.cat([torch.eye(3), torch.zeros(3, 1)], dim=1).unsqueeze(0)
    whole = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(1, 3, 16, 16)
    assert torch.equal(recolor(whole, identity), whole)


def test_color_matrices_turn_hue_and_saturation_about_gray() -> None:
    matrices = color_matrices(2000, np.random.default_rng(0))
    assert matrices.dtype == np.float32
    assert matrices.shape == (2000, 3, 4)
    linear, shift = matrices[:, :, :3].astype(np.float64), matrices[:, :, 3]
    contrast = linear.sum(2)
    np.testing.assert_allclose(contrast, contrast[:, :1].repeat(3, axis=1), atol=1e-5)  # gray stays gray
    assert contrast.min() >= 0.5 - 1e-5
    assert contrast.max() <= 1.5 + 1e-5
    assert (shift == shift[:, :1]).all()
    assert abs(shift).max() <= 32
    untouched = (np.abs(linear - np.eye(3)).max((1, 2)) < 1e-6) & (shift[:, 0] == 0)
    assert untouched.mean() == pytest.approx(1 / 16, abs=0.02)
    turned = np.einsum("nij,j->ni", linear / contrast[:, :1, None], [200.0, 90.0, 90.0])
    hues = np.array([colorsys.rgb_to_hsv(*row)[0] for row in np.clip(turned / 255, 0, 1)])
    degrees = (hues * 360 + 180) % 360 - 180
    assert np.abs(degrees).max() < 25  # ±18 about the gray axis is a little more in HSV's hexagon
    assert np.abs(degrees).max() > 12


def test_the_seed_decides_the_crops(random_store: MakeStore) -> None:
    store = random_store(np.random.default_rng(0))
    first, again, different = (
        plan_crops(store, torch.arange(5), 20, 0.3, np.random.default_rng(seed)) for seed in (7, 7, 8)
    )
    assert not torch.equal(first.crop, different.crop)
    for one, other in zip(vars(first).values(), vars(again).values()):
        assert torch.equal(one, other)
