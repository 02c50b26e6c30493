"""EXIF orientation: pictures are looked at upright, and boxes are turned with them.

A camera held sideways stores a lying picture and, in EXIF tag 274, how viewers must turn it (CIPA DC-008, table 4.6.4-A).
Annotation tools in browsers show it upright, others as stored; the size that an annotation states tells which.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nni_hyperfd.data.passing import is_passing

EXIF_ORIENTATION = 274
UPRIGHT = 1
TRANSPOSES = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
SIDEWAYS = (5, 6, 7, 8)
MIRRORED = (2, 4, 5, 7)
# Left and right eye, nose, left and right corner of the mouth, as seen: a mirror exchanges left and right.
MIRRORED_LANDMARKS = [1, 0, 2, 4, 3]


def orientation_of(image: Image.Image) -> int:
    """1 to 8; 1, upright, where EXIF says nothing sensible. Reads no pixels.

    Raises:
        OSError, MemoryError: It could not be read this time.
    """
    if "exif" not in image.info and image.format != "TIFF":
        return UPRIGHT  # asking Pillow further would decode a whole PNG
    try:
        value = image.getexif().get(EXIF_ORIENTATION)
    except Exception as error:
        if is_passing(error):
            raise
        return UPRIGHT  # damaged metadata say nothing about the pixels
    return value if value in TRANSPOSES else UPRIGHT


def stored_size(image: Image.Image) -> tuple[int, int]:
    """Width and height in the file; some versions of Pillow turn a TIFF by themselves, and say its upright size."""
    tags = getattr(image, "tag_v2", {})
    return (
        (int(tags.get(256, image.width)), int(tags.get(257, image.height)))
        if image.format == "TIFF"
        else image.size
    )


def left_to_turn(image: Image.Image, orientation: int) -> int:
    """What of ``orientation``, read before the pixels were, is still to be done now that they are."""
    return orientation_of(image) if image.format == "TIFF" else orientation


def upright(image: Image.Image, orientation: int) -> Image.Image:
    """``image`` as viewers show it."""
    return image.transpose(TRANSPOSES[orientation]) if orientation in TRANSPOSES else image


def upright_size(width: int, height: int, orientation: int) -> tuple[int, int]:
    """Width and height of the upright picture."""
    return (height, width) if orientation in SIDEWAYS else (width, height)


def upright_points(
    points: NDArray[np.float64], width: float, height: float, orientation: int
) -> NDArray[np.float64]:
    """Points ``[..., 2]`` of the stored picture (``width`` x ``height``), in pixels of the upright one."""
    x, y = points[..., 0], points[..., 1]
    turned = {
        2: (width - x, y),
        3: (width - x, height - y),
        4: (x, height - y),
        5: (y, x),
        6: (height - y, x),
        7: (height - y, width - x),
        8: (y, width - x),
    }.get(orientation, (x, y))
    return np.stack(turned, axis=-1)


def upright_boxes(
    boxes: NDArray[np.float64], width: float, height: float, orientation: int
) -> NDArray[np.float64]:
    """Boxes ``[n, 4]`` (corners) of the stored picture, in pixels of the upright one; an inverted box stays inverted."""
    if orientation not in TRANSPOSES:
        return boxes
    corners = upright_points(boxes.reshape(-1, 2, 2), width, height, orientation)
    sides = boxes[:, 2:] - boxes[:, :2]
    inverted = np.any(sides < 0, axis=1)
    low, high = corners.min(axis=1), corners.max(axis=1)
    return np.where(inverted[:, None], np.concatenate([high, low], 1), np.concatenate([low, high], 1))


def upright_landmarks(
    points: NDArray[np.float64], width: float, height: float, orientation: int
) -> NDArray[np.float64]:
    """Five landmarks ``[5, 2]`` of a face, in pixels of the upright picture; mirrors exchange left and right."""
    turned = upright_points(points, width, height, orientation)
    return turned[MIRRORED_LANDMARKS] if orientation in MIRRORED else turned
