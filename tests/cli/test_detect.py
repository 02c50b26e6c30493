"""``hyperfd detect``: pictures drawn, boxes printed, and one sentence for whatever goes wrong."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from nni_hyperfd.cli import main
from nni_hyperfd.cli.detect import COLOR
from nni_hyperfd.detection.network.weights import base_path, load_detector, save_detector


@pytest.fixture
def pictures(drawn_faces: Path) -> list[Path]:
    return sorted((drawn_faces / "images").iterdir())[:2]


WEIGHTS = str(base_path("standard"))


@pytest.fixture(scope="module")
def sure(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A detector whose class outputs are set by hand: a face with score 0.9 wherever it looks, on any processor."""
    model = load_detector(base_path("standard"))
    with torch.no_grad():
        for head in model.heads:
            # Rows of a head: for each of its two anchors 2 classes, 4 box offsets, 10 landmark offsets.
            weight, bias = head.weight.unflatten(0, (2, -1)), head.bias.unflatten(0, (2, -1))
            weight[:, :2] = 0
            bias[:, :2] = torch.tensor([0.0, math.log(9)])
    path = tmp_path_factory.mktemp("sure") / "sure.safetensors"
    save_detector(path, model, model.state_dict())
    return str(path)


def test_faces_are_drawn_and_listed(
    pictures: list[Path], sure: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every listed box is drawn where the list says, to the pixel, however a processor or Pillow rounds."""
    out = tmp_path / "new" / "out"
    options = ["--weights", sure, "--out", str(out), "--score", "0.1", "--size", "64"]
    assert main(["detect", *map(str, pictures), *options, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [entry["image"] for entry in found] == [str(path) for path in pictures]
    for entry in found:
        assert entry["faces"]
        with Image.open(entry["image"]) as before, Image.open(entry["drawn"]) as after:
            assert after.size == before.size
            drawn = np.array(after.convert("RGB"))
            for face in entry["faces"]:
                x0, y0, x1, y1 = face["box"]
                assert 0 <= x0 <= x1 <= after.width
                assert 0 <= y0 <= y1 <= after.height
                assert face["score"] == pytest.approx(0.9, abs=0.005)  # bfloat16 has 8 bits
                left, row = min(int(x0), after.width - 1), min(int((y0 + y1) / 2), after.height - 1)
                assert tuple(drawn[row, left]) == COLOR
    assert main(["detect", *map(str, pictures), *options]) == 0
    printed = capsys.readouterr().out
    assert all(path.name in printed for path in pictures)


def test_faces_below_the_score_are_neither_drawn_nor_listed(
    pictures: list[Path], sure: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--weights", sure, "--out", str(tmp_path), "--score", "0.95", "--size", "64", "--json"]
    assert main(["detect", str(pictures[0]), *options]) == 0
    (entry,) = json.loads(capsys.readouterr().out)
    assert entry["faces"] == []
    with Image.open(entry["image"]) as before, Image.open(entry["drawn"]) as after:
        assert np.array_equal(np.array(before.convert("RGB")), np.array(after.convert("RGB")))


def test_pictures_of_one_name_do_not_overwrite_each_other(
    pictures: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    same = str(pictures[0])
    assert main(["detect", same, same, "--weights", WEIGHTS, "--out", str(tmp_path), "--size", "64"]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"{pictures[0].stem}-2.png",
        f"{pictures[0].stem}.png",
    ]


@pytest.mark.parametrize(
    ("images", "options", "said"),
    [
        (["absent.jpg"], [], "absent.jpg does not exist: check its name"),
        (["text.jpg"], [], "text.jpg is no picture"),
        (["good.png"], ["--weights", "absent.safetensors"], "absent.safetensors"),
        (["good.png"], ["--weights", "text.jpg"], "text.jpg"),
        (["good.png"], ["--score", "2"], "--score"),
        (["good.png"], ["--size", "1"], "--size"),
        (["good.png"], ["--out", "text.jpg"], "cannot write"),
        ([""], [], "a name is empty"),
    ],
)
def test_wrong_input_is_one_sentence(
    images: list[str],
    options: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("text.jpg").write_text("no picture")
    Image.new("RGB", (40, 30)).save("good.png")
    assert main(["detect", *images, "--weights", WEIGHTS, "--size", "32", *options]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("hyperfd: ")
    assert captured.err.count("\n") == 1
    assert said in captured.err


def test_folders_and_videos_as_coco(
    pictures: list[Path],
    make_video: Callable[[Path], Path],
    sure: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Sub-folders that hold files of one name, a video, a hidden folder, and a text that is passed over."""
    folder, out = tmp_path / "Bilder und Filme", tmp_path / "out"
    for name in ("a", "b", ".hidden"):
        (folder / name).mkdir(parents=True)
        (folder / name / "one.jpg").write_bytes(pictures[0].read_bytes())
    (folder / "notes.txt").write_text("no picture")
    make_video(folder / "film.mp4")
    options = ["--weights", sure, "--out", str(out), "--size", "64", "--every", "0.5"]
    assert main(["detect", str(folder), *options, "--coco"]) == 0
    found = json.loads(capsys.readouterr().out)
    film = folder / "film.mp4"
    assert [image["file_name"] for image in found["images"]] == [
        str(folder / "a" / "one.jpg"),
        str(folder / "b" / "one.jpg"),
        f"{film}#t=0.000",
        f"{film}#t=0.500",
    ]
    assert [(image["width"], image["height"]) for image in found["images"][2:]] == [(64, 48), (64, 48)]
    drawn = ["a-one.png", "b-one.png", "film-000000.png", "film-000005.png"]
    assert sorted(path.name for path in out.iterdir()) == drawn

    assert main(["detect", str(folder), *options, "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert len(found["annotations"]) == sum(len(each["faces"]) for each in listed) > 0
    assert [a["id"] for a in found["annotations"]] == list(range(1, len(found["annotations"]) + 1))
    for image, entry in zip(found["images"], listed):
        mine = [each for each in found["annotations"] if each["image_id"] == image["id"]]
        for annotation, face in zip(mine, entry["faces"], strict=True):
            x, y, width, height = annotation["bbox"]
            assert (x, y, x + width, y + height) == pytest.approx(face["box"], abs=0.06)
            assert annotation["area"] == pytest.approx(width * height, abs=0.06)
            assert annotation["score"] == face["score"]


def test_it_goes_on_after_what_cannot_be_read(
    pictures: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    Path("bad.jpg").write_text("no picture")
    Path("bad.mp4").write_text("no video")
    inputs = ["bad.jpg", "bad.mp4", "empty", "absent.png", str(pictures[0])]
    assert main(["detect", *inputs, "--weights", WEIGHTS, "--size", "64", "--json"]) == 1
    captured = capsys.readouterr()
    assert [Path(entry["image"]) for entry in json.loads(captured.out)] == [pictures[0]]
    (said,) = captured.err.splitlines()
    assert said.startswith("hyperfd: 4 of the inputs could not be read: bad.jpg is no picture")
    assert all(name in said for name in ("bad.mp4", "empty holds no picture and no video", "absent.png"))


def test_no_picture_is_overwritten_by_a_drawing_and_no_drawing_is_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (40, 30), (9, 9, 9)).save("good.png")
    before = Path("good.png").read_bytes()
    for inputs, out in ((["good.png"], "."), (["."], "."), (["."], str(tmp_path))):
        assert main(["detect", *inputs, "--weights", WEIGHTS, "--size", "32", "--out", out]) == 1
        assert "good.png lies in the output folder" in capsys.readouterr().err
    assert Path("good.png").read_bytes() == before
    for _ in range(2):
        assert main(["detect", ".", "--weights", WEIGHTS, "--size", "32", "--json"]) == 0
        assert [one["image"] for one in json.loads(capsys.readouterr().out)] == ["good.png"]
    assert [path.name for path in Path("detections").iterdir()] == ["good.png"]
