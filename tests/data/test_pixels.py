"""Decoded images on disk: right pixels, right boxes, and a cache that survives damage, full disks and odd files."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from nni_hyperfd.data import pixels as module
from nni_hyperfd.data.dataset import FaceDataset, load_dataset
from nni_hyperfd.data.pixels import open_pixels, resize
from nni_hyperfd.errors import DataError

DiskFull = Callable[[int], AbstractContextManager[None]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six PNG pictures of noise of several sizes, one face each (the first with an ignored one too), 2 in each split."""
    root = tmp_path / "data"
    (root / "images").mkdir(parents=True)
    rng = np.random.default_rng(0)
    lines = []
    for number, (height, width) in enumerate([(30, 40), (50, 20), (31, 33), (40, 40), (64, 32), (20, 60)]):
        noise = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(noise).save(root / "images" / f"{number}.png")
        # x y w h, then WIDER's attributes: blur expression illumination invalid occlusion pose
        rows = ["2 4 10 12 0 0 0 0 0 0"] + (["1 1 5 5 0 0 0 1 0 0"] if number == 0 else [])
        lines += [f"{number}.png", str(len(rows)), *rows]
    (root / "wider_face_bbx_gt.txt").write_text("\n".join(lines) + "\n")
    (root / "splits.json").write_text(
        '{"train": ["0.png", "1.png"], "val": ["2.png", "3.png"], "test": ["4.png", "5.png"]}'
    )
    return root


@pytest.fixture
def dataset(folder: Path) -> FaceDataset:
    return load_dataset(folder)


def original(dataset: FaceDataset, index: int) -> torch.Tensor:
    return torch.from_numpy(np.array(Image.open(dataset.images[index].path))).permute(2, 0, 1)


def test_small_images_are_stored_as_they_are(dataset: FaceDataset, tmp_path: Path) -> None:
    store = open_pixels(dataset, 64, tmp_path / "cache")
    assert store.sizes.tolist() == [[30, 40], [50, 20], [31, 33], [40, 40], [64, 32], [20, 60]]
    for index in range(6):
        assert torch.equal(store.image(index), original(dataset, index))
    assert {name: rows.tolist() for name, rows in store.splits.items()} == {
        "train": [0, 1],
        "val": [2, 3],
        "test": [4, 5],
    }
    assert store.broken == ()
    assert store.faces.boxes[0, 0].tolist() == [2, 4, 12, 16]
    assert store.faces.valid[0].tolist() == [True, True]
    assert store.faces.valid[1].tolist() == [True, False]
    assert store.faces.ignored[0].tolist() == [False, True]
    assert store.faces.landmarks.isnan().all()


def test_large_images_shrink_and_their_boxes_with_them(dataset: FaceDataset, tmp_path: Path) -> None:
    store = open_pixels(dataset, 20, tmp_path / "cache")
    assert store.sizes.tolist() == [[15, 20], [20, 8], [19, 20], [20, 20], [20, 10], [7, 20]]
    assert store.faces.boxes[0, 0].tolist() == [1, 2, 6, 8]
    torch.testing.assert_close(
        store.faces.boxes[2, 0], torch.tensor([2 * 20 / 33, 4 * 19 / 31, 12 * 20 / 33, 16 * 19 / 31])
    )


def test_padding_puts_images_into_the_top_left_corner(dataset: FaceDataset, tmp_path: Path) -> None:
    store = open_pixels(dataset, 64, tmp_path / "cache")
    padded = store.padded(64)
    assert torch.equal(padded[0, :, :30, :40], store.image(0))
    assert padded[0, :, 30:].sum() == padded[0, :, :, 40:].sum() == 0


def test_resizing_to_the_same_size_keeps_every_pixel() -> None:
    image = torch.randint(0, 256, (3, 5, 7), dtype=torch.uint8)
    assert resize(image, 5, 7) is image
    assert resize(image, 10, 14).shape == (3, 10, 14)
    flat = resize(torch.full((3, 40, 40), 77, dtype=torch.uint8), 9, 13)
    assert (flat == 77).all()


