"""boxes.csv."""

from __future__ import annotations

from nni_hyperfd.data.report import Problem

HEADER = "image,xmin,ymin,xmax,ymax,label\n"


def test_rows_are_faces(read):
    found = read("csv", {"boxes.csv": HEADER + "a.jpg,1,2,30.5,40,face\na.jpg,5,6,7,8,\n"})
    assert [(face.box, face.label) for face in found.faces["images/a.jpg"]] == [
        ((1, 2, 30.5, 40), "face"),
        ((5, 6, 7, 8), None),
    ]


def test_columns_in_any_order_under_other_names_with_quotes(read):
    text = '\ufeff"class","Filename",width,ymin,xmin,ymax,xmax\nface,"b.jpg",100,2,1,4,3\n'
    found = read("csv", {"_annotations.csv": text})
    assert found.faces["images/b.jpg"][0].box == (1, 2, 3, 4)


def test_empty_corners_stand_for_an_image_without_faces(read):
    assert read("csv", {"boxes.csv": HEADER + "a.jpg,,,,,\n"}).faces == {"images/a.jpg": []}


def test_bad_rows_are_counted_and_a_missing_image_once(read):
    rows = "a.jpg,1,2,3\na.jpg,1,2,3,x,face\n,1,2,3,4,face\na.jpg,1,2,3,,face\ngone.jpg,1,2,3,4,face\ngone.jpg,5,6,7,8,face\n"
    found = read("csv", {"boxes.csv": HEADER + rows + "a.jpg,1,2,3,4,face\n"})
    assert len(found.faces["images/a.jpg"]) == 1
    assert found.findings.counts == {Problem.MALFORMED_ENTRY: 4, Problem.MISSING_IMAGE: 1}
    assert found.findings.examples[Problem.MALFORMED_ENTRY][0] == "boxes.csv:2"


def test_a_flag_below_zero_is_unknown_and_not_set(read):
    header = "ImageID,LabelName,XMin,XMax,YMin,YMax,IsOccluded,IsGroupOf\n"
    rows = [f"{name},/m/0dzct,0.1,0.4,0.2,0.6,1,{flag}\n" for name, flag in zip("aaab", (-1, 0, 1, -1))]
    faces = read("csv", {"boxes.csv": header + "".join(rows)}).faces
    assert [face.ignored for face in faces["images/a.jpg"]] == [False, False, True]
    assert [face.box for face in faces["images/b.jpg"]] == [(10, 16, 40, 48)]
    assert not faces["images/b.jpg"][0].ignored
