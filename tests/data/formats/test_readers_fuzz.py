"""Whatever stands in an annotation file, loading answers with a data set that keeps its promises or with one DataError."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nni_hyperfd.data.dataset import FaceDataset, load_dataset
from nni_hyperfd.errors import DataError
from nni_hyperfd.synthetic import WRITERS, generate

WIDTH = HEIGHT = 40
NAMES = [f"images/{letter}.jpg" for letter in "abcd"]
# One annotation file of each format, as the generator of synthetic data writes it.
ANNOTATION_FILES = {
    "wider": "wider_face_bbx_gt.txt",
    "coco": "annotations.coco.json",
    "voc": "annotations/crowd_0001.xml",
    "yolo": "labels/crowd_0001.txt",
    "retinaface": "label.txt",
    "csv": "boxes.csv",
}
TOKENS = [
    b"",
    b"nan",
    b"-1e400",
    b"1e38",
    b"-5",
    b"0",
    b"99999999999999999999",
    b"a.jpg",
    b"\n",
    b",",
    b" ",
    b"#",
    b"\x00",
    b"\xff\xfe",
    b"[",
    b"}",
    b'"',
    b"<",
    b"</object>",
    b"&amp;",
    b"null",
    b"true",
    b"../../x.jpg",
    b"\xe2\x80\xa8",
]
QUICK = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


@pytest.fixture(scope="module", params=list(ANNOTATION_FILES))
def valid(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path, bytes]:
    """A small valid set, one annotation file in it, and that file's content."""
    root = tmp_path_factory.mktemp(request.param) / "set"
    generate(root, "crowd", images=5, format=request.param, splits=False)
    file = root / ANNOTATION_FILES[request.param]
    return root, file, file.read_bytes()


def load_or_refuse(root: Path) -> None:
    """Loads; any exception but a `DataError` of one line that names the folder fails the test."""
    try:
        dataset = load_dataset(root)
    except DataError as error:
        message = str(error)
    else:
        check(dataset)
        return
    assert "\n" not in message
    assert str(root) in message


def check(dataset: FaceDataset) -> None:
    for image in dataset.images:
        boxes = image.boxes
        assert boxes.dtype == np.float32
        assert boxes.shape == (len(boxes), 4)
        assert image.landmarks.shape == (len(boxes), 5, 2)
        assert image.ignored.shape == (len(boxes),)
        assert np.isfinite(boxes).all()
        assert (boxes >= 0).all()
        assert (boxes[:, 2:] <= [image.width, image.height]).all()
        assert (boxes[:, 2:] - boxes[:, :2] > 0.999).all()
        assert not np.isinf(image.landmarks).any()
    members = [index for split in dataset.splits.values() for index in split]
    assert len(set(members)) == len(members)
    assert set(members) <= set(range(len(dataset.images)))
    assert all(dataset.splits.values())
    assert str(dataset.report).isprintable() or "\n" in str(dataset.report)
    str(dataset.report).encode("utf-8")


@given(edits=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 60), st.sampled_from(TOKENS)), max_size=6))
@QUICK
def test_damaged_annotations(valid, edits):
    root, file, content = valid
    for place, length, token in edits:
        start = int(place * len(content))
        content = content[:start] + token + content[start + length :]
    file.write_bytes(content)
    load_or_refuse(root)


@given(content=st.binary(max_size=300))
@QUICK
def test_random_bytes(valid, content):
    root, file, _ = valid
    file.write_bytes(content)
    load_or_refuse(root)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)
NUMBER = st.integers(-50, 400) | st.floats() | st.integers()
IDENTITY = st.integers(0, 3) | JSON
IMAGE = st.fixed_dictionaries(
    {},
    optional={
        "id": IDENTITY,
        "file_name": st.sampled_from(["a.jpg", "b.jpg", "c.jpg", "gone.jpg", ""]) | JSON,
        "width": NUMBER | JSON,
        "height": NUMBER | JSON,
    },
)
ANNOTATION = st.fixed_dictionaries(
    {},
    optional={
        "image_id": IDENTITY,
        "bbox": st.lists(NUMBER, min_size=3, max_size=5) | JSON,
        "keypoints": st.lists(NUMBER, min_size=15, max_size=15) | JSON,
        "iscrowd": JSON,
        "category_id": IDENTITY,
    },
)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory, draw_pictures: Callable[..., Path]) -> Path:
    return draw_pictures(tmp_path_factory.mktemp("pictures"), dict.fromkeys(NAMES, (WIDTH, HEIGHT)))


@given(
    images=st.lists(IMAGE | JSON, max_size=5) | JSON,
    annotations=st.lists(ANNOTATION | JSON, max_size=6) | JSON,
    categories=JSON,
    splits=st.none()
    | JSON
    | st.fixed_dictionaries(dict.fromkeys(("train", "val", "test"), st.lists(st.text(max_size=3)))),
)
@QUICK
def test_coco_documents_of_any_shape(pictures, images, annotations, categories, splits):
    document = {"images": images, "annotations": annotations, "categories": categories}
    (pictures / "instances.json").write_text(json.dumps(document))
    (pictures / "splits.json").unlink(missing_ok=True)
    if splits is not None:
        (pictures / "splits.json").write_text(json.dumps(splits))
    load_or_refuse(pictures)


def test_every_written_format_has_a_fuzzed_reader():
    assert set(ANNOTATION_FILES) == set(WRITERS)
