"""A contact sheet of detections, to look at: what a number cannot tell about a detector."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from nni_hyperfd.data.pixels import PixelStore, resize
from nni_hyperfd.detection.evaluation.detections import Detections, GroundTruth, scaled_sizes

SHOWN_SCORE = 0.5
TILE = 288
COLUMNS = 3
FACE, FOUND = (70, 160, 255), (255, 196, 0)


def draw_detections(
    path: Path,
    store: PixelStore,
    split: str,
    found: Detections,
    truth: GroundTruth,
    evaluation_size: int,
    images: int = 6,
) -> None:
    """Writes a PNG of some images, evenly spread over the split: annotated faces blue, detections yellow with score."""
    indices = store.splits[split]
    rows = np.unique(np.linspace(0, len(indices) - 1, images).round().astype(int))
    lines = -(-len(rows) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * TILE, lines * TILE), (24, 24, 24))
    size = scaled_sizes(store, indices, evaluation_size)
    for position, row in enumerate(rows.tolist()):
        height, width = size[row].tolist()
        pixels = resize(store.image(int(indices[row])), height, width).permute(1, 2, 0).numpy()
        zoom = TILE / max(height, width)
        tile = Image.fromarray(pixels).resize((max(1, round(width * zoom)), max(1, round(height * zoom))))
        pen = ImageDraw.Draw(tile)
        for box in truth.boxes[truth.image == row] * zoom:
            pen.rectangle(box.tolist(), outline=FACE, width=2)
        chosen = (found.image == row) & (found.scores >= SHOWN_SCORE)
        for box, score in zip(found.boxes[chosen] * zoom, found.scores[chosen]):
            pen.rectangle(box.tolist(), outline=FOUND, width=2)
            pen.text((box[0] + 3, box[1] + 1), f"{score:.2f}", fill=FOUND)
        sheet.paste(tile, (position % COLUMNS * TILE, position // COLUMNS * TILE))
    sheet.save(path)
