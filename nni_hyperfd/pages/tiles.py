"""Small pictures with boxes over them, inside the page."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nni_hyperfd.pages.html import Markup, element

TILE = 320
"""Long side in pixels."""

QUALITY = 78


@dataclass(frozen=True)
class DrawnBox:
    """A box on a picture: corners in its pixels, a color, dashed or not, a word beside it."""

    corners: Sequence[float]
    color: str
    dashed: bool = False
    word: str = ""


def tile(pixels: NDArray[np.uint8], boxes: Iterable[DrawnBox], caption: str) -> Markup:
    """``pixels`` ``[h, w, 3]`` RGB with ``boxes`` drawn as vectors, so that small faces stay visible."""
    picture = Image.fromarray(pixels)
    width, height = picture.size
    picture.thumbnail((TILE, TILE))
    jpeg = io.BytesIO()
    picture.save(jpeg, "JPEG", quality=QUALITY)
    address = f"data:image/jpeg;base64,{base64.b64encode(jpeg.getvalue()).decode()}"
    line = max(width, height) / 160
    drawn = []
    for box in boxes:
        x0, y0, x1, y1 = box.corners
        style = {"stroke_dasharray": f"{3 * line:.1f} {2 * line:.1f}"} if box.dashed else {}
        sides = {"x": f"{x0:.1f}", "y": f"{y0:.1f}", "width": f"{x1 - x0:.1f}", "height": f"{y1 - y0:.1f}"}
        drawn.append(
            element("rect", **sides, fill="none", stroke=box.color, stroke_width=f"{line:.1f}", **style)
        )
        if box.word:
            size = f"font-size:{7 * line:.1f}px;fill:{box.color}"
            drawn.append(
                element("text", box.word, x=f"{x0:.1f}", y=f"{max(y0 - line, 7 * line):.1f}", style=size)
            )
    image = element("image", href=address, width=width, height=height, preserveAspectRatio="none")
    svg = element("svg", image, *drawn, viewBox=f"0 0 {width} {height}")
    return element("figure", svg, element("figcaption", caption, title=caption))


def sheet(tiles: Iterable[Markup]) -> Markup:
    """Tiles beside and below each other."""
    return element("div", *tiles, _class="sheet")
