"""A valid export with one thing wrong is read right, refused, or reported: it never becomes silently something else.

Hypothesis chooses an export of `exports` and one mutation: of a number, of a name inside the annotation, of a class, of the
encoding, of a picture, of a whole file. Afterwards every image of the folder is in the data set with the boxes that it had, or
out of it with a reason, or named in the report by the problem that changed it.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import unicodedata
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from nni_hyperfd.data.dataset import FaceDataset, load_dataset
from nni_hyperfd.errors import DataError
from tests.data.formats.exports import EXPORTS, FACES, PICTURES, SIZES

EXAMPLES = int(os.environ.get("HYPERFD_MUTATIONS", "60"))
"""Mutations of each export; docs/formats.md states with how many it was last run."""

NUMBER = re.compile(r"(?<![\w.%])\d+\.\d+(?![\w.%])")
BAD_NUMBERS = [
    "",
    "null",
    "nan",
    "NaN",
    "x",
    "-",
    "1e999",
    "-5000.5",
    "99999.5",
    '""',
    "[]",
    "{}",
    "true",
    "1,2,3",
    "1 2 3",
]
# By these, rows or lines of one image become rows of another, or none, as nobody can tell from outside.
UNSEEN = {"csv", "open_images", "excel"}
# Their boxes follow a picture of any size; the others do not say how large it was.
FRACTIONS = {"yolo", "yolo_landmarks", "yolo_polygons", "open_images"}
SIZELESS = {"wider", "retinaface", "excel", "createml", "via"}
Choose = Callable[[st.SearchStrategy], object]


def number(choose: Choose, files: dict[str, bytes]) -> None:
    """One number of one box is something else."""
    places = [
        (name, match.span()) for name, content in files.items() for match in NUMBER.finditer(content.decode())
    ]
    name, (start, end) = choose(st.sampled_from(places))
    text = files[name].decode()
    files[name] = (text[:start] + choose(st.sampled_from(BAD_NUMBERS)) + text[end:]).encode()


def spelling(choose: Choose, files: dict[str, bytes]) -> None:
    """The annotation writes a picture's name in another way."""
    variants: list[Callable[[str], str]] = [
        str.upper,
        lambda name: unicodedata.normalize("NFD", name),
        quote,
        lambda name: f"./{name}",
        lambda name: f"some/where/images/{name}",
        lambda name: f"/data/upload/3/1a2b3c4d-{quote(name)}",
        lambda name: f"/data/local-files/?d=images/{quote(name)}",
        lambda name: f"https://example.org/set/{quote(name)}?token=1",
        lambda name: f" {name} ",
        lambda name: f"gone-{name}",
    ]
    picture = choose(st.sampled_from(list(SIZES)))
    written = choose(st.sampled_from(variants))(picture)
    for name, content in files.items():
        files[name] = content.decode().replace(picture, written).encode()


def another(choose: Choose, files: dict[str, bytes]) -> None:
    """The annotation of one picture names another one."""
    picture, other = choose(st.permutations(list(SIZES)).map(lambda names: names[:2]))
    for name, content in files.items():
        files[name] = content.decode().replace(picture, other, 1).encode()


def label(choose: Choose, files: dict[str, bytes]) -> None:
    """One class is written otherwise, or not at all."""
    places = [
        (name, match.span())
        for name, content in files.items()
        for match in re.finditer(r"\bface\b", content.decode())
    ]
    if places:
        name, (start, end) = choose(st.sampled_from(places))
        text = files[name].decode()
        files[name] = (
            text[:start]
            + choose(st.sampled_from(["Face", "FACE", "visage", "", "human face", "人脸"]))
            + text[end:]
        ).encode()


def encoding(choose: Choose, files: dict[str, bytes]) -> None:
    """One file has another encoding."""
    name = choose(st.sampled_from(sorted(files)))
    codec = choose(st.sampled_from(["utf-8-sig", "utf-16", "utf-16-le", "utf-32", "cp1252", "gb18030"]))
    files[name] = files[name].decode().encode(codec, errors="xmlcharrefreplace")


def lines(choose: Choose, files: dict[str, bytes]) -> None:
    """Line ends of another system, blank lines, or one line twice."""
    name = choose(st.sampled_from(sorted(files)))
    text = files[name].decode()
    how = choose(st.sampled_from(["\r\n", "\r", "\n\n", "twice"]))
    parts = text.split("\n")
    if how == "twice":
        place = choose(st.integers(0, len(parts) - 1))
        text = "\n".join([*parts[: place + 1], *parts[place:]])
    else:
        text = text.replace("\n", how)
    files[name] = text.encode()


def gone(choose: Choose, files: dict[str, bytes]) -> None:
    """One annotation file is lost, empty of sense, or cut."""
    name = choose(st.sampled_from(sorted(files)))
    how = choose(st.sampled_from(["lost", "half", "page"]))
    if how == "lost":
        del files[name]
    elif how == "page":
        files[name] = b"<!doctype html><html><body>404 not found</body></html>"
    elif name.endswith((".json", ".xml")):
        files[name] = files[name][: choose(st.integers(0, len(files[name]) - 1))]


