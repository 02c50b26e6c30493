"""Drawn data: the same for the same seed, as annotated, different from style to style."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from nni_hyperfd.data.dataset import Problem, load_dataset
from nni_hyperfd.errors import DataError
from nni_hyperfd.synthetic import STYLES, WRITERS, Scene, draw_scenes, generate, scenes
from nni_hyperfd.synthetic.heads import Head
from nni_hyperfd.synthetic.scenes import Canvas


@functools.cache
def drawn(style: str) -> list[Scene]:
    """Twelve scenes of a style, drawn once for all tests that only look."""
    return draw_scenes(style, 12)


def digest(folder) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.mark.parametrize("style", STYLES)
def test_scenes_keep_their_promises(style):
    scenes = drawn(style)
    for scene in scenes:
        assert scene.picture.mode == "RGB"
        assert max(scene.picture.size) <= 256
        count = len(scene.boxes)
        assert scene.landmarks.shape == (count, 5, 2)
        assert scene.ignored.shape == (count,)
        assert (scene.boxes >= 0).all()
        assert (scene.boxes <= [*scene.picture.size, *scene.picture.size]).all()
        assert (scene.boxes[:, 2:] - scene.boxes[:, :2] >= 2).all()
    counts = [len(scene.boxes) for scene in scenes]
    assert len(set(counts)) > 2
    heights = np.concatenate([scene.boxes[:, 3] - scene.boxes[:, 1] for scene in scenes])
    assert heights.max() > 2 * heights.min()


@pytest.mark.parametrize("style", STYLES)
def test_landmarks_lie_in_the_picture_and_mostly_in_their_box(style):
    inside = []
    for scene in drawn(style):
        seen = ~np.isnan(scene.landmarks)
        assert ((scene.landmarks >= 0) & (scene.landmarks <= scene.picture.size))[seen].all()
        low, high = scene.boxes[:, None, :2] - 1, scene.boxes[:, None, 2:] + 1
        inside += ((scene.landmarks >= low) & (scene.landmarks <= high))[seen].tolist()
    assert np.mean(inside) > 0.95


def test_faces_are_where_the_boxes_say():
    """In heat pictures faces are the bright things: a box is brighter inside than the picture around it."""
    brighter = []
    for scene in drawn("thermal"):
        gray = np.asarray(scene.picture.convert("L"), dtype=float)
        for left, top, right, bottom in scene.boxes[~scene.ignored].astype(int):
            brighter.append(gray[top:bottom, left:right].mean() > gray.mean())
    assert len(brighter) >= 10
    assert np.mean(brighter) > 0.9


def test_hidden_faces_are_ignored_and_covered_ones_not_annotated():
    oval = Head.sample(STYLES["crowd"].look, np.random.default_rng(0)).outline() * 20
    centers = np.array([(30.0, 30.0), (80.0, 30.0), (130.0, 30.0)])
    picture = drawn("crowd")[0].picture
    canvas = Canvas(picture, oval + centers[:, None], np.zeros((3, 5, 2)) + 30, np.array([0.9, 0.3, 0.05]))
    scene = canvas.finish(picture)
    assert scene.ignored.tolist() == [False, True]
    shifted = canvas.finish(picture, lambda points: points + 5)
    np.testing.assert_allclose(shifted.boxes, scene.boxes + 5, atol=1e-4)


def test_the_same_seed_gives_the_same_files_and_another_seed_others(tmp_path):
    first = digest(generate(tmp_path / "first", "paper", images=6, seed=3))
    assert digest(generate(tmp_path / "second", "paper", images=6, seed=3)) == first
    assert digest(generate(tmp_path / "third", "paper", images=6, seed=4)) != first


def test_the_first_scenes_do_not_depend_on_how_many_follow():
    short, long = draw_scenes("night", 2), draw_scenes("night", 4)
    for one, other in zip(short, long):
        assert one.picture.tobytes() == other.picture.tobytes()
        np.testing.assert_array_equal(one.boxes, other.boxes)


def test_styles_differ_in_what_the_detector_sees():
    """Mean color and contrast tell the styles apart: they are different domains, not one in seven names."""
    looks = {}
    for style in STYLES:
        pixels = [np.asarray(scene.picture, dtype=float) for scene in drawn(style)]
        colors = np.array([np.r_[part.mean((0, 1)), np.abs(np.diff(part, axis=1)).mean()] for part in pixels])
        looks[style] = colors.mean(0)
    for style, look in looks.items():
        others = [np.linalg.norm(look - other) for name, other in looks.items() if name != style]
        if style not in (
            "crowd",
            "masked",
        ):  # these two differ in the faces, which so few numbers do not show
            assert min(others) > 8


@pytest.mark.parametrize("format", WRITERS)
def test_each_format_is_read_back_as_drawn(tmp_path, format):
    scenes = drawn("fisheye")
    assert any(scene.ignored.any() for scene in scenes)
    assert any(np.isnan(scene.landmarks[~scene.ignored]).any() for scene in scenes)  # cut by the edge
    pages = [(f"{number:02d}.png", scene) for number, scene in enumerate(scenes)]
    (tmp_path / "images").mkdir()
    for name, scene in pages:
        Image.new("RGB", scene.picture.size).save(tmp_path / "images" / name)
    WRITERS[format](tmp_path, pages)
    dataset = load_dataset(tmp_path)
    assert set(dataset.report.counts) <= {Problem.NO_FACES}
    marks_ignored = format in ("wider", "coco", "voc")
    for scene, image in zip(scenes, dataset.images, strict=True):
        kept = np.ones(len(scene.boxes), bool) if marks_ignored else ~scene.ignored
        np.testing.assert_allclose(image.boxes, scene.boxes[kept], atol=0.02)
        np.testing.assert_array_equal(image.ignored, scene.ignored[kept])
        assert (image.width, image.height) == scene.picture.size
        if format in ("coco", "retinaface"):
            np.testing.assert_allclose(image.landmarks, scene.landmarks[kept], atol=0.02)


def test_splits_are_written_6_1_3_or_left_to_the_reader(tmp_path):
    written = load_dataset(generate(tmp_path / "with", "cartoon", images=20))
    assert written.report.split_source == "splits.json"
    assert {split: len(members) for split, members in written.splits.items()} == pytest.approx(
        {"train": 12, "val": 2, "test": 6}, abs=1
    )
    drawn_later = load_dataset(
        generate(tmp_path / "without", "cartoon", images=6, format="voc", splits=False)
    )
    assert drawn_later.report.split_source == "drawn 6:1:3 with seed 0"


def test_unknown_names_and_used_folders_are_refused(tmp_path):
    with pytest.raises(DataError, match="unknown style 'oil' of synthetic data: use one of crowd, cartoon"):
        generate(tmp_path / "x", "oil")
    with pytest.raises(DataError, match="unknown annotation format 'pascal'"):
        generate(tmp_path / "x", "crowd", format="pascal")
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "mine.txt").write_text("keep me")
    with pytest.raises(DataError, match="is not empty"):
        generate(tmp_path / "used", "crowd")
    assert [path.name for path in (tmp_path / "used").iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("part", ["head", "body", "legs"])
def test_a_nearer_person_hides_the_faces_behind_head_body_and_legs(monkeypatch, part):
    """Two people are put so that ``part`` of the nearer, larger one covers the farther one's face."""
    below = {"head": 0, "body": 90, "legs": 260}[part]
    aside = 20 if part == "legs" else 0  # between the legs there is nothing
    people = [(200.0 + aside, 60.0 + below, 8.0, False), (200.0, 60.0, 40.0, False)]
    monkeypatch.setattr(scenes, "_arrange", lambda *_: people)
    style = STYLES["cartoon"]
    layout = replace(style.layout, faces=(0, 0, 1), sides=((256, 256),))
    canvas = scenes.draw_canvas(layout, style.look, np.random.default_rng(1))
    assert canvas.visible[0] == 0
    assert canvas.visible[1] > 0.9
