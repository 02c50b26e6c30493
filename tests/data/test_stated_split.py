"""Fields that state a split: a word, or flags."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from nni_hyperfd.data.dataset import FaceDataset, load_dataset
from nni_hyperfd.data.stated_split import stated_split

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
    assert stated_split(fields)[0] == split


def test_words_that_are_no_split_are_told() -> None:
    assert stated_split({"fold": "3"}) == (None, ("3",))
    assert stated_split({"is_train": "maybe"}) == (None, ("istrain maybe",))
    assert stated_split({"group": "anna"}) == (None, ())


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
