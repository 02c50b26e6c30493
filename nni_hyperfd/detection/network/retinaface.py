"""RetinaFace (Deng et al., 2020): feature pyramid, SSH context modules and heads on any backbone of the space."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nni_hyperfd.detection.network.backbone import Backbone, ConvNorm
from nni_hyperfd.spaces.architecture import Architecture

NECK_WIDTH = 80
"""Channels of the feature pyramid and of the context modules (HyperFD supplement B.1)."""

ANCHORS_PER_PIXEL = 2
LANDMARKS = 5
PIXEL_MEAN, PIXEL_SCALE = 127.5, 64.0


class Predictions(NamedTuple):
    """Outputs per anchor, in the order of :func:`nni_hyperfd.detection.anchors.priors`."""

    logits: Tensor
    """``[B, A, 2]``: background, face."""
    boxes: Tensor
    """``[B, A, 4]``: encoded offsets."""
    landmarks: Tensor
    """``[B, A, 10]``: encoded points."""


class FeaturePyramid(nn.Module):
    """Top-down merging of three maps (Lin et al., 2017).

    Shapes: ``[B, C, H / s, W / s] -> [B, 80, H / s, W / s]`` at strides s of 8, 16 and 32, where C is that level's of ``channels``.
    """

    def __init__(self, channels: tuple[int, ...]) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(ConvNorm(width, NECK_WIDTH, 1) for width in channels)
        self.merge = nn.ModuleList(ConvNorm(NECK_WIDTH, NECK_WIDTH, 3) for _ in channels[:-1])

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        maps = [lateral(x) for lateral, x in zip(self.lateral, maps)]
        for level in (1, 0):
            above = F.interpolate(maps[level + 1], size=maps[level].shape[-2:], mode="nearest")
            maps[level] = self.merge[level](maps[level] + above)
        return maps


class Context(nn.Module):
    """SSH context module (Najibi et al., 2017): 3×3, 5×5 and 7×7 views as stacked 3×3 convolutions.

    Shapes: ``[B, width, H, W] -> [B, width, H, W]``.
    """

    def __init__(self, width: int = NECK_WIDTH) -> None:
        super().__init__()
        half, quarter = width // 2, width // 4
        self.near = ConvNorm(width, half, 3, linear=True)
        self.reduce = ConvNorm(width, quarter, 3)
        self.middle = ConvNorm(quarter, quarter, 3, linear=True)
        self.far = nn.Sequential(ConvNorm(quarter, quarter, 3), ConvNorm(quarter, quarter, 3, linear=True))
        self.activation = nn.LeakyReLU(0.1, inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        reduced = self.reduce(x)
        views = [self.near(x), self.middle(reduced), self.far(reduced)]
        for view in views:
            if view.requires_grad:
                # The gradients of a concatenation are slices, on which batch normalization is several times slower.
                view.register_hook(torch.clone)
        return self.activation(torch.cat(views, dim=1))


class RetinaFace(nn.Module):
    """Face detector with two anchors a pixel on strides 8, 16 and 32.

    Shapes: images ``[B, 3, H, W]``, RGB, 0..255, uint8 or float, H and W multiples of 32.
    """

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        self.backbone = Backbone(architecture)
        self.pyramid = FeaturePyramid(self.backbone.channels)
        self.contexts = nn.ModuleList(Context() for _ in self.backbone.channels)
        outputs = ANCHORS_PER_PIXEL * (2 + 4 + 2 * LANDMARKS)
        self.heads = nn.ModuleList(nn.Conv2d(NECK_WIDTH, outputs, 1) for _ in self.backbone.channels)

    def reset_parameters(self, generator: torch.Generator) -> None:
        """Random start: He initialization for convolutions, small weights and a low face prior for the heads."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                fan_out = module.out_channels * module.kernel_size[0] * module.kernel_size[1] // module.groups
                nn.init.normal_(module.weight, 0.0, (2.0 / fan_out) ** 0.5, generator=generator)
            elif isinstance(module, nn.BatchNorm2d):
                module.reset_parameters()
        for head in self.heads:
            assert isinstance(head, nn.Conv2d)
            assert head.bias is not None
            nn.init.normal_(head.weight, 0.0, 0.01, generator=generator)
            nn.init.zeros_(head.bias)

    def context(self, images: Tensor) -> list[Tensor]:
        """Outputs of the context modules for images ``[B, 3, H, W]``, three maps ``[B, 80, H / s, W / s]``: the anchor-level features of G."""
        return [
            module(x)
            for module, x in zip(self.contexts, self.pyramid(self.backbone(self.normalized(images))))
        ]

    def normalized(self, images: Tensor) -> Tensor:
        """What the stem takes, ``[B, 3, H, W]`` float32 around 0."""
        x = images.to(torch.float32, memory_format=torch.channels_last, copy=True)
        return x.sub_(PIXEL_MEAN).div_(PIXEL_SCALE)

    def predict(self, maps: list[Tensor]) -> Predictions:
        """Heads on context maps, which are as :meth:`context` gives them."""
        rows = [
            head(x).permute(0, 2, 3, 1).flatten(1).unflatten(1, (-1, 16)) for head, x in zip(self.heads, maps)
        ]
        return Predictions(*torch.cat(rows, dim=1).float().split([2, 4, 10], dim=-1))

    def forward(self, images: Tensor) -> Predictions:
        return self.predict(self.context(images))
