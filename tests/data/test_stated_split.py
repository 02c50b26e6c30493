"""Fields that state a split: a word, or flags."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from nni_hyperfd.data.dataset import FaceDataset, load_dataset
from nni_hyperfd.data.report import Problem
from nni_hyperfd.data.stated_split import is_unusable, speaking, stated_split, valid_is_a_split

COUNT = 12


@pytest.mark.parametrize(
    ("fields", "split"),
    [
        ({"is_train": "1"}, "train"),
        ({"is_train": "0"}, "test"),
        ({"is_train": False, "is_valid": True}, "val"),
        ({"Is_Test": "TRUE"}, "test"),
        ({"is_test": "no"}, "train"),
        ({"is_valid": "0.0"}, "train"),
        ({"train": "0", "val": "0", "test": "1"}, "test"),
        ({"train": "x", "val": "", "test": ""}, "train"),
        ({"is_train": "0", "is_val": "0"}, "test"),
        ({"train_test": "x"}, None),
        ({"Usage": "Training"}, "train"),
        ({"ML_USE": "VALIDATION"}, "val"),
        ({"phase": "train2017"}, "train"),
        ({"group": "anna"}, None),
        ({"set": "test", "is_train": "1"}, None),
    ],
)
def test_what_fields_say(fields: dict[str, object], split: str | None) -> None:
    assert stated_split(speaking(fields))[0] == split


def test_words_that_are_no_split_are_told() -> None:
    assert stated_split(speaking({"fold": "3"})) == (None, ("3",))
    assert stated_split(speaking({"is_train": "maybe"})) == (None, ("istrain maybe",))
    assert stated_split(speaking({"valid": "perhaps"})) == (None, ("valid perhaps",))
    assert stated_split(speaking({"group": "anna"})) == (None, ())


@pytest.mark.parametrize(
    ("images", "is_split"),
    [
        ([{"valid": True}, {"valid": False}], False),
        ([{"valid": 1, "split": "train"}, {"valid": 0, "split": "test"}], False),
        ([{"train": 1, "valid": 0, "test": 0}, {"train": 0, "valid": 1, "test": 0}], True),
        ([{"is_train": 1, "valid": 0}, {"is_train": 0, "valid": 1}], True),
        ([{"train": True}, {"valid": True}, {"test": True}], True),  # tags, of which only those that are set are there
        ([{"train": 1, "valid": 1, "test": 0}, {"train": 0, "valid": 1, "test": 1}], False),
        ([{"train": 1, "val": 0, "valid": 0}, {"train": 0, "val": 1, "valid": 0}], False),
    ],
)  # fmt: skip
def test_valid_is_a_split_only_in_a_row_of_them(images: list[dict[str, object]], is_split: bool) -> None:
    assert valid_is_a_split(map(speaking, images)) == is_split


@pytest.mark.parametrize(
    ("fields", "unusable"),
    [
        ({"valid": False}, True),
        ({"Valid": "0"}, True),
        ({"valid": 1}, False),
        ({"valid": None}, False),
        ({"valid": ""}, False),
        ({"is_valid": 0}, False),
        ({"invalid": True}, True),
        ({"is_invalid": "no"}, False),
    ],
)
def test_what_says_that_a_picture_cannot_be_used(fields: dict[str, object], unusable: bool) -> None:
    assert is_unusable(speaking(fields), False) == unusable
    assert is_unusable(speaking(fields), True) == (unusable and "invalid" in fields)
    assert stated_split(speaking(fields))[0] == ("train" if "is_valid" in fields else None)


def sides(dataset: FaceDataset) -> dict[str, list[str]]:
    return {
        word: sorted(dataset.images[index].path.name for index in members)
        for word, members in dataset.splits.items()
    }


def wanted() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    for number in range(COUNT):
        found[("train", "val", "test")[number % 3]].append(f"p{number}.png")
    return {word: sorted(names) for word, names in found.items()}


def export(kind: str) -> dict[str, str]:
    rows = [(f"p{n}.png", ("train", "val", "test")[n % 3]) for n in range(COUNT)]
    if kind == "csv flags":
        head = "filename,xmin,ymin,xmax,ymax,is_train,is_valid\n"
        return {
            "a.csv": head
            + "".join(f"{n},20,20,80,90,{int(s == 'train')},{int(s == 'val')}\n" for n, s in rows)
        }
    if kind == "csv one column a split":
        head = "filename,xmin,ymin,xmax,ymax,train,val,test\n"
        return {
            "a.csv": head
            + "".join(f"{n},20,20,80,90,{s == 'train'},{s == 'val'},{s == 'test'}\n" for n, s in rows)
        }
    if kind == "coco":
        images = [{"id": i, "file_name": n, "split": s} for i, (n, s) in enumerate(rows)]
        boxes = [{"id": i, "image_id": i, "category_id": 1, "bbox": [20, 20, 60, 70]} for i in range(COUNT)]
        categories = [{"id": 1, "name": "face"}]
        return {"a.json": json.dumps({"images": images, "annotations": boxes, "categories": categories})}
    if kind == "createml":
        where = {"x": 50, "y": 55, "width": 60, "height": 70}
        return {
            "a.json": json.dumps(
                [
                    {"image": n, "annotations": [{"label": "face", "coordinates": where}], "subset": s}
                    for n, s in rows
                ]
            )
        }
    if kind == "labelme":
        shape = {"label": "face", "shape_type": "rectangle", "points": [[20, 20], [80, 90]]}
        return {
            f"{n[:-4]}.json": json.dumps(
                {
                    "imagePath": n,
                    "shapes": [shape],
                    "flags": {word: word == s for word in ("train", "val", "test")},
                }
            )
            for n, s in rows
        }
    points = {"exterior": [[20, 20], [80, 90]], "interior": []}
    shape = {"classTitle": "face", "geometryType": "rectangle", "points": points}
    return {
        f"ann/{n}.json": json.dumps(
            {"size": {"width": 200, "height": 150}, "tags": [{"name": s, "value": None}], "objects": [shape]}
        )
        for n, s in rows
    }


@pytest.mark.parametrize(
    "kind", ["csv flags", "csv one column a split", "coco", "createml", "labelme", "supervisely"]
)
def test_every_reader_keeps_a_stated_split(kind: str, tmp_path: Path) -> None:
    for number in range(COUNT):
        Image.new("RGB", (200, 150), (20 * number, 90, 0)).save(tmp_path / f"p{number}.png")
    for name, text in export(kind).items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert sides(load_dataset(tmp_path)) == wanted()


UNUSABLE = (2, 5, 7)


def marked(kind: str) -> dict[str, str]:
    """A box in every picture but the last unusable one, and each picture's flag ``valid``."""
    flags = {f"p{n}.png": n not in UNUSABLE for n in range(COUNT)}
    if kind == "csv":
        rows = [
            f"{n},20,20,80,90,{int(ok)}\n" if n != "p7.png" else f"{n},,,,,0\n" for n, ok in flags.items()
        ]
        return {"a.csv": "filename,xmin,ymin,xmax,ymax,valid\n" + "".join(rows)}
    if kind == "coco":
        images = [
            {"id": i, "file_name": n, "valid": ok, "rotate": 0} for i, (n, ok) in enumerate(flags.items())
        ]
        boxes = [{"image_id": i, "bbox": [20, 20, 60, 70]} for i in range(COUNT) if i != UNUSABLE[-1]]
        return {"a.json": json.dumps({"images": images, "annotations": boxes})}
    shapes = [{"label": "face", "shape_type": "rectangle", "points": [[20, 20], [80, 90]]}]
    return {
        f"{n[:-4]}.json": json.dumps(
            {"imagePath": n, "shapes": shapes if n != "p7.png" else [], "flags": {"valid": ok}}
        )
        for n, ok in flags.items()
    }


