"""Drawn heads: the parameters that tell one from another, and how they become pixels, an outline and landmarks.

A head lives in its own frame: the face oval is centered at (0, 0) and reaches from y = -1 (hairline) to
y = 1 (chin); x grows to the right, y downwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageDraw, ImageFilter

Color = tuple[int, int, int]
Fill = Color | int | None
"""Of a shape on a picture in color or, as one number, in gray; None: none."""

REACH = 1.9  # a head with its hair lies within this distance of its center
OUTLINE_POINTS = 32
INK: Color = (24, 20, 24)
LIGHT: Color = (255, 250, 240)
GRID = np.linspace(-REACH, REACH, 64, dtype=np.float32)
ANGLES = np.linspace(0, 2 * np.pi, OUTLINE_POINTS, endpoint=False)
CROWN = np.linspace(0, -np.pi, 12)


@dataclass(frozen=True)
class Look:
    """How the heads of one style are drawn.

    Args:
        skins, hairs, cloths: Palettes.
        outline: Width of contours as a fraction of the face height, 0 for none.
        shading: Strength of light and shade, 0 for flat colors.
        eyes: Size of the eyes, 1 is lifelike.
        shapes: Range of the exponent of the face outline: 1 an ellipse, smaller values are squarer.
        masks, glasses, hats, beards: Probabilities.
        turn: Largest turn of the head to either side, in (0, 1).
        roll: Standard deviation of its tilt, degrees.
    """

    skins: Sequence[Color]
    hairs: Sequence[Color]
    cloths: Sequence[Color]
    outline: float = 0.0
    shading: float = 1.0
    eyes: float = 1.0
    shapes: tuple[float, float] = (0.85, 1.0)
    masks: float = 0.0
    glasses: float = 0.15
    hats: float = 0.12
    beards: float = 0.15
    turn: float = 0.7
    roll: float = 10.0


@dataclass(frozen=True)
class Head:
    """One head; numbers are in its own frame."""

    skin: Color
    hair: Color
    accent: Color
    width: float
    jaw: float
    shape: float
    turn: float
    tilt: float
    roll: float
    light: tuple[float, float]
    eye_gap: float
    eye_size: float
    smile: float
    mouth_open: float
    hair_style: int
    hat: bool
    glasses: int
    beard: bool
    mask: bool
    away: bool

    @classmethod
    def sample(cls, look: Look, rng: np.random.Generator, away: bool = False) -> Head:
        """A random head; ``away`` looks to the other side and shows no face."""
        return cls(
            skin=_vary(pick(look.skins, rng), 14, rng),
            hair=_vary(pick(look.hairs, rng), 14, rng),
            accent=_vary(pick(look.cloths, rng), 20, rng),
            width=float(rng.uniform(0.68, 0.84)),
            jaw=float(rng.uniform(0.05, 0.3)),
            shape=float(rng.uniform(*look.shapes)),
            turn=float(rng.triangular(-look.turn, 0.0, look.turn)),
            tilt=float(rng.normal(0.0, 0.06)),
            roll=float(np.clip(rng.normal(0.0, look.roll), -40, 40)),
            light=(float(rng.normal(0.0, 0.35)), float(rng.uniform(-0.35, 0.0))),
            eye_gap=float(rng.uniform(0.3, 0.38)),
            eye_size=float(look.eyes * rng.uniform(0.12, 0.16)),
            smile=float(rng.uniform(-0.3, 1.0)),
            mouth_open=float(max(0.0, rng.normal(0.0, 0.5))),
            hair_style=int(rng.integers(5)),
            hat=bool(rng.random() < look.hats),
            glasses=int(rng.random() < look.glasses) * int(rng.integers(1, 3)),
            beard=bool(rng.random() < look.beards),
            mask=bool(rng.random() < look.masks),
            away=away,
        )

    def outline(self, scale: float = 1.0) -> NDArray[np.float64]:
        """Face oval ``[32, 2]``, upright; ``scale`` grows it about its center."""
        x, y = (np.sign(part) * np.abs(part) ** self.shape for part in (np.cos(ANGLES), np.sin(ANGLES)))
        return scale * np.stack([self.width * x * (1 - self.jaw * np.maximum(y, 0)), y], axis=1)

    def landmarks(self) -> NDArray[np.float64]:
        """Left eye, right eye, nose tip, left and right mouth corner as seen in the picture, ``[5, 2]``, upright."""
        shift = 0.42 * self.turn * self.width
        narrow = 1 - 0.3 * abs(self.turn)
        eye_y, nose_y, mouth_y = -0.16 + self.tilt, 0.2 + self.tilt, 0.52 + 0.7 * self.tilt
        mouth = narrow * (0.22 + 0.06 * self.smile)
        return np.array(
            [
                (shift - narrow * self.eye_gap, eye_y),
                (shift + narrow * self.eye_gap, eye_y),
                (1.35 * shift, nose_y),
                (shift - mouth, mouth_y),
                (shift + mouth, mouth_y),
            ]
        )

    def placed(self, points: NDArray[np.float64], x: float, y: float, size: float) -> NDArray[np.float64]:
        """Points ``[n, 2]`` of the head's frame as pixels of a picture where its center is (x, y) and half the face height ``size``."""
        angle = np.deg2rad(-self.roll)
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        return points @ turn.T * size + np.array([x, y])


