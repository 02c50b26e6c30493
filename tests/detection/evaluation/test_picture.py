"""The contact sheet: every tile where it belongs, annotated faces in one color and detections in another."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nni_hyperfd.data.pixels import PixelStore
from nni_hyperfd.detection.evaluation.detections import Detections, GroundTruth, ground_truth
from nni_hyperfd.detection.evaluation.picture import COLUMNS, FACE, FOUND, TILE, draw_detections


@pytest.fixture
def store(store_of: Callable[..., PixelStore]) -> PixelStore:
    """Eight gray images; the second half of each is the brighter, the later it comes."""
    pictures = [np.full((72, 144, 3), 10 * number, np.uint8) for number in range(8)]
    return store_of(pictures, [[(20, 10, 60, 50, False)]] * 8)


def sheet(path: Path, store: PixelStore, found: Detections, truth: GroundTruth, **options: int) -> np.ndarray:
    draw_detections(path, store, "test", found, truth, 72, **options)
    with Image.open(path) as image:
        return np.array(image.convert("RGB"))


def nothing() -> Detections:
    return Detections(np.zeros(0, int), np.zeros((0, 4), np.float32), np.zeros(0, np.float32))


def test_tiles_are_spread_over_the_split(store: PixelStore, tmp_path: Path) -> None:
    pixels = sheet(
        tmp_path / "a.png", store, nothing(), ground_truth(store, store.splits["test"], 72), images=3
    )
    assert pixels.shape == (TILE, COLUMNS * TILE, 3)
    centers = [pixels[100, column * TILE + 200].tolist() for column in range(3)]
    assert centers == [[0, 0, 0], [40, 40, 40], [70, 70, 70]]


def test_faces_and_detections_are_outlined_where_they_are(store: PixelStore, tmp_path: Path) -> None:
    found = Detections(
        np.array([0, 0]),
        np.array([[80, 10, 120, 50], [4, 4, 8, 8]], np.float32),
        np.array([0.8, 0.4], np.float32),
    )
    pixels = sheet(tmp_path / "a.png", store, found, ground_truth(store, store.splits["test"], 72))
    zoom = TILE / 144
    assert tuple(pixels[int(30 * zoom), int(20 * zoom)]) == FACE
    assert tuple(pixels[int(30 * zoom), int(120 * zoom)]) == FOUND
    assert (pixels[int(6 * zoom), : int(12 * zoom)] == 0).all()  # a score under one half is not shown


def test_a_split_of_one_image_is_drawn_once(store_of: Callable[..., PixelStore], tmp_path: Path) -> None:
    store = store_of([np.full((5, 9, 3), 200, np.uint8)], [[]])
    pixels = sheet(tmp_path / "a.png", store, nothing(), ground_truth(store, store.splits["test"], 72))
    assert pixels.shape == (TILE, COLUMNS * TILE, 3)
    assert (pixels == 200).all(-1).sum() == TILE * 160