@pytest.mark.parametrize("kind", ["csv", "coco", "labelme"])
def test_pictures_that_are_marked_as_not_valid_are_left_out_and_split_nothing(
    kind: str, tmp_path: Path
) -> None:
    for number in range(COUNT):
        Image.new("RGB", (200, 150), (20 * number, 90, 0)).save(tmp_path / f"p{number}.png")
    for name, text in marked(kind).items():
        (tmp_path / name).write_text(text)
    dataset = load_dataset(tmp_path)
    assert dataset.report.left_out == {f"p{n}.png": Problem.UNUSABLE for n in UNUSABLE}
    assert dataset.report.count(Problem.UNUSABLE) == 3
    assert dataset.report.split_source == "drawn 6:1:3 with seed 0"
    assert [image.boxes.tolist() for image in dataset.images] == [[[20, 20, 80, 90]]] * 9


def test_a_column_invalid_is_of_boxes_and_no_split(tmp_path: Path) -> None:
    """Its name is ``in`` and ``valid``, as ``in_train`` is a flag for a split."""
    for number in range(COUNT):
        Image.new("RGB", (200, 150), (20 * number, 90, 0)).save(tmp_path / f"p{number}.png")
    rows = [f"p{n}.png,20,20,80,90,0\np{n}.png,100,20,160,90,{int(n % 3 == 0)}\n" for n in range(COUNT)]
    (tmp_path / "a.csv").write_text("filename,xmin,ymin,xmax,ymax,invalid\n" + "".join(rows))
    dataset = load_dataset(tmp_path)
    assert dataset.report.split_source == "drawn 6:1:3 with seed 0"
    assert (dataset.report.images, dataset.report.faces, dataset.report.ignored) == (12, 20, 4)


def test_a_row_of_flags_train_valid_and_test_is_a_split(tmp_path: Path) -> None:
    for number in range(COUNT):
        Image.new("RGB", (200, 150), (20 * number, 90, 0)).save(tmp_path / f"p{number}.png")
    for name, text in export("csv one column a split").items():
        (tmp_path / name).write_text(text.replace("train,val,test", "train,valid,test"))
    assert sides(load_dataset(tmp_path)) == wanted()
