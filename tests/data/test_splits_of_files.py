"""Splits that the paths of annotation files name."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image

from nni_hyperfd.data.dataset import FaceDataset, load_dataset
from nni_hyperfd.data.report import Problem

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


def voc(name: str) -> str:
    corners = "".join(f"<{tag}>{value}</{tag}>" for tag, value in zip(("xmin", "ymin", "xmax", "ymax"), BOX))
    inner = f"<object><name>face</name><bndbox>{corners}</bndbox></object>"
    return f"<annotation><filename>{name}</filename>{inner}</annotation>"


def labelme(name: str) -> str:
    shapes = [{"label": "face", "shape_type": "rectangle", "points": [BOX[:2], BOX[2:]]}]
    return json.dumps({"imagePath": f"../../images/{name}", "shapes": shapes})


def yolo(name: str) -> str:
    return "0 0.25 0.36666666 0.3 0.46666666\n"


def cvat(name: str) -> str:
    a, b, c, d = BOX
    box = f'<box label="face" xtl="{a}" ytl="{b}" xbr="{c}" ybr="{d}"/>'
    return f'<annotations><image id="0" name="{name}">{box}</image></annotations>'


SINGLE = {"voc": (voc, "xml"), "labelme": (labelme, "json"), "yolo": (yolo, "txt"), "cvat": (cvat, "xml")}
WORDS = {f"p{n}.png": "val" if n in (1, 4) else "test" if n in (2, 5, 8) else "train" for n in range(12)}
WANTED = {word: sorted(n for n, said in WORDS.items() if said == word) for word in ("train", "val", "test")}


@pytest.mark.parametrize("folders", ["{}", "faces_{}_v2"])
@pytest.mark.parametrize("kind", SINGLE)
def test_folders_of_annotations_beside_one_folder_of_pictures(
    kind: str, folders: str, tmp_path: Path
) -> None:
    write, suffix = SINGLE[kind]
    draw(tmp_path, list(WORDS), "images")
    for name, word in WORDS.items():
        put(tmp_path, f"labels/{folders.format(word)}/{name[:-4]}.{suffix}", write(name))
    dataset = load_dataset(tmp_path)
    assert sides(dataset) == WANTED
    assert dataset.report.split_source == "folders of annotations"
    assert dataset.report.count(Problem.SPLIT_REPEATED) == 0
    assert all(abs(image.boxes - BOX).max() < 0.1 for image in dataset.images)


@pytest.mark.parametrize("kind", ["voc", "labelme"])
def test_a_picture_whose_annotation_lies_in_the_folder_of_another_split_is_measured_with(
    kind: str, tmp_path: Path
) -> None:
    """As elsewhere: test before val before train, and counted."""
    write, suffix = SINGLE[kind]
    for name, word in WORDS.items():
        (tmp_path / "pictures" / word).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (200, 150), (20 * int(name[1:-4]), 90, 0)).save(tmp_path / f"pictures/{word}/{name}")
        other = {"p0.png": "test", "p1.png": "train"}.get(name, word)
        put(tmp_path, f"labels/{other}/{name[:-4]}.{suffix}", write(name).replace("../../images/", ""))
    dataset = load_dataset(tmp_path)
    expected = {**WANTED, "train": WANTED["train"][1:], "test": ["p0.png", *WANTED["test"]]}
    assert sides(dataset) == expected
    assert dataset.report.examples[Problem.SPLIT_REPEATED] == (
        "pictures/train/p0.png",
        "pictures/val/p1.png",
    )
    assert dict(dataset.report.split_sources) == dict.fromkeys(("train", "val", "test"), "folders")


def test_lists_come_before_folders_of_annotations(tmp_path: Path) -> None:
    draw(tmp_path, list(WORDS), "images")
    for name in WORDS:
        put(tmp_path, f"labels/train/{name[:-4]}.txt", yolo(name))
    for word, names in WANTED.items():
        put(tmp_path, f"{word}.txt", "".join(f"images/{name}\n" for name in names))
    dataset = load_dataset(tmp_path)
    assert sides(dataset) == WANTED
    assert dataset.report.count(Problem.SPLIT_REPEATED) == 0
