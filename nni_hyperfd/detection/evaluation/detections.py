"""Evaluation of a detector: scaled images in padded batches, detections after NMS, AP@50."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torchvision.ops import batched_nms

from nni_hyperfd.data.pixels import PixelStore, resize
from nni_hyperfd.detection.anchors import decode_boxes, priors
from nni_hyperfd.detection.evaluation.average_precision import Matched, average_precision, matched
from nni_hyperfd.detection.network.retinaface import Predictions, RetinaFace

REFERENCE_SIDE = 720
IGNORED_SIDE = 36
"""Faces narrower or lower than this many pixels where the short side is 720 are ignored (supplement B.1)."""
SCORE_THRESHOLD = 0.02
NMS_IOU = 0.4
MAX_CANDIDATES = 1000
"""Highest scores of an image that enter non-maximum suppression."""
PIXELS_PER_BATCH = 32 * 256 * 352
LONGEST_SHAPE = 8
"""Long sides are at most this many evaluation sizes: a strip of film must not fill the memory."""


@dataclass(frozen=True)
class Batch:
    """Images of about one size.

    Args:
        images: ``[B, 3, H, W]`` uint8, scaled and padded.
        rows: ``[B]`` positions in the evaluated split.
        size: ``[B, 2]`` (height, width) of the scaled image without padding.
    """

    images: Tensor
    rows: Tensor
    size: Tensor

    def to(self, device: torch.device | str) -> Batch:
        return Batch(self.images.to(device), self.rows.to(device), self.size.to(device))


@dataclass(frozen=True)
class Detections:
    """What a detector finds in a split.

    Args:
        image: ``[n]`` position in the evaluated split.
        boxes: ``[n, 4]`` corners in pixels at evaluation scale.
        scores: ``[n]`` in 0..1.
    """

    image: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray


@dataclass(frozen=True)
class GroundTruth:
    """Faces of a split at evaluation scale: image ``[m]``, boxes ``[m, 4]``, ignored ``[m]`` bool."""

    image: np.ndarray
    boxes: np.ndarray
    ignored: np.ndarray


def scaled_sizes(store: PixelStore, indices: Tensor, evaluation_size: int) -> Tensor:
    """(height, width) of every image of ``indices`` ``[N]`` with its short side at ``evaluation_size``, ``[N, 2]`` int64.

    Images longer than ``LONGEST_SHAPE`` times their width are scaled by their long side instead.
    """
    size = store.sizes[indices].double()
    short, long = size.aminmax(dim=1, keepdim=True)
    divisor = torch.maximum(short, long / LONGEST_SHAPE)
    return (size * evaluation_size / divisor).round().long().clamp(min=1)


def evaluation_batches(store: PixelStore, indices: Tensor, evaluation_size: int) -> Iterator[Batch]:
    """The images ``indices`` ``[N]``, those of nearly one shape together, padded to multiples of 32; decoded lazily, so memory stays bounded."""
    size = scaled_sizes(store, indices, evaluation_size)
    padded = ((size + 31) // 32 * 32).tolist()
    order = sorted(range(len(indices)), key=lambda row: padded[row])
    start = 0
    while start < len(order):
        height, width = padded[order[start]]
        most = max(1, PIXELS_PER_BATCH // (height * width))
        end = start + 1
        while end < len(order) and end - start < most and padded[order[end]] == [height, width]:
            end += 1
        rows = order[start:end]
        images = torch.zeros(len(rows), 3, height, width, dtype=torch.uint8)
        for position, row in enumerate(rows):
            h, w = size[row].tolist()
            images[position, :, :h, :w] = resize(store.image(int(indices[row])), h, w)
        yield Batch(images, torch.tensor(rows), size[rows])
        start = end


def ground_truth(store: PixelStore, indices: Tensor, evaluation_size: int) -> GroundTruth:
    """Faces of images ``[N]`` at evaluation scale; those under the size limit are marked ignored beside those the annotation ignores."""
    faces = store.faces[indices]
    factor = scaled_sizes(store, indices, evaluation_size) / store.sizes[indices]
    boxes = faces.boxes * factor.flip(1).float().repeat(1, 2).unsqueeze(1)
    smallest = (boxes[..., 2:] - boxes[..., :2]).amin(-1)
    ignored = faces.ignored | (smallest < IGNORED_SIDE * evaluation_size / REFERENCE_SIDE)
    image, column = faces.valid.nonzero(as_tuple=True)
    return GroundTruth(image.numpy(), boxes[image, column].numpy(), ignored[image, column].numpy())


def select_detections(predictions: Predictions, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """Decoded boxes after NMS: (row ``[n]``, boxes ``[n, 4]``, scores ``[n]``)."""
    height, width = batch.images.shape[-2:]
    anchors = priors(height, width, batch.images.device)
    scores, index = strongest(torch.sigmoid(predictions.logits[..., 1] - predictions.logits[..., 0]))
    offsets = predictions.boxes.gather(1, index.unsqueeze(-1).expand(-1, -1, 4))
    return suppress(scores, decode_boxes(offsets, anchors[index]), batch)


def strongest(scores: Tensor) -> tuple[Tensor, Tensor]:
    """The candidates of every image that enter NMS: of ``[B, A]``, scores and positions ``[B, at most MAX_CANDIDATES]``."""
    return scores.topk(min(MAX_CANDIDATES, scores.shape[1]), dim=1)


def suppress(scores: Tensor, boxes: Tensor, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """NMS over candidates, scores ``[B, K]`` and corner boxes ``[B, K, 4]``; returns what :func:`select_detections` does.

    Boxes are clipped to the image; of a box that lies in the padding nothing is left, so it is dropped.
    """
    limit = batch.size.flip(1).repeat(1, 2).unsqueeze(1).to(boxes)
    boxes = torch.minimum(boxes.clamp(min=0), limit)
    solid = (boxes[..., 2:] > boxes[..., :2]).all(-1)
    image, column = ((scores > SCORE_THRESHOLD) & solid).nonzero(as_tuple=True)
    boxes, scores = boxes[image, column], scores[image, column]
    kept = batched_nms(boxes, scores, image, NMS_IOU)
    return batch.rows[image[kept]], boxes[kept], scores[kept]


@torch.no_grad()
def detect(model: RetinaFace, batches: list[Batch] | Iterator[Batch]) -> Detections:
    """Runs ``model`` in evaluation mode over batches that lie on its device."""
    training = model.training
    model.eval()
    parts = [select_detections(model(batch.images), batch) for batch in batches]
    model.train(training)
    return gathered(parts)


def gathered(parts: list[tuple[Tensor, Tensor, Tensor]]) -> Detections:
    """Detections of all batches of a split, each as :func:`select_detections` returns them."""
    image, boxes, scores = (torch.cat(column).float().cpu().numpy() for column in zip(*parts))
    return Detections(image.astype(np.int64), boxes, scores)


def matched_at_50(detections: Detections, truth: GroundTruth) -> Matched:
    """Which detections of one split are right at IoU 0.5."""
    return matched(
        detections.image, detections.boxes, detections.scores, truth.image, truth.boxes, truth.ignored
    )


def ap50(detections: Detections, truth: GroundTruth) -> float:
    """AP@50 of one split, 0..1."""
    return average_precision(
        detections.image, detections.boxes, detections.scores, truth.image, truth.boxes, truth.ignored
    )


def pooled_ap50(parts: list[tuple[Detections, GroundTruth, int]]) -> float:
    """AP@50 over several splits put together; each part is (detections, faces, number of images)."""
    shift = np.cumsum([0] + [images for _, _, images in parts])
    return average_precision(
        np.concatenate([d.image + s for (d, _, _), s in zip(parts, shift)]),
        np.concatenate([d.boxes for d, _, _ in parts]),
        np.concatenate([d.scores for d, _, _ in parts]),
        np.concatenate([t.image + s for (_, t, _), s in zip(parts, shift)]),
        np.concatenate([t.boxes for _, t, _ in parts]),
        np.concatenate([t.ignored for _, t, _ in parts]),
    )
