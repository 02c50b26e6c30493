"""Formats that are not read are named in the refusal, and never taken for another."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from PIL import Image

from nni_hyperfd.data.dataset import load_dataset
from nni_hyperfd.errors import DataError

KITTI = "Face 0.00 0 0.00 60 50 100 95 0 0 0 0 0 0 0\n"
BOX = {"x": 60, "y": 50, "w": 40, "h": 45}
FOREIGN: list[tuple[str, Mapping[str, object]]] = [
    ("KITTI", {f"images/p{n}.txt": KITTI if n else "" for n in range(3)}),
    ("KITTI", {f"label_2/p{n}.txt": KITTI for n in range(3)}),
    ("names of classes", {"labels/p0.txt": "Human face 60.1 50.2 100.3 95.4\n"}),
    ("DOTA", {"labels/p0.txt": "60.0 50.0 100.0 50.0 100.0 95.0 60.0 95.0 face 0\n"}),
    ("Darwin", {"p0.json": {"item": {"slots": []}, "annotations": [{"name": "face", "bounding_box": BOX}]}}),
    ("Datumaro", {"a/default.json": {"categories": {"label": {}}, "items": [{"id": "p0", "annotations": []}]}}),
    ("FiftyOne", {"samples.json": {"samples": [{"filepath": "images/p0.jpg"}]}}),
    ("SuperAnnotate", {"p0.jpg.json": {"instances": [{"className": "face", "classId": 1}]}}),
    ("VoTT", {"x.json": {"asset": {"name": "p0.jpg"}, "regions": []}}),
    ("SageMaker", {"output.manifest": {"source-ref": "s3://bucket/p0.jpg"}}),
    ("Vertex", {"import.jsonl": {"imageGcsUri": "gs://bucket/p0.jpg"}}),
    ("Vertex", {"import.csv": "TRAIN,gs://bucket/p0.jpg,face,0.3,0.3,,,0.5,0.6,,\n"}),
    ("Scale", {"tasks.json": [{"task_id": "1", "params": {"attachment": "p0.jpg"}}]}),
    ("Hasty", {"x.json": {"label_classes": [], "images": [{"image_name": "p0.jpg", "labels": []}]}}),
    ("VIA 3", {"x.json": {"file": {"1": {"fid": "1", "fname": "p0.jpg"}}, "metadata": {}}}),
    ("results", {"x.json": [{"image_id": 1, "bbox": [60, 50, 40, 45], "score": 0.9}]}),
    ("imglab", {"x.xml": "<dataset><images><image file='images/p0.jpg'></image></images></dataset>"}),
    ("Keras", {"_annotations.txt": "p0.jpg 60,50,100,95,0 10,10,20,20,1\n"}),
    ("MOT", {"gt/gt.txt": "1,1,60,50,40,45,1,1,1\n"}),
    ("FDDB", {"ellipses.txt": "p0.jpg\n1\n22.5 30.0 1.57 80.0 72.5  1\np1.jpg\n1\n22.5 30.0 1.57 80.0 72.5  1\n"}),
    ("Label Studio csv", {"project.csv": "image,id,label,annotator,annotation_id\np0.jpg,1,[],1,1\n"}),
    ("without boxes", {"_classes.csv": "filename, face, hat\np0.jpg, 1, 0\np1.jpg, 0, 1\n"}),
    ("TFRecord", {"faces.tfrecord": "x"}),
]  # fmt: skip


@pytest.fixture
def put(tmp_path: Path) -> Callable[[Mapping[str, object]], Path]:
    """Three pictures and files, of text or JSON."""

    def run(files: Mapping[str, object]) -> Path:
        for number in range(3):
            path = tmp_path / "images" / f"p{number}.jpg"
            path.parent.mkdir(exist_ok=True)
            Image.new("RGB", (200, 150), (80 * number, 90, 0)).save(path)
        for name, content in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content if isinstance(content, str) else json.dumps(content))
        return tmp_path

    return run


@pytest.mark.parametrize(("title", "files"), FOREIGN)
def test_a_format_that_is_not_read_is_named(
    put: Callable[[Mapping[str, object]], Path], title: str, files: Mapping[str, object]
) -> None:
    with pytest.raises(DataError, match=f"looks like .*{title}.*which is not read"):
        load_dataset(put(files))


def test_one_foreign_line_among_those_of_yolo_leaves_out_its_image_only(
    put: Callable[[Mapping[str, object]], Path],
) -> None:
    files = {f"images/p{number}.txt": "0 0.4 0.5 0.2 0.3\n" for number in (1, 2)}
    with pytest.raises(DataError, match="only 2 usable images"):
        load_dataset(put({**files, "images/p0.txt": KITTI}))
