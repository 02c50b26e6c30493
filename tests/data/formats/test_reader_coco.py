"""COCO json."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from nni_hyperfd.data.report import Problem
from nni_hyperfd.errors import DataError

IMAGES = [{"id": 1, "file_name": "a.jpg"}, {"id": 2, "file_name": "b.jpg"}]


def document(*annotations: dict[str, Any], images: list[Any] | None = None, **more: Any) -> dict[str, str]:
    return {"faces.json": json.dumps({"images": images or IMAGES, "annotations": list(annotations), **more})}


def test_boxes_crowds_and_images_without_faces(read):
    faces = read(
        "coco",
        document(
            {"image_id": 1, "bbox": [10, 20, 30.5, 40], "iscrowd": 0},
            {"image_id": 1, "bbox": [1, 2, 3, 4], "iscrowd": 1},
        ),
    ).faces
    assert [(face.box, face.ignored) for face in faces["images/a.jpg"]] == [
        ((10, 20, 40.5, 60), False),
        ((1, 2, 4, 6), True),
    ]
    assert faces["images/b.jpg"] == []


def test_five_keypoints_are_landmarks_and_unseen_ones_absent(read):
    points = [1, 2, 2, 3, 4, 1, 5, 6, 2, 7, 8, 0, 9, 10, 2]
    faces = read("coco", document({"image_id": 1, "bbox": [0, 0, 20, 20], "keypoints": points})).faces
    landmarks = faces["images/a.jpg"][0].landmarks
    assert landmarks[:3] == ((1, 2), (3, 4), (5, 6))
    assert all(math.isnan(value) for value in landmarks[3])
    assert landmarks[4] == (9, 10)


def test_keypoints_of_whole_bodies_are_no_landmarks(read):
    faces = read("coco", document({"image_id": 1, "bbox": [0, 0, 20, 20], "keypoints": [1, 1, 2] * 17})).faces
    assert faces["images/a.jpg"][0].landmarks is None


def test_ids_may_be_text_in_one_place_and_numbers_in_the_other(read):
    faces = read("coco", document({"image_id": "2", "bbox": [0, 0, 5, 5]})).faces
    assert len(faces["images/b.jpg"]) == 1


def test_category_names_become_labels(read):
    categories = [{"id": 0, "name": "person"}, {"id": 7, "name": "face"}]
    annotations = [{"image_id": 1, "bbox": [0, 0, 5, 5], "category_id": number} for number in (0, 7, 9)]
    faces = read("coco", document(*annotations, categories=categories)).faces
    assert [face.label for face in faces["images/a.jpg"]] == ["person", "face", None]


def test_several_files_each_with_their_own_ids_and_images_beside_them(read):
    files = {
        f"{part}/_annotations.coco.json": json.dumps(
            {
                "images": [{"id": 0, "file_name": "x.jpg"}],
                "annotations": [{"image_id": 0, "bbox": [number, 0, 5, 5]}],
            }
        )
        for number, part in enumerate(("train", "valid"))
    }
    faces = read("coco", files, ("train/x.jpg", "valid/x.jpg")).faces
    assert {name: found[0].box[0] for name, found in faces.items()} == {"train/x.jpg": 0, "valid/x.jpg": 1}


@pytest.mark.parametrize(
    "annotation",
    [
        {"image_id": 1},
        {"image_id": 1, "bbox": [1, 2, 3]},
        {"image_id": 1, "bbox": [1, 2, 3, "four"]},
        {"image_id": 1, "bbox": [1, 2, 3, True]},
        {"image_id": 1, "bbox": {"x": 1}},
        {"image_id": 1, "bbox": [10**400, 0, 1, 1]},
        {"image_id": 99, "bbox": [1, 2, 3, 4]},
        {"image_id": None, "bbox": [1, 2, 3, 4]},
        {"bbox": [1, 2, 3, 4]},
        "no annotation",
    ],
)
def test_bad_annotations_are_counted(read, annotation):
    found = read("coco", document(annotation, {"image_id": 1, "bbox": [1, 2, 3, 4]}))
    assert len(found.faces["images/a.jpg"]) == 1
    assert found.findings.counts == {Problem.MALFORMED_ENTRY: 1}


def test_bad_image_entries_are_counted(read):
    images = [*IMAGES, "c.jpg", {"id": 3}, {"file_name": "a.jpg"}, {"id": 1, "file_name": "b.jpg"}]
    found = read("coco", document({"image_id": 1, "bbox": [1, 2, 3, 4]}, images=images))
    assert len(found.faces["images/a.jpg"]) == 1
    assert found.findings.counts == {Problem.MALFORMED_ENTRY: 4}


def test_the_stated_size_is_handed_over_and_a_senseless_one_is_none(read):
    images = [
        {"id": 1, "file_name": "a.jpg", "width": 200, "height": 160},
        {"id": 2, "file_name": "b.jpg", "width": 0},
    ]
    entries = read("coco", document({"image_id": 1, "bbox": [1, 2, 3, 4]}, images=images)).entries()
    assert [entry.size for entry in entries] == [(200, 160), None]


def test_numbers_between_quotes_are_numbers(read):
    faces = read("coco", document({"image_id": 1, "bbox": ["10", "20.5", "1e1", "4"]})).faces
    assert faces["images/a.jpg"][0].box == (10, 20.5, 20, 24.5)


def test_polygons_stand_for_the_box_around_them_and_masks_for_none(read):
    polygon = [[10, 10, 30, 10, 30, 40], [5, 20, 12, 20, 12, 30]]
    found = read(
        "coco",
        document(
            {"image_id": 1, "bbox": None, "segmentation": polygon},
            {"image_id": 2, "segmentation": {"counts": "abc", "size": [80, 100]}},
        ),
    )
    assert [face.box for face in found.faces["images/a.jpg"]] == [(5, 10, 30, 40)]
    assert found.missed == [("images/b.jpg", Problem.UNREADABLE_SHAPE, None)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"images": [], "annotations": [', "no valid JSON"),
        ('[{"images": 1, "annotations": 2}]', "lacks the lists"),
        ('{"images": {}, "annotations": []}', "lacks the lists"),
        ('"images" "annotations"', "no valid JSON"),
    ],
)
def test_a_file_that_is_no_coco_document_is_refused(read, text, words):
    with pytest.raises(DataError, match=words):
        read("coco", {"faces.json": text})


@pytest.mark.parametrize(
    ("mode", "box"), [(0, (10, 20, 40, 60)), (1, (10, 20, 50, 80)), (4, None), ("XYXY", None)]
)
def test_the_mode_that_detectron2_writes_beside_a_box(read, mode, box):
    found = read("coco", document({"image_id": 1, "bbox": [10, 20, 40, 60], "bbox_mode": mode}))
    assert [face.box for face in found.faces["images/a.jpg"]] == ([box] if box else [])
    assert len(found.missed) == (box is None)


def test_classes_that_are_named_instead_of_numbered(read):
    categories = [{"id": 1, "name": "person"}, {"id": 2, "name": "face"}]
    annotations = [{"image_id": 1, "bbox": [0, 0, 5, 5], "category_id": name} for name in ("face", "person")]
    faces = read("coco", document(*annotations, categories=categories)).faces
    assert [face.label for face in faces["images/a.jpg"]] == ["face", "person"]


def test_two_classes_of_one_id_are_asked_about_and_one_that_stands_twice_is_one(read):
    """The last name would make faces of persons."""
    boxes = [{"image_id": 1, "bbox": [0, 0, 5, 5], "category_id": 1}]
    person, face = {"id": 1, "name": "person"}, {"id": "1", "name": "face"}
    with pytest.raises(
        DataError, match=r"faces\.json has two categories of the id 1, 'person' and 'face': give each an id"
    ):
        read("coco", document(*boxes, categories=[person, face]))
    faces = read("coco", document(*boxes, categories=[face, {"id": 1, "name": "face"}])).faces
    assert [(each.box, each.label) for each in faces["images/a.jpg"]] == [((0, 0, 5, 5), "face")]
