"""Which image an annotation means."""

from __future__ import annotations

import builtins
import errno
import io
import os
import struct
import zlib
from pathlib import Path

import pytest
from PIL import Image

from nni_hyperfd.data.formats.folder import AmbiguousName, DataFolder
from nni_hyperfd.errors import DataError


@pytest.fixture
def folder(tmp_path: Path, draw_pictures):
    def run(*images: str) -> DataFolder:
        return DataFolder(draw_pictures(tmp_path, dict.fromkeys(images, (8, 6))))

    return run


@pytest.mark.parametrize(
    "name",
    [
        "images/p1/001.jpg",
        "p1/001.jpg",
        "./p1/001.jpg",
        "p1\\001.jpg",
        "P1/001.JPG",
        "/home/someone/data/p1/001.jpg",
        "C:\\data\\JPEGImages\\p1\\001.jpg",
        "p1/001",
        " p1/001.jpg ",
    ],
)
def test_names_relative_to_many_places_mean_the_same_image(folder, name):
    assert (
        folder("images/p1/001.jpg", "images/p2/001.jpg", "images/x.jpg").resolve(name) == "images/p1/001.jpg"
    )


def test_an_image_of_another_subfolder_is_not_taken_instead(folder):
    found = folder("images/p1/001.jpg", "images/x.jpg")
    assert found.resolve("p2/001.jpg") is None
    assert found.resolve("001.jpg") == "images/p1/001.jpg"


def test_equally_good_images_are_ambiguous_unless_case_or_place_decides(folder):
    found = folder("a/x.jpg", "b/x.jpg", "images/Y.jpg", "images/y.jpg")
    with pytest.raises(AmbiguousName):
        found.resolve("x.jpg")
    assert found.resolve("x.jpg", beside="b/list.txt") == "b/x.jpg"
    assert found.resolve("Y.jpg") == "images/Y.jpg"


@pytest.mark.parametrize("name", ["", ".", "..", "/", "../secret.jpg", "\0", "nothing.jpg", "images"])
def test_names_that_mean_nothing(folder, name):
    assert folder("images/x.jpg").resolve(name) is None


def test_hidden_files_are_not_seen_and_linked_loops_end(folder, tmp_path):
    folder("images/x.jpg", "images/._x.jpg", ".cache/y.jpg")
    os.symlink(tmp_path, tmp_path / "images" / "again")
    assert DataFolder(tmp_path).images == ["images/x.jpg"]


def test_images_behind_a_linked_folder_are_found(tmp_path, draw_pictures):
    draw_pictures(tmp_path / "store", {"x.jpg": (8, 6)})
    (tmp_path / "set").mkdir()
    os.symlink(tmp_path / "store", tmp_path / "set" / "images")
    assert DataFolder(tmp_path / "set").images == ["images/x.jpg"]


def test_headers_of_odd_images(folder, tmp_path):
    exif = Image.Exif()
    exif[274] = 6
    Image.new("RGB", (8, 6)).save(tmp_path / "turned.jpg", exif=exif)
    Image.new("RGBA", (8, 6)).save(tmp_path / "clear.png")
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 and then nothing")
    (tmp_path / "empty.png").touch()
    found = DataFolder(tmp_path)
    turned = found.header("turned.jpg")
    assert (turned.width, turned.height, turned.turned) == (8, 6, True)
    assert found.header("clear.png").transparent
    assert found.header("broken.jpg") is None
    assert found.header("empty.png") is None


def test_a_picture_too_large_for_pillow_is_broken_not_fatal(tmp_path):
    chunks = {b"IHDR": struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0), b"IDAT": b""}
    parts = [b"\x89PNG\r\n\x1a\n"]
    for kind, data in chunks.items():
        parts.append(struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)))
    (tmp_path / "huge.png").write_bytes(b"".join(parts))
    assert DataFolder(tmp_path).header("huge.png") is None


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda root: root / "gone", "does not exist"),
        (lambda root: "", "no data folder is named"),
        (lambda root: root, "no images in"),
    ],
)
def test_folders_that_cannot_be_used(tmp_path, make, words):
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(DataError, match=words):
        DataFolder(make(tmp_path))


FAILURES = [
    OSError(errno.EMFILE, os.strerror(errno.EMFILE)),
    OSError(errno.EIO, os.strerror(errno.EIO)),
    OSError(errno.ESTALE, os.strerror(errno.ESTALE)),
    MemoryError(),
]


class FailingFile(io.BufferedReader):
    """Opens, and fails after its first bytes."""

    def __init__(self, path: str, error: BaseException) -> None:
        super().__init__(io.FileIO(path))
        self._error, self._reads = error, 0

    def read(self, *size: int) -> bytes:
        self._reads += 1
        if self._reads > 1:
            raise self._error
        return super().read(*size)


@pytest.mark.parametrize("error", FAILURES, ids=lambda error: getattr(error, "strerror", None) or "memory")
@pytest.mark.parametrize("when", ["opening", "reading"])
def test_a_passing_failure_is_told_and_not_taken_for_damage(folder, monkeypatch, error, when):
    found = folder("a.jpg", "b.jpg")
    (found.root / "b.jpg").write_bytes(b"no picture")
    really = builtins.open

    def failing(file, *args, **kwargs):
        if not str(file).endswith("a.jpg"):
            return really(file, *args, **kwargs)
        if when == "opening":
            raise error
        return FailingFile(file, error)

    with monkeypatch.context() as patched:
        patched.setattr(builtins, "open", failing)
        with pytest.raises(DataError, match=r"a\.jpg"):
            found.header("a.jpg")
        assert found.header("b.jpg") is None
        with pytest.raises(DataError, match=r"a\.jpg"):
            found.header("a.jpg")
    header = found.header("a.jpg")
    assert header is not None, "read again, as nothing was kept of the failure"
    assert (header.width, header.height) == (8, 6)


def test_a_failure_while_reading_metadata_does_not_lay_a_picture_down(folder, monkeypatch):
    found = folder("a.png")
    exif = Image.Exif()
    exif[274] = 6
    Image.new("RGB", (8, 6)).save(found.root / "a.png", exif=exif)

    def failing(self):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patched:
        patched.setattr(Image.Image, "getexif", failing)
        with pytest.raises(DataError, match="try again"):
            found.header("a.png")
    assert found.header("a.png").orientation == 6


def test_a_file_whose_format_cannot_be_looked_at_now_is_not_taken_for_another(folder, monkeypatch):
    found = folder("a.jpg")
    (found.root / "a.txt").write_text("0 0.5 0.5 0.1 0.1\n")

    def failing(*args, **kwargs):
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with monkeypatch.context() as patched:
        patched.setattr(builtins, "open", failing)
        with pytest.raises(DataError, match="limit of open files"):
            found.head("a.txt")
    assert found.head("a.txt").startswith("0 0.5")


def test_what_is_damaged_or_not_ours_to_read_stays_damaged(folder):
    found = folder("a.jpg", "torn.png", "gone.jpg")
    (found.root / "torn.png").write_bytes((found.root / "a.jpg").read_bytes()[:9])
    (found.root / "gone.jpg").unlink()
    (found.root / "gone.jpg").symlink_to(found.root / "nowhere.jpg")
    assert found.header("torn.png") is None
    assert found.header("gone.jpg") is None
