"""Pascal VOC xml."""

from __future__ import annotations

import pytest

from nni_hyperfd.data.report import Problem
from nni_hyperfd.errors import DataError


def box(*corners: object, difficult: int = 0, name: str = "face") -> str:
    tags = "".join(f"<{tag}>{value}</{tag}>" for tag, value in zip(("xmin", "ymin", "xmax", "ymax"), corners))
    return f"<object><name>{name}</name><difficult>{difficult}</difficult><bndbox>{tags}</bndbox></object>"


def page(name: str, *boxes: str, size: tuple[int, int] = (100, 80)) -> str:
    sides = f"<size><width>{size[0]}</width><height>{size[1]}</height><depth>3</depth></size>"
    return f"<annotation><filename>{name}</filename>{sides}{''.join(boxes)}</annotation>"


def test_corners_labels_and_difficult_faces(read):
    boxes = box(1, 2, 30.5, 40), box(5, 6, 7, 8, difficult=1, name="mask")
    faces = read("voc", {"annotations/a.xml": page("a.jpg", *boxes)}).faces["images/a.jpg"]
    assert [(face.box, face.ignored, face.label) for face in faces] == [
        ((1, 2, 30.5, 40), False, "face"),
        ((5, 6, 7, 8), True, "mask"),
    ]


def test_an_image_without_objects_is_an_image_without_faces(read):
    assert read("voc", {"annotations/a.xml": page("a.jpg")}).faces == {"images/a.jpg": []}


def test_a_stale_file_name_falls_back_to_the_name_of_the_xml_file(read):
    faces = read("voc", {"annotations/b.xml": page("IMG_0001.JPG", box(1, 2, 3, 4))}).faces
    assert list(faces) == ["images/b.jpg"]


def test_an_image_that_is_nowhere_is_counted(read):
    files = {"annotations/c.xml": page("c.jpg", box(1, 2, 3, 4)), "annotations/a.xml": page("a.jpg")}
    assert read("voc", files).findings.counts == {Problem.MISSING_IMAGE: 1}


def test_bad_files_and_bad_boxes_are_counted(read):
    files = {
        "annotations/a.xml": page("a.jpg", box(1, 2, 3), box(1, 2, 3, "x"), box(1, 2, 3, 4)),
        "annotations/b.xml": "<annotation><filename>b.jpg",
        "annotations/other.xml": "<project/>",
    }
    found = read("voc", files)
    assert len(found.faces["images/a.jpg"]) == 1
    assert found.findings.counts == {Problem.MALFORMED_ENTRY: 2, Problem.MALFORMED_FILE: 2}


def test_no_good_file_at_all_is_refused(read):
    with pytest.raises(DataError, match="none of the 1 XML files"):
        read("voc", {"annotations/a.xml": "<annotation>"})


def test_the_stated_size_is_handed_over_and_no_size_is_fine(read):
    files = {
        "annotations/a.xml": page("a.jpg", size=(50, 40)),
        "annotations/b.xml": "<annotation><filename>b.jpg</filename></annotation>",
    }
    assert [entry.size for entry in read("voc", files).entries()] == [(50, 40), None]


def test_an_xml_file_cannot_blow_up_the_memory(read):
    entities = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 12))
    bomb = f'<!DOCTYPE x [<!ENTITY e0 "aaaaaaaaaa">{entities}]><annotation><filename>&e11;</filename></annotation>'
    files = {"annotations/a.xml": bomb, "annotations/b.xml": page("b.jpg")}
    assert read("voc", files).findings.counts[Problem.MALFORMED_FILE] == 1


INSIDE = "<name>face</name><bndbox><xmin>1</xmin><ymin>2</ymin><xmax>30</xmax><ymax>40</ymax></bndbox>"


@pytest.mark.parametrize(
    "text",
    [
        f"<Annotation><Object>{INSIDE.replace('xmin', 'XMin').replace('bndbox', 'BndBox')}</Object></Annotation>",
        f"<annotation xmlns='http://example.org/voc'><object>{INSIDE}</object></annotation>",
        f"<v:annotation xmlns:v='http://example.org/voc'><v:object>{INSIDE}</v:object></v:annotation>",
    ],
)
def test_tags_in_any_case_and_namespace(read, text):
    faces = read("voc", {"images/a.xml": text}).faces["images/a.jpg"]
    assert [(face.box, face.label) for face in faces] == [((1, 2, 30, 40), "face")]


def test_a_box_that_is_in_no_object_does_not_make_an_image_without_faces(read):
    files = {
        "images/a.xml": f"<annotation><item>{INSIDE}</item></annotation>",
        "images/b.xml": f"<annotation><object>{INSIDE}<part>{INSIDE}</part></object></annotation>",
    }
    found = read("voc", files)
    assert [image for image, _, _ in found.missed] == ["images/a.jpg"]
    assert len(found.faces["images/b.jpg"]) == 1
