"""Drawn scenes: a background, things that are no faces, people from far to near, and the boxes of their faces."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from nni_hyperfd.synthetic.heads import INK, OUTLINE_POINTS, Color, Head, Look, draw_head, mixed, pick

FINER = 2  # scenes are drawn larger and reduced at the end, which smooths all edges
HIDDEN, GONE = 0.45, 0.12  # visible shares of a face below which it is ignored, or not annotated at all


@dataclass(frozen=True)
class Scene:
    """A picture with its annotation.

    Args:
        picture: RGB.
        boxes: ``[n, 4]`` float32, xmin ymin xmax ymax in pixels, inside the picture.
        landmarks: ``[n, 5, 2]`` float32, x y in pixels, NaN for points outside the picture.
        ignored: ``[n]`` bool, faces mostly hidden behind something.
    """

    picture: Image.Image
    boxes: NDArray[np.float32]
    landmarks: NDArray[np.float32]
    ignored: NDArray[np.bool_]


@dataclass(frozen=True)
class SceneLayout:
    """What a scene of one style holds.

    Args:
        sides: Width and height in pixels.
        faces: Weights of 0, 1, 2, ... faces.
        sizes: Smallest and largest face height, as fractions of the shorter side of the picture.
        decoys: Mean number of round things and of heads seen from behind, each.
        colors: Palette of the background.
    """

    sides: tuple[tuple[int, int], ...]
    faces: tuple[float, ...]
    sizes: tuple[float, float]
    decoys: float
    colors: tuple[Color, ...]


Warp = Callable[[NDArray[np.float64]], NDArray[np.float64]]


@dataclass(frozen=True)
class Canvas:
    """A scene before its style is laid over it: the picture, and outline and landmarks of each face.

    Args:
        picture: RGB, in final size.
        outlines: ``[n, 32, 2]`` and landmarks: ``[n, 5, 2]``, pixels.
        visible: ``[n]`` share of each face oval that nothing hides and that lies in the picture.
    """

    picture: Image.Image
    outlines: NDArray[np.float64]
    landmarks: NDArray[np.float64]
    visible: NDArray[np.float64]

    def finish(self, picture: Image.Image, warp: Warp | None = None) -> Scene:
        """The annotated scene for ``picture``, the styled form of this canvas; ``warp`` moves points ``[n, 2]`` along."""
        count = len(self.outlines)
        outlines, landmarks = self.outlines, self.landmarks
        if warp is not None and count:
            outlines = warp(outlines.reshape(-1, 2)).reshape(outlines.shape)
            landmarks = warp(landmarks.reshape(-1, 2)).reshape(landmarks.shape)
        size = np.array([*picture.size, *picture.size], dtype=np.float64)
        outside = ((landmarks < 0) | (landmarks > size[:2])).any(-1, keepdims=True)
        landmarks = np.where(outside, np.nan, landmarks)
        boxes = np.concatenate([outlines.min(1), outlines.max(1)], axis=1) if count else np.zeros((0, 4))
        boxes = np.clip(boxes, 0, size)
        kept = (self.visible >= GONE) & ((boxes[:, 2:] - boxes[:, :2]).min(1, initial=np.inf) >= 2)
        return Scene(
            picture,
            boxes[kept].astype(np.float32),
            landmarks[kept].astype(np.float32),
            self.visible[kept] < HIDDEN,
        )


def draw_canvas(layout: SceneLayout, look: Look, rng: np.random.Generator) -> Canvas:
    """One scene with the people of ``look`` in the surroundings of ``layout``."""
    width, height = (side * FINER for side in layout.sides[int(rng.integers(len(layout.sides)))])
    picture = _background(width, height, layout, look, rng)
    weights = np.array(layout.faces)
    count = int(rng.choice(len(weights), p=weights / weights.sum()))
    backs = int(rng.poisson(layout.decoys)) if count else int(rng.poisson(2 * layout.decoys))
    people = _arrange(count, backs, width, height, layout, rng)
    # Pixel value = 1 + number of the face that is seen there; 0 = anything else.
    owner = Image.new("L", picture.size, 0)
    outlines, landmarks = [], []
    for x, y, size, away in people:
        head = Head.sample(look, rng, away)
        _draw_body(picture, owner, x, y, size, head, look, rng)
        sprite = draw_head(head, look, size)
        corner = (round(x - sprite.width / 2), round(y - sprite.height / 2))
        picture.paste(sprite, corner, sprite)
        owner.paste(0, corner, sprite.getchannel("A").point(lambda alpha: 255 * (alpha > 127)))
        if not away:
            outlines.append(head.placed(head.outline(), x, y, size))
            landmarks.append(head.placed(head.landmarks(), x, y, size))
            ImageDraw.Draw(owner).polygon([tuple(point) for point in outlines[-1]], fill=len(outlines))
    seen = np.bincount(np.asarray(owner).ravel(), minlength=count + 1)[1 : count + 1]
    areas = np.array([_area(outline) for outline in outlines])
    return Canvas(
        picture.reduce(FINER),
        np.array(outlines).reshape(count, OUTLINE_POINTS, 2) / FINER,
        np.array(landmarks).reshape(count, 5, 2) / FINER,
        np.minimum(seen / areas, 1.0) if count else np.zeros(0),
    )


def _area(outline: NDArray[np.float64]) -> float:
    x, y = outline.T
    return float(abs(x @ np.roll(y, 1) - y @ np.roll(x, 1)) / 2)


def _arrange(
    count: int, backs: int, width: int, height: int, layout: SceneLayout, rng: np.random.Generator
) -> list[tuple[float, float, float, bool]]:
    """Center, half face height and direction of each person, far ones first; few overlap."""
    short = min(width, height)
    low, high = layout.sizes
    if count > 4:
        high = max(low * 1.5, high * (4 / count) ** 0.6)
    people: list[tuple[float, float, float, bool]] = []
    for number in range(count + backs):
        half = 0.5 * short * float(np.exp(rng.uniform(np.log(low), np.log(high))))
        crowding = float(rng.uniform(0.4, 1.0))
        for _ in range(30):
            x, y = float(rng.uniform(0.0, width)), float(rng.uniform(0.1 * height, 0.85 * height))
            if min(x, width - x) > half * crowding and not any(
                _hides((x, y, half), other, crowding) for other in people
            ):
                break
        people.append((x, y, half, number >= count))
    return sorted(people, key=lambda person: person[2])


def _hides(one: tuple[float, ...], other: tuple[float, ...], crowding: float) -> bool:
    """Whether the head or body of the nearer of two people would cover much of the other's face."""
    (x, y, half), (near_x, near_y, near) = sorted((one[:3], other[:3]), key=lambda person: person[2])
    aside, below = abs(x - near_x), y - near_y
    behind_head = np.hypot(aside, below) < 1.4 * crowding * (half + near)
    behind_body = below > 0 and aside < crowding * (1.8 * near + half) and below < 5 * near
    return bool(behind_head or behind_body)


