"""EXIF orientation of pictures and boxes."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image, ImageOps

from nni_hyperfd.data.dataset import load_dataset
from nni_hyperfd.data.decode import decode
from nni_hyperfd.data.orientation import upright_boxes, upright_landmarks, upright_size

WIDTH, HEIGHT = 40, 24
BOX = (6, 3, 20, 10)


def turned(orientation: int) -> Image.Image:
    """A stored picture, black but for a white box."""
    pixels = np.zeros((HEIGHT, WIDTH, 3), dtype=np.uint8)
    pixels[BOX[1] : BOX[3], BOX[0] : BOX[2]] = 255
    image = Image.fromarray(pixels)
    image.getexif()[274] = orientation
    return image


@pytest.mark.parametrize("orientation", range(1, 9))
def test_boxes_turn_with_their_pixels(orientation):
    upright = np.asarray(ImageOps.exif_transpose(turned(orientation)))[..., 0]
    rows, columns = np.nonzero(upright)
    seen = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    boxes = upright_boxes(np.array([BOX], dtype=np.float64), WIDTH, HEIGHT, orientation)
    np.testing.assert_array_equal(boxes, [seen])
    assert upright_size(WIDTH, HEIGHT, orientation) == upright.shape[::-1]


@pytest.mark.parametrize("orientation", range(2, 9))
def test_an_inverted_box_stays_inverted(orientation):
    box = upright_boxes(np.array([[20.0, 10.0, 6.0, 12.0]]), WIDTH, HEIGHT, orientation)[0]
    assert box[2] < box[0] or box[3] < box[1]


def test_a_mirror_exchanges_left_and_right():
    points = np.array([[10, 10], [20, 10], [15, 15], [11, 20], [19, 20]], dtype=np.float64)
    seen = upright_landmarks(points, 40, 24, 2)
    np.testing.assert_array_equal(seen, [[20, 10], [30, 10], [25, 15], [21, 20], [29, 20]])


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize("orientation", range(2, 9))
@pytest.mark.parametrize("shown", ["upright", "stored"])
def test_the_stated_size_tells_how_boxes_were_drawn(tmp_path, suffix, orientation, shown):
    stored = turned(orientation)
    upright = ImageOps.exif_transpose(stored)
    box = np.array([BOX], dtype=np.float64)
    drawn = box if shown == "stored" else upright_boxes(box, WIDTH, HEIGHT, orientation)
    width, height = stored.size if shown == "stored" else upright.size
    names = [f"{number}.{suffix}" for number in range(4)]
    for name in names:
        stored.save(
            tmp_path / name, exif=stored.getexif(), **({"quality": 100} if suffix in ("jpg", "webp") else {})
        )
    a, b, c, d = drawn[0].tolist()
    document = {
        "images": [
            {"id": i, "file_name": name, "width": width, "height": height} for i, name in enumerate(names)
        ],
        "annotations": [{"image_id": i, "bbox": [a, b, c - a, d - b]} for i in range(4)],
    }
    (tmp_path / "faces.json").write_text(json.dumps(document))
    dataset = load_dataset(tmp_path, exif=shown if orientation in (2, 3, 4) else None)
    image = dataset.images[0]
    pixels = decode(image.path, 100)
    assert (image.height, image.width) == pixels.shape[:2] == upright.size[::-1]
    left, top, right, bottom = image.boxes[0].astype(int)
    inside = pixels[top:bottom, left:right]
    assert inside.mean() > 200  # the white box, whatever the compression
    assert pixels.sum() < inside.sum() * 1.3


def test_pixels_of_older_versions_are_not_taken_for_upright_ones(tmp_path):
    """A picture that is turned changes the key of every cache, though its bytes and boxes are as before."""
    for number in range(4):
        Image.new("RGB", (30, 30), (number, 0, 0)).save(tmp_path / f"{number}.png")
    rows = [f"{number}.png,5,5,20,20" for number in range(4)]
    (tmp_path / "boxes.csv").write_text("\n".join(["image,xmin,ymin,xmax,ymax", *rows]))
    dataset = load_dataset(tmp_path)
    before = dataset.fingerprint()
    object.__setattr__(dataset.images[0], "orientation", 6)
    assert dataset.fingerprint() != before
