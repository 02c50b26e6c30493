"""Inverted-residual backbone for MobileNetV2 and every architecture of the ProxylessNAS-like space."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from nni_hyperfd.detection.network.depthwise import Depthwise
from nni_hyperfd.spaces.architecture import STAGES, STEM_WIDTH, Architecture

NEGATIVE_SLOPE = 0.1
"""Slope of LeakyReLU below zero (the value of the public RetinaFace)."""

FEATURE_STAGES = (3, 5, 7)
"""Stages (counted from 1) whose outputs, at strides 8, 16 and 32, feed the detector (HyperFD supplement B.3)."""


class ConvNorm(nn.Sequential):
    """Convolution without bias, batch normalization and, unless ``linear``, LeakyReLU; 'same' padding.

    Shapes: ``[B, inputs, H, W] -> [B, outputs, ceil(H / stride), ceil(W / stride)]``.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        stride: int = 1,
        depthwise: bool = False,
        linear: bool = False,
    ) -> None:
        if depthwise:
            conv: nn.Conv2d = Depthwise(inputs, kernel, stride)
        else:
            conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
        layers: list[nn.Module] = [conv, nn.BatchNorm2d(outputs)]
        if not linear:
            layers.append(nn.LeakyReLU(NEGATIVE_SLOPE, inplace=True))
        super().__init__(*layers)

    @property
    def conv(self) -> nn.Conv2d:
        """The convolution."""
        return cast(nn.Conv2d, self[0])

    @property
    def norm(self) -> nn.BatchNorm2d:
        """The batch normalization."""
        return cast(nn.BatchNorm2d, self[1])


class InvertedResidual(nn.Module):
    """Expand 1×1, depthwise k×k, project 1×1; a skip connection where shapes agree (MobileNetV2, figure 3).

    Shapes: ``[B, inputs, H, W] -> [B, outputs, ceil(H / stride), ceil(W / stride)]``.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, expand: int, stride: int) -> None:
        super().__init__()
        hidden = inputs * expand
        self.expand = ConvNorm(inputs, hidden, 1) if expand != 1 else nn.Identity()
        self.depthwise = ConvNorm(hidden, hidden, kernel, stride, depthwise=True)
        self.project = ConvNorm(hidden, outputs, 1, linear=True)
        self.skip = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        out = self.project(self.depthwise(self.expand(x)))
        return x + out if self.skip else out


class Backbone(nn.Module):
    """Stem and seven stages of ``architecture``.

    Shapes: ``[B, 3, H, W] -> three maps [B, channels[k], H / stride, W / stride]`` at strides 8, 16, 32.
    """

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.stem = ConvNorm(3, STEM_WIDTH, 3, stride=2)
        self.stages = nn.ModuleList()
        width = STEM_WIDTH
        for stage, blocks in zip(STAGES, architecture.stages):
            layers = []
            for position, block in enumerate(blocks):
                stride = stage.stride if position == 0 else 1
                layers.append(InvertedResidual(width, stage.width, block.kernel, block.expand, stride))
                width = stage.width
            self.stages.append(nn.ModuleList(layers))
        self.channels = tuple(STAGES[number - 1].width for number in FEATURE_STAGES)

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.stem(x)
        maps = []
        for number, stage in enumerate(self.stages, start=1):
            for block in cast(nn.ModuleList, stage):
                x = block(x)
            if number in FEATURE_STAGES:
                maps.append(x)
        return maps