def pick(colors: Sequence[Color], rng: np.random.Generator) -> Color:
    """One of ``colors``."""
    return colors[int(rng.integers(len(colors)))]


def _vary(color: Color, spread: int, rng: np.random.Generator) -> Color:
    red, green, blue = (int(np.clip(part + rng.integers(-spread, spread + 1), 0, 255)) for part in color)
    return red, green, blue


def mixed(color: Color, other: Color, share: float) -> Color:
    """``color`` moved towards ``other`` by ``share``."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(color, other))
    return red, green, blue


class _Pen:
    """Draws in the head's frame on a square picture of ``side`` pixels."""

    def __init__(self, image: Image.Image) -> None:
        self._draw = ImageDraw.Draw(image)
        self._unit = image.width / (2 * REACH)

    def _points(self, points: NDArray[np.float64]) -> list[tuple[float, float]]:
        return [(float(x), float(y)) for x, y in (np.asarray(points) + REACH) * self._unit]

    def ellipse(self, x: float, y: float, rx: float, ry: float, fill: Fill, line: float = 0.0) -> None:
        box = self._points(np.array([(x - rx, y - ry), (x + rx, y + ry)]))
        self._draw.ellipse(box, fill=fill, outline=INK if line else None, width=self.width(line))

    def polygon(self, points: NDArray[np.float64], fill: Fill, line: float = 0.0) -> None:
        corners = self._points(points)
        self._draw.polygon(corners, fill=fill)
        if line:
            self._draw.line([*corners, corners[0]], fill=INK, width=self.width(line), joint="curve")

    def line(self, points: Sequence[tuple[float, float]], fill: Fill, width: float) -> None:
        self._draw.line(self._points(np.array(points)), fill=fill, width=self.width(width), joint="curve")

    def chord(self, x: float, y: float, rx: float, ry: float, start: int, end: int, fill: Fill) -> None:
        self._draw.chord(self._points(np.array([(x - rx, y - ry), (x + rx, y + ry)])), start, end, fill=fill)

    def width(self, width: float) -> int:
        return max(1, round(width * self._unit)) if width else 0


def draw_head(head: Head, look: Look, size: float) -> Image.Image:
    """The head as a square RGBA picture around its center; ``size`` is half the face height in pixels."""
    side = max(8, round(2 * REACH * size))
    image = Image.new("RGBA", (side, side), (*head.hair, 0))
    pen = _Pen(image)
    _draw_back(pen, head, look)
    if head.away:
        pen.polygon(head.outline(1.08), head.hair, look.outline)
    else:
        pen.polygon(head.outline(), head.skin, look.outline)
        if look.shading:
            _shade(image, head, look.shading)
        _draw_features(pen, head, look)
    _draw_top(pen, head, look)
    return image.rotate(head.roll)


