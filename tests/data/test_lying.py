"""Stated sizes of pictures that EXIF turns, and boxes that contradict them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nni_hyperfd.data.dataset import FaceDataset, load_dataset
from nni_hyperfd.data.report import Problem

STORED, UPRIGHT = (200, 150), (150, 200)  # EXIF's 6: what is stored at (x, y) is seen at (150 - y, x)
BOTH = (30.0, 20.0, 110.0, 130.0)  # corners that both pictures have room for
TALL = (30.0, 120.0, 70.0, 190.0)  # that the upright one alone has
WIDE = (120.0, 30.0, 190.0, 70.0)  # that the stored one alone has
SLIP = (30.0, 100.0, 70.0, 153.0)  # that lead out of the stored one by a few pixels
Corners = tuple[float, float, float, float]


def turned(box: Corners) -> list[float]:
    """Corners of the stored picture in the upright one."""
    left, top, right, bottom = box
    return [150 - bottom, left, 150 - top, right]


def load(root: Path, size: tuple[int, int], boxes: Sequence[Corners], exif: str | None = None) -> FaceDataset:
    """One box a picture, all of which state ``size``."""
    images, found = [], []
    for number, (left, top, right, bottom) in enumerate(boxes):
        tag = Image.Exif()
        tag[274] = 6
        Image.new("RGB", STORED, (20 * number, 9, 9)).save(root / f"{number}.jpg", exif=tag)
        images.append({"id": number, "file_name": f"{number}.jpg", "width": size[0], "height": size[1]})
        found.append({"image_id": number, "bbox": [left, top, right - left, bottom - top]})
    (root / "faces.json").write_text(json.dumps({"images": images, "annotations": found}))
    return load_dataset(root, exif=exif)


def read_boxes(dataset: FaceDataset) -> dict[str, list[float]]:
    return {image.path.stem: image.boxes[0].tolist() for image in dataset.images}


def doubts(dataset: FaceDataset) -> list[str]:
    return [note for note in dataset.report.notes if "the size that they state" in note]


@pytest.mark.parametrize(("size", "telling", "claim"), [(STORED, TALL, "stored"), (UPRIGHT, WIDE, "upright")])
def test_a_size_outside_which_boxes_lead_is_not_believed_of_any_picture(tmp_path, size, telling, claim):
    dataset = load(tmp_path, size, [telling, BOTH, telling, BOTH, BOTH, BOTH])
    boxes = {str(n): telling if n in (0, 2) else BOTH for n in range(6)}
    wanted = {name: list(box) if claim == "stored" else turned(box) for name, box in boxes.items()}
    assert read_boxes(dataset) == wanted
    (note,) = doubts(dataset)
    assert f"exif: {claim}" in note
    assert len(note) <= 240, "the report shortens what is longer"
    assert any(note.startswith("4 pictures that EXIF turns are taken as") for note in dataset.report.notes)


def test_a_size_that_the_settings_confirm_is_believed(tmp_path):
    dataset = load(tmp_path, STORED, [TALL, BOTH, BOTH, BOTH], exif="stored")
    assert read_boxes(dataset) == {"0": turned((30, 120, 70, 150))} | dict.fromkeys("123", turned(BOTH))
    assert dataset.report.count(Problem.CLIPPED_BOX) == 1
    assert not doubts(dataset)


def test_of_a_size_that_boxes_confirm_images_that_contradict_it_are_left_out(tmp_path):
    dataset = load(tmp_path, STORED, [TALL, WIDE, WIDE, BOTH, BOTH])
    assert read_boxes(dataset) == dict.fromkeys("12", turned(WIDE)) | dict.fromkeys("34", turned(BOTH))
    assert dataset.report.left_out == {"0.jpg": Problem.OTHER_WAY_ROUND}
    assert dataset.report.count(Problem.OTHER_WAY_ROUND) == 1
    assert not doubts(dataset)


def test_boxes_of_faces_that_the_edge_cuts_are_no_evidence(tmp_path):
    dataset = load(tmp_path, STORED, [SLIP, BOTH, BOTH, BOTH])
    assert read_boxes(dataset) == {"0": turned((30, 100, 70, 150))} | dict.fromkeys("123", turned(BOTH))
    assert dataset.report.left_out == {}
    assert not doubts(dataset)


def test_pictures_that_do_not_contradict_their_size_are_what_it_says(tmp_path):
    for number, (size, wanted) in enumerate([(STORED, turned(BOTH)), (UPRIGHT, list(BOTH))]):
        root = tmp_path / str(number)
        root.mkdir()
        dataset = load(root, size, [BOTH] * 4)
        np.testing.assert_array_equal(list(read_boxes(dataset).values()), [wanted] * 4)
        assert dataset.report.notes == ()
