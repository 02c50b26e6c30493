"""Anchors (priors), their matching to faces, and the encoding of boxes and landmarks."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

STRIDES = (8, 16, 32)
SIZES = ((16, 32), (64, 128), (256, 512))
"""Anchor sides in pixels per stride (RetinaFace, for 640-pixel inputs)."""
VARIANCES = (0.1, 0.2)
FORCED_IOU = 0.2
"""A face claims its best anchor whatever the threshold, but only from this IoU on."""

POSITIVE, NEGATIVE, IGNORED = 1, 0, -1

MOST_PAIRS = 2**21
"""Pairs of a face and an anchor that a CPU compares at once, about 100 MB; crowds at full size have many more."""
MOST_PAIRS_DENSE = 2**24
"""The same for the padded form: at 32 bytes a pair, 512 MB. Where one face of each image is more than that, it is one face of each."""


class Matching(NamedTuple):
    """What every anchor should predict."""

    label: Tensor
    """``[B, A]`` int8: POSITIVE, NEGATIVE or IGNORED."""
    face: Tensor
    """``[B, A]`` int64: index into the image's faces of the best one (0 where it has none)."""
    iou: Tensor
    """``[B, A]`` float: IoU with that face (0 where there is none)."""


@lru_cache(maxsize=64)
def _priors(height: int, width: int, device: torch.device) -> Tensor:
    levels = []
    for stride, sizes in zip(STRIDES, SIZES):
        y = (torch.arange(-(-height // stride), device=device) + 0.5) * stride
        x = (torch.arange(-(-width // stride), device=device) + 0.5) * stride
        center = torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], dim=-1)
        side = torch.tensor(sizes, dtype=torch.float32, device=device).view(1, 1, -1, 1)
        grid = center.unsqueeze(2).expand(-1, -1, len(sizes), -1)
        levels.append(torch.cat([grid, side.expand(*grid.shape[:2], -1, 2)], dim=-1).reshape(-1, 4))
    return torch.cat(levels)


def priors(height: int, width: int, device: torch.device | str = "cpu") -> Tensor:
    """All anchors of an image, level by level, row by row.

    Returns:
        ``[A, 4]`` float32, (center x, center y, width, height) in pixels; cached per size and device.
    """
    return _priors(height, width, torch.device(device))


def anchors_per_level(height: int, width: int) -> list[int]:
    """Number of anchors on each of the three levels."""
    return [-(-height // s) * -(-width // s) * len(sizes) for s, sizes in zip(STRIDES, SIZES)]


def corners(boxes: Tensor) -> Tensor:
    """Boxes ``[..., 4]``: (center x, center y, w, h) -> (x0, y0, x1, y1)."""
    center, half = boxes[..., :2], boxes[..., 2:] / 2
    return torch.cat([center - half, center + half], dim=-1)


def encode_boxes(boxes: Tensor, anchors: Tensor) -> Tensor:
    """Offsets of corner boxes ``[..., 4]`` from anchors ``[..., 4]`` (SSD, equation 2, with variances 0.1 and 0.2).

    Sides are kept at one pixel at least, so that no logarithm of zero arises.
    """
    center = (boxes[..., :2] + boxes[..., 2:]) / 2
    size = (boxes[..., 2:] - boxes[..., :2]).clamp(min=1.0)
    offset = (center - anchors[..., :2]) / (VARIANCES[0] * anchors[..., 2:])
    return torch.cat([offset, torch.log(size / anchors[..., 2:]) / VARIANCES[1]], dim=-1)


def decode_boxes(offsets: Tensor, anchors: Tensor) -> Tensor:
    """Inverse of :func:`encode_boxes`: corner boxes ``[..., 4]`` in pixels. Sizes are bounded at e^8 anchors against overflow."""
    center = anchors[..., :2] + offsets[..., :2] * VARIANCES[0] * anchors[..., 2:]
    size = anchors[..., 2:] * torch.exp((offsets[..., 2:] * VARIANCES[1]).clamp(max=8.0))
    return corners(torch.cat([center, size], dim=-1))


def encode_landmarks(points: Tensor, anchors: Tensor) -> Tensor:
    """Points ``[..., 10]`` (x, y alternating) relative to anchors ``[..., 4]``."""
    relative = points.unflatten(-1, (-1, 2)) - anchors[..., None, :2]
    return (relative / (VARIANCES[0] * anchors[..., None, 2:])).flatten(-2)


def decode_landmarks(offsets: Tensor, anchors: Tensor) -> Tensor:
    """Inverse of :func:`encode_landmarks`."""
    relative = offsets.unflatten(-1, (-1, 2)) * VARIANCES[0] * anchors[..., None, 2:]
    return (relative + anchors[..., None, :2]).flatten(-2)


def iou(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union ``[...]`` of corner boxes ``[..., 4]``, broadcasting over leading dimensions; 0 for empty boxes."""
    low = torch.maximum(a[..., :2], b[..., :2])
    high = torch.minimum(a[..., 2:], b[..., 2:])
    overlap = (high - low).clamp(min=0).prod(-1)
    area = (
        (a[..., 2:] - a[..., :2]).clamp(min=0).prod(-1)
        + (b[..., 2:] - b[..., :2]).clamp(min=0).prod(-1)
        - overlap
    )
    return overlap / area.clamp(min=1e-9)


def match(
    boxes: Tensor,
    valid: Tensor,
    ignored: Tensor,
    anchors: Tensor,
    positive: Tensor | float,
    negative: Tensor | float,
) -> Matching:
    """Assigns to every anchor its best face.

    Anchors at IoU >= ``positive`` are positive, below ``negative`` negative, between them ignored. Anchors whose best
    face is an ignored one are ignored from ``negative`` on. Then every face that is not ignored claims its best
    anchor, whatever that one was before, from IoU ``FORCED_IOU`` on; where two faces claim one anchor, the one that
    overlaps it more wins. Of equal overlaps the first face, or the first anchor, is taken.

    Args:
        boxes: ``[B, G, 4]`` corners in pixels, padded.
        valid: ``[B, G]`` bool, true where the row is a face (ignored faces included).
        ignored: ``[B, G]`` bool.
        anchors: ``[A, 4]`` of :func:`priors`.
        positive: ``[]`` least IoU of a positive anchor.
        negative: ``[]`` IoU under which an anchor is negative.
    """
    chosen = _match_dense if boxes.is_cuda else _match_ragged
    best, face, forced_iou, forced_face = chosen(boxes, valid, ignored, corners(anchors))
    label = torch.where(best >= positive, POSITIVE, torch.where(best < negative, NEGATIVE, IGNORED))
    is_ignored = ignored.gather(1, face) & (best > 0)
    label = torch.where(is_ignored & (label == POSITIVE), IGNORED, label)
    claimed = forced_iou >= FORCED_IOU
    face = torch.where(claimed, forced_face, face)
    best = torch.where(claimed, forced_iou, best)
    label = torch.where(claimed, POSITIVE, label)
    return Matching(label.to(torch.int8), face, best)


def _match_dense(
    boxes: Tensor, valid: Tensor, ignored: Tensor, anchors: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Padded form with fixed shapes and no synchronization, for CUDA graphs: blocks ``[B, g, A]`` of some faces of each image.

    A pair takes 32 bytes at once, with what :func:`iou` makes on its way. 256 prepared samples of 640 pixels have 4.3 million pairs
    for one face each, so without blocks a crowd of 1000 would take 138 GB.
    """
    images, most = boxes.shape[:2]
    block = max(1, MOST_PAIRS_DENSE // (images * len(anchors)))
    best = boxes.new_zeros(images, len(anchors))
    face = torch.zeros_like(best, dtype=torch.long)
    claims = []
    for start in range(0, most, block):
        part = slice(start, start + block)
        overlap = iou(boxes[:, part].unsqueeze(2), anchors) * valid[:, part].unsqueeze(2)
        here, row = overlap.max(dim=1)
        face = torch.where(here > best, row + start, face)  # of equal overlaps the first face
        best = torch.maximum(best, here)
        claims.append(overlap.max(dim=2))
    claim_iou, claim_anchor = (torch.cat([claim[i] for claim in claims], dim=1) for i in range(2))
    claim_iou = torch.where(valid & ~ignored, claim_iou, 0.0)
    # Highest claim per anchor; of equal claims the first face wins, as in the ragged form.
    forced_iou = torch.zeros_like(best).scatter_reduce(1, claim_anchor, claim_iou, "amax")
    rows = torch.arange(most, device=boxes.device).expand_as(claim_anchor)
    wins = claim_iou == forced_iou.gather(1, claim_anchor)
    candidate = torch.where(wins, rows, most - 1)
    first = torch.full_like(face, most - 1).scatter_reduce(1, claim_anchor, candidate, "amin")
    return best, face, forced_iou, first


def _match_ragged(
    boxes: Tensor, valid: Tensor, ignored: Tensor, anchors: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """One operation over all faces of the batch, without padding: what a CPU is quickest at."""
    images, rows = valid.nonzero(as_tuple=True)
    if len(boxes) == 1 and len(images) * len(anchors) > MOST_PAIRS_DENSE:
        return _match_dense(boxes, valid, ignored, anchors)
    if len(images) * len(anchors) > MOST_PAIRS and len(boxes) > 1:
        middle = len(boxes) // 2
        halves = (
            _match_ragged(boxes[half], valid[half], ignored[half], anchors)
            for half in (slice(middle), slice(middle, None))
        )
        best, face, overlap, first = map(torch.cat, zip(*halves))
        return best, face, overlap, first
    shape = (boxes.shape[0], anchors.shape[0])
    overlap = iou(boxes[images, rows].unsqueeze(1), anchors)
    where = images.unsqueeze(1).expand_as(overlap)
    best = torch.zeros(shape).scatter_reduce(0, where, overlap, "amax")
    candidate = torch.where(overlap == best[images], rows.unsqueeze(1), boxes.shape[1])
    face = torch.full(shape, boxes.shape[1]).scatter_reduce(0, where, candidate, "amin")
    face = torch.where(face < boxes.shape[1], face, 0)
    forced_iou, forced_face = torch.zeros(shape), torch.full(shape, boxes.shape[1] - 1)
    owners = ~ignored[images, rows]
    if bool(owners.any()):
        claim_iou, claim_anchor = overlap[owners].max(dim=1)
        flat = images[owners] * shape[1] + claim_anchor
        forced_iou.view(-1).scatter_reduce_(0, flat, claim_iou, "amax")
        wins = claim_iou == forced_iou.view(-1)[flat]
        claim_row = torch.where(wins, rows[owners], boxes.shape[1] - 1)
        forced_face.view(-1).scatter_reduce_(0, flat, claim_row, "amin")
    return best, face, forced_iou, forced_face
