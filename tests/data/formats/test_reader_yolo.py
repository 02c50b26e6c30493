"""YOLO txt."""

from __future__ import annotations

import math

import pytest

from nni_hyperfd.data.formats.yolo_shapes import are_tracks
from nni_hyperfd.data.report import Problem
from nni_hyperfd.errors import DataError


def test_fractions_become_pixels_of_the_image(read):
    faces = read("yolo", {"labels/a.txt": "0 0.5 0.5 0.2 0.25\n1 0.1 0.2 0.1 0.1\n"}).faces["images/a.jpg"]
    assert faces[0].box == pytest.approx((40, 30, 60, 50))
    assert faces[1].box == pytest.approx((5, 12, 15, 20))


def test_an_empty_label_file_is_an_image_without_faces_and_none_is_no_annotation(read):
    images = ("images/a.jpg", "images/b.jpg", "images/c.jpg")
    faces = read("yolo", {"labels/a.txt": "0 0.5 0.5 0.2 0.25", "labels/b.txt": ""}, images).faces
    assert {name: len(found) for name, found in faces.items()} == {"images/a.jpg": 1, "images/b.jpg": 0}


def test_labels_go_with_the_image_of_their_own_subfolder(read):
    images = ("images/train/1.jpg", "images/val/1.jpg")
    files = {"labels/train/1.txt": "0 .5 .5 .1 .1", "labels/val/1.txt": "0 .25 .5 .1 .1"}
    faces = read("yolo", files, images).faces
    assert [faces[name][0].box[0] for name in images] == pytest.approx([45, 20])


def test_labels_beside_their_images(read):
    faces = read("yolo", {"a.b.txt": "0 .5 .5 .1 .1"}, ("a.b.png", "c.png")).faces
    assert {name: len(found) for name, found in faces.items()} == {"a.b.png": 1}


def test_landmarks_behind_the_box(read):
    points = "0.4 0.4 2 0.6 0.4 2 0.5 0.5 2 0.45 0.6 0 nan 0.6 2"
    face = read("yolo", {"labels/a.txt": f"0 0.5 0.5 0.5 0.5 {points}"}).faces["images/a.jpg"][0]
    assert face.landmarks[0] == pytest.approx((40, 32))
    assert [math.isnan(x) for x, _ in face.landmarks] == [False, False, False, True, True]


def test_bad_lines_are_counted(read):
    text = "0 0.5 0.5 0.2\n0 0.5 0.5 0.2 x\nsome words here and there\n0 0.5 0.5 0.2 0.2\n"
    found = read("yolo", {"labels/a.txt": text})
    assert len(found.faces["images/a.jpg"]) == 1
    assert found.findings.counts == {Problem.MALFORMED_ENTRY: 3}


def test_labels_whose_image_is_gone_are_counted_and_other_text_is_left_alone(read):
    files = {
        "labels/a.txt": "0 0.5 0.5 0.2 0.2",
        "labels/gone.txt": "0 0.5 0.5 0.2 0.2",
        "labels/notes.txt": "labeled in spring",
        "README.txt": "1 2 3 4 5",
    }
    found = read("yolo", files)
    assert found.findings.counts == {Problem.MISSING_IMAGE: 1}


def test_a_label_that_fits_two_images_is_counted_not_guessed(read):
    found = read(
        "yolo", {"labels/a.txt": "0 .5 .5 .1 .1", "labels/c.txt": ""}, ("p/a.jpg", "q/a.jpg", "p/c.jpg")
    )
    assert not any(found.faces.values())
    assert found.findings.counts == {Problem.AMBIGUOUS_IMAGE: 1}


def test_class_names(read):
    files = {"labels/a.txt": "0 .5 .5 .1 .1\n1 .2 .2 .1 .1\n2 .2 .8 .1 .1", "classes.txt": "person\nface\n"}
    faces = read("yolo", files).faces["images/a.jpg"]
    assert [face.label for face in faces] == ["person", "face", None]


@pytest.mark.parametrize(
    "text",
    [
        "face\nperson\n",
        "\nface\nperson\n",  # as labelImg reads it
        "# all classes\nface\nperson\n",
        "1 person\n0 face\n",
        "0: face\n1: person\n",
        "face, person\n",
        "['face', 'person']",
    ],
)
def test_ways_to_list_class_names(read, text):
    """A name that is taken for another number makes persons of faces."""
    faces = read("yolo", {"labels/a.txt": "0 .5 .5 .1 .1\n1 .2 .2 .1 .1", "classes.txt": text}).faces
    assert [face.label for face in faces["images/a.jpg"]] == ["face", "person"]


