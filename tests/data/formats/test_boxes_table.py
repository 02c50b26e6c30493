"""What a table of boxes is, told by its first line and by its columns."""

from __future__ import annotations

import pytest

from nni_hyperfd.data.formats.statements import settle
from nni_hyperfd.errors import DataError

BOX = (10, 12, 40, 52)


def first(read, text: str, name: str = "boxes.csv") -> list[tuple[float, ...]]:
    return [face.box for face in read("csv", {name: text}).faces["images/a.jpg"]]


@pytest.mark.parametrize(
    ("header", "column"),
    [
        ("image,xmin,ymin,xmax,ymax,xmin2,ymin2,xmax2,ymax2", "xmin2"),
        (
            "image,xmin,ymin,xmax,ymax,xmin.1,ymin.1,xmax.1,ymax.1",
            "xmin.1",
        ),  # as pandas tells equal names apart
        ("image,xmin,ymin,xmax,ymax,xmin,ymin,xmax,ymax", "xmin"),
        ("image,x,y,w,h,x_2,y_2,w_2,h_2", "x_2"),
    ],
)
def test_a_second_face_in_a_row_is_not_passed_over(read, header: str, column: str) -> None:
    """It would be background; empty cells for it are no face."""
    text = f"{header}\na.jpg,10,12,40,52,,,,\nb.jpg,10,12,40,52,50,12,80,52\n"
    with pytest.raises(DataError, match=rf"more than one box in a row \('{column}' in row 3\): write a row"):
        read("csv", {"boxes.csv": text})
    assert len(first(read, text.replace("50,12,80,52", ",,,"))) == 1


def test_numbered_points_are_no_corners(read) -> None:
    """x1 to y5 are eyes, nose and mouth; the box stands beside them."""
    points = ",".join(f"x{n},y{n}" for n in range(1, 6))
    text = f"image,{points},x,y,w,h\na.jpg,20,20,30,20,25,30,21,40,29,40,10,12,30,40\n"
    assert first(read, text) == [BOX]
    corners = "image,x1,y1,x2,y2,x3,y3,x4,y4\na.jpg,10,14,42,12,40,52,8,54\n"
    assert read("csv", {"boxes.csv": corners}).faces == {}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("boxes.csv", "sep=;\nimage;xmin;ymin;xmax;ymax\na.jpg;10;12;40;52\n"),
        ("boxes.csv", '\ufeff"sep=,"\r\nimage,xmin,ymin,xmax,ymax\r\na.jpg,10,12,40,52\r\n'),
        ("labels_my-project.csv", "face,10,12,30,40,a.jpg,100,80\n"),  # makesense.ai
        ("boxes.txt", "image\txmin\tymin\txmax\tymax\na.jpg\t10\t12\t40\t52\n"),
    ],
)
def test_what_tools_write_around_a_table(read, name: str, text: str) -> None:
    assert first(read, text, name) == [BOX]


def test_a_column_of_words_for_splits_is_one_whatever_it_is_called(read) -> None:
    text = "image,xmin,ymin,xmax,ymax,purpose,remark\na.jpg,10,12,40,52,train,train\nb.jpg,10,12,40,52,val,match\n"
    found = read("csv", {"boxes.csv": text})
    settle(found)
    assert {entry.image: entry.split for entry in found.entries()} == {
        "images/a.jpg": "train",
        "images/b.jpg": "val",
    }
