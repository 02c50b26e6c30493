"""Names of pictures in annotations."""

from __future__ import annotations

import unicodedata

import pytest

from nni_hyperfd.data.names import AmbiguousName, ImageNames, split_of_path, split_word

DISK = [
    "images/my photo 1.jpg",
    "images/Zoë.jpg",
    "images/9f8e7d6c-upload.jpg",
    "a/1.jpg",
    "b/1.jpg",
    "images/50%.jpg",
    "images/with%20blank.jpg",
]


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("/data/upload/3/my%20photo%201.jpg", DISK[0]),
        ("/data/upload/3/1a2b3c4d-my%20photo%201.jpg", DISK[0]),
        ("/data/local-files/?d=images/my%20photo%201.jpg", DISK[0]),
        ("/data/local-files/?d=images%2Fmy%2520photo%201.jpg", DISK[0]),
        ("https://example.org/set/my%20photo%201.jpg?X-Amz-Expires=60&sig=a%2Fb", DISK[0]),
        ("s3://bucket/images/my photo 1.jpg", DISK[0]),
        ("https://example.org/set/my+photo+1.jpg", DISK[0]),
        ("my+photo+1.jpg", None),
        ("file:///C:/set/images/my%20photo%201.jpg", DISK[0]),
        ("..\\..\\media\\upload\\4\\MY PHOTO 1.JPG", DISK[0]),
        (unicodedata.normalize("NFD", "Zoë.jpg"), DISK[1]),
        ("ZOË.JPG", DISK[1]),
        ("upload.jpg", DISK[2]),
        ("50%.jpg", DISK[5]),
        ("set/with blank.jpg", DISK[6]),
        ("a/1.jpg", DISK[3]),
        ("c/1.jpg", None),
        ("2021-my photo 1.jpg", None),
        ("photo 1.jpg", None),
    ],
)
def test_spellings(written: str, meant: str | None) -> None:
    assert ImageNames(DISK).find(written) == meant


def test_a_name_composed_otherwise_is_not_another_picture_that_is_there_too() -> None:
    both = [unicodedata.normalize(form, "Zoë.jpg") for form in ("NFC", "NFD")]
    names = ImageNames(both)
    assert [names.find(name) for name in both] == both
    with pytest.raises(AmbiguousName) as found:
        names.find("ZOË.jpg")
    assert sorted(found.value.images) == sorted(both)


def test_the_split_of_an_annotation_file_tells_between_equal_names() -> None:
    names = ImageNames(["train2017/1.jpg", "val2017/1.jpg"])
    assert names.find("1.jpg", "annotations/instances_val2017.json") == "val2017/1.jpg"


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train", "train"), ("Valid", "val"), ("validation", "val"), ("test2017", "test"), ("instances_train2017.json", "train"),
        ("WIDER_val", "val"), ("wider_face_val_bbx_gt.txt", "val"), ("images-test", "test"), ("train station", None),
        ("trainer", None), ("images", None), ("train_val", None), ("test-drive", None), ("face_train.txt", "train"),
    ],
)  # fmt: skip
def test_words_for_splits(name: str, split: str | None) -> None:
    assert split_word(name) == split


def test_the_nearest_folder_tells_the_split() -> None:
    assert split_of_path("test/train/labels") == "train"
    assert split_of_path("set/images") is None
