"""Pixels of every kind of image file."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from nni_hyperfd.data.decode import decode, to_rgb
from nni_hyperfd.errors import DataError


def saved(tmp_path: Path, image: Image.Image, name: str = "x.png", **options: object) -> Path:
    image.save(tmp_path / name, **options)
    return tmp_path / name


@pytest.mark.parametrize("mode", ["RGB", "L", "1", "P", "RGBA", "LA", "CMYK", "I", "I;16", "F"])
def test_every_mode_becomes_rgb(tmp_path, mode):
    name = "x.tif" if mode in ("CMYK", "F", "I") else "x.png"
    pixels = decode(saved(tmp_path, Image.new(mode, (7, 5)), name), 100)
    assert pixels.shape == (5, 7, 3)
    assert pixels.dtype == np.uint8


def test_a_mode_that_not_every_pillow_writes_becomes_rgb():
    assert to_rgb(Image.new("YCbCr", (7, 5))).mode == "RGB"


def test_deep_gray_is_stretched_to_its_own_range(tmp_path):
    values = np.array([[7000, 7040], [7120, 7200]], dtype=np.uint16)
    pixels = decode(saved(tmp_path, Image.fromarray(values)), 100)
    np.testing.assert_array_equal(pixels[..., 0], [[0, 51], [153, 255]])
    np.testing.assert_array_equal(pixels[..., 0], pixels[..., 2])


def test_what_is_transparent_is_black(tmp_path):
    image = Image.new("RGBA", (2, 1), (200, 100, 50, 255))
    image.putpixel((1, 0), (200, 100, 50, 0))
    np.testing.assert_array_equal(decode(saved(tmp_path, image), 100), [[(200, 100, 50), (0, 0, 0)]])


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["x.png", "x.tif", "x.webp"])
def test_pixels_are_upright_as_exif_says(tmp_path, orientation, name):
    exif = Image.Exif()
    exif[274] = orientation
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (3, 5, 3), dtype=np.uint8))
    path = saved(tmp_path, image, name, exif=exif, **({"lossless": True} if name == "x.webp" else {}))
    with Image.open(path) as stored:
        expected = np.asarray(ImageOps.exif_transpose(stored).convert("RGB"))
    np.testing.assert_array_equal(decode(path, 100), expected)


@pytest.mark.parametrize(
    ("size", "expected"), [((300, 150), (100, 50)), ((100, 40), (100, 40)), ((1000, 1), (100, 1))]
)
def test_the_long_side_is_bounded_and_nothing_is_enlarged(tmp_path, size, expected):
    assert decode(saved(tmp_path, Image.new("RGB", size)), 100).shape == (expected[1], expected[0], 3)


def test_a_truncated_file_gives_nothing(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    whole = saved(tmp_path, Image.fromarray(noise), "x.jpg").read_bytes()
    (tmp_path / "half.jpg").write_bytes(whole[: len(whole) // 2])
    assert decode(tmp_path / "half.jpg", 100) is None


def test_what_passes_is_no_damage(tmp_path, monkeypatch):
    """A file that cannot be read now, and memory that is short now, say nothing about the picture."""
    with pytest.raises(
        DataError, match=r"cannot read .*gone.jpg \(No such file or directory\): see to the disk"
    ):
        decode(tmp_path / "gone.jpg", 100)
    path = saved(tmp_path, Image.new("RGB", (7, 5)))

    def full(self, *_):
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(Image.Image, "convert", full)
        with pytest.raises(DataError, match=r"not enough memory to read .*x.png"):
            decode(path, 100)
    assert decode(path, 100) is not None


@given(st.data())
@settings(max_examples=40, deadline=None, derandomize=True)
def test_damaged_files_give_pixels_or_nothing(tmp_path_factory, data):
    buffer = io.BytesIO()
    format = data.draw(st.sampled_from(["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP"]))
    Image.new("RGB", (12, 9), (200, 30, 60)).save(buffer, format)
    content = bytearray(buffer.getvalue())
    for _ in range(data.draw(st.integers(1, 5))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("damaged") / "x.img"
    path.write_bytes(content)
    pixels = decode(path, 32)
    assert pixels is None or (pixels.ndim == 3 and pixels.shape[2] == 3 and max(pixels.shape) <= 32)
