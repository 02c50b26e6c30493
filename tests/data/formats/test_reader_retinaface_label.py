"""RetinaFace label.txt."""

from __future__ import annotations

import math

from nni_hyperfd.data.report import Problem

POINTS = "12 22 0.0 18 22 0.0 15 25 0.0 13 28 1.0 -1 -1 -1"


def test_boxes_and_landmarks(read):
    text = f"# a.jpg\n10 20 10.5 12 {POINTS} 0.9\n1 2 3 4 {POINTS}\n# b.jpg\n1 2 3 4\n"
    faces = read("retinaface", {"label.txt": text}).faces
    first = faces["images/a.jpg"][0]
    assert first.box == (10, 20, 20.5, 32)
    assert first.landmarks[:4] == ((12, 22), (18, 22), (15, 25), (13, 28))
    assert math.isnan(first.landmarks[4][0])
    assert faces["images/a.jpg"][1].landmarks[0] == (12, 22)
    assert faces["images/b.jpg"][0].landmarks is None


def test_an_image_without_lines_is_an_image_without_faces(read):
    assert read("retinaface", {"label.txt": "# a.jpg\n# b.jpg\n1 2 3 4\n"}).faces["images/a.jpg"] == []


def test_train_and_val_lists_beside_their_images(read):
    images = ("train/images/0--Parade/x.jpg", "val/images/0--Parade/x.jpg")
    files = {f"{part}/label.txt": f"# 0--Parade/x.jpg\n{x} 2 3 4\n" for part, x in (("train", 1), ("val", 9))}
    faces = read("retinaface", files, images).faces
    assert [faces[name][0].box[0] for name in images] == [1, 9]


def test_bad_lines_and_lines_before_the_first_name_are_counted(read):
    text = "# a.jpg\n1 2 3\n1 2 3 4 5\n1 2 3 x\n1 2 3 4\n# gone.jpg\n1 2 3 4\n"
    found = read("retinaface", {"label.txt": text})
    assert len(found.faces["images/a.jpg"]) == 1
    assert found.findings.counts == {Problem.MALFORMED_ENTRY: 3, Problem.MISSING_IMAGE: 1}
