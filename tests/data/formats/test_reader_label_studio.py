"""Label Studio json."""

from __future__ import annotations

import json
import math

import pytest

from nni_hyperfd.data.report import Problem
from nni_hyperfd.errors import DataError

IMAGE = "/data/upload/3/1a2b3c4d-a.jpg"


def rectangle(x=10.0, y=20.0, width=30.0, height=40.0, label="Face", rotation=0, **more):
    value = {"x": x, "y": y, "width": width, "height": height, "rotation": rotation}
    value |= {"rectanglelabels": [label]} if label else {}
    return {"type": "rectanglelabels", "original_width": 100, "original_height": 80, "value": value, **more}


def task(*results, image=IMAGE, **more):
    return {
        "id": 1,
        "data": {"image": image},
        "annotations": [{"result": list(results), "was_cancelled": False}],
        **more,
    }


def export(*tasks):
    return {"project-1.json": json.dumps(list(tasks))}


def boxes(found, image="images/a.jpg"):
    return [tuple(round(side, 3) for side in face.box) for face in found.faces.get(image, [])]


def test_percent_of_the_stated_size_become_pixels(read):
    found = read("labelstudio", export(task(rectangle(), rectangle(50, 50, 10, 20, "Person"))))
    assert boxes(found) == [(10, 16, 40, 48), (50, 40, 60, 56)]
    assert [face.label for face in found.faces["images/a.jpg"]] == ["Face", "Person"]
    (entry,) = found.entries()
    assert entry.size == (100, 80)
    assert not entry.fractions


def test_without_a_stated_size_they_are_of_the_picture(read):
    bare = {key: value for key, value in rectangle().items() if not key.startswith("original")}
    found = read("labelstudio", export(task(bare)))
    assert boxes(found) == [(10, 16, 40, 48)]
    assert next(found.entries()).fractions


def test_shapes(read):
    """By hand: a quarter turn about the corner (10, 16) of 30 × 32 pixels; an eighth turn of 10 × 0.001; an ellipse; a triangle."""
    ellipse = {"x": 50, "y": 50, "radiusX": 10, "radiusY": 20, "rotation": 0, "ellipselabels": ["Face"]}
    polygon = {"points": [[10, 10], [30, 10], [20, 50]], "polygonlabels": ["Face"]}
    frame = {"original_width": 100, "original_height": 80}
    found = read(
        "labelstudio",
        export(
            task(
                rectangle(40, rotation=90),
                rectangle(50, 50, 10, 0.00125, rotation=45),
                {"type": "ellipselabels", "value": ellipse, **frame},
                {"type": "polygonlabels", "value": polygon, **frame},
            )
        ),
    )
    turned, thin, *rest = boxes(found)
    assert turned == (8, 16, 40, 46)
    assert thin == pytest.approx((50, 40, 50 + 10 * math.sqrt(0.5), 40 + 10 * math.sqrt(0.5)), abs=0.01)
    assert rest == [(40, 24, 60, 56), (10, 8, 30, 40)]


def test_a_label_of_its_own_control_belongs_to_the_region_of_its_id(read):
    plain = rectangle(label=None, id="r1", type="rectangle")
    label = {
        "type": "labels",
        "id": "r1",
        "value": {"x": 1, "y": 1, "width": 1, "height": 1, "labels": ["Face"]},
    }
    remark = {"type": "choices", "id": "r1", "value": {"choices": ["blurred"]}}
    found = read("labelstudio", export(task(plain, label, remark)))
    assert [(face.label, face.box) for face in found.faces["images/a.jpg"]] == [("Face", (10, 16, 40, 48))]
    assert not found.findings.counts


def test_what_says_nothing_of_a_picture_and_what_says_that_there_is_no_face(read):
    """Submitted without a region; skipped; never annotated, though a model predicted something."""
    skipped = task(image="b.jpg") | {"annotations": [{"result": [], "was_cancelled": True}]}
    predicted = {
        "id": 3,
        "data": {"image": "b.jpg"},
        "annotations": [],
        "predictions": [{"result": [rectangle()]}],
    }
    found = read("labelstudio", export(task(), skipped, predicted))
    assert found.faces == {"images/a.jpg": []}
    assert not next(found.entries()).silent


@pytest.mark.parametrize("word", ["skipped", "was_cancelled"])
def test_a_task_that_was_skipped_before_version_1_says_nothing(read, word):
    completed = {"data": {"image": IMAGE}, "completions": [{"result": [rectangle()], word: False}]}
    skipped = {"data": {"image": "b.jpg"}, "completions": [{"result": [], word: True}]}
    found = read("labelstudio", export(completed, skipped))
    assert boxes(found) == [(10, 16, 40, 48)]
    assert "images/b.jpg" not in found.faces


