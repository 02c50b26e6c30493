"""The page of ``hyperfd data --html``: it says what the reader says, and shows every split with its boxes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nni_hyperfd.cli import main
from nni_hyperfd.data.dataset import load_dataset
from nni_hyperfd.detection.training.budgets import get_budget
from nni_hyperfd.pages.data_facts import data_facts, noise_in_points
from nni_hyperfd.pages.data_page import FACE, IGNORED, SMALL, data_page

NASTY = "a <b>&'\"é ü.jpg"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twelve pictures 200 × 150 in three splits: one face of 60 pixels each; in val small and ignored ones; a copy across splits."""
    root = tmp_path / "meine Bilder"
    (root / "images").mkdir(parents=True)
    rng = np.random.default_rng(0)
    names = [NASTY, *(f"{number:02d}.jpg" for number in range(1, 12))]
    for name in names:
        cells = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
        cells.resize((200, 150), Image.Resampling.BICUBIC).save(root / "images" / name)
    (root / "images" / "11.jpg").write_bytes((root / "images" / NASTY).read_bytes())
    images = [{"id": n, "file_name": name, "width": 200, "height": 150} for n, name in enumerate(names)]
    boxes: list[Mapping[str, object]] = [
        {"image_id": n, "category_id": 1, "bbox": [50, 40, 60, 60]} for n in range(12)
    ]
    boxes.append(
        {"image_id": 8, "category_id": 1, "bbox": [5, 5, 6, 6]}
    )  # 28.8 pixels at the reference scale
    boxes.append({"image_id": 9, "category_id": 1, "bbox": [150, 100, 40, 40], "iscrowd": 1})
    boxes += [{"image_id": n, "category_id": 2, "bbox": [0, 0, 100, 140]} for n in range(3)]
    categories = [{"id": 1, "name": "face"}, {"id": 2, "name": "person"}]
    content = {
        "images": images,
        "annotations": [{"id": n, "iscrowd": 0, **box} for n, box in enumerate(boxes)],
        "categories": categories,
    }
    (root / "annotations.json").write_text(json.dumps(content))
    splits = {"train": names[:8], "val": names[8:10], "test": names[10:]}
    (root / "splits.json").write_text(json.dumps(splits))
    return root


def test_the_page_shows_what_was_read(folder: Path) -> None:
    facts = data_facts(load_dataset(folder), get_budget("short"))
    counted = {
        split.name: (split.images, split.with_faces, split.faces, split.small, split.ignored)
        for split in facts.splits
    }
    assert counted == {"train": (8, 8, 8, 0, 0), "val": (2, 2, 2, 1, 1), "test": (2, 2, 2, 0, 0)}
    page = data_page(facts)
    # A contact sheet for each split, whose boxes are as many as the annotations'; then the copies once more.
    sheets = page.split("<h2>Contact sheets</h2>")[1].split("</section>")[0]
    assert re.findall(r"<h3>(\w+): (\d+) of (\d+)</h3>", sheets) == [
        ("train", "8", "8"),
        ("val", "2", "2"),
        ("test", "2", "2"),
    ]
    drawn = re.findall(r'<rect[^>]*stroke="([^"]+)"([^>]*)>', sheets)
    assert [sum(color == each for color, _ in drawn) for each in (FACE, SMALL, IGNORED)] == [12, 1, 1]
    assert {color for color, style in drawn if "stroke-dasharray" in style} == {IGNORED}
    copies = page.split("<h2>Copies</h2>")[1]
    assert copies.count("<figure>") == 2
    assert "<figcaption" in copies
    assert "test: 11.jpg" in copies
    assert "<td>person</td>" in page
    assert "<td>not faces</td>" in page
    for warning in facts.warnings():
        assert warning.split(",")[0] in page
    # Names are text, and nothing is fetched.
    assert "<b>&'" not in page
    assert not re.search(r'(src|href)="(?!data:)', page)


def test_warnings_say_what_matters_for_ap(folder: Path) -> None:
    said = data_facts(load_dataset(folder), get_budget("short")).warnings()
    assert said[0].startswith("2 images are in more than one split, byte for byte")
    assert any(each.startswith("1 of the 3 faces in val (33 %) are under 36 pixels") for each in said)
    assert any(
        each.startswith("val has 2 images with faces that count: AP@50 on it is known to about ± 28 points")
        for each in said
    )


def test_noise_in_points_against_drawing() -> None:
    """100 pictures of which each is right with probability 0.8: the spread of the mean, drawn 4000 times."""
    means = np.random.default_rng(0).binomial(100, 0.8, 4000)
    assert noise_in_points(100) == pytest.approx(means.std(), rel=0.05)
    assert noise_in_points(0) == float("inf")


def test_the_command_prints_and_writes_the_same(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "neu" / "Seite 1.html"
    assert main(["data", str(folder), "--html", str(page), "--ignore", "person"]) == 0
    printed = capsys.readouterr().out
    assert "meine Bilder: 12 images, 13 faces (+ 4 ignored)" in printed
    assert "person: 3 ignored (as the settings say)" in printed
    assert "byte for byte               1" in printed
    assert printed.count("Warning: ") >= 2
    assert str(page) in printed
    written = page.read_text(encoding="utf-8")
    assert written.startswith("<!doctype html>")
    assert "<td>person</td>" in written


def test_a_page_that_cannot_be_written_is_told(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert main(["data", str(folder), "--html", str(tmp_path / "file" / "page.html")]) == 1
    assert "name another file with --html" in capsys.readouterr().err


def test_a_picture_whose_pixels_break_off_is_left_out(
    folder: Path, draw_pictures: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    broken = folder / "images" / "03.jpg"
    broken.write_bytes(broken.read_bytes()[:700])
    assert main(["data", str(folder)]) == 0
    assert "images whose pixels cannot be decoded: 1 (03.jpg)" in capsys.readouterr().out