def _draw_back(pen: _Pen, head: Head, look: Look) -> None:
    if head.hair_style in (2, 3):
        pen.ellipse(0, 0.15, 1.32 * head.width, 1.35, head.hair, look.outline)
    else:
        pen.ellipse(0, -0.25, 1.16 * head.width, 0.98, head.hair, look.outline)
    if head.hair_style == 3:
        pen.ellipse(0, -1.3, 0.35, 0.32, head.hair, look.outline)
    for side in (-1, 1):
        if not head.away and side * head.turn < 0.45:
            pen.ellipse(side * head.width * 1.0, 0.02, 0.13, 0.22, mixed(head.skin, INK, 0.12), look.outline)


def _draw_top(pen: _Pen, head: Head, look: Look) -> None:
    """Hair above the forehead, or a hat."""
    if head.hat:
        brim = -0.5 - 0.1 * head.smile
        pen.chord(0, brim, 1.14 * head.width, 0.85, 180, 360, head.accent)
        middle = 0.25 * head.turn
        pen.polygon(
            np.array(
                [
                    (-1.2 * head.width + middle, brim),
                    (1.2 * head.width + middle, brim),
                    (0.9 * head.width + middle, brim + 0.14),
                    (-0.9 * head.width + middle, brim + 0.14),
                ]
            ),
            mixed(head.accent, INK, 0.35),
            look.outline,
        )
    elif head.hair_style != 4 and not head.away:  # 4 is bald
        part = (-0.5, 0.0, 0.45, 0.15)[head.hair_style % 4]
        width = 1.05 * head.width
        fringe = [
            (-width, -0.1),
            (-0.85 * width, -0.45),
            (part * width, -0.5 - 0.12 * head.hair_style),
            (0.85 * width, -0.42),
            (width, -0.1),
        ]
        arc = [(1.1 * width * np.cos(a), -0.35 + 0.88 * np.sin(a)) for a in CROWN]
        pen.polygon(np.array(fringe + arc), head.hair, look.outline)


def _shade(image: Image.Image, head: Head, strength: float) -> None:
    """Soft light from one side, dark eye sockets, a shadow under nose, lip and chin."""
    small = Image.new("L", (64, 64), 128)
    pen = _Pen(small)
    points = head.landmarks()
    for x, y in points[:2]:
        pen.ellipse(x, y - 0.06, 0.26, 0.17, 84)
    nose_x, nose_y = points[2]
    pen.ellipse(nose_x, nose_y - 0.22, 0.07, 0.3, 166)
    pen.ellipse(nose_x, nose_y + 0.1, 0.2, 0.08, 78)
    pen.ellipse((points[3][0] + points[4][0]) / 2, points[3][1] + 0.2, 0.2, 0.06, 92)
    for x, _ in points[:2]:
        pen.ellipse(1.25 * x, 0.22 + head.tilt, 0.17, 0.14, 152)
    pen.ellipse(nose_x * 0.5, -0.55, 0.35, 0.16, 150)
    relief = np.asarray(small.filter(ImageFilter.GaussianBlur(2.2)), dtype=np.float32) / 128 - 1
    light = 0.75 * relief + head.light[0] * GRID[None, :] + head.light[1] * GRID[:, None]
    light = strength * (light - 0.16 * np.minimum((GRID / head.width) ** 2, 1.2)[None, :])
    oval = Image.new("L", image.size, 0)
    _Pen(oval).polygon(head.outline(), 255)
    for color, share in ((INK, -light), (LIGHT, 0.8 * light)):
        mask = Image.fromarray(np.clip(share * 255, 0, 255).astype(np.uint8))
        image.paste(
            (*color, 255), mask=ImageChops.multiply(mask.resize(image.size, Image.Resampling.BILINEAR), oval)
        )


