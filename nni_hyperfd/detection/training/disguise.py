"""Disguises: what cameras, weather, print and cloth do to a face, put on crops that are annotated as before.

Strong augmentation for pretraining. The teacher sees a crop before its disguise, the student after it. Pictures are RGB
in 0..255.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from nni_hyperfd.data.pixels import Faces

LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in a gray value (ITU-R BT.601)."""
COVERED_SIDE = 14
"""Faces from this many pixels on are sometimes covered in part."""


def disguise(pixels: Tensor, faces: Faces, rng: np.random.Generator) -> Tensor:
    """Changes each picture in some of these ways, or in none: ``[B, 3, H, W]`` uint8 -> the same.

    Covered faces, drawing (few tones, smooth areas), low resolution, haze, gray, false colors, low light, noise.
    """
    x = cover(pixels, faces, rng).float()
    drawn = (flatten_tones, lower_resolution, haze, gray, false_colors, darken, add_noise)
    chances = (0.06, 0.25, 0.08, 0.15, 0.05, 0.2, 0.2)
    for change, chance in zip(drawn, chances):
        rows = np.flatnonzero(rng.random(len(x)) < chance)
        if len(rows):
            x[rows] = change(x[rows], rng).clamp(0, 255)
    return x.round().to(torch.uint8)


def _each(low: float, high: float, x: Tensor, rng: np.random.Generator) -> Tensor:
    """One uniform number a picture, ``[B, 1, 1, 1]``."""
    return torch.from_numpy(rng.uniform(low, high, (len(x), 1, 1, 1)).astype(np.float32))


def cover(pixels: Tensor, faces: Faces, rng: np.random.Generator, chance: float = 0.12) -> Tensor:
    """Paints the lower or upper part of some faces in one color, as masks, hands and hats do: ``[B, 3, H, W]`` uint8 -> the same."""
    out = pixels.clone()
    large = faces.valid & ((faces.boxes[..., 2:] - faces.boxes[..., :2]).amin(-1) >= COVERED_SIDE)
    for row, column in large.nonzero().tolist():
        if rng.random() >= chance:
            continue
        x0, y0, x1, y1 = faces.boxes[row, column].tolist()
        edge = y0 + rng.uniform(0.4, 0.65) * (y1 - y0)
        top, bottom = (edge, y1) if rng.random() < 0.8 else (y0, y0 + rng.uniform(0.15, 0.35) * (y1 - y0))
        color = torch.from_numpy(rng.integers(0, 256, 3).astype(np.uint8))
        out[row, :, round(top) : round(bottom), round(x0) : round(x1)] = color[:, None, None]
    return out


def flatten_tones(x: Tensor, rng: np.random.Generator) -> Tensor:
    """Few tones and smooth areas, as in print and drawings: ``[B, 3, H, W]`` float32 -> the same."""
    step = _each(24, 64, x, rng)
    smooth = F.max_pool2d(-F.max_pool2d(-x, 3, 1, 1), 3, 1, 1)
    return (smooth / step).round() * step


def lower_resolution(x: Tensor, rng: np.random.Generator) -> Tensor:
    """Shrunk 1.25 to 3.5 times and magnified again, one factor for all: ``[B, 3, H, W]`` float32 -> the same."""
    size = x.shape[-2:]
    factor = rng.uniform(1.25, 3.5)
    small = [max(8, round(side / factor)) for side in size]
    return F.interpolate(F.interpolate(x, small, mode="area"), size, mode="bilinear", align_corners=False)


def haze(x: Tensor, rng: np.random.Generator) -> Tensor:
    """Mixed with light gray: ``[B, 3, H, W]`` float32 -> the same."""
    amount = _each(0.2, 0.7, x, rng)
    return x * (1 - amount) + amount * _each(170, 250, x, rng)


def gray(x: Tensor, rng: np.random.Generator) -> Tensor:
    """Without color: ``[B, 3, H, W]`` float32 -> the same, its channels equal."""
    return (x * torch.tensor(LUMA).view(3, 1, 1)).sum(1, keepdim=True).expand_as(x).clone()


def false_colors(x: Tensor, rng: np.random.Generator) -> Tensor:
    """Gray values looked up in random curves through five points, one a channel and picture: ``[B, 3, H, W]`` float32 -> the same."""
    value = gray(x, rng)[:, 0] / 255 * 4
    low = value.floor().clamp(max=3)
    curve = torch.from_numpy(rng.uniform(0, 255, (len(x), 3, 5)).astype(np.float32))
    # A common slope, up or down, keeps faces readable.
    up = torch.from_numpy(rng.random(len(x)) < 0.7).view(-1, 1, 1)
    slope = torch.linspace(0, 255, 5)
    curve = 0.4 * curve + 0.6 * torch.where(up, slope, slope.flip(0))
    index = low.long().flatten(1).unsqueeze(1).expand(-1, 3, -1)
    start, end = curve.gather(2, index), curve.gather(2, index + 1)
    return torch.lerp(start, end, (value - low).flatten(1).unsqueeze(1)).view_as(x)


def darken(x: Tensor, rng: np.random.Generator) -> Tensor:
    """Low light: a power curve, less gain, and the noise that comes with it: ``[B, 3, H, W]`` float32 -> the same."""
    dark = 255 * (x / 255) ** _each(1.0, 1.8, x, rng) * _each(0.25, 0.8, x, rng)
    return dark + _noise(x, rng) * _each(0, 8, x, rng)


def add_noise(x: Tensor, rng: np.random.Generator) -> Tensor:
    """Independent Gaussian noise: ``[B, 3, H, W]`` float32 -> the same."""
    return x + _noise(x, rng) * _each(3, 25, x, rng)


def _noise(x: Tensor, rng: np.random.Generator) -> Tensor:
    return torch.from_numpy(rng.standard_normal(x.shape, dtype=np.float32))
