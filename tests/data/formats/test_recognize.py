"""Which format a folder has."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from nni_hyperfd.data.formats import READERS, DataFolder, recognize
from nni_hyperfd.data.reading import FORMATS as READING_FORMATS
from nni_hyperfd.errors import DataError

FILES = {
    "wider": {"wider_face_bbx_gt.txt": "a.jpg\n1\n1 2 3 4 0 0 0 0 0 0\n"},
    "coco": {"instances.json": json.dumps({"images": [], "annotations": []})},
    "voc": {"annotations/a.xml": "<annotation/>"},
    "yolo": {"labels/a.txt": "0 0.5 0.5 0.1 0.1\n"},
    "retinaface": {"label.txt": "# a.jpg\n1 2 3 4\n"},
    "csv": {"boxes.csv": "image,xmin,ymin,xmax,ymax,label\n"},
    "cvat": {"annotations.xml": "<annotations></annotations>"},
    "labelme": {"a.json": json.dumps({"shapes": [], "imagePath": "a.jpg"})},
    "createml": {"faces.json": json.dumps([{"image": "a.jpg", "annotations": [{"coordinates": {}}]}])},
    "via": {"via.json": json.dumps({"a.jpg1": {"filename": "a.jpg", "regions": [{"shape_attributes": {}}]}})},
    "labelstudio": {"p.json": json.dumps([{"data": {"image": "a.jpg"}, "annotations": [{"result": []}]}])},
    "supervisely": {"ann/a.jpg.json": json.dumps({"size": {}, "objects": []})},
}

Put = Callable[..., DataFolder]


@pytest.fixture
def put(tmp_path: Path, draw_pictures) -> Put:
    def run(*formats: str, **others: str) -> DataFolder:
        draw_pictures(tmp_path, {"images/a.jpg": (20, 20)})
        for files in (*(FILES[name] for name in formats), others):
            for name, text in files.items():
                (tmp_path / name).parent.mkdir(exist_ok=True)
                (tmp_path / name).write_text(text)
        return DataFolder(tmp_path)

    return run


@pytest.mark.parametrize("name", FILES)
def test_each_format_is_recognized_among_other_files(put, name):
    others = {"splits.json": "{}", "README.txt": "hello\n", "meta.json": "{}", "table.csv": "a,b\n1,2\n"}
    reader, files = recognize(put(name, **others))
    assert reader is READERS[name]
    assert files == list(FILES[name])


def test_two_formats_are_refused_unless_one_is_named(put):
    folder = put("wider", "voc")
    with pytest.raises(
        DataError, match=r"WIDER FACE txt .* and Pascal VOC xml .*name the format \(wider, voc\)"
    ):
        recognize(folder)
    assert recognize(folder, "voc")[0] is READERS["voc"]


def test_nothing_known_is_refused_with_the_list_of_formats(put):
    with pytest.raises(DataError, match=r"no annotations of a known format in .*COCO json \(coco\)"):
        recognize(put(notes="hello"))


def test_a_table_without_a_box_is_named_with_what_it_lacks(put):
    with pytest.raises(
        DataError, match=r"faces\.csv has no columns for an image and its box: add a header line"
    ):
        recognize(put(**{"faces.csv": "name,age\na.jpg,31\n"}))


def test_every_reader_is_a_format_that_settings_know():
    assert set(READERS) == set(READING_FORMATS) == set(FILES)


def test_a_named_format_must_be_known_and_there(put):
    with pytest.raises(DataError, match="unknown annotation format 'pascal': use one of wider, coco"):
        recognize(put("voc"), "pascal")
    with pytest.raises(DataError, match="no COCO json annotations in"):
        recognize(put("voc"), "coco")
