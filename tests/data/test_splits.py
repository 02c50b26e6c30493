"""The customer's own splits, and what belongs together where they are drawn."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from nni_hyperfd.data.dataset import FaceDataset, load_dataset
from nni_hyperfd.data.draw import sequence_of
from nni_hyperfd.data.duplicates import copies
from nni_hyperfd.data.report import Problem
from nni_hyperfd.errors import DataError

LINE = "0 0.5 0.5 0.4 0.4\n"
Put = Callable[..., FaceDataset]


@pytest.fixture
def put(tmp_path: Path) -> Put:
    """``put(images, {"train.txt": text})``: a YOLO set of different pictures, labels beside them unless ``without``."""

    def run(
        images: list[str], files: Mapping[str, str] | None = None, without: tuple[str, ...] = ()
    ) -> FaceDataset:
        from PIL import Image

        for number, name in enumerate(images):
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (20, 20), (number % 250, number // 250, 7)).save(path)
            if name not in without:
                path.with_suffix(".txt").write_text(LINE)
        for name, text in (files or {}).items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)
        return load_dataset(tmp_path)

    return run


def names(dataset: FaceDataset) -> dict[str, set[str]]:
    return {
        word: {image.path.relative_to(dataset.root).as_posix() for image in dataset.split(word)}
        for word in dataset.splits
    }


IMAGES = [f"images/{number}.png" for number in range(10)]


def listed(numbers: range, form: str = "images/{}.png") -> str:
    return "\n".join(form.format(number) for number in numbers)


@pytest.mark.parametrize(
    "files",
    [
        {"train.txt": listed(range(6)), "valid.txt": listed(range(6, 8)), "test.txt": listed(range(8, 10))},
        {"data/train.txt": listed(range(6), "data/obj/{}.png"), "data/val.txt": listed(range(6, 8)), "data/test.txt": listed(range(8, 10))},
        {f"ImageSets/Main/{word}.txt": listed(part, "{}") for word, part in (("train", range(6)), ("val", range(6, 8)), ("test", range(8, 10)))},
        {"ImageSets/Main/trainval.txt": listed(range(8), "{}"), "ImageSets/Main/val.txt": listed(range(6, 8), "{}"), "ImageSets/Main/test.txt": listed(range(8, 10), "{}")},
        {f"ImageSets/Main/face_{word}.txt": listed(part, "{}  1") for word, part in (("train", range(6)), ("val", range(6, 8)), ("test", range(8, 10)))},
        {"splits.json": json.dumps({"train": IMAGES[:6], "valid": IMAGES[6:8], "test": IMAGES[8:]})},
    ],
)  # fmt: skip
def test_lists_of_names(put, files):
    dataset = put(IMAGES, files)
    assert names(dataset) == {"train": {*IMAGES[:6]}, "val": {*IMAGES[6:8]}, "test": {*IMAGES[8:]}}
    assert dataset.report.split_source in ("lists of names", "splits.json")


@pytest.mark.parametrize(
    "folders",
    [("train", "valid", "test"), ("Train", "Validation", "Testing"), ("train2017", "val2017", "test2017")],
)
def test_folders(put, folders):
    images = [f"{folder}/images/{folder}{number}.png" for folder in folders for number in range(3)]
    dataset = put(images)
    assert [len(found) for found in names(dataset).values()] == [3, 3, 3]
    assert all(len({name.split("/")[0] for name in found}) == 1 for found in names(dataset).values())
    assert dict(dataset.report.split_sources) == dict.fromkeys(("train", "val", "test"), "folders")


def test_folders_that_data_yaml_names(put):
    images = [f"set/{part}/{part}{number}.png" for part in "abc" for number in range(3)]
    text = "path: ../datasets/set\ntrain: a\nval: [b]\ntest: ./c\nnames: [face]\n"
    dataset = put(images, {"set/data.yaml": text})
    assert {word: {name.split("/")[1] for name in found} for word, found in names(dataset).items()} == {
        "train": {"a"},
        "val": {"b"},
        "test": {"c"},
    }


def test_a_missing_split_is_drawn_from_train_and_the_others_stay(put):
    dataset = put([f"{part}/{part}{number}.png" for part in ("train", "val") for number in range(9)])
    found = names(dataset)
    assert found["val"] == {f"val/val{number}.png" for number in range(9)}
    assert len(found["test"]) == 3
    assert all(name.startswith("train/") for name in found["test"] | found["train"])
    assert dataset.report.split_sources["test"] == "drawn from train with seed 0"


def test_a_split_without_annotations_is_no_split(put):
    images = [f"{part}/{part}{number}.png" for part in ("train", "val", "test") for number in range(9)]
    dataset = put(images, without=tuple(images[18:]))
    assert all(name.startswith("train/") for name in names(dataset)["test"])
    assert dataset.report.left_out == dict.fromkeys(images[18:], Problem.UNANNOTATED_IMAGE)


def test_nothing_to_train_on_is_refused(put):
    with pytest.raises(DataError, match=r"has images for val and test \(folders\) and none to train on"):
        put([f"{part}/{part}{number}.png" for part in ("val", "test") for number in range(3)])


def test_an_image_in_two_lists_is_measured_with(put):
    files = {"train.txt": listed(range(8)), "val.txt": listed(range(6, 8)), "test.txt": listed(range(7, 10))}
    dataset = put(IMAGES, files)
    assert names(dataset) == {"train": {*IMAGES[:6]}, "val": {IMAGES[6]}, "test": {*IMAGES[7:]}}
    assert dataset.report.count(Problem.SPLIT_REPEATED) == 3


@pytest.mark.parametrize(
    "images",
    [
        [f"images/clip{clip}_{frame:04d}.png" for clip in "abcd" for frame in range(10)],
        [f"images/{person}/{number}.png" for person in ("anna", "bert", "cem") for number in range(10)],
        [f"images/p{photo}_jpg.rf.{copy:032x}.png" for photo in range(10) for copy in range(3)],
        [f"images/Ann_Lee_{number}.png" for number in range(9)]
        + [f"images/{name}_1.png" for name in ("Bo_Li", "Cy_Oz", "Di_Ax")],
    ],
)
def test_what_belongs_together_stays_on_one_side(put, images):
    found = names(put(images))
    key = {name: name.split(".rf.")[0] if ".rf." in name else sequence_of(name) for name in images}
    sides = [{key[name] for name in part} for part in found.values()]
    assert all(sides)
    assert not sides[0] & sides[1] | sides[0] & sides[2] | sides[1] & sides[2]
    assert sum(map(len, found.values())) == len(images)


def test_two_sequences_cannot_make_three_sides_and_it_is_said(put):
    dataset = put([f"images/photo_jpg.rf.{copy:032x}.png" for copy in range(10)])
    assert any("both sides" in note for note in dataset.report.notes)


@pytest.mark.parametrize(
    "name",
    [
        "images/IMG_0001.jpg",
        "images/000012.jpg",
        "images/good7.jpg",
        "x.jpg",
        "images/DSC 17.jpg",
        "train/images/3.jpg",
    ],
)
def test_names_of_cameras_tell_of_no_sequence(name):
    assert sequence_of(name) is None


def test_copies_are_told_where_the_customer_has_them_on_both_sides(put, tmp_path):
    images = [f"{part}/{part}{number}.png" for part in ("train", "val", "test") for number in range(3)]
    put(images)
    (tmp_path / "val/val0.png").write_bytes((tmp_path / "train/train0.png").read_bytes())
    dataset = load_dataset(tmp_path)
    assert dataset.report.examples[Problem.SHARED_GROUP] == ("train/train0.png", "val/val0.png")
    assert copies([image.path for image in dataset.images])


def test_a_column_of_a_table(tmp_path, draw_pictures):
    parts = ["TRAIN", "train", "Train", "validation", "val", "test"]
    draw_pictures(tmp_path, {f"{number}.png": (20, 20) for number in range(6)})
    rows = [f"{number}.png,2,2,15,15,{part}" for number, part in enumerate(parts)]
    (tmp_path / "faces.csv").write_text("\n".join(["image,xmin,ymin,xmax,ymax,split", *rows]))
    dataset = load_dataset(tmp_path)
    assert names(dataset) == {
        "train": {"0.png", "1.png", "2.png"},
        "val": {"3.png", "4.png"},
        "test": {"5.png"},
    }


def test_files_whose_names_differ_by_the_word_alone(tmp_path, draw_pictures):
    rows = [f"{n}.png,2,2,14,14\n" for n in range(10)]
    draw_pictures(tmp_path, {f"{n}.png": (20, 20) for n in range(10)})
    for word, part in (("train", rows[:6]), ("eval", rows[6:8]), ("test", rows[8:])):
        (tmp_path / f"cats_{word}_v2.csv").write_text("image,xmin,ymin,xmax,ymax\n" + "".join(part))
    found = names(load_dataset(tmp_path))
    assert found["val"] == {"6.png", "7.png"}
    assert found["test"] == {"8.png", "9.png"}


def test_a_coco_file_a_split(tmp_path, draw_pictures):
    for part in ("train", "val", "test"):
        draw_pictures(tmp_path, {f"images/{part}{number}.png": (20, 20) for number in range(3)})
        document = {
            "images": [{"id": number, "file_name": f"{part}{number}.png"} for number in range(3)],
            "annotations": [{"image_id": number, "bbox": [2, 2, 10, 10]} for number in range(3)],
        }
        (tmp_path / f"instances_{part}2017.json").write_text(json.dumps(document))
    dataset = load_dataset(tmp_path)
    assert dataset.report.split_source == "the annotation"
    assert all(Path(name).name.startswith(word) for word, found in names(dataset).items() for name in found)


def parts(form: Callable[[str, range], tuple[str, str]]) -> dict[str, str]:
    return dict(form(*part) for part in (("train", range(6)), ("val", range(6, 8)), ("test", range(8, 10))))


BY_NAME = {f"{n}.png": "train" if n < 6 else "val" if n < 8 else "test" for n in range(10)}


@pytest.mark.parametrize(
    "files",
    [
        parts(lambda word, part: (f"{word}.lst", listed(part))),
        parts(lambda word, part: (f"sets/{word}", listed(part))),
        parts(lambda word, part: (f"{word}.csv", "filename,age\n" + listed(part, "{}.png,31"))),
        parts(lambda word, part: (f"{word}.json", json.dumps([IMAGES[n] for n in part]))),
        parts(lambda word, part: (f"autosplit_{word}.txt", listed(part, "./images/{}.png"))),
        {"train.txt": listed(range(6)), "eval.txt": listed(range(6, 8)), "holdout.txt": listed(range(8, 10))},
        {"train.txt": listed(range(6)), "dev.txt": listed(range(6, 8)), "evaluation.txt": listed(range(8, 10))},
        {"split.json": json.dumps({"Train": IMAGES[:6], "val": IMAGES[6:8], "test": IMAGES[8:]})},
        {"split.json": json.dumps(BY_NAME)},
        {"splits.json": json.dumps({"Train": IMAGES[:6], "eval": IMAGES[6:8], "TEST": IMAGES[8:], "seed": 3})},
        {"splits.yaml": f"train: {json.dumps(IMAGES[:6])}\nval: {json.dumps(IMAGES[6:8])}\ntest: {json.dumps(IMAGES[8:])}\n"},
        {"split.csv": "filename,split\n" + "\n".join(map(",".join, BY_NAME.items()))},
        {"split.txt": "\n".join(map(" ".join, BY_NAME.items()))},
        {"list_eval_partition.txt": "\n".join(f"{n}.png {0 if n < 6 else 1 if n < 8 else 2}" for n in range(10))},
    ],
)  # fmt: skip
def test_files_in_which_others_write_their_splits(put, files):
    dataset = put(IMAGES, files)
    assert names(dataset) == {"train": {*IMAGES[:6]}, "val": {*IMAGES[6:8]}, "test": {*IMAGES[8:]}}
    assert "drawn" not in dataset.report.split_source


@pytest.mark.parametrize(
    "folders",
    [
        ("train", "eval", "holdout"),
        ("train", "dev", "eval"),
        ("trainset", "valset", "testset"),
        ("trainA", "valA", "testA"),
        ("train_v2", "val_v2", "test_v2"),
        ("cats_train", "cats_val", "cats_test"),
        ("Trainingsdaten", "Validierung", "Testdaten"),
        ("entrenamiento", "validación", "prueba"),
        ("训练", "验证", "测试"),
    ],
)
def test_folders_that_are_called_otherwise(put, folders):
    images = [f"{folders[0 if n < 6 else 1 if n < 8 else 2]}/{n}.png" for n in range(10)]
    assert names(put(images)) == {"train": {*images[:6]}, "val": {*images[6:8]}, "test": {*images[8:]}}


def test_a_word_in_a_name_splits_only_beside_a_name_that_differs_by_it(put):
    images = [f"{folder}/{n}.png" for folder in ("train station", "latest", "valley") for n in range(4)]
    assert "drawn" in put(images).report.split_source


@pytest.mark.parametrize("pattern", ["a/images", "a/images/*.jpg", "./a/images"])
def test_the_path_of_data_yaml_comes_before_its_folders(put, pattern):
    images = [f"sets/{'a' if n < 6 else 'b' if n < 8 else 'c'}/images/{n}.png" for n in range(10)]
    places = "".join(
        f"{word}: {pattern.replace('a', new, 1)}\n" for word, new in zip(("train", "val", "test"), "abc")
    )
    dataset = put(images, {"data.yaml": f"path: sets\n{places}names: [face]\n"})
    assert names(dataset) == {"train": {*images[:6]}, "val": {*images[6:8]}, "test": {*images[8:]}}


def test_files_that_split_differently_are_asked_about(put):
    one = {"train": IMAGES[:6], "val": IMAGES[6:]}
    files = {
        "fold_0.json": json.dumps(one),
        "fold_1.json": json.dumps({"train": IMAGES[4:], "val": IMAGES[:4]}),
    }
    with pytest.raises(DataError, match=r"fold_0\.json and .*fold_1\.json split the images differently"):
        put(IMAGES, files)


def test_a_list_in_splits_json_that_is_none_of_the_three_is_asked_about(put):
    with pytest.raises(DataError, match=r"splits\.json has 'tets', which is none of train, val and test"):
        put(
            IMAGES, {"splits.json": json.dumps({"train": IMAGES[:6], "val": IMAGES[6:8], "tets": IMAGES[8:]})}
        )


@pytest.mark.parametrize("folders", [("fold0", "fold1"), ("X_train", "y_val"), ("my split 1", "my split 2")])
def test_what_looks_like_a_split_and_is_not_understood_is_told(put, folders):
    report = put([f"{folders[n % 2]}/{n}.png" for n in range(10)]).report
    assert any(note.startswith(f"{folders[0]} speaks of splits") for note in report.notes)


@pytest.mark.parametrize("word", ["test", "val"])
def test_what_is_kept_apart_is_not_trained_on(put, word):
    """One list alone: what it does not name is trained on, or, if it is train, not used."""
    dataset = put(IMAGES, {f"{word}.txt": listed(range(3))})
    assert names(dataset)[word] == {*IMAGES[:3]}


def test_images_beside_a_list_of_those_to_train_on_are_in_no_split(put):
    dataset = put(IMAGES, {"train.txt": listed(range(6))})
    assert set().union(*names(dataset).values()) == {*IMAGES[:6]}
    assert dataset.report.count(Problem.NO_SPLIT) == 4


def test_a_folder_of_test_images_alone_is_split_and_it_is_said(put):
    assert any(
        note.startswith("all images are in test (folders)")
        for note in put([f"test/{n}.png" for n in range(10)]).report.notes
    )