def test_the_second_opening_decodes_nothing(
    dataset: FaceDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = open_pixels(dataset, 64, tmp_path / "cache")
    monkeypatch.setattr(module, "decode", lambda *_: pytest.fail("decoded again"))
    again = open_pixels(dataset, 64, tmp_path / "cache")
    assert np.array_equal(first.flat, again.flat)


@pytest.mark.parametrize("damage", ["no pixels", "short pixels", "no index", "torn index", "other index"])
def test_a_damaged_cache_is_made_again(dataset: FaceDataset, tmp_path: Path, damage: str) -> None:
    flat = np.array(open_pixels(dataset, 64, tmp_path).flat)
    (pixels,) = (tmp_path / "pixels").glob("*.u8")
    index = pixels.with_suffix(".json")
    if damage == "no pixels":
        pixels.unlink()
    elif damage == "short pixels":
        os.truncate(pixels, 100)
    elif damage == "no index":
        index.unlink()
    elif damage == "torn index":
        index.write_text(index.read_text()[:20])
    else:
        index.write_text('{"size": 3}')
    assert np.array_equal(open_pixels(dataset, 64, tmp_path).flat, flat)


def test_writing_into_one_store_does_not_reach_the_disk(dataset: FaceDataset, tmp_path: Path) -> None:
    store = open_pixels(dataset, 64, tmp_path)
    store.image(0).zero_()
    assert torch.equal(open_pixels(dataset, 64, tmp_path).image(0), original(dataset, 0))


def test_several_trials_may_start_at_once(dataset: FaceDataset, tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        stores = list(pool.map(lambda _: open_pixels(dataset, 64, tmp_path), range(4)))
    assert all(np.array_equal(stores[0].flat, store.flat) for store in stores)
    assert len(list((tmp_path / "pixels").glob("*.u8"))) == 1


def cut_in_half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def test_an_unreadable_image_in_the_middle_is_left_out_with_a_warning(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = open_pixels(load_dataset(folder), 64, tmp_path)
    cut_in_half(folder / "images" / "2.png")
    dataset = load_dataset(folder)  # the header is still fine
    with caplog.at_level(logging.WARNING):
        store = open_pixels(dataset, 64, tmp_path)
    assert store.broken == ("2.png",)
    assert "1 images cannot be decoded" in caplog.text
    assert "2.png" in caplog.text
    assert store.splits["val"].tolist() == [3]
    assert store.sizes[2].tolist() == [0, 0]
    for index in (0, 1, 3, 4, 5):
        assert torch.equal(store.image(index), whole.image(index))
    assert not store.faces.valid[2].any()


def test_a_split_that_loses_all_its_images_or_faces_is_an_error(folder: Path, tmp_path: Path) -> None:
    lists = (folder / "wider_face_bbx_gt.txt").read_text()
    (folder / "wider_face_bbx_gt.txt").write_text(
        lists.replace("3.png\n1\n2 4 10 12 0 0 0 0 0 0", "3.png\n0\n0 0 0 0 0 0 0 0 0 0")
    )
    cut_in_half(folder / "images" / "2.png")
    with pytest.raises(DataError, match=r"val split of .* has no face"):
        open_pixels(load_dataset(folder), 64, tmp_path)
    cut_in_half(folder / "images" / "3.png")
    with pytest.raises(DataError, match=r"val split of .* has no image that can be decoded"):
        open_pixels(load_dataset(folder), 64, tmp_path)


def test_no_image_at_all_leaves_nothing_behind(folder: Path, tmp_path: Path) -> None:
    for path in (folder / "images").iterdir():
        cut_in_half(path)
    with pytest.raises(DataError, match="none of the 6 images"):
        open_pixels(load_dataset(folder), 64, tmp_path / "cache")
    assert {path.suffix for path in (tmp_path / "cache" / "pixels").iterdir()} <= {".lock"}


def test_a_full_disk_is_one_sentence_and_no_half_file(
    dataset: FaceDataset, tmp_path: Path, disk_full_after: DiskFull
) -> None:
    with disk_full_after(5_000), pytest.raises(DataError, match="HYPERFD_CACHE") as caught:
        open_pixels(dataset, 64, tmp_path)
    assert "\n" not in str(caught.value)
    assert {path.suffix for path in (tmp_path / "pixels").iterdir()} <= {".lock"}
    assert open_pixels(dataset, 64, tmp_path).sizes[0].tolist() == [30, 40]


def test_a_stop_while_decoding_leaves_no_half_file(
    dataset: FaceDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = module.decode

    def stopped(path: Path, max_side: int) -> np.ndarray | None:
        if path.name == "3.png":
            raise SystemExit(143)
        return whole(path, max_side)

    monkeypatch.setattr(module, "decode", stopped)
    with pytest.raises(SystemExit):
        open_pixels(dataset, 64, tmp_path)
    assert {path.suffix for path in (tmp_path / "pixels").iterdir()} <= {".lock"}


def test_an_image_that_cannot_be_read_now_is_not_kept_as_broken(
    dataset: FaceDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a network share that goes away after the fingerprint was taken."""
    path, fingerprint = dataset.images[3].path, dataset.fingerprint()
    aside = path.rename(tmp_path / "aside.png")
    with monkeypatch.context() as patch:
        patch.setattr(FaceDataset, "fingerprint", lambda self: fingerprint)
        with pytest.raises(DataError, match=r"cannot read .*3.png \(No such file or directory\)"):
            open_pixels(dataset, 64, tmp_path / "cache")
    aside.rename(path)
    assert open_pixels(dataset, 64, tmp_path / "cache").broken == ()


def test_a_cache_folder_that_cannot_be_made_is_one_sentence(dataset: FaceDataset, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot write decoded images"):
        open_pixels(dataset, 64, tmp_path / "file")


def test_the_cache_does_not_depend_on_where_the_data_lie(folder: Path, tmp_path: Path) -> None:
    open_pixels(load_dataset(folder), 64, tmp_path / "cache")
    shutil.copytree(folder, tmp_path / "moved")
    open_pixels(load_dataset(tmp_path / "moved"), 64, tmp_path / "cache")
    assert len(list((tmp_path / "cache" / "pixels").glob("*.u8"))) == 1
