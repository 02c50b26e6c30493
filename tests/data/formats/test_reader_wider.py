"""WIDER FACE text."""

from __future__ import annotations

from nni_hyperfd.data.formats import RawFace
from nni_hyperfd.data.report import Problem

TAIL = "0 0 0 0 0 0"


def test_boxes_are_corner_and_size_in_fractions_of_pixels(read):
    text = f"a.jpg\n2\n10.5 20 30.25 40 {TAIL}\n1 2 3 4 {TAIL}\nb.jpg\n1\n5 6 7 8 {TAIL}\n"
    faces = read("wider", {"list.txt": text}).faces
    assert [face.box for face in faces["images/a.jpg"]] == [(10.5, 20, 40.75, 60), (1, 2, 4, 6)]
    assert [face.box for face in faces["images/b.jpg"]] == [(5, 6, 12, 14)]


def test_the_invalid_flag_makes_a_face_ignored_and_the_other_flags_do_not(read):
    text = "a.jpg\n2\n1 2 3 4 2 1 1 1 2 1\n5 6 7 8 2 1 1 0 2 1\n"
    faces = read("wider", {"list.txt": text}).faces["images/a.jpg"]
    assert [face.ignored for face in faces] == [True, False]


def test_an_image_without_faces_has_one_line_of_zeros(read):
    found = read("wider", {"list.txt": f"a.jpg\n0\n0 0 0 0 {TAIL}\nb.jpg\n1\n1 2 3 4 {TAIL}\n"})
    assert found.faces["images/a.jpg"] == []
    assert found.faces["images/b.jpg"] == [RawFace((1, 2, 4, 6))]
    assert not found.findings.counts


def test_event_folders_and_several_lists(read):
    images = ("WIDER_train/images/0--Parade/x.jpg", "WIDER_val/images/1--March/x.jpg")
    files = {
        "split/train.txt": f"0--Parade/x.jpg\n1\n1 1 2 2 {TAIL}\n",
        "split/val.txt": f"1--March/x.jpg\n1\n5 5 2 2 {TAIL}\n",
        "split/filelist.txt": "0--Parade/x.jpg\n1--March/x.jpg\n",
    }
    faces = read("wider", files, images).faces
    assert faces == {images[0]: [RawFace((1, 1, 3, 3))], images[1]: [RawFace((5, 5, 7, 7))]}


def test_bad_lines_and_wrong_counts_are_counted_and_the_rest_is_read(read):
    text = f"a.jpg\n3\n1 2 3 4 {TAIL}\n1 2\n5 6 7 8\nb.jpg\n1\n1 2 3 4 {TAIL}\n"
    found = read("wider", {"list.txt": text})
    assert len(found.faces["images/a.jpg"]) == 2
    assert found.findings.counts == {Problem.MALFORMED_ENTRY: 1, Problem.WRONG_COUNT: 1}
    assert found.findings.examples[Problem.MALFORMED_ENTRY] == ["list.txt:4"]


def test_boxes_behind_a_name_that_is_not_understood_do_not_go_to_the_image_before(read):
    text = f"a.jpg\n1\n1 2 3 4 {TAIL}\nsome movie\n1\n5 6 7 8 {TAIL}\n"
    found = read("wider", {"list.txt": text})
    assert found.faces["images/a.jpg"] == [RawFace((1, 2, 4, 6))]
    assert found.findings.counts[Problem.MALFORMED_ENTRY] == 3


def test_boxes_of_a_missing_image_are_passed_over_and_the_image_is_counted_once(read):
    text = f"gone.jpg\n2\n1 2 3 4 {TAIL}\n5 6 7 8 {TAIL}\na.jpg\n1\n1 2 3 4 {TAIL}\n"
    found = read("wider", {"list.txt": text})
    assert list(found.faces) == ["images/a.jpg"]
    assert found.findings.counts == {Problem.MISSING_IMAGE: 1}