@pytest.mark.parametrize("result", [[], [rectangle()]])
def test_an_image_whose_annotation_was_rejected_is_left_out(read, result):
    rejected = {"result": result, "was_cancelled": False, "last_action": "rejected"}
    found = read("labelstudio", export(task() | {"annotations": [rejected]}))
    assert found.missed == [("images/a.jpg", Problem.REJECTED, None)]
    assert boxes(found) == []


def test_a_rejected_annotation_says_nothing_beside_one_that_counts(read):
    rejected = {"result": [rectangle()], "last_action": "rejected", "ground_truth": True}
    accepted = {"result": [rectangle(50)], "last_action": "accepted"}
    found = read("labelstudio", export(task() | {"annotations": [rejected, accepted]}))
    assert boxes(found) == [(50, 16, 80, 48)]
    assert found.missed == []


PAIR = {"left": IMAGE, "right": "b.jpg"}


def pair(*results, **data):
    """A task whose data name both pictures of the folder, or others."""
    return task(*results) | {"data": {**PAIR, **data}}


@pytest.mark.parametrize(
    "results",
    [
        [rectangle(to_name="left"), rectangle(50, to_name="right")],
        [rectangle(to_name="img")],
        [rectangle(to_name="left", item_index=1)],
        [rectangle()],
        [],
    ],
)
def test_regions_that_may_be_of_either_picture_leave_both_out(read, results):
    found = read("labelstudio", export(pair(*results)))
    assert found.faces == {}
    assert set(found.findings.left_out) == {"images/a.jpg", "images/b.jpg"}
    assert found.findings.counts == {Problem.SEVERAL_PICTURES: 1}


def test_regions_in_a_picture_that_is_not_there_are_not_for_the_other_one(read):
    found = read(
        "labelstudio", export(pair(rectangle(to_name="a"), rectangle(to_name="b"), right="gone.jpg"))
    )
    assert found.faces == {}
    assert found.findings.left_out == {"images/a.jpg": Problem.SEVERAL_PICTURES}


def test_regions_of_one_of_several_pictures_are_for_the_one_that_is_called_so(read):
    found = read("labelstudio", export(pair(rectangle(to_name="right"), rectangle(50, to_name="right"))))
    assert boxes(found, "images/b.jpg") == [(10, 16, 40, 48), (50, 16, 80, 48)]
    assert "images/a.jpg" not in found.faces


def test_a_task_that_names_its_picture_twice_or_holds_words_as_well_has_one_picture(read):
    words = {
        "type": "labels",
        "id": "w",
        "to_name": "text",
        "value": {"start": 1, "end": 3, "labels": ["Name"]},
    }
    found = read("labelstudio", export(pair(rectangle(to_name="img"), words, right="a.jpg", text="by Mia")))
    assert boxes(found) == [(10, 16, 40, 48)]
    assert not found.findings.counts


def test_a_task_of_two_pictures_that_nobody_has_submitted_says_nothing(read):
    found = read("labelstudio", export(pair() | {"annotations": []}))
    assert (found.faces, found.findings.left_out, found.findings.counts) == ({}, {}, {})


def test_two_pictures_in_json_min_do_not_tell_whose_the_regions_are(read):
    region = {**LEFT, "rectanglelabels": ["Face"], **FRAME}
    found = read("labelstudio", {"min.json": json.dumps([{**PAIR, "id": 1, "label": [region]}])})
    assert found.faces == {}
    assert set(found.findings.left_out) == {"images/a.jpg", "images/b.jpg"}


def test_annotators_of_one_picture_are_kept_apart_unless_one_is_right(read):
    two = task() | {"annotations": [{"result": [rectangle()]}, {"result": [rectangle(50)]}]}
    assert len(list(read("labelstudio", export(two)).entries())) == 2
    two["annotations"][1]["ground_truth"] = True
    assert boxes(read("labelstudio", export(two))) == [(50, 16, 80, 48)]


@pytest.mark.parametrize(
    ("region", "problem"),
    [
        (
            {"type": "keypointlabels", "value": {"x": 1, "y": 1, "width": 1, "keypointlabels": ["Face"]}},
            Problem.UNREADABLE_SHAPE,
        ),
        ({"type": "brushlabels", "value": {"format": "rle", "rle": [1, 2]}}, Problem.UNREADABLE_SHAPE),
        (rectangle(x="left"), Problem.MALFORMED_ENTRY),
        (rectangle(original_width=120), Problem.MALFORMED_ENTRY),
        (rectangle(image_rotation=90), Problem.MALFORMED_ENTRY),
        ("x", Problem.MALFORMED_ENTRY),
    ],
)
def test_a_region_that_cannot_be_read_is_counted_with_its_image(read, region, problem):
    found = read("labelstudio", export(task(rectangle(), region)))
    assert found.findings.counts == {problem: 1}
    assert [image for image, _, _ in found.missed] == ["images/a.jpg"]