def test_points_of_a_whole_face_behind_a_box_are_no_polygon(read):
    """As 68 or 98 points of a face without a data.yaml that counts them; and a polygon of as many stays one."""
    circle = [(math.cos(n / 10.8), math.sin(n / 10.8)) for n in range(68)]
    points = " ".join(f"{0.5 + 0.2 * x:.4f} {0.5 + 0.25 * y:.4f}" for x, y in circle)
    faces = read("yolo", {"labels/a.txt": f"0 0.5 0.5 0.4 0.5 {points}"}).faces["images/a.jpg"]
    assert faces[0].box == pytest.approx((30, 20, 70, 60))
    (polygon,) = read("yolo", {"labels/b.txt": f"0 {points}", "labels/a.txt": ""}).faces["images/b.jpg"]
    assert polygon.box == pytest.approx((30, 20, 70, 60), abs=0.1)


@pytest.mark.parametrize("angle", ["45.5", "-0.3"])
def test_the_angle_of_a_turned_box_is_no_confidence(read, angle):
    with pytest.raises(DataError, match=r"sixth number that is no confidence \(labels/a.txt:1\)"):
        read("yolo", {"labels/a.txt": f"0 0.5 0.5 0.4 0.5 {angle}"})


TRACK = "0 0.5 0.5 0.2 0.25 0.{} {}\n"


def tracks(*numbers: int) -> str:
    return "".join(TRACK.format(91 + place, number) for place, number in enumerate(numbers))


@pytest.mark.parametrize("numbers", [(1, 1, 1), (7,), (1, 2)])
def test_a_confidence_and_a_track_behind_the_box_are_no_corners(read, numbers):
    """What Ultralytics writes of what it follows: six numbers, as a triangle has."""
    found = read("yolo", {"labels/a.txt": tracks(*numbers)})
    assert [face.box for face in found.faces["images/a.jpg"]] == [pytest.approx((40, 30, 60, 50))] * len(
        numbers
    )
    assert [note for note in found.findings.notes if "number of a track" in note and "detections" in note]


def test_a_box_with_track_1_or_a_triangle_on_the_lower_edge_alone_is_not_read(read):
    found = read("yolo", {"labels/a.txt": tracks(1, 1), "labels/b.txt": "0 0.5 0.5 0.2 0.25\n"})
    assert found.faces["images/a.jpg"] == []
    assert [image for image, _, _ in found.missed] == ["images/a.jpg"] * 2
    assert found.faces["images/b.jpg"][0].box == pytest.approx((40, 30, 60, 50))


def test_triangles_are_polygons_also_where_some_end_on_the_lower_edge(read):
    lines = "0 0.1 0.2 0.4 0.3 0.2 1\n0 0.1 0.2 0.4 0.3 0.2 0.9\n"
    found = read("yolo", {"labels/a.txt": lines, "labels/b.txt": "0 0.1 0.2 0.5 0.2 0.5 0.6 0.1 0.6\n"})
    assert [face.box for face in found.faces["images/a.jpg"]] == [
        pytest.approx((10, 16, 40, 80)),
        pytest.approx((10, 16, 40, 72)),
    ]
    assert found.faces["images/b.jpg"][0].box == pytest.approx((10, 16, 50, 48))


def test_a_track_behind_a_polygon_or_landmarks(read):
    polygon = "0 0.1 0.2 0.5 0.2 0.5 0.6 0.1 0.6 0.95 {}\n"
    points = "0.4 0.4 0.6 0.4 0.5 0.5 0.45 0.6 0.55 0.6"
    text = "".join(polygon.format(number) for number in (1, 2, 3))
    found = read("yolo", {"labels/a.txt": text})
    assert [face.box for face in found.faces["images/a.jpg"]] == [pytest.approx((10, 16, 50, 48))] * 3
    faces = read("yolo", {"labels/a.txt": f"0 0.5 0.5 0.5 0.5 {points} 0.9 4\n"}).faces["images/a.jpg"]
    assert faces[0].box == pytest.approx((25, 20, 75, 60))
    assert faces[0].landmarks[4] == pytest.approx((55, 48))


def test_a_line_without_a_track_among_tracks_is_not_read(read):
    found = read("yolo", {"labels/a.txt": tracks(*range(1, 10)), "labels/b.txt": TRACK.format(9, 0.5)})
    assert len(found.faces["images/a.jpg"]) == 9
    assert found.missed == [("images/b.jpg", Problem.MALFORMED_ENTRY, None)]


@pytest.mark.parametrize(
    ("lines", "tracked"),
    [
        ([], False),
        ([(0.5, 0.5, 0.2, 0.2, 0.9, 1.0)] * 3, True),
        ([(0.5, 0.5, 0.2, 0.2, 0.9, 1.0)] * 2, None),
        ([(0.5, 0.5, 0.2, 0.2, 1.2, 2.0)] * 3, False),  # no confidence
        ([(0.9, 0.5, 0.4, 0.2, 0.9, 1.0)] * 3, False),  # no box in the picture
        ([(0.3, 0.2, 0.6, 1.0, 0.4, 1.0, 0.2, 1.0)] * 3, None),  # a polygon that stands on the lower edge
        ([(0.3, 0.2, 0.6, 0.8, 0.4, 0.9, 0.2, 0.7)] * 3, False),
    ],
)
def test_what_tells_tracks_from_corners(lines, tracked):
    assert are_tracks(lines) is tracked
