"""Flags such as ``difficult`` where each tool has them: two boxes in each export, of which the second is flagged."""

from __future__ import annotations

import json
from typing import Any

import pytest

CORNERS = ((5.0, 6.0, 30.0, 36.0), (50.0, 6.0, 90.0, 56.0))
FLAGS = [("difficult", True, True), ("is_crowd", "1", True), ("iscrowd", 1, True), ("invalid", "true", True)]
NOT_SET = [
    ("difficult", False, False),
    ("ignore", "no", False),
    ("ignored", -1, False),
    ("occluded", True, False),
]


def sides(box: tuple[float, ...]) -> list[float]:
    return [box[0], box[1], box[2] - box[0], box[3] - box[1]]


def coco(flags: list[dict[str, Any]], attributes: bool = False) -> dict[str, str]:
    boxes = [
        {"image_id": 1, "bbox": sides(box), **({"attributes": own, "iscrowd": 0} if attributes else own)}
        for box, own in zip(CORNERS, flags)
    ]
    return {"a.json": json.dumps({"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": boxes})}


def coco_of_cvat(flags: list[dict[str, Any]]) -> dict[str, str]:
    return coco(flags, attributes=True)


def createml(flags: list[dict[str, Any]]) -> dict[str, str]:
    keys = ("x", "y", "width", "height")
    boxes = [
        {"label": "face", "coordinates": dict(zip(keys, ((a + c) / 2, (b + d) / 2, c - a, d - b))), **own}
        for (a, b, c, d), own in zip(CORNERS, flags)
    ]
    return {"faces.json": json.dumps([{"image": "a.jpg", "annotations": boxes}])}


def said(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def cvat(flags: list[dict[str, Any]]) -> dict[str, str]:
    boxes = "".join(
        f'<box label="face" xtl="{a}" ytl="{b}" xbr="{c}" ybr="{d}">'
        + "".join(f'<attribute name="{name}">{said(value)}</attribute>' for name, value in own.items())
        + "</box>"
        for (a, b, c, d), own in zip(CORNERS, flags)
    )
    return {"a.xml": f'<annotations><image id="0" name="a.jpg">{boxes}</image></annotations>'}


def voc(flags: list[dict[str, Any]], tag: str = "{}", inner: str = "<{0}>{1}</{0}>") -> dict[str, str]:
    objects = "".join(
        f"<object><name>face</name><bndbox><xmin>{a}</xmin><ymin>{b}</ymin><xmax>{c}</xmax><ymax>{d}</ymax></bndbox>"
        + tag.format("".join(inner.format(name, said(value)) for name, value in own.items()))
        + "</object>"
        for (a, b, c, d), own in zip(CORNERS, flags)
    )
    return {"a.xml": f"<annotation><filename>a.jpg</filename>{objects}</annotation>"}


def voc_of_cvat(flags: list[dict[str, Any]]) -> dict[str, str]:
    return voc(
        flags,
        "<difficult>0</difficult><attributes>{}</attributes>",
        "<attribute><name>{}</name><value>{}</value></attribute>",
    )


def labelme(flags: list[dict[str, Any]], group: str = "") -> dict[str, str]:
    shapes = [
        {
            "label": "face",
            "shape_type": "rectangle",
            "points": [box[:2], box[2:]],
            **({group: own} if group else own),
        }
        for box, own in zip(CORNERS, flags)
    ]
    return {"a.json": json.dumps({"imagePath": "a.jpg", "shapes": shapes})}


def labelme_flags(flags: list[dict[str, Any]]) -> dict[str, str]:
    return labelme(flags, "flags")


def via(flags: list[dict[str, Any]]) -> dict[str, str]:
    keys = ("x", "y", "width", "height")
    regions = [
        {
            "shape_attributes": {"name": "rect", **dict(zip(keys, sides(box)))},
            "region_attributes": {"label": "face", **own},
        }
        for box, own in zip(CORNERS, flags)
    ]
    return {"faces.json": json.dumps({"a": {"filename": "a.jpg", "regions": regions}})}


def supervisely(flags: list[dict[str, Any]]) -> dict[str, str]:
    objects = [
        {
            "classTitle": "face",
            "geometryType": "rectangle",
            "points": {"exterior": [box[:2], box[2:]], "interior": []},
            "tags": [{"name": name, "value": value} for name, value in own.items()],
        }
        for box, own in zip(CORNERS, flags)
    ]
    return {"a.jpg.json": json.dumps({"size": {"width": 100, "height": 80}, "tags": [], "objects": objects})}


def labelstudio(flags: list[dict[str, Any]]) -> dict[str, str]:
    result: list[dict[str, Any]] = []
    for place, (box, own) in enumerate(zip(CORNERS, flags)):
        x, y, width, height = sides(box)
        where = {"x": x, "y": y / 0.8, "width": width, "height": height / 0.8, "rectanglelabels": ["face"]}
        frame = {"id": str(place), "original_width": 100, "original_height": 80}
        result.append({"type": "rectanglelabels", "value": where, **frame})
        result += [
            {"type": "choices", "from_name": name, "value": {"choices": [said(value)]}, **frame}
            for name, value in own.items()
        ]
    return {"a.json": json.dumps([{"data": {"image": "a.jpg"}, "annotations": [{"result": result}]}])}


EXPORTS = {
    each.__name__: each
    for each in (
        coco, coco_of_cvat, createml, cvat, voc, voc_of_cvat, labelme, labelme_flags, via, supervisely, labelstudio,
    )
}  # fmt: skip


@pytest.mark.parametrize("export", EXPORTS)
@pytest.mark.parametrize(("name", "value", "ignored"), [*FLAGS, *NOT_SET])
def test_a_flagged_box_is_ignored(read, export: str, name: str, value: Any, ignored: bool) -> None:
    files = EXPORTS[export]([{}, {name: value}])
    faces = read(export.split("_")[0], files, ("a.jpg",)).faces["a.jpg"]
    assert [tuple(round(number, 6) for number in face.box) for face in faces] == [*CORNERS]
    assert [face.ignored for face in faces] == [False, ignored]


def test_a_tag_of_supervisely_says_all_by_being_there(read) -> None:
    tagged = supervisely([{}, {"difficult": None}])
    assert [face.ignored for face in read("supervisely", tagged, ("a.jpg",)).faces["a.jpg"]] == [False, True]


def test_a_choice_of_label_studio_is_of_the_region_it_stands_by(read) -> None:
    chosen = labelstudio([{"quality": "Difficult"}, {"quality": "sharp"}])
    assert [face.ignored for face in read("labelstudio", chosen, ("a.jpg",)).faces["a.jpg"]] == [True, False]


def test_polygons_of_one_group_are_ignored_where_one_of_them_is(read) -> None:
    shapes = [
        {"label": "face", "shape_type": "polygon", "group_id": 1, "points": points, "difficult": difficult}
        for points, difficult in (
            ([[5, 6], [20, 6], [20, 30]], False),
            ([[15, 20], [40, 20], [40, 50]], True),
        )
    ]
    files = {"a.json": json.dumps({"imagePath": "a.jpg", "shapes": shapes})}
    (face,) = read("labelme", files, ("a.jpg",)).faces["a.jpg"]
    assert (face.box, face.ignored) == ((5, 6, 40, 50), True)