def picture(choose: Choose, root: Path, format: str) -> None:
    """One picture is lost, broken, turned, resized, joined by a twin or by a stranger."""
    path = choose(st.sampled_from(sorted(path for path in root.rglob("*.jpg"))))
    resized = [] if format in SIZELESS else ["smaller"]
    how = choose(st.sampled_from(["lost", "broken", "sideways", "twin", "stranger", *resized]))
    if how == "lost":
        path.unlink()
    elif how == "broken":
        path.write_bytes(path.read_bytes()[:20])
    elif how == "sideways":
        exif = Image.Exif()
        exif[274] = 6
        with Image.open(path) as image:
            image.rotate(90, expand=True).save(path, exif=exif)
    elif how == "smaller":
        with Image.open(path) as image:
            image.resize((image.width // 2, image.height // 2)).save(path)
    else:
        target = path.with_suffix(".png") if how == "twin" else path.with_name("stranger.jpg")
        Image.new("RGB", (50, 50)).save(target)


MUTATIONS = (number, spelling, another, label, encoding, lines, gone)


@pytest.fixture(scope="module", params=list(EXPORTS))
def export(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """A format, and a folder with the pictures of its export."""
    root = tmp_path_factory.mktemp(request.param) / "set"
    for index, (name, size) in enumerate(SIZES.items()):
        path = root / PICTURES.get(request.param, "images") / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size, (30 * index, 99, 150)).save(path)
    return request.param, root


def write(root: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)


def content_of(format: str) -> dict[str, bytes]:
    return {name: text.encode() for name, text in EXPORTS[format](FACES).items()}


def test_the_exports_are_read_right(export: tuple[str, Path], tmp_path: Path) -> None:
    format, pictures = export
    root = shutil.copytree(pictures, tmp_path / "set")
    write(root, content_of(format))
    dataset = load_dataset(root)
    assert not silent_changes(root, dataset, format)
    assert len(dataset.images) == len(SIZES)


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    suppress_health_check=[
        HealthCheck.too_slow,
        HealthCheck.function_scoped_fixture,
        HealthCheck.data_too_large,
    ],
)
@given(data=st.data())
def test_one_mutation(
    export: tuple[str, Path], tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    format, pictures = export
    root = tmp_path_factory.mktemp("mutated") / "set"
    shutil.copytree(pictures, root)
    files = content_of(format)
    mutation = data.draw(
        st.sampled_from([*(m for m in MUTATIONS if m is not another or format not in UNSEEN), picture])
    )
    if mutation is not picture:
        mutation(data.draw, files)
    write(root, files)
    if mutation is picture:
        mutation(data.draw, root, format)
    dataset, refusal = load_or_refusal(root)
    assert not (silent_changes(root, dataset, format) if dataset else [])
    assert "\n" not in refusal
    assert dataset or str(root) in refusal
    shutil.rmtree(root.parent)


def load_or_refusal(root: Path) -> tuple[FaceDataset | None, str]:
    try:
        return load_dataset(root), ""
    except DataError as error:
        return None, str(error)


def silent_changes(root: Path, dataset: FaceDataset, format: str) -> list[str]:
    """Images that have other faces than they should, without a word of it."""
    report = dataset.report
    named = {os.path.basename(name) for names in report.examples.values() for name in names}
    kept = {image.path.relative_to(root).as_posix() for image in dataset.images}
    there = {path.relative_to(root).as_posix() for path in root.rglob("*") if path.suffix in (".jpg", ".png")}
    wrong = [
        f"{name} is neither in the set nor left out" for name in sorted(there - kept - {*report.left_out})
    ]
    wrong += [f"{name} is in the set and left out" for name in sorted(kept & {*report.left_out})]
    for image in dataset.images:
        width, height = SIZES.get(image.path.name, (1, 1))
        scale = np.tile([image.width / width, image.height / height], 2) if format in FRACTIONS else 1.0
        faces = [
            (np.array(box) * scale).tolist()
            for label, box in FACES.get(image.path.name, [])
            if label == "face"
        ]
        found = image.boxes[~image.ignored]
        regions = image.boxes[image.ignored]
        missing = [box for box in faces if not _has(found, box) and not _has(regions, box)]
        extra = [
            box for box in found.tolist() if not _has(np.array(faces, dtype=np.float32).reshape(-1, 4), box)
        ]
        # Before the first three examples of a problem are full, an image that it changed is among them.
        if (missing or extra) and image.path.name not in named:
            wrong.append(f"{image.path.name}: {faces} became {found.tolist()}: {report}")
    return wrong


def _has(boxes: np.ndarray, box: object) -> bool:
    return bool(len(boxes)) and bool(
        (np.abs(boxes - np.asarray(box, dtype=np.float32)).max(axis=1) < 0.6).any()
    )


def test_broken_pictures_are_pictures(export: tuple[str, Path]) -> None:
    """The pictures themselves are what the truth says: nothing above rests on a mistake of this file."""
    _, pictures = export
    for name, size in SIZES.items():
        found = next(pictures.rglob(name))
        with Image.open(io.BytesIO(found.read_bytes())) as image:
            assert image.size == size
