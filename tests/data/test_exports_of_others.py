"""Exports that are wrong in one way throughout, as scripts write them: read as they are meant, asked about, or told; never silently otherwise."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from PIL import Image

from nni_hyperfd.data.dataset import FaceDataset, load_dataset
from nni_hyperfd.data.report import Problem
from nni_hyperfd.errors import DataError

NAMES = [f"p{number}.jpg" for number in range(10)]
SIZE = (200, 150)
Put = Callable[..., Path]


@pytest.fixture
def put(tmp_path: Path) -> Put:
    """Ten pictures, each of one shade, and files of text."""

    def run(
        files: Mapping[str, str | bytes], names: Sequence[str] = NAMES, size: tuple[int, int] = SIZE
    ) -> Path:
        for number, name in enumerate(names):
            path = tmp_path / "images" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", size, (20 * number, 90, 0)).save(path)
        for name, content in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return tmp_path

    return run


def coco(
    boxes: Sequence[Sequence[float]], names: Sequence[str] = NAMES, category: int = 1, **image: Any
) -> str:
    """One box each image; categories: 1 is a face."""
    images = [{"id": number, "file_name": name, **image} for number, name in enumerate(names)]
    found = [
        {"id": n, "image_id": n, "category_id": category, "bbox": list(box)}
        for n, (_, box) in enumerate(zip(images, boxes))
    ]
    return json.dumps({"images": images, "annotations": found, "categories": [{"id": 1, "name": "face"}]})


def first_box(dataset: FaceDataset) -> list[float]:
    return [round(float(value), 1) for value in dataset.images[0].boxes[0]]


def test_coco_boxes_that_are_corners(put: Put) -> None:
    dataset = load_dataset(put({"a.json": coco([(90 + n, 80, 190, 140) for n in range(10)])}))
    assert first_box(dataset) == [90, 80, 190, 140]
    assert any("boxes are taken as corners" in note for note in dataset.report.notes)
    assert dataset.report.count(Problem.CLIPPED_BOX) == 0


def test_coco_boxes_some_of_which_stick_out_stay_as_they_are(put: Put) -> None:
    boxes = [(20, 20, 40, 50)] * 6 + [(100, 80, 130, 140)] * 4
    dataset = load_dataset(put({"a.json": coco(boxes)}))
    assert first_box(dataset) == [20, 20, 60, 70]
    assert dataset.report.count(Problem.CLIPPED_BOX) == 4


def test_boxes_that_are_middle_and_size_in_formats_of_corner_and_size_and_the_reverse(put: Put) -> None:
    """A YOLO set turned into COCO by a script; corners in CreateML."""
    boxes = [(100 + 7 * n, 70, 60, 50) for n in range(10)]
    dataset = load_dataset(put({"a.json": coco(boxes)}))
    assert first_box(dataset) == [70, 45, 130, 95]
    assert any("boxes are taken as centre and size" in note for note in dataset.report.notes)
    sides = ("x", "y", "width", "height")
    document = [
        {
            "image": name,
            "annotations": [{"label": "face", "coordinates": dict(zip(sides, (4 + n, 6, 60, 50)))}],
        }
        for n, name in enumerate(NAMES)
    ]
    dataset = load_dataset(put({"b.json": json.dumps(document)}), format="createml")
    assert first_box(dataset) == [4, 6, 64, 56]
    assert any("boxes are taken as corner and size" in note for note in dataset.report.notes)


def test_addresses_in_coco_that_quote_blanks_in_both_ways(put: Put) -> None:
    names = [f"Zoë {number} + ich.jpg" for number in range(10)]
    written = [
        f"https://host/data/{(quote, quote_plus)[n % 2](name)}?sig=a/b.jpg" for n, name in enumerate(names)
    ]
    dataset = load_dataset(put({"a.json": coco([(20, 20, 40, 50)] * 10, written)}, names))
    assert dataset.report.images == 10


@pytest.mark.parametrize(
    "files",
    [
        {"a.json": coco([(20, 20, 40, 50)] * 10, category=2)},
        {"data.yaml": "names: [face]\n"} | {f"labels/p{n}.txt": "1 0.5 0.5 0.3 0.4\n" for n in range(10)},
    ],
)
def test_numbers_to_which_no_listed_class_belongs_are_asked_about(put: Put, files: dict[str, str]) -> None:
    folder = put(files)
    number = "2" if "a.json" in files else "1"
    with pytest.raises(
        DataError, match=rf"class numbers {number}, to which none of the named classes belongs \(face\)"
    ):
        load_dataset(folder)
    assert load_dataset(folder, faces=[number]).report.faces == 10


def table(rows: Sequence[str], header: str = "filename,class,xmin,ymin,xmax,ymax") -> str:
    return "\n".join([header, *rows]) + "\n"


def test_columns_of_sides_without_a_header_are_asked_about(put: Put) -> None:
    """xmin, xmax, ymin, ymax could be a corner and a size as well."""
    with pytest.raises(DataError, match="corner and size as well as xmin,xmax,ymin,ymax"):
        load_dataset(put({"b.csv": "".join(f"{name},20,60,20,70,face\n" for name in NAMES)}))


def test_percent_are_asked_about_and_small_faces_in_one_corner_are_not(put: Put) -> None:
    rows = [f"{name},face,{8 * n},33.3,{8 * n + 20},73.5" for n, name in enumerate(NAMES)]
    with pytest.raises(DataError, match=r"all 10 boxes .* as percent would"):
        load_dataset(put({"b.csv": table(rows)}, size=(640, 480)))
    rows[0] = "p0.jpg,face,300,33.3,360,73.5"
    assert load_dataset(put({"b.csv": table(rows)}, size=(640, 480))).report.faces == 10


def test_a_column_for_splits_that_names_none_is_told(put: Put) -> None:
    rows = [f"{name},face,20,20,60,70,{n % 5}" for n, name in enumerate(NAMES)]
    report = load_dataset(put({"b.csv": table(rows, "filename,class,xmin,ymin,xmax,ymax,fold")})).report
    assert any(
        "0, 1, 2, 3, 4 in the column for splits are none of train, val and test" in note
        for note in report.notes
    )
    assert "drawn" in report.split_source


def test_a_spreadsheet_of_excel_in_german(put: Put) -> None:
    names = [f"Käse {number}.jpg" for number in range(12)]
    rows = [
        f"{name};Gesicht;20,5;20,25;60,5;70,75;{('Train', 'train', 'Val', 'TEST')[n % 4]}"
        for n, name in enumerate(names)
    ]
    content = table(rows, "Bild;Klasse;x_min;y_min;x_max;y_max;Split").encode("utf-16")
    dataset = load_dataset(put({"b.csv": content}, names))
    assert first_box(dataset) == [20.5, 20.2, 60.5, 70.8]
    assert dict(dataset.report.splits) == {"train": 6, "val": 3, "test": 3}


def test_an_image_whose_label_fits_two_pictures_is_left_out(put: Put) -> None:
    labels = {f"labels/p{n}.txt": "0 0.5 0.5 0.3 0.4\n" for n in range(10)}
    report = load_dataset(put(labels, [*NAMES, "p0.png"])).report
    assert report.images == 9
    assert {name.removeprefix("images/") for name in report.left_out} == {"p0.jpg", "p0.png"}


@pytest.mark.parametrize("size", [(110, 140), (160, 120), (200, 150), (280, 280), (64, 48)])
def test_percent_in_small_pictures_are_asked_about(put: Put, size: tuple[int, int]) -> None:
    """Fractions of the picture, times 100, of faces that lie about its middle."""
    spread = [(20.5 + 3 * n, 30.25, 50.5 + 3 * n, 80.75 + n) for n in range(10)]
    rows = [f"{name},face,{a},{b},{c},{d}" for name, (a, b, c, d) in zip(NAMES, spread)]
    folder = put({"b.csv": table(rows)}, size=size)
    if size == (110, 140):  # nothing tells
        assert any("percent" in note for note in load_dataset(folder).report.notes)
    else:
        with pytest.raises(DataError, match=r"all 10 boxes .* as percent would"):
            load_dataset(folder)


@pytest.mark.parametrize("size", [(112, 112), (128, 128), (160, 120)])
def test_pixels_of_cropped_faces_are_no_percent(put: Put, size: tuple[int, int]) -> None:
    width, height = size
    boxes = [
        (width / 2 - 30.5, height / 2 - 40 + n / 2, width / 2 + 19.5, min(height / 2 + 35, 100))
        for n in range(10)
    ]
    rows = [f"{name},face,{a},{b},{c},{d}" for name, (a, b, c, d) in zip(NAMES, boxes)]
    dataset = load_dataset(put({"b.csv": table(rows)}, size=size))
    assert first_box(dataset) == pytest.approx(boxes[0], abs=0.06)


def test_yolo_corners_that_stick_out_a_little_are_asked_about(put: Put) -> None:
    """Read as middle and size, (.2, .2, .5, .5) leads .05 outside; nothing of it would be left to see after clipping."""
    texts = {f"images/{name[:-4]}.txt": "0 0.2 0.2 0.5 0.5\n" for name in NAMES}
    with pytest.raises(DataError, match="all of them fit as corners"):
        load_dataset(put({**texts, "classes.txt": "face\n"}))


def test_yolo_corners_that_fit_both_ways_are_told(put: Put) -> None:
    texts = {f"images/{name[:-4]}.txt": "0 0.4 0.4 0.6 0.6\n" for name in NAMES}
    report = load_dataset(put({**texts, "classes.txt": "face\n"})).report
    assert any("fit as corners as well" in note for note in report.notes)


def test_a_key_that_stands_twice_is_refused(put: Put) -> None:
    text = coco([(20, 20, 40, 50)] * 10).replace(
        '"bbox": [20, 20, 40, 50]', '"bbox": [1, 2, 9, 9], "bbox": [20, 20, 40, 50]', 1
    )
    with pytest.raises(DataError, match="'bbox' stands twice"):
        load_dataset(put({"a.json": text}))


def voc(name: str, box: Sequence[float], inside: str = "") -> str:
    """One face; ``inside`` stands in its object."""
    sides = "".join(f"<{side}>{value}</{side}>" for side, value in zip(("xmin", "ymin", "xmax", "ymax"), box))
    return (
        f"<annotation><filename>{name}</filename><size><width>{SIZE[0]}</width><height>{SIZE[1]}</height></size>"
        f"<object><name>face</name>{inside}<bndbox>{sides}</bndbox></object></annotation>"
    )


TURNED_BY_CVAT = "<attributes><attribute><name>rotation</name><value>45.0</value></attribute></attributes>"


def test_boxes_that_were_turned_in_cvat(put: Put) -> None:
    # A square of 40 around (80, 70), turned by 45 degrees, reaches 20 * sqrt(2) to each side.
    around = [51.7, 41.7, 108.3, 98.3]
    files = {f"{name[:-4]}.xml": voc(name, (60, 50, 100, 90), TURNED_BY_CVAT) for name in NAMES}
    assert first_box(load_dataset(put(files))) == around
    document = json.loads(coco([(60, 50, 40, 40)] * 10))
    for entry in document["annotations"]:
        entry["attributes"] = {"occluded": False, "rotation": 45.0}
    put({"a.json": json.dumps(document)})
    assert first_box(load_dataset(put({}), format="coco")) == around


def test_what_was_deleted_or_has_left_the_picture_is_no_face(put: Put) -> None:
    files = {
        f"{name[:-4]}.xml": voc(name, (60, 50, 120, 90), "<deleted>1</deleted>" if name == NAMES[0] else "")
        for name in NAMES
    }
    assert load_dataset(put(files)).report.faces == 9
    shapes = '<box label="face" outside="{}" xtl="60" ytl="50" xbr="120" ybr="90"/>'
    images = "".join(
        f'<image id="{number}" name="{name}" width="200" height="150">{shapes.format(int(number == 0))}</image>'
        for number, name in enumerate(NAMES)
    )
    put({"annotations.xml": f"<annotations>{images}</annotations>"})
    assert load_dataset(put({}), format="cvat").report.faces == 9


def test_a_corner_that_stands_twice_is_not_read(put: Put) -> None:
    files = {f"{name[:-4]}.xml": voc(name, (60, 50, 120, 90)) for name in NAMES}
    files["p0.xml"] = files["p0.xml"].replace("<xmin>60</xmin>", "<xmin>60</xmin><xmin>20</xmin>")
    dataset = load_dataset(put(files))
    assert dataset.report.left_out == {"images/p0.jpg": Problem.MALFORMED_ENTRY}


LABELS = {f"labels/{name[:-4]}.txt": "0 0.4 0.5 0.2 0.3\n1 0.1 0.1 0.1 0.1\n" for name in NAMES}


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("names: [hand, face]\nnames: [face, hand]\n", "names"),
        ("names:\n  0: face\n  1: hand\n  1: dog\n", "1"),
        ("train: a\ntrain: b\nnames: [face, hand]\n", "train"),
    ],
)
def test_a_key_that_stands_twice_in_data_yaml_is_asked_about(put: Put, text: str, key: str) -> None:
    with pytest.raises(DataError, match=f"data.yaml has two values for the key '{key}'"):
        load_dataset(put({**LABELS, "data.yaml": text}))


def test_other_yaml_files_may_hold_what_they_like(put: Put) -> None:
    dataset = load_dataset(put({**LABELS, "data.yaml": "names: [face, hand]\n", "x.yaml": "a: 1\na: 2\n"}))
    assert dataset.report.faces == 10


def test_lists_that_data_yaml_names_are_the_splits_whatever_they_are_called(put: Put) -> None:
    lists = {
        "first.txt": "".join(f"./images/{name}\n" for name in NAMES[:6]),
        "lists/second.txt": "".join(f"/elsewhere/images/{name}\n" for name in NAMES[6:8]),
        "third.txt": "".join(f"images/{name}\n" for name in NAMES[8:]),
    }
    text = "path: /elsewhere\ntrain: first.txt\nval: lists/second.txt\ntest: /elsewhere/third.txt\nnames: [face, hand]\n"
    dataset = load_dataset(put({**LABELS, **lists, "data.yaml": text}))
    assert [[image.path.name for image in dataset.split(word)] for word in ("train", "val", "test")] == [
        NAMES[:6],
        NAMES[6:8],
        NAMES[8:],
    ]


def test_rows_that_deny_a_face_are_none(put: Put) -> None:
    rows = "".join(f"{name},60,50,120,90,{int(number > 2)}\n" for number, name in enumerate(NAMES))
    dataset = load_dataset(put({"a.csv": "image,xmin,ymin,xmax,ymax,is_face\n" + rows}))
    assert (dataset.report.images, dataset.report.faces) == (10, 7)


def test_a_confidence_before_the_box_is_asked_about(put: Put) -> None:
    with pytest.raises(DataError, match="none if the number behind the class is a confidence"):
        load_dataset(put(dict.fromkeys(LABELS, "0 0.93 0.4 0.5 0.2 0.3\n")))


def test_a_confidence_behind_the_box_is_told(put: Put) -> None:
    dataset = load_dataset(put(dict.fromkeys(LABELS, "0 0.4 0.5 0.2 0.3 0.93\n")))
    assert first_box(dataset) == [60.0, 52.5, 100.0, 97.5]
    assert any("detections" in note for note in dataset.report.notes)


@pytest.mark.parametrize("other", ["face_left_eye", "face part", "facial landmarks face", "surface"])
def test_parts_of_a_face_are_no_faces(put: Put, other: str) -> None:
    assert load_dataset(put({**LABELS, "data.yaml": f"names: [face, {other}]\n"})).report.faces == 10


@pytest.mark.parametrize("other", ["face with closed eyes", "face without beard"])
def test_states_of_a_face_are_faces(put: Put, other: str) -> None:
    assert load_dataset(put({**LABELS, "data.yaml": f"names: [face, {other}]\n"})).report.faces == 20


@pytest.mark.parametrize("other", ["watchface", "dog_face", "Dogface"])
def test_faces_of_others_count_for_nothing(put: Put, other: str) -> None:
    report = load_dataset(put({**LABELS, "data.yaml": f"names: [face, {other}]\n"})).report
    assert (report.faces, report.ignored) == (10, 10)


def test_scores_of_a_model_are_told(put: Put) -> None:
    rows = "".join(f"{name},60,50,120,90,0.{number}\n" for number, name in enumerate(NAMES, start=1))
    table = load_dataset(put({"a.csv": "image,xmin,ymin,xmax,ymax,confidence\n" + rows}))
    assert any(note.startswith("a.csv: 10 boxes have a score") for note in table.report.notes)
    document = json.loads(coco([(60, 50, 60, 40)] * 10))
    for entry in document["annotations"]:
        entry["score"] = 0.4
    found = load_dataset(put({"a.json": json.dumps(document)}), format="coco")
    assert any(note.startswith("a.json: 10 boxes have a score") for note in found.report.notes)


def test_lists_that_obj_data_of_darknet_names_are_the_splits(put: Put) -> None:
    lists = {
        "tr.txt": "".join(f"data/images/{name}\n" for name in NAMES[:6]),
        "va.txt": "".join(f"data/images/{name}\n" for name in NAMES[6:]),
        "obj.data": "classes = 2\ntrain = data/tr.txt\nvalid = data/va.txt\nnames = data/obj.names\n",
        "obj.names": "face\nhand\n",
    }
    dataset = load_dataset(put({**LABELS, **lists}))
    assert [image.path.name for image in dataset.split("val")] == NAMES[6:]