def _draw_features(pen: _Pen, head: Head, look: Look) -> None:
    left, right, nose, mouth_left, mouth_right = head.landmarks()
    ink = mixed(head.skin, INK, 0.85)
    thin = max(look.outline, 0.03)
    if head.beard and not head.mask:
        lower = head.outline(1.02)
        lower = lower[lower[:, 1] > 0.25]
        pen.polygon(lower, head.hair)
        pen.ellipse(nose[0] * 0.8, 0.3, 0.42 * head.width, 0.3, head.skin)
    for number, (x, y) in enumerate((left, right)):
        _draw_eye(pen, head, look, x, y, ink)
        slope = 0.05 * (1 - 2 * number) * head.smile
        pen.line(
            [(x - 0.19, y - 0.21 + slope), (x, y - 0.26), (x + 0.19, y - 0.21 - slope)],
            mixed(head.hair, INK, 0.4),
            0.07,
        )
    pen.line(
        [(nose[0] - 0.1, nose[1] + 0.03), (nose[0], nose[1] + 0.08), (nose[0] + 0.1, nose[1] + 0.03)],
        mixed(head.skin, INK, 0.5),
        max(0.045, look.outline),
    )
    if look.outline:
        side = 1 if head.turn >= 0 else -1
        pen.line(
            [((left[0] + right[0]) / 2 + 0.06 * side, left[1]), (nose[0] + 0.1 * side, nose[1])], ink, thin
        )
    _draw_mouth(pen, head, mouth_left, mouth_right, ink, thin)
    if head.glasses:
        dark = (20, 20, 30) if head.glasses == 2 else None
        for x, y in (left, right):
            pen.ellipse(x, y, 0.25, 0.2, dark, 0.045)
        pen.line([(left[0] + 0.25, left[1]), (right[0] - 0.25, right[1])], INK, 0.05)
    if head.mask:
        _draw_mask(pen, head, look, nose)


def _draw_eye(pen: _Pen, head: Head, look: Look, x: float, y: float, ink: Color) -> None:
    size = head.eye_size
    height = size * (0.6 if look.eyes <= 1.2 else 1.15)
    pen.ellipse(x, y, size, height, mixed((250, 248, 244), head.skin, 0.15), look.outline)
    pupil = x + 0.35 * size * head.turn
    pen.ellipse(pupil, y, 0.55 * height, 0.75 * height, ink)
    if size > 0.14:
        pen.ellipse(pupil + 0.2 * height, y - 0.25 * height, 0.18 * height, 0.18 * height, (255, 255, 255))
    if not look.outline:
        pen.line([(x - size, y - 0.3 * height), (x, y - height), (x + size, y - 0.3 * height)], ink, 0.04)


def _draw_mouth(
    pen: _Pen, head: Head, left: NDArray[np.float64], right: NDArray[np.float64], ink: Color, thin: float
) -> None:
    middle, y = (left[0] + right[0]) / 2, left[1]
    drop = 0.12 * head.smile
    lips = mixed(mixed(head.skin, (176, 48, 52), 0.55), INK, 0.15)
    if head.mouth_open > 0.35:
        half = (right[0] - left[0]) / 2
        pen.ellipse(
            middle, y + drop, half, 0.1 + 0.12 * min(head.mouth_open, 1.2), mixed(lips, INK, 0.5), thin
        )
        pen.ellipse(middle, y + drop - 0.06, 0.75 * half, 0.05, (238, 234, 226))
    else:
        pen.line([tuple(left), (middle, y + drop), tuple(right)], lips, 0.11)
        pen.line([tuple(left), (middle, y + drop), tuple(right)], ink, thin)


def _draw_mask(pen: _Pen, head: Head, look: Look, nose: NDArray[np.float64]) -> None:
    """A cloth over nose and mouth, sometimes pulled down below the nose."""
    outline = head.outline(1.03)
    top = nose[1] - (0.12 if head.smile > -0.1 else -0.18)
    lower = outline[outline[:, 1] > top]
    order = np.argsort(-np.arctan2(lower[:, 0], lower[:, 1]))
    cloth = np.concatenate([[(nose[0], top - 0.1)], lower[order][::-1]])
    pen.polygon(cloth, head.accent, max(look.outline, 0.015))
    for fold in (0.15, 0.35, 0.55):
        pen.line(
            [(-0.6 * head.width + nose[0] * 0.5, top + fold), (0.6 * head.width + nose[0] * 0.5, top + fold)],
            mixed(head.accent, INK, 0.18),
            0.025,
        )
