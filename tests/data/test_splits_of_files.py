"""Splits that the paths of annotation files name."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image

from nni_hyperfd.data.dataset import FaceDataset, load_dataset

BOX = (20, 20, 80, 90)


def createml(names: Sequence[str]) -> str:
    where = {"x": 50, "y": 55, "width": 60, "height": 70}
    return json.dumps([{"image": n, "annotations": [{"label": "face", "coordinates": where}]} for n in names])


def coco(names: Sequence[str]) -> str:
    images = [{"id": i, "file_name": n} for i, n in enumerate(names)]
    return json.dumps(
        {
            "images": images,
            "annotations": [{"image_id": i, "bbox": [20, 20, 60, 70]} for i in range(len(names))],
        }
    )


def via(names: Sequence[str]) -> str:
    shape = {"name": "rect", "x": 20, "y": 20, "width": 60, "height": 70}
    regions = [{"shape_attributes": shape, "region_attributes": {}}]
    return json.dumps({n: {"filename": n, "regions": regions} for n in names})


def csv(names: Sequence[str]) -> str:
    return "image,xmin,ymin,xmax,ymax\n" + "".join(f"{n},20,20,80,90\n" for n in names)


MANY = {"createml": createml, "coco": coco, "via": via, "csv": csv}


def draw(root: Path, names: Sequence[str], folder: str = "") -> None:
    for number, name in enumerate(names):
        path = root / folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (200, 150), (10 * number, 90, 0)).save(path)


def put(root: Path, name: str, text: str) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text)


def sides(dataset: FaceDataset) -> dict[str, list[str]]:
    return {
        word: sorted(image.path.name for image in dataset.split(word)) for word in ("train", "val", "test")
    }


@pytest.mark.parametrize("kind", MANY)
def test_a_file_an_image_that_is_called_like_a_split_says_nothing(kind: str, tmp_path: Path) -> None:
    """labelImg writes CreateML's json for each picture: test1.json is of test1.png."""
    names = ["test1.png", "test2.png", "val.png", *(f"a{n}.png" for n in range(9))]
    draw(tmp_path, names)
    for name in names:
        suffix = "csv" if kind == "csv" else "json"
        put(tmp_path, f"{name[:-4]}.{suffix}", MANY[kind]([name]))
    dataset = load_dataset(tmp_path)
    assert dataset.report.split_source == "drawn 6:1:3 with seed 0"
    assert [image.boxes.tolist() for image in dataset.images] == [[[*BOX]]] * 12


@pytest.mark.parametrize("kind", MANY)
def test_a_file_a_split_may_hold_one_image(kind: str, tmp_path: Path) -> None:
    names = [f"a{n}.png" for n in range(6)]
    draw(tmp_path, names)
    suffix = "csv" if kind == "csv" else "json"
    for word, part in (("train", names[:4]), ("val", names[4:5]), ("test", names[5:])):
        put(tmp_path, f"faces_{word}.{suffix}", MANY[kind](part))
    dataset = load_dataset(tmp_path)
    assert sides(dataset) == {"train": names[:4], "val": names[4:5], "test": names[5:]}
    assert dataset.report.split_source == "the annotation"
