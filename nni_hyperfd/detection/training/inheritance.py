"""A detector's start out of two trained ones: half of a wider backbone, and a narrower neck with its heads.

Residual streams of MobileNetV2 are linear (no activation follows their additions), so a stream of half the width may
take any basis: its principal components lose least. Hidden channels lie behind an activation and are chosen, those
first that explain most of what the block adds; then each convolution is fitted to the source's own values by least
squares, layer after layer, so that later ones make good what earlier ones lost (He et al., ICCV 2017, "Channel pruning").
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nni_hyperfd.detection.network.backbone import NEGATIVE_SLOPE, ConvNorm, InvertedResidual
from nni_hyperfd.detection.network.retinaface import PIXEL_MEAN, PIXEL_SCALE, Context, RetinaFace
from nni_hyperfd.errors import TrainingError
from nni_hyperfd.spaces.architecture import mobilenet_v2

ROWS = 16384
"""Pixels that a least-squares fit looks at."""
RIDGE = 1e-4
"""Damping of a fit, relative to the mean square of its inputs."""
QUIET = 0.1
"""Factor of the random weights that lead from channels the source lacks into those it has."""


class FoldedConv(NamedTuple):
    """A convolution into which batch normalization was folded: weight ``[out, in / groups, k, k]``, bias ``[out]``."""

    weight: Tensor
    bias: Tensor


def unfold(layer: ConvNorm, bias: Tensor, inputs: Tensor) -> Tensor:
    """Makes ``layer`` (convolution, batch normalization, ...) compute convolution + ``bias`` ``[out]`` on ``inputs`` ``[B, in, H, W]``.

    A folded network has no statistics; with those of real inputs, batch normalization computes the same whether it
    trains or not, and its first step is not a jump. Returns the layer's output ``[B, out, ...]``.
    """
    values = layer.conv(inputs)
    variance, mean = torch.var_mean(values.float(), dim=(0, 2, 3), correction=0)
    norm = layer.norm
    assert norm.running_mean is not None
    assert norm.running_var is not None
    norm.running_mean.copy_(mean)
    norm.running_var.copy_(variance)
    norm.weight.data.copy_((variance + norm.eps).sqrt())
    norm.bias.data.copy_(bias + mean)
    return layer(inputs)


def least_squares(inputs: Tensor, outputs: Tensor) -> tuple[Tensor, Tensor]:
    """Weight ``[q, p]`` and bias ``[q]`` of the linear map that takes rows ``[n, p]`` nearest to ``[n, q]``."""
    x, y = inputs.double(), outputs.double()
    x_mean, y_mean = x.mean(0), y.mean(0)
    x, y = x - x_mean, y - y_mean
    gram = x.T @ x
    gram.diagonal().add_(RIDGE * gram.diagonal().mean() + 1e-12)
    weight = torch.linalg.solve(gram, x.T @ y).T
    return weight.float(), (y_mean - weight @ x_mean).float()


def most_telling(inputs: Tensor, outputs: Tensor, count: int) -> Tensor:
    """Greedy choice of ``count`` columns of ``[n, p]`` out of which ``[n, q]`` is explained best; ``[count]`` int64, sorted.

    Orthogonal least squares: each turn takes the column whose part that is new explains most of what is left.
    """
    x, y = inputs.double() - inputs.double().mean(0), outputs.double() - outputs.double().mean(0)
    gram, cross = x.T @ x, x.T @ y
    floor = 1e-9 * gram.diagonal().max()
    chosen: list[int] = []
    for _ in range(count):
        gain = cross.square().sum(1) / gram.diagonal().clamp(min=floor)
        gain[gram.diagonal() <= floor] = 0.0
        gain[chosen] = -1.0
        best = int(gain.argmax())
        chosen.append(best)
        if gram[best, best] > floor:
            column, row = gram[:, best].clone() / gram[best, best], cross[best].clone()
            gram -= torch.outer(column, gram[best].clone())
            cross -= torch.outer(column, row)
    return torch.tensor(sorted(chosen))


def rows(maps: Tensor, generator: torch.Generator) -> Tensor:
    """Pixels of ``[B, C, H, W]`` as rows ``[min(ROWS, B * H * W), C]``; the same for maps of one shape and seed."""
    flat = maps.permute(0, 2, 3, 1).flatten(0, 2)
    return flat[torch.randperm(len(flat), generator=generator)[:ROWS]]


@torch.no_grad()
def inherit_backbone(model: RetinaFace, source: Sequence[FoldedConv], images: Tensor) -> None:
    """Fills the backbone of ``model``, a MobileNetV2 of half width, from the 51 convolutions of one of full width.

    Args:
        model: Changed in place.
        source: In their order, for RGB in 0..255, ReLU after each that is not a projection.
        images: ``[B, 3, H, W]`` uint8, any that look like those to train on.

    Raises:
        TrainingError: ``model`` has another architecture than the standard one.
    """
    if model.architecture != mobilenet_v2():
        raise TrainingError("only the standard architecture inherits; others start from it by remapping")
    pixels = images.float()
    taught, own = pixels, (pixels - PIXEL_MEAN) / PIXEL_SCALE
    supply = iter(source)

    def sample(maps: Tensor) -> Tensor:
        return rows(maps, torch.Generator().manual_seed(0))

    stem = next(supply)
    taught = F.relu(F.conv2d(taught, *stem, stride=2, padding=1))
    backbone = model.backbone
    stages = cast("Sequence[Sequence[InvertedResidual]]", backbone.stages)
    for number, stage in enumerate(stages):
        convs = [[next(supply) for _ in range(2 if number == 0 else 3)] for _ in stage]
        steps = []
        for block, parts in zip(stage, convs):
            hidden, before = taught, None
            if number:
                before = F.conv2d(taught, *parts[0])
                hidden = F.relu(before)
            stride = block.depthwise.conv.stride
            middle = F.conv2d(hidden, *parts[-2], stride, 1, 1, hidden.shape[1])
            added = F.conv2d(F.relu(middle), *parts[-1])
            taught = taught + added if block.skip else added
            steps.append((before, middle, taught))
        basis = _principal(
            torch.cat([sample(after) for *_, after in steps]), stage[0].project.conv.out_channels
        )
        for block, parts, (before, middle, after) in zip(stage, convs, steps):
            wanted = torch.einsum("bchw,cd->bdhw", after, basis)
            kept = most_telling(sample(F.relu(middle)), sample(wanted), block.depthwise.conv.out_channels)
            if number == 0:
                backbone.stem.conv.weight.copy_(stem.weight[kept] * PIXEL_SCALE)
                shift = PIXEL_MEAN * stem.weight[kept].sum((1, 2, 3))
                own = unfold(backbone.stem, stem.bias[kept] + shift, own)
                hidden = own
            else:
                assert before is not None
                assert isinstance(block.expand, ConvNorm)
                weight, bias = least_squares(sample(own), sample(before[:, kept]))
                block.expand.conv.weight.copy_(weight[..., None, None])
                hidden = unfold(block.expand, bias, own)
            block.depthwise.conv.weight.copy_(parts[-2].weight[kept])
            raw, target = sample(block.depthwise.conv(hidden)), sample(middle[:, kept])
            variance, mean = torch.var_mean(raw, 0)
            slope = ((raw - mean) * (target - target.mean(0))).mean(0) / variance.clamp(min=1e-6)
            block.depthwise.conv.weight.mul_(slope.view(-1, 1, 1, 1))
            hidden = unfold(block.depthwise, target.mean(0) - slope * mean, hidden)
            rest = wanted - own if block.skip else wanted
            weight, bias = least_squares(sample(hidden), sample(rest))
            block.project.conv.weight.copy_(weight[..., None, None])
            out = unfold(block.project, bias, hidden)
            own = own + out if block.skip else out


def _principal(values: Tensor, width: int) -> Tensor:
    """The ``width`` principal axes of rows ``[n, c]``, as columns ``[c, width]``."""
    centered = values.double() - values.double().mean(0)
    return torch.linalg.eigh(centered.T @ centered).eigenvectors[:, -width:].flip(1).float()


def centered_parts(have: Sequence[int], want: Sequence[int]) -> Tensor:
    """Where the channels of a narrower concatenation (parts of ``have``) lie in a wider one (parts of ``want``), ``[sum(have)]`` int64."""
    start = 0
    places: list[int] = []
    for narrow, wide in zip(have, want):
        places += range(start, start + narrow)
        start += wide
    return torch.tensor(places)


@torch.no_grad()
def inherit_neck(
    model: RetinaFace, source: Mapping[str, FoldedConv], laterals: Sequence[Tensor], images: Tensor
) -> None:
    """Fills pyramid, context modules and heads of ``model`` from those of a RetinaFace with a narrower neck.

    The lateral convolutions are fitted, so that the backbone of ``model`` gives the neck what it knows; channels the
    source lacks keep their random weights and begin quietly.

    Args:
        model: Changed in place; its backbone is already what it shall be.
        source: Convolutions by our names: ``merge.0``, ``contexts.2.near``, ``heads.1``, ...
        laterals: Outputs of the source's lateral convolutions on ``images``, ``[B, 64, H / s, W / s]`` each.
        images: ``[B, 3, H, W]`` uint8.
    """
    maps = model.backbone((images.float() - PIXEL_MEAN) / PIXEL_SCALE)
    outputs = []
    for layer, features, taught in zip(cast("Sequence[ConvNorm]", model.pyramid.lateral), maps, laterals):
        before = torch.where(taught > 0, taught, taught / NEGATIVE_SLOPE)
        weight, bias = least_squares(
            rows(features, torch.Generator().manual_seed(0)), rows(before, torch.Generator().manual_seed(0))
        )
        layer.conv.weight[: len(weight)].copy_(weight[..., None, None])
        outputs.append(unfold(layer, F.pad(bias, (0, layer.conv.out_channels - len(bias))), features))
    for level in (1, 0):
        above = F.interpolate(outputs[level + 1], size=outputs[level].shape[-2:], mode="nearest")
        merge = cast("Sequence[ConvNorm]", model.pyramid.merge)
        outputs[level] = _embed(merge[level], source[f"merge.{level}"], outputs[level] + above)
    contexts = cast("Sequence[Context]", model.contexts)
    for level, (context, x) in enumerate(zip(contexts, outputs)):
        far_layers = cast("Sequence[ConvNorm]", context.far)
        name = f"contexts.{level}"
        _embed(context.near, source[f"{name}.near"], x)
        reduced = _embed(context.reduce, source[f"{name}.reduce"], x)
        _embed(context.middle, source[f"{name}.middle"], reduced)
        far = _embed(far_layers[0], source[f"{name}.far.0"], reduced)
        _embed(far_layers[1], source[f"{name}.far.1"], far)
        parts = (context.near, context.middle, far_layers[1])
        narrow = [len(source[f"{name}.{part}"].bias) for part in ("near", "middle", "far.1")]
        places = centered_parts(narrow, [part.conv.out_channels for part in parts])
        head, given = model.heads[level], source[f"heads.{level}"]
        assert isinstance(head, nn.Conv2d)
        assert head.bias is not None
        head.weight.mul_(QUIET)
        head.weight[:, places] = given.weight
        head.bias.copy_(given.bias)


def _embed(layer: ConvNorm, given: FoldedConv, inputs: Tensor) -> Tensor:
    """Puts a narrower convolution into the first channels of ``layer``; returns its output on ``inputs``."""
    out, into = given.weight.shape[:2]
    layer.conv.weight[:out, into:] *= QUIET
    layer.conv.weight[:out, :into] = given.weight
    return unfold(layer, F.pad(given.bias, (0, layer.conv.out_channels - out)), inputs)
