"""Encodings, delimiters, headers, numbers."""

from __future__ import annotations

import math
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nni_hyperfd.data.tables import (
    DELIMITERS,
    LAYOUTS,
    are_fractions,
    corners_of,
    delimiter_of,
    four_in_one,
    header_of,
    layout_by_evidence,
    layout_of_corners,
    number,
    rows_of,
)
from nni_hyperfd.data.text import decode_text, parse_xml


@pytest.mark.parametrize(
    "codec", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252"]
)
def test_encodings_of_western_text(codec):
    assert decode_text("Gesicht;Zoë;1,5\n".encode(codec))[0] == "Gesicht;Zoë;1,5\n"


@pytest.mark.parametrize(
    ("text", "codec", "witness"),
    [("图片一.jpg", "gb18030", "图片一"), ("写真.jpg", "shift_jis", "写真"), ("лицо", "cp1251", "лицо")],
)
def test_names_on_disk_tell_between_old_encodings(text, codec, witness):
    assert decode_text(text.encode(codec), [witness]) == (text, codec)


@given(st.binary(max_size=60))
def test_any_bytes_become_text(content):
    text, encoding = decode_text(content)
    assert isinstance(text, str)
    assert encoding


@pytest.mark.parametrize(
    "declared", ["utf8", "UTF-8", "gbk", "utf-16", "latin-1", "windows-1252", "nonsense", None]
)
def test_xml_is_read_as_declared(declared):
    head = f"<?xml version='1.0' encoding='{declared}'?>\n" if declared else ""
    codec = declared if declared not in (None, "nonsense") else "utf-8"
    name = "图" if declared in ("utf8", "gbk", "utf-16") else "ü"
    root, _ = parse_xml(f"{head}<a><b>{name}</b></a>".encode(codec))
    assert root.findtext("b") == name


def test_xml_in_another_encoding_than_declared_is_read_all_the_same():
    root, encoding = parse_xml("<?xml version='1.0' encoding='utf-8'?><a>Zoë</a>".encode("cp1252"))
    assert (root.text, encoding) == ("Zoë", "cp1252")
    with pytest.raises(ElementTree.ParseError):
        parse_xml(b"<a>")


@pytest.mark.parametrize(
    ("text", "value"),
    [("10", 10), ("10.5", 10.5), ("10,5", 10.5), (" -3 ", -3), ("1e2", 100), (".5", 0.5), ("inf", math.inf), ("1_000", None), ("1.2.3", None), ("", None), ("٣", None)],
)  # fmt: skip
def test_numbers(text, value):
    assert number(text) == value


def test_four_numbers_in_one_cell():
    assert four_in_one("[10, 20.5, 30, 40]") == four_in_one("10 20.5 30 40") == [10, 20.5, 30, 40]
    assert four_in_one("[10, 20]") is None


@pytest.mark.parametrize(
    ("line", "layout", "box"),
    [
        ("image,xmin,ymin,xmax,ymax", "corners", (1, 2, 3, 4)),
        ("image_name,width,height,x0,y0,x1,y1", "corners", (3, 4, 5, 6)),
        ("path,x1,y1,x2,y2,class", "corners", (1, 2, 3, 4)),
        ("ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax", "corners", (4, 6, 5, 7)),
        ("filename,left,top,right,bottom", "corners", (1, 2, 3, 4)),
        ("filename,left,top,width,height", "corner and size", (1, 2, 3, 4)),
        ("image_id,x_1,y_1,width,height", "corner and size", (1, 2, 3, 4)),
        (
            "img,bbox_x,bbox_y,bbox_width,bbox_height,image_width,image_height",
            "corner and size",
            (1, 2, 3, 4),
        ),
        ("file,x_center,y_center,w,h", "centre and size", (1, 2, 3, 4)),
        ("image_id,width,height,bbox,source", None, (3,)),
        ("Bild;X Min;Y Min;X Max;Y Max", "corners", (1, 2, 3, 4)),
        ("image\txmin\tymin\txmax\tymax", "corners", (1, 2, 3, 4)),
    ],
)
def test_headers(line, layout, box):
    header = header_of(line.split(delimiter_of(line)))
    assert (header.image, header.layout, header.box) == (0, layout, box)


def test_the_size_of_the_picture_is_not_that_of_the_box():
    assert header_of(["image", "width", "height", "xmin", "ymin", "xmax", "ymax"]).size == (1, 2)
    assert header_of(["image", "x", "y", "width", "height"]).size is None
    assert header_of(["name", "age"]) is None


def test_fractions_are_told_by_the_whole_table():
    assert are_fractions([(0.1, 0.2, 0.5, 0.5), (0, 0, 1, 1)])
    assert not are_fractions([(0.1, 0.2, 0.5, 0.5), (10, 20, 30, 40)])
    assert not are_fractions([(0, 0, 1, 1)])
    assert not are_fractions([])


def test_a_table_that_denies_its_format_is_believed_where_all_of_it_agrees():
    corners = [(50, 40, 90, 70), (60, 10, 95, 75), (30, 50, 80, 78)]
    assert layout_by_evidence(corners, [(100, 80)] * 3, "corner and size") == "corners"
    assert layout_by_evidence(corners[:2], [(100, 80)] * 2, "corner and size") is None
    assert layout_by_evidence([(10, 10, 20, 20)] * 3, [(100, 80)] * 3, "corner and size") == "corner and size"


@pytest.mark.parametrize("layout", LAYOUTS)
def test_corners_turn_into_each_layout_and_back(layout: str) -> None:
    box = (10.0, 20.0, 50.0, 30.0)
    assert corners_of(layout_of_corners(box, layout), layout) == box


def test_centres_that_are_given_out_for_corners_lead_outside() -> None:
    """Faces of a third of the picture: a few of ten are told, one alone may be cut by the edge."""
    centres = [(100 + 4 * n, 75 + n, 66, 50) for n in range(10)]
    size: list[tuple[float, float] | None] = [(200, 150)] * 10
    assert layout_by_evidence(centres, size, "corner and size") == "corner and size"
    centres[:4] = [(160, 75, 66, 50)] * 4
    assert layout_by_evidence(centres, size, "corner and size") == "centre and size"
    fractions = [(x / 200, y / 150, w / 200, h / 150) for x, y, w, h in centres]
    assert layout_by_evidence(fractions, [(1.0, 1.0)] * 10, "corner and size") == "centre and size"
    assert layout_by_evidence([(20, 15, 66, 50), *centres], [*size, (200, 150)], "corner and size") == (
        "corner and size"
    ), "one that no centre can have"
    assert layout_by_evidence([(0, 0, 60, 45)] * 3, [(200, 150)] * 3, "centre and size") == "corner and size"


def test_a_line_that_the_csv_module_refuses_is_no_row_and_stops_nothing() -> None:
    """NUL is refused by Python 3.10 alone, a field of 131 072 characters by all."""
    text = "a\0b.jpg,1\n" + "x" * 200_000 + ",2\nc.jpg,3"
    assert list(rows_of(text, ",")) == [(1, ["a\ufffdb.jpg", "1"]), (2, None), (3, ["c.jpg", "3"])]
    assert delimiter_of("x" * 200_000 + ";2") in DELIMITERS
