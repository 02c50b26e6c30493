"""One image file to RGB pixels, whatever its mode, upright as its EXIF orientation asks: the way boxes refer to it."""

from __future__ import annotations

import warnings
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nni_hyperfd.data.orientation import left_to_turn, orientation_of, upright
from nni_hyperfd.data.passing import not_now


def decode(path: Path, max_side: int) -> NDArray[np.uint8] | None:
    """RGB pixels ``[h, w, 3]`` with a long side of at most ``max_side``; None if the file is damaged, now and for ever.

    Raises:
        DataError: The file could not be read, or memory ran out, which says nothing about the picture in it.
    """
    try:
        # Read apart from decoding: Pillow tells a torn file and a disk that fails by the same exception.
        content = path.read_bytes()
    except OSError as error:
        raise not_now(path, error) from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd metadata and large pictures; neither stops us
            with Image.open(BytesIO(content)) as image:
                orientation = orientation_of(image)
                image.draft("RGB", (max_side, max_side))
                image.load()
                rgb = upright(to_rgb(image), left_to_turn(image, orientation))
    except MemoryError as error:
        raise not_now(path, error) from error
    except Exception:
        # Pillow's decoders answer damaged files with almost any exception type; all mean the same here.
        return None
    scale = max_side / max(rgb.size)
    if scale < 1:
        size = (max(1, round(rgb.width * scale)), max(1, round(rgb.height * scale)))
        rgb = rgb.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)
    return np.asarray(rgb)


def to_rgb(image: Image.Image) -> Image.Image:
    """``image`` as 8-bit RGB: transparency is drawn on black; deep gray is stretched from its least to its largest value.

    The stretch is what makes raw 16-bit infrared pictures visible: they use a narrow band of their range.
    """
    if image.mode.startswith(("I", "F")):
        values = np.nan_to_num(np.asarray(image, dtype=np.float64), posinf=0.0, neginf=0.0)
        low, high = float(values.min()), float(values.max())
        gray = (values - low) * (255.0 / (high - low) if high > low else 0.0)
        return Image.fromarray(np.rint(gray).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        picture = image.convert("RGBA")
        black = Image.new("RGBA", picture.size, (0, 0, 0, 255))
        return Image.alpha_composite(black, picture).convert("RGB")
    return image.convert("RGB")
