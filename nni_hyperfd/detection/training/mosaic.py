"""Mosaics: four crops as one picture, so that small faces cost no more pixels than large ones (YOLOv4, section 3.3)."""

from __future__ import annotations

import torch
from torch import Tensor

from nni_hyperfd.data.pixels import Faces


def mosaic_pixels(tiles: Tensor) -> Tensor:
    """Every four tiles row by row as one picture: ``[4 B, 3, s, s] -> [B, 3, 2 s, 2 s]``."""
    rows = tiles.unflatten(0, (-1, 2, 2)).permute(0, 3, 1, 4, 2, 5)
    return rows.flatten(4, 5).flatten(2, 3)


def mosaic_faces(faces: Faces, side: int) -> Faces:
    """The faces of :func:`mosaic_pixels`' pictures: ``[4 B, G, ...] -> [B, 4 G, ...]``; ``side`` of a tile in pixels."""
    origin = torch.tensor([[0, 0], [side, 0], [0, side], [side, side]], dtype=torch.float32)

    def moved(points: Tensor) -> Tensor:
        shift = origin.repeat(1, points.shape[-1] // 2).unsqueeze(1)
        return (points.unflatten(0, (-1, 4)) + shift).flatten(1, 2)

    return Faces(
        moved(faces.boxes),
        faces.valid.unflatten(0, (-1, 4)).flatten(1, 2),
        faces.ignored.unflatten(0, (-1, 4)).flatten(1, 2),
        moved(faces.landmarks),
    )
