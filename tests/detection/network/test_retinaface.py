"""The network: its size, the shape of everything it gives, and its cost as `spaces` counts it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from nni_hyperfd.detection.anchors import anchors_per_level, priors
from nni_hyperfd.detection.network.backbone import Backbone, InvertedResidual
from nni_hyperfd.detection.network.retinaface import NECK_WIDTH, RetinaFace
from nni_hyperfd.spaces.architecture import (
    STAGE_CHOICES,
    Architecture,
    Block,
    backbone_flops,
    largest,
    mobilenet_v2,
)


def odd_architectures() -> list[Architecture]:
    """The two ends of the space and three networks drawn from it."""
    rng = np.random.default_rng(5)
    ends = [
        [0] * len(STAGE_CHOICES),
        [len(choices) - 1 for choices in STAGE_CHOICES],
    ]
    drawn = [[int(rng.integers(len(choices))) for choices in STAGE_CHOICES] for _ in range(3)]
    return [Architecture.from_codes(codes) for codes in (*ends, *drawn)]


def test_number_of_parameters() -> None:
    model = RetinaFace(mobilenet_v2())
    assert sum(p.numel() for p in model.parameters()) == 781_504


def test_half_width_is_half_of_mobilenet_v2() -> None:
    """Widths of the seven stages as in MobileNetV2 ×0.5, table 2 (24 → 12, 32 → 16, …, 320 → 160)."""
    backbone = Backbone(mobilenet_v2())
    assert [stage[-1].project[0].out_channels for stage in backbone.stages] == [8, 12, 16, 32, 48, 80, 160]
    assert [len(stage) for stage in backbone.stages] == [1, 2, 3, 4, 3, 3, 1]
    assert backbone.channels == (16, 48, 160)


@pytest.mark.parametrize("architecture", odd_architectures(), ids=str)
def test_strides_and_shapes(architecture: Architecture) -> None:
    model = RetinaFace(architecture).eval()
    images = torch.zeros(2, 3, 64, 96, dtype=torch.uint8)
    with torch.no_grad():
        maps = model.backbone(images.float())
        context = model.context(images)
        predictions = model(images)
    assert [tuple(x.shape) for x in maps] == [(2, 16, 8, 12), (2, 48, 4, 6), (2, 160, 2, 3)]
    assert [tuple(x.shape) for x in context] == [(2, NECK_WIDTH, h, w) for h, w in ((8, 12), (4, 6), (2, 3))]
    anchors = len(priors(64, 96))
    assert [tuple(x.shape) for x in predictions] == [(2, anchors, width) for width in (2, 4, 10)]


def test_sides_that_32_does_not_divide_still_fit_their_anchors() -> None:
    with torch.no_grad():
        predictions = RetinaFace(mobilenet_v2()).eval()(torch.zeros(1, 3, 45, 70))
    assert predictions.logits.shape[1] == sum(anchors_per_level(45, 70))


@pytest.mark.parametrize("architecture", [mobilenet_v2(), *odd_architectures()], ids=str)
def test_multiply_adds_equal_those_counted_by_running_it(architecture: Architecture) -> None:
    height, width = 90, 130  # halves are rounded up on the way
    counted = 0

    def count(conv: nn.Conv2d, inputs: tuple, output: torch.Tensor) -> None:
        nonlocal counted
        per_value = conv.in_channels // conv.groups * conv.kernel_size[0] * conv.kernel_size[1]
        counted += output.numel() * per_value

    backbone = Backbone(architecture).eval()
    with torch.no_grad():
        for module in backbone.modules():
            if isinstance(module, nn.Conv2d):
                module.register_forward_hook(count)
        backbone(torch.zeros(1, 3, height, width))
    assert counted == backbone_flops(architecture, height, width)


def test_a_prediction_stands_where_its_anchor_is() -> None:
    """Anchor k of pixel (y, x) of a level is row k + 2 (x + width y) of that level, in heads and priors alike."""
    model = RetinaFace(mobilenet_v2())
    for head in model.heads:
        nn.init.zeros_(head.weight)
        nn.init.zeros_(head.bias)
        head.weight.data[1, 0] = 1.0  # face logit of the first anchor: channel 0
        head.weight.data[16 + 1, 1] = 1.0  # of the second one: channel 1
    maps = [torch.zeros(1, NECK_WIDTH, 64 // stride, 96 // stride) for stride in (8, 16, 32)]
    maps[0][0, 0, 3, 5], maps[1][0, 1, 2, 4] = 7.0, 9.0
    face = model.predict(maps).logits[0, :, 1]
    anchors = priors(64, 96)
    assert anchors[face == 7].tolist() == [[44, 28, 16, 16]]
    assert anchors[face == 9].tolist() == [[72, 40, 128, 128]]


def test_a_skip_connection_only_where_shapes_agree() -> None:
    assert InvertedResidual(12, 12, 3, 6, 1).skip
    assert not InvertedResidual(12, 12, 3, 6, 2).skip
    assert not InvertedResidual(12, 16, 3, 6, 1).skip


def test_random_start_depends_on_the_generator_alone() -> None:
    states = []
    for _ in range(2):
        torch.rand(3)  # the global state must not matter
        model = RetinaFace(largest())
        model.reset_parameters(torch.Generator().manual_seed(3))
        states.append(model.state_dict())
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


def test_predictions_are_float32_whatever_the_precision_within() -> None:
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        predictions = RetinaFace(mobilenet_v2()).eval()(torch.zeros(1, 3, 32, 32))
    assert {part.dtype for part in predictions} == {torch.float32}


def test_blocks_are_those_of_the_architecture() -> None:
    backbone = Backbone(largest())
    for stage, blocks in zip(backbone.stages, largest().stages):
        for layer, block in zip(stage, blocks):
            assert isinstance(block, Block)
            assert layer.depthwise[0].kernel_size == (block.kernel,) * 2
            hidden, inputs = layer.depthwise[0].in_channels, layer.project[0].in_channels
            assert hidden == inputs
            entering = layer.expand[0].in_channels if block.expand != 1 else hidden
            assert hidden == entering * block.expand
