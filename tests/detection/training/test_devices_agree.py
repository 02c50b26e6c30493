"""The two forms of one operation, for CPU and for an accelerator, give the same numbers (both run on the CPU here)."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nni_hyperfd.data.dataset import load_dataset
from nni_hyperfd.data.pixels import open_pixels
from nni_hyperfd.detection import anchors
from nni_hyperfd.detection.training.augment import crop_pixels, crop_resident, plan_crops


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**31), images=st.integers(1, 4), faces=st.integers(1, 6))
def test_dense_and_ragged_matching_agree(seed: int, images: int, faces: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    origin = torch.rand(images, faces, 2, generator=generator) * 100
    boxes = torch.cat([origin, origin + 1 + torch.rand(images, faces, 2, generator=generator) * 90], dim=-1)
    count = torch.randint(0, faces + 1, (images, 1), generator=generator)
    valid = torch.arange(faces) < count
    ignored = torch.rand(images, faces, generator=generator) < 0.3
    grid = anchors.corners(anchors.priors(128, 128))
    dense = anchors._match_dense(boxes, valid, ignored, grid)
    ragged = anchors._match_ragged(boxes, valid, ignored, grid)
    for name, a, b in zip(("iou", "face", "forced iou", "forced face"), dense, ragged):
        if name == "face":
            a, b = a[dense[0] > 0], b[dense[0] > 0]
        if name == "forced face":
            a, b = a[dense[2] > 0], b[dense[2] > 0]
        torch.testing.assert_close(a, b, msg=name)


def test_resident_crops_equal_those_from_the_file(shared_data, tmp_path) -> None:
    store = open_pixels(load_dataset(shared_data / "cats"), 320, tmp_path)
    plan = plan_crops(store, store.splits["train"], 24, 0.3, np.random.default_rng(3))
    cpu = crop_pixels(store, plan, 96).float()
    resident = crop_resident(store.padded(320), plan, 96)
    assert (
        float((cpu - resident).abs().max()) <= 1.01
    )  # the CPU rounds to whole levels with fixed-point weights


@pytest.mark.parametrize("size", [64, 160])
def test_forced_claims_need_the_least_overlap(size: int) -> None:
    boxes = torch.tensor([[[3.0, 3.0, 5.0, 5.0], [20.0, 20.0, 34.0, 34.0]]])
    valid = torch.ones(1, 2, dtype=torch.bool)
    found = anchors.match(boxes, valid, torch.zeros_like(valid), anchors.priors(size, size), 0.6, 0.35)
    faces = found.face[found.label == anchors.POSITIVE]
    assert set(faces.tolist()) == {1}
