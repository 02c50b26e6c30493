"""The styles of drawn scenes, each a visual domain of its own, as customers' data are to a detector trained on photographs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from nni_hyperfd.synthetic.heads import Color, Look
from nni_hyperfd.synthetic.scenes import Canvas, Scene, SceneLayout, draw_canvas

Finish = Callable[[Canvas, np.random.Generator], Scene]


@dataclass(frozen=True)
class Style:
    """A domain: its people, its surroundings, and what the camera or the paper does to the picture."""

    look: Look
    layout: SceneLayout
    finish: Finish

    def draw(self, rng: np.random.Generator) -> Scene:
        """One random scene of this style."""
        return self.finish(draw_canvas(self.layout, self.look, rng), rng)


SKINS: tuple[Color, ...] = (
    (240, 204, 178),
    (226, 180, 148),
    (205, 152, 118),
    (168, 116, 84),
    (122, 80, 58),
    (88, 58, 44),
)
HAIRS: tuple[Color, ...] = (
    (26, 22, 22),
    (58, 38, 26),
    (98, 66, 40),
    (168, 124, 70),
    (150, 146, 142),
    (120, 50, 30),
)
CLOTHS: tuple[Color, ...] = (
    (40, 52, 84),
    (150, 40, 44),
    (58, 96, 66),
    (198, 196, 190),
    (44, 44, 48),
    (182, 142, 62),
    (108, 84, 130),
    (92, 130, 170),
)
SURROUNDINGS: tuple[Color, ...] = (
    (150, 172, 196),
    (190, 186, 176),
    (112, 108, 102),
    (90, 112, 80),
    (168, 140, 112),
    (72, 78, 92),
    (206, 204, 204),
)
PHOTO_SIDES = ((256, 192), (192, 256), (256, 256), (240, 180))


def _pixels(picture: Image.Image) -> NDArray[np.float32]:
    return np.asarray(picture, dtype=np.float32)


def _picture(pixels: NDArray[np.floating]) -> Image.Image:
    return Image.fromarray(np.clip(np.rint(pixels), 0, 255).astype(np.uint8))


def _grain(shape: tuple[int, ...], strength: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """Normal noise of standard deviation ``strength``."""
    return np.float32(strength) * rng.standard_normal(shape, dtype=np.float32)


def _photo(canvas: Canvas, rng: np.random.Generator) -> Scene:
    """Exposure, a color cast, grain, and a lens that is not always in focus."""
    picture = canvas.picture.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.0, 0.9))))
    pixels = _pixels(picture) * rng.uniform(0.75, 1.15) * (1 + _grain((3,), 0.05, rng))
    pixels += _grain(pixels.shape, rng.uniform(2, 9), rng)
    return canvas.finish(_picture(pixels))


def _drawing(canvas: Canvas, rng: np.random.Generator) -> Scene:
    """Nothing but the picture, a little faded at times."""
    return canvas.finish(_picture(_pixels(canvas.picture) * rng.uniform(0.85, 1.05)))


# Anchor colors of the false-color scale, from cold to hot.
HEAT = np.array(
    [
        (0, 0, 10),
        (40, 0, 110),
        (140, 10, 140),
        (220, 60, 50),
        (250, 150, 10),
        (255, 220, 60),
        (255, 255, 240),
    ],
    dtype=np.float32,
)


def _thermal(canvas: Canvas, rng: np.random.Generator) -> Scene:
    """Few, blurred pixels of a heat camera whose scale follows the scene, in false colors or in gray."""
    width, height = canvas.picture.size
    heat = canvas.picture.convert("L").resize((width // 2, height // 2), Image.Resampling.BOX)
    heat = heat.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.3, 1.0)))).resize(
        (width, height), Image.Resampling.BILINEAR
    )
    values = np.asarray(heat, dtype=np.float32) / 255
    values = values * rng.uniform(0.75, 1.05) + rng.uniform(-0.05, 0.15)
    values += _grain(values.shape, 0.015, rng) + _grain((1, width), 0.012, rng)
    values = np.clip(values, 0, 1)
    if rng.random() < 0.3:
        return canvas.finish(_picture(np.repeat(values[..., None] * 255, 3, axis=2)))
    steps = np.linspace(0, 1, len(HEAT))
    return canvas.finish(
        _picture(np.stack([np.interp(values, steps, HEAT[:, band]) for band in range(3)], axis=2))
    )


def _fisheye(canvas: Canvas, rng: np.random.Generator) -> Scene:
    """A round picture: with r the distance from the middle, the lens shows what lay at r (1 + k r²) / (1 + k)."""
    photo = _pixels(_photo(canvas, rng).picture)
    height, width = photo.shape[:2]
    strength = float(rng.uniform(0.6, 1.4))
    center = np.array([width / 2, height / 2])
    radius = float(np.hypot(*center)) * rng.uniform(0.78, 0.95)
    table = np.linspace(0, 1.5, 512)
    source = table * (1 + strength * table**2) / (1 + strength)
    x, y = np.meshgrid(np.arange(width) + 0.5 - center[0], np.arange(height) + 0.5 - center[1])
    distance = np.hypot(x, y) / radius
    factor = (1 + strength * distance**2) / (1 + strength)
    column = np.clip(x * factor + center[0], 0, width - 1).astype(np.intp)
    row = np.clip(y * factor + center[1], 0, height - 1).astype(np.intp)
    inside = np.clip((1.0 - distance) * 25, 0, 1)[..., None]
    bent = Image.fromarray((photo[row, column] * inside).astype(np.uint8))

    def warp(points: NDArray[np.float64]) -> NDArray[np.float64]:
        offset = points - center
        before = np.maximum(np.hypot(offset[:, 0], offset[:, 1]) / radius, 1e-9)
        after = np.minimum(np.interp(before, source, table), 1.0)
        return center + offset * (after / before)[:, None]

    # A face beyond the rim of the lens is not seen.
    middle = canvas.outlines.mean(1) - center if len(canvas.outlines) else np.zeros((0, 2))
    beyond = np.hypot(middle[:, 0], middle[:, 1]) / radius > 0.93
    return replace(canvas, visible=np.where(beyond, 0.0, canvas.visible)).finish(
        bent.filter(ImageFilter.GaussianBlur(0.5)), warp
    )


def _night(canvas: Canvas, rng: np.random.Generator) -> Scene:
    """A few lamps in the dark, strong grain, a color cast."""
    pixels = _pixels(canvas.picture)
    height, width = pixels.shape[:2]
    y, x = np.mgrid[:height, :width].astype(np.float32)
    light = np.full((height, width), float(rng.uniform(0.1, 0.22)), dtype=np.float32)
    glow = np.zeros_like(light)
    for _ in range(int(rng.integers(1, 4))):
        lamp_x, lamp_y = rng.uniform(0, width), rng.uniform(0, height)
        distance = (x - lamp_x) ** 2 + (y - lamp_y) ** 2
        light += float(rng.uniform(0.25, 0.6)) * np.exp(
            -distance / float(rng.uniform(0.2, 0.55) * width) ** 2
        )
        if rng.random() < 0.5:
            glow += 230 * np.exp(-distance / float(rng.uniform(3, 12)) ** 2)
    cast = np.array(
        [(1.0, 0.85, 0.6), (0.75, 0.9, 1.1), (0.8, 1.0, 0.8)][int(rng.integers(3))], dtype=np.float32
    )
    pixels = pixels * light[..., None] * cast + glow[..., None] * cast
    pixels += _grain(pixels.shape, rng.uniform(4, 11), rng)
    return canvas.finish(_picture(pixels).filter(ImageFilter.GaussianBlur(float(rng.uniform(0.2, 0.8)))))


def _paper(canvas: Canvas, rng: np.random.Generator) -> Scene:
    """Printed in dots, or drawn in pencil, on paper that has yellowed and been folded."""
    gray = np.asarray(canvas.picture.convert("L"), dtype=np.float32)
    height, width = gray.shape
    y, x = np.mgrid[:height, :width].astype(np.float32)
    if rng.random() < 0.5:
        pitch = float(rng.uniform(2.6, 4.2))
        screen = 127 + 62 * (
            np.cos(2 * np.pi * (x + y) / (pitch * 1.414)) + np.cos(2 * np.pi * (x - y) / (pitch * 1.414))
        )
        ink = 255 / (1 + np.exp(-(gray - screen) / 14))
    else:
        soft = np.asarray(canvas.picture.convert("L").filter(ImageFilter.GaussianBlur(2.5)), dtype=np.float32)
        edges = np.clip(255 + 3.0 * np.minimum(gray - soft, 0), 0, 255)
        hatch = np.where((x + y) % 5 < 1.6, np.clip(gray * 1.1 + 60, 0, 255), 255)
        ink = np.minimum(edges, hatch)
    coarse = rng.normal(0, 10, (8, 8)).astype(np.float32)
    stains = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))
    fold = 22 * np.exp(-((x - rng.uniform(0, width)) ** 2) / 4)
    tint = np.array(
        [(1.0, 0.96, 0.84), (0.97, 0.97, 0.95), (0.95, 0.86, 0.7)][int(rng.integers(3))], dtype=np.float32
    )
    page = 40 + 0.78 * ink + stains - fold + _grain(gray.shape, 4, rng)
    return canvas.finish(_picture(page[..., None] * tint))


_PEOPLE = Look(SKINS, HAIRS, CLOTHS)
_WARM: tuple[Color, ...] = ((225, 225, 225), (205, 205, 205), (236, 236, 236))
_COOL: tuple[Color, ...] = ((70, 70, 70), (96, 96, 96), (120, 120, 120), (48, 48, 48))
_TOONS: tuple[Color, ...] = (
    (255, 217, 60),
    (250, 200, 160),
    (150, 210, 120),
    (140, 180, 235),
    (230, 140, 190),
    (196, 140, 90),
    (236, 236, 230),
)
_LOUD: tuple[Color, ...] = (
    (220, 40, 50),
    (40, 110, 220),
    (250, 180, 30),
    (60, 170, 90),
    (130, 60, 170),
    (240, 240, 240),
    (30, 30, 40),
)
_PASTEL: tuple[Color, ...] = (
    (170, 220, 250),
    (250, 230, 170),
    (190, 235, 190),
    (245, 190, 190),
    (215, 200, 240),
    (120, 170, 120),
    (200, 160, 120),
)
_CLOTH_MASKS: tuple[Color, ...] = (
    (150, 200, 225),
    (236, 238, 240),
    (30, 30, 34),
    (90, 140, 190),
    (170, 200, 170),
    (200, 80, 90),
)

STYLES: dict[str, Style] = {
    "crowd": Style(
        _PEOPLE,
        SceneLayout(PHOTO_SIDES, (1, 2, 3, 3, 3, 3, 3, 2, 2, 2, 1, 1, 1), (0.07, 0.4), 1.5, SURROUNDINGS),
        _photo,
    ),
    "cartoon": Style(
        Look(
            _TOONS,
            _LOUD,
            _LOUD,
            outline=0.06,
            shading=0.0,
            eyes=1.9,
            shapes=(0.45, 1.1),
            masks=0.1,
            hats=0.25,
            beards=0.2,
            roll=16.0,
        ),
        SceneLayout(((256, 192), (256, 256)), (1, 4, 4, 3, 3, 2, 1), (0.07, 0.5), 2.0, _PASTEL),
        _drawing,
    ),
    "masked": Style(
        replace(_PEOPLE, cloths=_CLOTH_MASKS, masks=0.8, hats=0.35, glasses=0.25),
        SceneLayout(PHOTO_SIDES, (1, 4, 4, 3, 3, 2, 2, 1), (0.09, 0.5), 1.2, SURROUNDINGS),
        _photo,
    ),
    "thermal": Style(
        Look(_WARM, ((130, 130, 130), (160, 160, 160)), _COOL, shading=0.35, eyes=0.9, glasses=0.3, hats=0.2),
        SceneLayout(
            ((240, 180), (192, 144)),
            (2, 5, 4, 3, 2),
            (0.1, 0.5),
            1.5,
            ((30, 30, 30), (50, 50, 50), (66, 66, 66), (84, 84, 84), (110, 110, 110)),
        ),
        _thermal,
    ),
    "fisheye": Style(
        replace(_PEOPLE, roll=22.0),
        SceneLayout(((240, 240), (256, 256)), (1, 3, 4, 4, 3, 2, 2, 1), (0.1, 0.42), 1.2, SURROUNDINGS),
        _fisheye,
    ),
    "night": Style(
        _PEOPLE,
        SceneLayout(PHOTO_SIDES, (1, 3, 4, 3, 2, 2, 1), (0.1, 0.5), 1.2, SURROUNDINGS),
        _night,
    ),
    "paper": Style(
        replace(_PEOPLE, outline=0.035, shading=0.9, glasses=0.2, hats=0.3, beards=0.3),
        SceneLayout(
            ((256, 192), (192, 256), (224, 224)),
            (1, 4, 4, 3, 2, 2),
            (0.09, 0.5),
            1.5,
            ((230, 230, 230), (180, 180, 180), (130, 130, 130), (90, 90, 90)),
        ),
        _paper,
    ),
}
