"""COCO json that Label Studio has written for pictures that EXIF turns."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from nni_hyperfd.data.dataset import FaceDataset, load_dataset

WIDTH, HEIGHT = 100, 80  # as stored, so that the upright picture is 80 x 100 where it lies on its side
NAMES = [f"{number}.jpg" for number in range(6)]
UPRIGHT = [30.5, 58.0, 50.5, 88.0]  # corners


def coco(
    shapes: list[dict[str, Any]], size: tuple[int, int] = (WIDTH, HEIGHT), by: str = "Label Studio"
) -> str:
    """Each shape once in each picture."""
    images = [
        {"width": size[0], "height": size[1], "id": n, "file_name": f"images/{name}"}
        for n, name in enumerate(NAMES)
    ]
    found = [
        {"image_id": n, "category_id": 0, "ignore": 0, "iscrowd": 0, "segmentation": [], **shape}
        for n, _ in enumerate(NAMES)
        for shape in shapes
    ]
    categories = [{"id": 0, "name": "Face"}]
    info = {"year": 2024, "version": "1.0", "contributor": by}
    return json.dumps({"images": images, "annotations": found, "categories": categories, "info": info})


def load(root: Path, document: str, orientation: int = 6) -> FaceDataset:
    (root / "images").mkdir()
    for number, name in enumerate(NAMES):
        exif = Image.Exif()
        exif[274] = orientation
        Image.new("RGB", (WIDTH, HEIGHT), (20 * number, 9, 9)).save(root / "images" / name, exif=exif)
    (root / "result.json").write_text(document)
    return load_dataset(root)


def rectangle(left: float, top: float, right: float, bottom: float) -> dict[str, Any]:
    return {"bbox": [left, top, right - left, bottom - top]}


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
@pytest.mark.parametrize("size", [(WIDTH, HEIGHT), (HEIGHT, WIDTH)])
def test_rectangles_are_those_of_the_upright_picture_whichever_size_is_stated(tmp_path, size, orientation):
    """The latter size stands there where the converter had no picture to open."""
    dataset = load(tmp_path, coco([rectangle(*UPRIGHT)], size), orientation)
    assert len(dataset.images) == len(NAMES)
    for image in dataset.images:
        assert (image.width, image.height) == (80, 100)
        np.testing.assert_allclose(image.boxes, [UPRIGHT])


def test_rectangles_that_both_pictures_have_room_for_are_upright_too(tmp_path):
    dataset = load(tmp_path, coco([rectangle(10.5, 20, 40, 60)]))
    np.testing.assert_allclose([image.boxes[0] for image in dataset.images], [[10.5, 20, 40, 60]] * 6)


def test_polygons_are_percent_of_the_stored_size(tmp_path):
    """By hand: a quarter to three quarters across, half to all but a tenth down, of 80 x 100."""
    polygon = {"bbox": [25, 40, 50, 32], "segmentation": [[25, 40, 75, 40, 75, 72, 25, 72]]}
    dataset = load(tmp_path, coco([polygon, rectangle(*UPRIGHT)]))
    np.testing.assert_allclose(dataset.images[0].boxes, [[20, 50, 60, 90], UPRIGHT], atol=1e-4)


def test_rectangles_of_whole_pixels_are_percent_of_the_stored_size(tmp_path):
    dataset = load(tmp_path, coco([{"bbox": [25, 40, 50, 32]}]))
    np.testing.assert_allclose(dataset.images[0].boxes, [[20, 50, 60, 90]], atol=1e-4)


@pytest.mark.parametrize("orientation", [1, 3])
def test_pictures_that_do_not_lie_on_their_side_are_read_as_written(tmp_path, orientation):
    polygon = {"bbox": [25, 40, 50, 32], "segmentation": [[25, 40, 75, 40, 75, 72, 25, 72]]}
    dataset = load(tmp_path, coco([polygon, rectangle(10.5, 20, 40, 60)]), orientation)
    np.testing.assert_allclose(dataset.images[0].boxes, [[25, 40, 75, 72], [10.5, 20, 40, 60]])


def test_other_tools_mean_the_stored_picture_by_its_size(tmp_path):
    """Turned clockwise by a quarter: what was at (x, y) is at (80 - y, x)."""
    dataset = load(tmp_path, coco([rectangle(60.5, 20, 95, 60)], by="somebody"))
    np.testing.assert_allclose(dataset.images[0].boxes, [[20, 60.5, 60, 95]])
