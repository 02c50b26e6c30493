"""A start out of trained networks: unfolding changes nothing, fits are exact where they can be."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from nni_hyperfd.detection.network.backbone import FEATURE_STAGES, NEGATIVE_SLOPE, ConvNorm
from nni_hyperfd.detection.network.retinaface import PIXEL_MEAN, PIXEL_SCALE, RetinaFace
from nni_hyperfd.detection.training.inheritance import (
    FoldedConv,
    centered_parts,
    inherit_backbone,
    inherit_neck,
    least_squares,
    most_telling,
    unfold,
)
from nni_hyperfd.errors import TrainingError
from nni_hyperfd.spaces.architecture import STAGES, largest, mobilenet_v2


def random(*shape: int, seed: int = 0, scale: float = 1.0) -> Tensor:
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("depthwise", [False, True])
def test_an_unfolded_layer_computes_what_the_folded_one_did(training: bool, depthwise: bool) -> None:
    layer = ConvNorm(6, 6, 3, stride=2, depthwise=depthwise).eval()
    inputs, bias = random(4, 6, 12, 12), random(6, seed=1)
    folded = F.conv2d(inputs, layer[0].weight, bias, 2, 1, 1, 6 if depthwise else 1)
    with torch.no_grad():
        unfold(layer, bias, inputs)
        found = layer.train(training)(inputs)
    torch.testing.assert_close(found, F.leaky_relu(folded, NEGATIVE_SLOPE), atol=1e-4, rtol=1e-4)


def test_least_squares_finds_the_map_it_was_made_with() -> None:
    inputs, weight, bias = random(500, 5), random(3, 5, seed=1), random(3, seed=2)
    found_weight, found_bias = least_squares(inputs, inputs @ weight.T + bias)
    torch.testing.assert_close(found_weight, weight, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(found_bias, bias, atol=1e-3, rtol=1e-3)


def test_the_columns_chosen_are_those_that_tell() -> None:
    inputs = random(400, 8)
    inputs[:, 5] = inputs[:, 2] + 0.01 * random(400, seed=3)  # tells what another has told
    inputs[:, 7] = 1.0  # tells nothing
    outputs = torch.stack([3 * inputs[:, 2], inputs[:, 0] - 2 * inputs[:, 6]], 1)
    assert len({2, 5} & set(most_telling(inputs, outputs, 3).tolist())) == 1
    assert {0, 6} < set(most_telling(inputs, outputs, 3).tolist())
    assert len(set(most_telling(inputs, outputs, 8).tolist())) == 8


def test_parts_of_a_concatenation_keep_to_their_parts() -> None:
    assert centered_parts([2, 1], [3, 2]).tolist() == [0, 1, 3]


def wide_backbone() -> list[FoldedConv]:
    """A random MobileNetV2 of full width, folded."""
    convs: list[FoldedConv] = []

    def add(inputs: int, outputs: int, kernel: int, groups: int = 1) -> None:
        fan_in = inputs // groups * kernel**2
        seed = len(convs)
        weight = random(outputs, inputs // groups, kernel, kernel, seed=seed, scale=(2 / fan_in) ** 0.5)
        convs.append(FoldedConv(weight, random(outputs, seed=seed + 1000, scale=0.1)))

    add(3, 32, 3)
    convs[0] = FoldedConv(convs[0].weight / 100, convs[0].bias)
    width = 32
    for number, (stage, blocks) in enumerate(zip(STAGES, mobilenet_v2().stages)):
        for _ in blocks:
            hidden = width * (6 if number else 1)
            if number:
                add(width, hidden, 1)
            add(hidden, hidden, 3, hidden)
            add(hidden, 2 * stage.width, 1)
            width = 2 * stage.width
    return convs


def wide_maps(convs: list[FoldedConv], images: Tensor) -> list[Tensor]:
    x, rest, maps = images.float(), iter(convs), []
    x = F.relu(F.conv2d(x, *next(rest), 2, 1))
    for number, (stage, blocks) in enumerate(zip(STAGES, mobilenet_v2().stages)):
        for position, _ in enumerate(blocks):
            y = F.relu(F.conv2d(x, *next(rest))) if number else x
            y = F.relu(F.conv2d(y, *next(rest), stage.stride if position == 0 else 1, 1, 1, y.shape[1]))
            y = F.conv2d(y, *next(rest))
            x = x + y if position else y
        if number + 1 in FEATURE_STAGES:
            maps.append(x)
    return maps


def explained(own: Tensor, taught: Tensor) -> float:
    """Share of the variance of one map that a linear read-out of another explains."""
    x, y = (maps.permute(0, 2, 3, 1).flatten(0, 2) for maps in (own, taught))
    weight, bias = least_squares(x, y)
    return 1 - float(F.mse_loss(x @ weight.T + bias, y) / (y - y.mean(0)).square().mean())


@torch.no_grad()
def test_half_a_backbone_knows_most_of_what_the_whole_one_knows() -> None:
    convs = wide_backbone()
    assert len(convs) == 51
    images = torch.randint(
        0, 256, (12, 3, 128, 128), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    images = F.interpolate(F.interpolate(images.float(), 16), 128, mode="bilinear").to(torch.uint8)
    model = RetinaFace(mobilenet_v2()).eval()
    model.reset_parameters(torch.Generator().manual_seed(0))
    taught = wide_maps(convs, images)
    pixels = (images.float() - PIXEL_MEAN) / PIXEL_SCALE
    before = [explained(own, wanted) for own, wanted in zip(model.backbone(pixels), taught)]
    inherit_backbone(model, convs, images)
    after = [explained(own, wanted) for own, wanted in zip(model.backbone(pixels), taught)]
    assert all(new > old for new, old in zip(after, before))
    assert after[0] > 0.8
    trained = [explained(own, wanted) for own, wanted in zip(model.train().backbone(pixels), taught)]
    assert trained == pytest.approx(after, abs=0.02)  # statistics fit: training does not begin with a jump


def test_other_architectures_do_not_inherit() -> None:
    with pytest.raises(TrainingError, match="remapping"):
        inherit_backbone(RetinaFace(largest()), [], torch.zeros(1, 3, 32, 32, dtype=torch.uint8))


@torch.no_grad()
def test_a_neck_of_equal_width_computes_what_its_source_did() -> None:
    source = {}
    shapes = {"near": (40, 80), "reduce": (20, 80), "middle": (20, 20), "far.0": (20, 20), "far.1": (20, 20)}
    for level in range(3):
        shapes_here = {f"contexts.{level}.{name}": shape for name, shape in shapes.items()}
        if level < 2:
            shapes_here[f"merge.{level}"] = (80, 80)
        for seed, (name, (out, into)) in enumerate(shapes_here.items()):
            source[name] = FoldedConv(random(out, into, 3, 3, seed=seed, scale=0.05), random(out, seed=seed))
        source[f"heads.{level}"] = FoldedConv(random(32, 80, 1, 1, seed=level), random(32, seed=level))
    model = RetinaFace(mobilenet_v2()).eval()
    model.reset_parameters(torch.Generator().manual_seed(0))
    images = torch.randint(
        0, 256, (4, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    taught = [F.leaky_relu(random(4, 80, side, side, seed=side), NEGATIVE_SLOPE) for side in (8, 4, 2)]
    inherit_neck(model, source, taught, images)

    def folded(name: str, x: Tensor, linear: bool = False) -> Tensor:
        y = F.conv2d(x, *source[name], padding=1)
        return y if linear else F.leaky_relu(y, NEGATIVE_SLOPE)

    maps = model.backbone((images.float() - PIXEL_MEAN) / PIXEL_SCALE)
    wanted = [lateral(x) for lateral, x in zip(model.pyramid.lateral, maps)]
    wanted[1] = folded("merge.1", wanted[1] + F.interpolate(wanted[2], scale_factor=2))
    wanted[0] = folded("merge.0", wanted[0] + F.interpolate(wanted[1], scale_factor=2))
    contexts = model.context(images)
    for level, x in enumerate(wanted):
        name = f"contexts.{level}"
        reduced = folded(f"{name}.reduce", x)
        far = folded(f"{name}.far.1", folded(f"{name}.far.0", reduced), linear=True)
        parts = [folded(f"{name}.near", x, linear=True), folded(f"{name}.middle", reduced, linear=True), far]
        torch.testing.assert_close(
            contexts[level], F.leaky_relu(torch.cat(parts, 1), NEGATIVE_SLOPE), atol=1e-3, rtol=1e-3
        )
        assert torch.equal(model.heads[level].weight, source[f"heads.{level}"].weight)