def test_json_min(read):
    regions = [
        {
            "x": 10,
            "y": 20,
            "width": 30,
            "height": 40,
            "rotation": 0,
            "rectanglelabels": ["Face"],
            "original_width": 100,
            "original_height": 80,
        }
    ]
    tasks = [
        {"image": IMAGE, "id": 1, "label": regions, "annotator": 1},
        {"image": "b.jpg", "id": 2, "annotator": 1},
    ]
    found = read("labelstudio", {"min.json": json.dumps(tasks)})
    assert boxes(found) == [(10, 16, 40, 48)]
    assert "images/b.jpg" not in found.faces, "it may have been skipped as well as been found without faces"


FRAME = {"original_width": 100, "original_height": 80}
LEFT = {"x": 10, "y": 20, "width": 30, "height": 40, "rotation": 0}
RIGHT = {"x": 50, "y": 20, "width": 30, "height": 40, "rotation": 0}


def json_min(**controls):
    """One task of JSON-MIN with the lists of its controls."""
    lists = {name: [{**value, **FRAME} for value in values] for name, values in controls.items()}
    return {"min.json": json.dumps([{"image": IMAGE, "id": 1, **lists, "annotator": 1}])}


def named_boxes(found):
    return [(face.label, face.box) for face in found.faces.get("images/a.jpg", [])]


def test_a_label_of_its_own_control_in_json_min_belongs_to_the_region_of_its_place(read):
    ellipse = {"x": 50, "y": 50, "radiusX": 10, "radiusY": 20, "rotation": 0}
    polygon = {"points": [[10, 10], [30, 10], [20, 50]], "closed": True}
    shapes = [LEFT, RIGHT, ellipse, polygon]
    labels = [{**shape, "labels": [f"kind {number}"]} for number, shape in enumerate(shapes)]
    found = read("labelstudio", json_min(shape=shapes, label=labels[::-1]))
    assert named_boxes(found) == [
        ("kind 0", (10, 16, 40, 48)),
        ("kind 1", (50, 16, 80, 48)),
        ("kind 2", (40, 24, 60, 56)),
        ("kind 3", (10, 8, 30, 40)),
    ]
    assert not found.findings.counts


@pytest.mark.parametrize(
    "remark",
    [{"rating": 3}, {"number": 7}, {"choices": ["blurred", "dark"]}, {"text": ["who?", "Mia"]}],
)
def test_remarks_about_single_regions_in_json_min_are_no_faces(read, remark):
    labelled = [{**LEFT, "rectanglelabels": ["Face"]}, {**RIGHT, "rectanglelabels": ["Person"]}]
    files = json_min(label=labelled, remark=[{**LEFT, **remark}, {**RIGHT, **remark}])
    found = read("labelstudio", files)
    assert named_boxes(found) == [("Face", (10, 16, 40, 48)), ("Person", (50, 16, 80, 48))]
    assert not found.findings.counts


@pytest.mark.parametrize(
    "controls",
    [
        {"shape": [LEFT, LEFT], "label": [{**LEFT, "labels": ["Face"]}, {**LEFT, "labels": ["Person"]}]},
        {"shape": [LEFT], "label": [{**RIGHT, "labels": ["Face"]}]},
        {"shape": [LEFT], "label": [{"points": [[1, 1], [9, 1], [9, 9]], "labels": ["Face"]}]},
        {"shape": [{**LEFT, "colour": "red"}]},
        {"shape": [{"x": 1, "y": 1, "width": 1}]},
    ],
)
def test_regions_in_json_min_that_cannot_be_told_leave_their_image_out(read, controls):
    found = read("labelstudio", json_min(**controls))
    assert {image for image, _, label in found.missed if label in (None, "Face")} == {"images/a.jpg"}
    assert "Face" not in [label for label, _ in named_boxes(found)]


def test_two_labels_of_one_id_are_both_of_its_region(read):
    labels = [{"type": "labels", "id": "r1", "value": {"labels": [name]}} for name in ("Face", "frontal")]
    found = read("labelstudio", export(task(*labels, rectangle(label=None, id="r1", type="rectangle"))))
    assert named_boxes(found) == [("Face, frontal", (10, 16, 40, 48))]


def test_a_file_that_is_none_is_refused(read):
    with pytest.raises(DataError, match="no valid JSON"):
        read("labelstudio", {"p.json": '[{"data": {}, "annotations": [{"result": []'})
