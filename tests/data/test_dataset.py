"""Loading a customer's folder: every flaw counted once, every refusal one clear sentence."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile

from nni_hyperfd.data.dataset import FaceDataset, Problem, load_dataset, subset, without
from nni_hyperfd.errors import DataError
from nni_hyperfd.synthetic import generate

WIDTH, HEIGHT = 100, 80
Put = Callable[..., Path]
GOOD = (10, 10, 40, 50)


@pytest.fixture
def put(tmp_path: Path, draw_pictures) -> Put:
    """``put({"a.jpg": [boxes], ...}, label=..., splits=...)``: a folder with ``boxes.csv``; ten good images are added."""

    def run(
        boxes: dict[str, Iterable[tuple[object, ...]]] | None = None,
        good: int = 10,
        splits: object = None,
        draw: Iterable[str] = (),
        label: str = "",
    ) -> Path:
        boxes = {**{f"good{number}.jpg": [(*GOOD, label)] for number in range(good)}, **(boxes or {})}
        draw_pictures(
            tmp_path, dict.fromkeys([f"images/{name}" for name in (*boxes, *draw)], (WIDTH, HEIGHT))
        )
        rows = [",".join(map(str, (name, *box))) for name, found in boxes.items() for box in found]
        (tmp_path / "boxes.csv").write_text("\n".join(["image,xmin,ymin,xmax,ymax,label", *rows]) + "\n")
        if splits is not None:
            (tmp_path / "splits.json").write_text(splits if isinstance(splits, str) else json.dumps(splits))
        return tmp_path

    return run


def image_of(dataset: FaceDataset, name: str):
    return next(image for image in dataset.images if image.path.name == name)


def test_a_good_folder(put):
    dataset = load_dataset(put())
    assert dataset.name == put().name
    assert dataset.report.counts == {}
    assert (dataset.report.images, dataset.report.faces, dataset.report.ignored) == (10, 10, 0)
    image = dataset.images[0]
    assert image.path.is_file()
    assert (image.width, image.height) == (WIDTH, HEIGHT)
    np.testing.assert_array_equal(image.boxes, [GOOD])
    assert np.isnan(image.landmarks).all()
    assert "10 images, 10 faces, boxes.csv; train / val / test = 6 / 1 / 3" in str(dataset.report)
    assert len(str(dataset.report).splitlines()) == 1


@pytest.mark.parametrize(
    ("box", "problem", "kept"),
    # kept None: where the face is cannot be told, so that its image is left out; (): it is too small to be one
    [
        ((10, 10, 20, 20), None, (10, 10, 20, 20)),
        ((-0.4, 0, 100.3, 80.2), None, (0, 0, 100, 80)),
        ((-5, 10, 20, 20), Problem.CLIPPED_BOX, (0, 10, 20, 20)),
        ((90, 70, 300, 300), Problem.CLIPPED_BOX, (90, 70, 100, 80)),
        ((100, 10, 120, 20), Problem.OUTSIDE_BOX, None),
        ((10, -30, 20, -5), Problem.OUTSIDE_BOX, None),
        ((20, 10, 10, 20), Problem.EMPTY_BOX, None),
        ((10, 10, 20, 10), Problem.EMPTY_BOX, None),
        ((10, 10, 20, 10.5), Problem.EMPTY_BOX, None),
        ((10, 10, 12, 10.5), Problem.EMPTY_BOX, ()),
        ((10, 10, 11, 11), Problem.EMPTY_BOX, ()),
        ((0, 0, 1, 1), Problem.UNIT_DOUBT, None),
        ((0.1, 0.1, 0.5, 0.5), Problem.UNIT_DOUBT, None),
        ((99.5, 10, 120, 20), Problem.EMPTY_BOX, None),
        (("nan", 10, 20, 20), Problem.BAD_NUMBER, None),
        ((0, 10, "inf", 20), Problem.BAD_NUMBER, None),
        ((0, 10, "1e400", 20), Problem.BAD_NUMBER, None),
        ((-1e300, -1e300, 1e300, 1e300), Problem.CLIPPED_BOX, (0, 0, 100, 80)),
    ],
)
def test_each_kind_of_box(put, box, problem, kept):
    dataset = load_dataset(put({"x.jpg": [box, (50, 40, 60, 60)]}))
    assert dataset.report.counts == ({problem: 1} if problem else {})
    assert dataset.report.left_out == ({"images/x.jpg": problem} if kept is None else {})
    if kept is not None:
        expected = [kept] if kept else []
        np.testing.assert_allclose(image_of(dataset, "x.jpg").boxes, [*expected, (50, 40, 60, 60)], rtol=1e-6)
    if problem:
        assert dataset.report.examples[problem] == ("images/x.jpg",)


def test_a_box_given_twice_counts_once(put):
    dataset = load_dataset(put({"x.jpg": [GOOD, GOOD]}))
    assert len(image_of(dataset, "x.jpg").boxes) == 1
    assert dataset.report.counts == {Problem.REPEATED_BOX: 1}


def test_boxes_of_other_classes_are_left_out_only_where_one_class_is_called_face(put):
    boxes = {"x.jpg": [(*GOOD, "Face"), (50, 40, 60, 60, "person"), (70, 40, 80, 60, "face_mask")]}
    dataset = load_dataset(put(boxes, label="face"))
    assert dataset.report.counts == {Problem.OTHER_CLASS: 1}
    assert len(image_of(dataset, "x.jpg").boxes) == 2
    boxes = {"x.jpg": [(*GOOD, "with_mask"), (50, 40, 60, 60, "without_mask")]}
    assert len(image_of(load_dataset(put(boxes, label="with_mask")), "x.jpg").boxes) == 2


def test_boxes_without_a_class_beside_named_ones_are_ignored(put):
    dataset = load_dataset(put({"x.jpg": [(*GOOD, "face"), (50, 40, 60, 60)]}, label="face"))
    assert dataset.report.counts == {Problem.UNKNOWN_CLASS: 1}
    assert image_of(dataset, "x.jpg").ignored.tolist() == [False, True]


def test_every_flaw_of_the_images_is_counted_and_the_rest_is_loaded(put):
    root = put({name: [GOOD] for name in ("broken.jpg", "empty.jpg", "gone.jpg")}, draw=["extra.jpg"])
    (root / "images" / "broken.jpg").write_bytes(b"no image at all")
    (root / "images" / "empty.jpg").write_bytes(b"")
    (root / "images" / "gone.jpg").unlink()
    report = load_dataset(root).report
    assert report.images == 10
    assert report.counts == {Problem.BROKEN_IMAGE: 2, Problem.MISSING_IMAGE: 1, Problem.UNANNOTATED_IMAGE: 1}
    assert report.examples[Problem.BROKEN_IMAGE] == ("images/broken.jpg", "images/empty.jpg")
    assert "left out: images that cannot be opened: 2 (images/broken.jpg, images/empty.jpg)" in str(report)


def test_images_of_odd_modes_are_kept_and_counted(put):
    root = put({f"{mode}.png": [GOOD] for mode in ("L", "1", "P", "RGBA", "LA", "I;16")})
    for mode in ("L", "1", "P", "RGBA", "LA", "I;16"):
        Image.new(mode, (WIDTH, HEIGHT)).save(root / "images" / f"{mode}.png")
    report = load_dataset(root).report
    assert report.counts == {Problem.GRAYSCALE: 3, Problem.PALETTE: 1, Problem.ALPHA: 2, Problem.DEEP: 1}
    assert report.images == 16


@pytest.mark.parametrize(
    ("box", "exif", "expected"),
    [
        ((10, 10, 95, 20), None, (60, 10, 70, 95)),  # only the picture as stored has room for it
        ((10, 10, 20, 95), None, (10, 10, 20, 95)),  # only the upright one has
        ((10, 10, 20, 40), None, (10, 10, 20, 40)),  # nothing tells
        ((10, 10, 20, 40), "upright", (10, 10, 20, 40)),
        ((10, 10, 20, 40), "stored", (40, 10, 70, 20)),
    ],
)
def test_boxes_refer_to_the_upright_picture(put, box, exif, expected):
    root = put({"turned.jpg": [box]})
    turn = Image.Exif()
    turn[274] = 6
    Image.new("RGB", (WIDTH, HEIGHT)).save(root / "images" / "turned.jpg", exif=turn)
    dataset = load_dataset(root, exif=exif)
    assert dataset.report.counts == {Problem.TURNED: 1}
    assert any("exif: stored" in note for note in dataset.report.notes) == (exif is None and 95 not in box)
    turned = image_of(dataset, "turned.jpg")
    assert (turned.width, turned.height) == (HEIGHT, WIDTH)
    np.testing.assert_array_equal(turned.boxes, [expected])


def test_images_without_faces_are_kept(put):
    dataset = load_dataset(put({"x.jpg": [("", "", "", "")]}))
    assert dataset.report.images == 11
    assert dataset.report.counts == {Problem.NO_FACES: 1}
    assert image_of(dataset, "x.jpg").boxes.shape == (0, 4)


def test_landmarks_far_from_their_face_are_taken_as_absent(tmp_path, draw_pictures):
    draw_pictures(tmp_path, {f"images/{name}.jpg": (WIDTH, HEIGHT) for name in "abc"})
    points = "15 15 0 35 15 0 90 75 0 -1 -1 0 nan nan 0"
    (tmp_path / "label.txt").write_text("".join(f"# {name}.jpg\n10 10 30 40 {points}\n" for name in "abc"))
    dataset = load_dataset(tmp_path)
    expected = [(15, 15), (35, 15), (np.nan, np.nan), (np.nan, np.nan), (np.nan, np.nan)]
    np.testing.assert_array_equal(dataset.images[0].landmarks[0], expected)
    assert dataset.report.counts == {Problem.STRAY_LANDMARK: 3}


def test_landmarks_of_a_face_cut_by_the_edge_stay(tmp_path, draw_pictures):
    draw_pictures(tmp_path, {f"images/{name}.jpg": (WIDTH, HEIGHT) for name in "abc"})
    points = [(105, 15), (125, 15), (115, 25), (106, 35), (124, 35)]
    columns = " ".join(f"{x} {y} 0" for x, y in points)
    (tmp_path / "label.txt").write_text("".join(f"# {n}.jpg\n97 5 40 40 {columns}\n" for n in "abc"))
    dataset = load_dataset(tmp_path)
    np.testing.assert_array_equal(dataset.images[0].boxes, [(97, 5, 100, 45)])
    np.testing.assert_array_equal(dataset.images[0].landmarks, [points])
    assert dataset.report.counts == {Problem.CLIPPED_BOX: 3}


@pytest.mark.parametrize(
    ("folder", "words"),
    [
        (lambda put: put() / "nowhere", "does not exist"),
        (lambda put: put(good=2), "only 2 usable images with faces, too few"),
        (lambda put: put({name: [(50, 50, 40, 40)] for name in ("x.jpg", "y.jpg")}, good=0), "no annotated image of .*2 boxes that are inverted"),
        (lambda put: put({"x.jpg": [(50, 50, 50, 50)], "y.jpg": [("", "", "", "")]}, good=0), "no usable face box in"),
        (lambda put: put(splits="{"), "no valid JSON"),
        (lambda put: put(splits=[]), "no list of file names called 'train'"),
        (lambda put: put(splits={"train": ["good0.jpg"], "val": "good1.jpg", "test": []}), "called 'val'"),
        (lambda put: put(splits={"train": ["good0.jpg"], "val": [], "test": ["good2.jpg"]}), "the val split of .* is empty"),
        (lambda put: put(splits={"train": ["x"], "val": ["good1.jpg"], "test": ["good2.jpg"]}), "the train split of .* is empty"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_refused_in_one_sentence(put, folder, words):
    with pytest.raises(DataError, match=words) as refusal:
        load_dataset(folder(put))
    assert "\n" not in str(refusal.value)
    assert str(put()) in str(refusal.value)


def test_only_missing_images_are_refused_with_the_reason(put):
    root = put()
    for image in (root / "images").iterdir():
        image.rename(image.with_name(f"renamed_{image.name}"))
    with pytest.raises(
        DataError, match=r"no annotated image of .*10 annotated images that are not in the folder"
    ):
        load_dataset(root)


def test_a_split_without_faces_is_refused(put):
    splits = {"train": ["good0.jpg"], "val": ["x.jpg"], "test": ["good2.jpg"]}
    with pytest.raises(DataError, match=r"the val split of .* has no face"):
        load_dataset(put({"x.jpg": [("", "", "", "")]}, splits=splits))


def test_splits_json_is_honored_and_its_flaws_are_counted(put):
    splits = {
        "train": ["good0.jpg", "images/good1.jpg", "good0.jpg", "good2.jpg", "gone.jpg"],
        "valid": ["good3.jpg", "good4.jpg"],
        "test": ["good2.jpg", "good4.jpg"],
    }
    dataset = load_dataset(put(splits=splits))
    names = {split: [image.path.stem for image in dataset.split(split)] for split in dataset.splits}
    # What is measured with must not be trained on: test goes before val before train.
    assert names == {"train": ["good0", "good1"], "val": ["good3"], "test": ["good2", "good4"]}
    assert dataset.report.counts == {Problem.SPLIT_UNKNOWN: 1, Problem.SPLIT_REPEATED: 3, Problem.NO_SPLIT: 5}
    assert "(splits.json)" in str(dataset.report)


def test_a_broken_image_in_splits_json_is_counted_as_broken_only(put):
    names = [f"good{number}.jpg" for number in range(10)]
    root = put(splits={"train": names[:6], "val": names[6:7], "test": names[7:]})
    (root / "images" / "good0.jpg").write_bytes(b"")
    assert load_dataset(root).report.counts == {Problem.BROKEN_IMAGE: 1}


@given(faces=st.integers(3, 60), empty=st.integers(0, 20), seed=st.integers(0, 3))
@settings(max_examples=25, deadline=None, derandomize=True)
def test_drawn_splits_are_6_1_3_disjoint_complete_and_have_faces(
    tmp_path_factory, draw_pictures, faces, empty, seed
):
    root = tmp_path_factory.mktemp("drawn")
    names = [f"images/{number}.bmp" for number in range(faces + empty)]
    draw_pictures(root, dict.fromkeys(names, (4, 4)))
    rows = [f"{name},0,0,3,3" for name in names[:faces]] + [f"{name},,,," for name in names[faces:]]
    (root / "boxes.csv").write_text("\n".join(["image,xmin,ymin,xmax,ymax", *rows]))
    dataset = load_dataset(root, seed=seed)
    members = [index for split in ("train", "val", "test") for index in dataset.splits[split]]
    assert sorted(members) == list(range(faces + empty))
    for split, share in (("train", 0.6), ("val", 0.1), ("test", 0.3)):
        assert abs(len(dataset.splits[split]) - share * (faces + empty)) <= 2
        assert any(len(image.boxes) for image in dataset.split(split))
    assert load_dataset(root, seed=seed).splits == dataset.splits


def test_the_seed_decides_the_drawn_split(put):
    root = put(good=20)
    assert len({load_dataset(root, seed=seed).splits["test"] for seed in range(4)}) > 1


def test_a_subset_keeps_each_image_in_its_split(put):
    dataset = load_dataset(put())
    chosen = [dataset.splits["test"][0], dataset.splits["train"][3], dataset.splits["train"][0]]
    part = subset(dataset, chosen)
    assert [image.path for image in part.images] == [dataset.images[index].path for index in chosen]
    assert part.splits == {"train": (1, 2), "val": (), "test": (0,)}
    assert (part.report.images, part.report.faces) == (3, 3)
    for wrong in ([0, 0], [10], [-1]):
        with pytest.raises(DataError, match=r"distinct and within 0\.\.9"):
            subset(dataset, wrong)


def test_images_whose_pixels_are_broken_are_dropped_and_counted(put):
    dataset = load_dataset(put())
    broken = dataset.splits["train"][:2]
    left = without(dataset, broken)
    assert left.report.counts == {Problem.BROKEN_PIXELS: 2}
    assert dataset.report.counts == {}
    assert [len(left.splits[split]) for split in ("train", "val", "test")] == [4, 1, 3]
    assert {image.path for image in dataset.images} - {image.path for image in left.images} == {
        dataset.images[index].path for index in broken
    }
    assert without(dataset, []) is dataset
    with pytest.raises(DataError, match=r"the val split of .* is empty"):
        without(dataset, dataset.splits["val"])


def test_the_fingerprint_follows_the_content_and_nothing_else(put, tmp_path_factory):
    root = put(good=6)
    first = load_dataset(root).fingerprint()
    assert load_dataset(root).fingerprint() == first
    moved = tmp_path_factory.mktemp("elsewhere") / "other name"
    root.rename(moved)
    assert load_dataset(moved).fingerprint() == first

    assert load_dataset(moved, seed=1).fingerprint() != first
    lines = (moved / "boxes.csv").read_text()
    (moved / "boxes.csv").write_text(lines.replace("good0.jpg,10", "good0.jpg,11"))
    assert load_dataset(moved).fingerprint() != first
    (moved / "boxes.csv").write_text(lines)
    Image.new("RGB", (WIDTH, HEIGHT), (1, 2, 3)).save(moved / "images" / "good0.jpg")
    changed = load_dataset(moved)
    assert changed.fingerprint() != first
    (moved / "images" / "good0.jpg").unlink()
    with pytest.raises(DataError, match=r"cannot read .*good0.jpg any more"):
        changed.fingerprint()


def test_names_that_no_terminal_can_show_do_not_stop_the_report(put):
    root = put()
    with open(root / "boxes.csv", "ab") as file:
        file.write(
            b"\xff\x1b[31m\x00odd\xe2\x80\xae.jpg,1,2,3,4,face\n" + b"long/" * 1000 + b".jpg,1,2,3,4,face\n"
        )
    report = load_dataset(root).report
    assert report.counts == {Problem.MISSING_IMAGE: 2}
    assert all(line.isprintable() and len(line) < 250 for line in str(report).splitlines())


def test_each_set_of_synthetic_data_loads_without_a_flaw(tmp_path):
    report = load_dataset(generate(tmp_path / "set", "crowd", images=10)).report
    assert set(report.counts) <= {Problem.NO_FACES}


# Images, faces and splits as the README beside the real data gives them; thermal's are grouped by person.
REAL = {
    "groups": (1500, 10134),
    "wider200": (200, 4320),
    "selfies": (500, 976),
    "masks_street": (600, 2949),
    "masks_pasted": (300, 300),
    "cartoon_d": (450, 661),
    "cartoon_l": (450, 793),
    "cartoon_f": (200, 322),
    "thermal": (700, 975),
    "cats": (124, 148),
    "video": (700, 700),
    "oldphoto": (117, 511),
    "lowlight": (300, 1044),
    "weather": (300, 1020),
}


@pytest.mark.parametrize("name", REAL)
def test_the_real_sets_load_as_their_readme_counts_them(shared_data, name):
    report = load_dataset(shared_data / name).report
    assert (report.images, report.faces) == REAL[name]
    assert sum(report.splits.values()) == report.images
    assert set(report.counts) <= {Problem.EMPTY_BOX, Problem.NO_FACES, Problem.GRAYSCALE}


def test_the_work_of_loading_and_hashing_grows_with_the_images(tmp_path, calls):
    """Four times as many images are at most twice four times the work: no image is compared with each other one."""
    few = load_dataset(generate(tmp_path / "few", "crowd", images=20))
    many = load_dataset(generate(tmp_path / "many", "crowd", images=80))
    assert calls(lambda: load_dataset(many.root)) < 8 * calls(lambda: load_dataset(few.root))
    assert calls(many.fingerprint) < 8 * calls(few.fingerprint)


def test_loading_reads_no_pixels(tmp_path, monkeypatch):
    """Which takes a hundred times as long as heads and boxes: a broken picture is found by whoever decodes it."""
    folder = generate(tmp_path / "faces", "crowd", images=5)
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda picture: pytest.fail("pixels were read"))
    assert len(load_dataset(folder).images) == 5