def _draw_body(
    picture: Image.Image,
    owner: Image.Image,
    x: float,
    y: float,
    size: float,
    head: Head,
    look: Look,
    rng: np.random.Generator,
) -> None:
    neck, shoulder, waist = 0.42 * size, float(rng.uniform(1.5, 1.9)) * size, y + 5 * size
    body = [
        (x - 0.7 * shoulder, y + 1.32 * size),
        (x - neck, y + 1.15 * size),
        (x + neck, y + 1.15 * size),
        (x + 0.7 * shoulder, y + 1.32 * size),
        (x + shoulder, y + 1.75 * size),
        (x + 1.05 * shoulder, waist),
        (x - 1.05 * shoulder, waist),
        (x - shoulder, y + 1.75 * size),
    ]
    throat = (x - neck, y + 0.4 * size, x + neck, y + 1.45 * size)
    pen, cover = ImageDraw.Draw(picture), ImageDraw.Draw(owner)
    cloth = pick(look.cloths, rng)
    for side in (-1, 1):
        inner, outer = sorted((x + side * 0.12 * shoulder, x + side * 0.95 * shoulder))
        leg = (inner, waist - 1, outer, waist + 4.5 * size)
        pen.rectangle(leg, fill=mixed(cloth, (40, 44, 60), 0.75))
        cover.rectangle(leg, fill=0)
    pen.polygon(body, fill=cloth)
    if look.outline:
        line = max(1, round(look.outline * size))
        pen.line([*body, body[0]], fill=INK, width=line)
    if rng.random() < 0.4:
        stripe = mixed(cloth, pick(look.cloths, rng), 0.6)
        for step in range(2, 5):
            top = y + step * size
            pen.rectangle((x - shoulder, top, x + shoulder, top + 0.3 * size), fill=stripe)
    pen.ellipse(throat, fill=mixed(head.hair if head.away else head.skin, INK, 0.25))
    cover.polygon(body, fill=0)
    cover.ellipse(throat, fill=0)


