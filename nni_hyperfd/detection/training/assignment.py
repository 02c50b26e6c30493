"""Dynamic sample assignment: the anchors that already do best for a face are its positives (HPS-Det, section 3.3, algorithm 2).

Each face has candidates, the anchors of all levels that overlap it a little. At every step the s of them with the lowest combined loss
become positive, where s is a hyper-parameter of the face's pyramid level and aspect ratio.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from nni_hyperfd.data.pixels import Faces
from nni_hyperfd.detection.anchors import (
    IGNORED,
    MOST_PAIRS,
    NEGATIVE,
    POSITIVE,
    corners,
    decode_boxes,
    iou,
)
from nni_hyperfd.detection.network.retinaface import Predictions
from nni_hyperfd.spaces.hyperparameters import ASPECT_BINS

CANDIDATE_IOU = 0.1
"""A candidate overlaps the face by more than this."""
ASPECT_ENDS = (0.5, 2.0)
"""Height over width up to which a face falls into the first and the second bin."""
REGRESSION_WEIGHT = 1.0
"""α of algorithm 2; the paper prints no value."""
LEAST_IOU = 1e-6
"""Predictions that miss the face entirely have this IoU, so that their loss is a number."""


class Candidates(NamedTuple):
    """What may become positive in a batch of B images with A anchors, P faces that count, and N pairs of a face and an anchor.

    image, row, wanted ``[P]`` int64: where a face stands in the padded faces and how many positives it wants; face ``[N]`` int64, ascending,
    and anchor ``[N]`` int64; ignored ``[B, A]`` bool: anchors that count for nothing unless they become positive.
    """

    image: Tensor
    row: Tensor
    wanted: Tensor
    face: Tensor
    anchor: Tensor
    ignored: Tensor

    def without(self) -> int:
        """Faces that have no candidate, and so teach nothing."""
        return len(self.image) - len(self.face.unique_consecutive())


class Assignment(NamedTuple):
    """label ``[B, A]`` int8 and face ``[B, A]`` int64, the row of the face that a positive anchor is to predict (0 elsewhere)."""

    label: Tensor
    face: Tensor


def find_candidates(
    faces: Faces, anchors: Tensor, levels: Sequence[int], counts: Sequence[int], negative: float
) -> Candidates:
    """The pairs of a face and an anchor with IoU > 0.1, before the network runs.

    Ignored regions stay as they are in IoU matching: an anchor is ignored where one overlaps it by ``negative`` or more, and no face that
    counts overlaps it as much.

    Args:
        faces: Of B crops.
        anchors: ``[A, 4]`` of :func:`anchors.priors`.
        levels: Number of anchors on each pyramid level.
        counts: Positives by level and aspect ratio, as :data:`hyperparameters.COUNT_KEYS`.
        negative: Least IoU with an ignored region at which an anchor is ignored.
    """
    boxes, device = faces.boxes, anchors.device
    image, row = (faces.valid & ~faces.ignored).nonzero(as_tuple=True)
    squares = corners(anchors)
    level_of = torch.repeat_interleave(
        torch.arange(len(levels), device=device), torch.tensor(levels, device=device)
    )
    pairs, best = [], []
    block = max(1, MOST_PAIRS // len(anchors))
    for start in range(0, len(image), block):
        part = slice(start, start + block)
        overlap = iou(boxes[image[part], row[part]].unsqueeze(1), squares)
        best.append(overlap.argmax(dim=1))
        pairs.append((overlap > CANDIDATE_IOU).nonzero() + torch.tensor([start, 0], device=device))
    found = torch.cat(pairs) if pairs else torch.empty(0, 2, dtype=torch.long, device=device)
    fits = torch.cat(best) if best else torch.empty(0, dtype=torch.long, device=device)
    side = (boxes[..., 2:] - boxes[..., :2])[image, row]
    bin_of = torch.bucketize(
        side[:, 1] / side[:, 0].clamp(min=1e-9), torch.tensor(ASPECT_ENDS, device=device)
    )
    wanted = torch.tensor(counts, device=device)[level_of[fits] * ASPECT_BINS + bin_of]
    ignored = _ignored(faces, squares, negative)
    return Candidates(image, row, wanted, found[:, 0], found[:, 1], ignored)


def combined_losses(
    predictions: Predictions, candidates: Candidates, boxes: Tensor, anchors: Tensor
) -> Tensor:
    """l_cls + α l_reg of every pair ``[N]`` float32, without gradient.

    l_cls is the cross-entropy of a face, which this detector is trained by (the paper's is trained by the focal loss), l_reg the IoU loss
    -ln IoU of the predicted box.

    Args:
        predictions: Of B crops.
        candidates: Of these, N pairs in all.
        boxes: ``[B, G, 4]`` corners of the faces.
        anchors: ``[A, 4]``.
    """
    with torch.no_grad():
        image, anchor = candidates.image[candidates.face], candidates.anchor
        logits = predictions.logits[image, anchor].float()
        drawn = decode_boxes(predictions.boxes[image, anchor].float(), anchors[anchor])
        overlap = iou(drawn, boxes[image, candidates.row[candidates.face]])
        return (
            F.softplus(logits[:, 0] - logits[:, 1]) - REGRESSION_WEIGHT * overlap.clamp(min=LEAST_IOU).log()
        )


def assign(candidates: Candidates, losses: Tensor) -> Assignment:
    """Gives to every face the ``wanted`` candidates with the lowest ``losses`` ``[N]``.

    An anchor that two faces of an image choose goes to the one with the lower loss, and the other face has one positive less. Of equal
    losses the first anchor, and the first face, is taken. Everything else is negative, but for ignored regions.
    """
    device = losses.device
    order = losses.argsort(stable=True)
    order = order[candidates.face[order].argsort(stable=True)]
    face = candidates.face[order]
    size = torch.bincount(face, minlength=len(candidates.image))
    rank = torch.arange(len(order), device=device) - (size.cumsum(0) - size)[face]
    chosen = order[rank < candidates.wanted[face]]

    label = torch.where(candidates.ignored, IGNORED, NEGATIVE).to(torch.int8)
    owner = torch.zeros(label.shape, dtype=torch.long, device=device)
    face, loss = candidates.face[chosen], losses[chosen]
    place = candidates.image[face] * label.shape[1] + candidates.anchor[chosen]
    lowest = losses.new_full((label.numel(),), torch.inf).scatter_reduce(0, place, loss, "amin")
    wins = loss == lowest[place]
    first = torch.full((label.numel(),), len(candidates.image), device=device)
    first = first.scatter_reduce(0, place[wins], face[wins], "amin")
    taken = place[wins]
    label.view(-1)[taken] = POSITIVE
    owner.view(-1)[taken] = candidates.row[first[taken]]
    return Assignment(label, owner)


def _ignored(faces: Faces, squares: Tensor, negative: float) -> Tensor:
    """``[B, A]`` bool; images without an ignored region, most of them, cost nothing."""
    found = torch.zeros(len(faces.boxes), len(squares), dtype=torch.bool, device=squares.device)
    for image in (faces.valid & faces.ignored).any(1).nonzero().squeeze(1).tolist():
        valid, unclear = faces.valid[image], faces.ignored[image]
        regions = iou(faces.boxes[image, valid & unclear].unsqueeze(1), squares).amax(0)
        counted = faces.boxes[image, valid & ~unclear]
        rival = iou(counted.unsqueeze(1), squares).amax(0) if len(counted) else torch.zeros_like(regions)
        found[image] = (regions >= negative) & (regions > rival)
    return found
