"""Mosaics: a face lies in the picture where its pixels do."""

from __future__ import annotations

import torch

from nni_hyperfd.data.pixels import Faces
from nni_hyperfd.detection.training.mosaic import mosaic_faces, mosaic_pixels


def test_pixels_and_boxes_move_together() -> None:
    side, tiles = 16, 8
    pixels = torch.zeros(tiles, 3, side, side, dtype=torch.uint8)
    boxes = torch.zeros(tiles, 2, 4)
    generator = torch.Generator().manual_seed(0)
    for tile in range(tiles):
        x, y = torch.randint(0, 8, (2,), generator=generator).tolist()
        boxes[tile, 0] = torch.tensor([x, y, x + 5, y + 7])
        pixels[tile, :, y : y + 7, x : x + 5] = 10 + tile
    valid = torch.tensor([[True, False]]).expand(tiles, 2)
    ignored = (torch.arange(tiles) % 3 == 0).unsqueeze(1).expand(tiles, 2)
    landmarks = boxes.repeat(1, 1, 3)[..., :10]
    landmarks[1] = torch.nan
    faces = mosaic_faces(Faces(boxes, valid, ignored, landmarks), side)
    pictures = mosaic_pixels(pixels)
    assert pictures.shape == (2, 3, 32, 32)
    assert faces.boxes.shape == (2, 8, 4)
    assert faces.valid.sum() == tiles
    for tile in range(tiles):
        picture, column = tile // 4, 2 * (tile % 4)
        x0, y0, x1, y1 = faces.boxes[picture, column].int().tolist()
        marked = pictures[picture] == 10 + tile
        assert marked[:, y0:y1, x0:x1].all()
        assert marked.sum() == 3 * 5 * 7
        assert faces.valid[picture, column]
        assert faces.ignored[picture, column] == (tile % 3 == 0)
        points = faces.landmarks[picture, column]
        if tile == 1:
            assert points.isnan().all()
        else:
            assert points[:4].tolist() == [x0, y0, x1, y1]