def _background(
    width: int, height: int, layout: SceneLayout, look: Look, rng: np.random.Generator
) -> Image.Image:
    """Soft patches, walls with windows, posts, and round things with two dots or a dial."""
    coarse = np.array([[pick(layout.colors, rng) for _ in range(5)] for _ in range(4)], dtype=np.uint8)
    # Walls are straight and often out of focus, so the final resolution does for them.
    small = Image.fromarray(coarse).resize((width // FINER, height // FINER), Image.Resampling.BICUBIC)
    pen = ImageDraw.Draw(small)
    for _ in range(int(rng.integers(2, 6))):
        _draw_wall(pen, *small.size, pick(layout.colors, rng), look, rng)
    if not look.outline:
        small = small.filter(ImageFilter.BoxBlur(float(rng.uniform(0, 2.5))))
    picture = small.resize((width, height), Image.Resampling.NEAREST)
    pen = ImageDraw.Draw(picture)
    for _ in range(int(rng.poisson(layout.decoys))):
        _draw_round_thing(pen, width, height, layout, look, rng)
    return picture


def _draw_wall(
    pen: ImageDraw.ImageDraw,
    width: int,
    height: int,
    color: Color,
    look: Look,
    rng: np.random.Generator,
) -> None:
    left, top = float(rng.uniform(-0.2, 0.9)) * width, float(rng.uniform(-0.1, 0.7)) * height
    right, bottom = left + float(rng.uniform(0.1, 0.5)) * width, top + float(rng.uniform(0.2, 0.8)) * height
    pen.rectangle((left, top, right, bottom), fill=color, outline=INK if look.outline else None)
    columns, rows = int(rng.integers(0, 5)), int(rng.integers(0, 6))
    pane = mixed(color, (250, 240, 190) if rng.random() < 0.5 else (20, 24, 40), 0.5)
    for column in range(columns):
        for row in range(rows):
            x = left + (column + 0.25) * (right - left) / columns
            y = top + (row + 0.25) * (bottom - top) / rows
            pen.rectangle(
                (x, y, x + 0.5 * (right - left) / columns, y + 0.5 * (bottom - top) / rows), fill=pane
            )


def _draw_round_thing(
    pen: ImageDraw.ImageDraw,
    width: int,
    height: int,
    layout: SceneLayout,
    look: Look,
    rng: np.random.Generator,
) -> None:
    """A dial, a socket, a scrambled face or a ball: round as a face, at times of its color, marked in the wrong places."""
    half = 0.5 * min(width, height) * float(np.exp(rng.uniform(*np.log(layout.sizes))))
    x, y = float(rng.uniform(0, width)), float(rng.uniform(0, height))
    fill = pick(look.skins, rng) if rng.random() < 0.5 else pick(look.cloths, rng)
    dark = mixed(fill, INK, 0.7)
    pen.ellipse((x - 0.8 * half, y - half, x + 0.8 * half, y + half), fill=fill, outline=dark, width=2)
    thin = max(1, round(half / 10))
    kind = int(rng.integers(4))
    if kind == 0:
        for angle in np.arange(12) * np.pi / 6:
            hour = (x + 0.62 * half * np.cos(angle), y + 0.8 * half * np.sin(angle))
            pen.ellipse(
                (hour[0] - half / 14, hour[1] - half / 14, hour[0] + half / 14, hour[1] + half / 14),
                fill=dark,
            )
        pen.line((x, y, x + 0.4 * half, y - 0.3 * half), fill=dark, width=thin)
    elif kind == 1:
        for side in (-1, 1):
            mark = x + side * 0.3 * half
            pen.ellipse((mark - half / 10, y - half / 10, mark + half / 10, y + half / 10), fill=dark)
    elif kind == 2:
        for side in (-1, 1):  # a face upside down but for its outline: eyes low, mouth high
            eye = x + side * 0.32 * half
            pen.ellipse(
                (eye - half / 6, y + 0.2 * half, eye + half / 6, y + 0.4 * half), fill=(240, 240, 236)
            )
            pen.ellipse((eye - half / 14, y + 0.23 * half, eye + half / 14, y + 0.37 * half), fill=dark)
        pen.line((x - 0.25 * half, y - 0.45 * half, x + 0.25 * half, y - 0.45 * half), fill=dark, width=thin)
    else:
        for top, start in ((-1.2, 40), (-0.6, 200)):
            box = (x - 0.7 * half, y + top * half, x + half, y + (top + 1.8) * half)
            pen.arc(box, start, start + 120, fill=dark, width=thin)
