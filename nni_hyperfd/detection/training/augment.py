"""Augmentation as data: every crop, flip and color of a whole training is drawn first, then applied per batch.

Drawing ahead keeps the random numbers apart from the device: the same seed gives the same crops on CPU and GPU.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from nni_hyperfd.data.pixels import Faces, PixelStore

MIRRORED_LANDMARKS = (2, 3, 0, 1, 4, 5, 8, 9, 6, 7)
"""Order of the ten landmark coordinates after a flip: the eyes and the corners of the mouth change places."""


@dataclass(frozen=True)
class CropPlan:
    """``T`` training samples: which image, which square of it, and how its pixels change.

    image ``[T]`` int64; crop ``[T, 3]`` int64 (x0, y0, side) in stored pixels; flip ``[T]`` bool;
    color ``[T, 3, 4]`` float32, an affine map of RGB in 0..255.
    """

    image: Tensor
    crop: Tensor
    flip: Tensor
    color: Tensor

    def __getitem__(self, rows: slice) -> CropPlan:
        return CropPlan(self.image[rows], self.crop[rows], self.flip[rows], self.color[rows])

    def to(self, device: torch.device | str) -> CropPlan:
        return CropPlan(*(x.to(device) for x in (self.image, self.crop, self.flip, self.color)))


def plan_crops(
    store: PixelStore, indices: Tensor, samples: int, min_crop_ratio: float, rng: np.random.Generator
) -> CropPlan:
    """Draws ``samples`` training samples from the images ``indices`` ``[N]``, passing over all of them in turn.

    A crop is a square whose side is uniform in [``min_crop_ratio``, 1] of the image's short side and which
    holds the center of one face drawn at random (any place where an image has none), as in RetinaFace, section 4.1.
    """
    passes = -(-samples // len(indices))
    order = np.concatenate([rng.permutation(indices.numpy()) for _ in range(passes)])[:samples]
    height, width = store.sizes.numpy()[order].T
    short = np.minimum(height, width)
    side = np.maximum(1, np.round(short * rng.uniform(min_crop_ratio, 1.0, samples))).astype(np.int64)
    usable = (store.faces.valid & ~store.faces.ignored).numpy()[order]
    count = usable.sum(1)
    pick = np.floor(rng.random(samples) * np.maximum(count, 1)).astype(np.int64)
    chosen = np.argmax(usable & (np.cumsum(usable, axis=1) == (pick + 1)[:, None]), axis=1)
    box = store.faces.boxes.numpy()[order, chosen]
    origin = []
    for axis, extent in ((0, width), (1, height)):
        center = (box[:, axis] + box[:, axis + 2]) / 2
        low = np.where(count > 0, np.clip(np.ceil(center - side), 0, extent - side), 0)
        high = np.where(count > 0, np.clip(np.floor(center), 0, extent - side), extent - side)
        origin.append(
            np.floor(low + rng.random(samples) * (np.maximum(high, low) - low + 1)).astype(np.int64)
        )
    crop = np.stack([*origin, side], axis=1)
    flip = rng.random(samples) < 0.5
    return CropPlan(*map(torch.from_numpy, (order, crop, flip, color_matrices(samples, rng))))


def color_matrices(samples: int, rng: np.random.Generator) -> np.ndarray:
    """Brightness, contrast, saturation and hue as one affine map of RGB each, ``[samples, 3, 4]`` float32.

    Strengths are those of the public RetinaFace training: brightness ±32 of 255, contrast and saturation in
    [0.5, 1.5], hue ±18 degrees, each with probability one half.
    """

    def draw(low: float, high: float, neutral: float) -> np.ndarray:
        return np.where(rng.random(samples) < 0.5, rng.uniform(low, high, samples), neutral)

    shift, contrast = draw(-32, 32, 0.0), draw(0.5, 1.5, 1.0)
    saturation, hue = draw(0.5, 1.5, 1.0), np.deg2rad(draw(-18, 18, 0.0))
    gray = np.full((3, 3), 1 / 3)
    axis = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / np.sqrt(3)
    eye = np.eye(3)
    rotate = gray + np.cos(hue)[:, None, None] * (eye - gray) + np.sin(hue)[:, None, None] * axis
    saturate = gray + saturation[:, None, None] * (eye - gray)
    linear = contrast[:, None, None] * (saturate @ rotate)
    return np.concatenate([linear, np.repeat(shift[:, None, None], 3, axis=1)], axis=2).astype(np.float32)


def crop_pixels(store: PixelStore, plan: CropPlan, size: int) -> Tensor:
    """Crops of the plan at output size on the CPU: ``[T, 3, size, size]`` uint8; color is applied at output size."""
    out = torch.empty(len(plan.image), 3, size, size, dtype=torch.uint8)
    for row, (index, (x0, y0, side)) in enumerate(zip(plan.image.tolist(), plan.crop.tolist())):
        square = store.image(index)[:, y0 : y0 + side, x0 : x0 + side].unsqueeze(0)
        out[row] = F.interpolate(square, (size, size), mode="bilinear", align_corners=False)[0]
    flipped = plan.flip.nonzero().squeeze(1)
    out[flipped] = out[flipped].flip(-1)
    return out


def crop_resident(images: Tensor, plan: CropPlan, size: int) -> Tensor:
    """The same crops from images that lie padded in a device's memory; fixed shapes, no synchronization.

    Shapes: images ``[N, 3, S, S]`` uint8 -> ``[T, 3, size, size]`` float32 in 0..255.
    """
    side = plan.crop[:, 2:].float()
    position = (torch.arange(size, device=images.device) + 0.5) / size * side - 0.5
    position = torch.minimum(position.clamp(min=0), side - 1)
    low = position.floor()
    weight = position - low
    high = torch.minimum(low + 1, side - 1)
    mirror = plan.flip.unsqueeze(1)
    columns = [torch.where(mirror, x.flip(1), x) for x in (low, high, weight)]
    x0, x1 = (plan.crop[:, :1] + x.long() for x in columns[:2])
    y0, y1 = (plan.crop[:, 1:2] + y.long() for y in (low, high))
    owner = plan.image.view(-1, 1, 1)

    def pixels(y: Tensor, x: Tensor) -> Tensor:
        return images[owner, :, y.unsqueeze(2), x.unsqueeze(1)].float()

    across, down = columns[2][:, None, :, None], weight[:, :, None, None]
    top = torch.lerp(pixels(y0, x0), pixels(y0, x1), across)
    bottom = torch.lerp(pixels(y1, x0), pixels(y1, x1), across)
    return torch.lerp(top, bottom, down).permute(0, 3, 1, 2)


def recolor(pixels: Tensor, color: Tensor) -> Tensor:
    """Applies one affine color map per image: ``[T, 3, h, w]`` and ``[T, 3, 4]`` -> uint8."""
    flat = torch.baddbmm(color[:, :, 3:], color[:, :, :3], pixels.float().flatten(2))
    return flat.add_(0.5).clamp_(0, 255).to(torch.uint8).unflatten(2, pixels.shape[-2:])


def crop_faces(faces: Faces, plan: CropPlan, size: int) -> Faces:
    """Faces as they stand in the crops of ``plan``: kept where their center is inside, clipped to the crop."""
    chosen = faces[plan.image]
    origin, side = plan.crop[:, None, :2].float(), plan.crop[:, None, 2:].float()
    center = (chosen.boxes[..., :2] + chosen.boxes[..., 2:]) / 2 - origin
    inside = ((center >= 0) & (center <= side)).all(-1)
    scale = size / side
    boxes = ((chosen.boxes - origin.repeat(1, 1, 2)) * scale).clamp(0, size)
    points = (chosen.landmarks - origin.repeat(1, 1, 5)) * scale
    flip = plan.flip.view(-1, 1, 1)
    mirrored = torch.stack([size - boxes[..., 2], boxes[..., 1], size - boxes[..., 0], boxes[..., 3]], dim=-1)
    swapped = points[..., list(MIRRORED_LANDMARKS)]
    even = torch.arange(points.shape[-1], device=points.device) % 2 == 0
    swapped = torch.where(even, size - swapped, swapped)
    return Faces(
        torch.where(flip, mirrored, boxes),
        chosen.valid & inside,
        chosen.ignored,
        torch.where(flip, swapped, points),
    )
