"""G: the trainable part of the meta-feature extractor, image-level features -> 64-vector (HyperFD §3.2.1, METHOD §4).

Steps 1 and 2 of the method (anchors, images) are frozen and live in ``features``; this is step 3 and its ablations.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from nni_hyperfd.errors import DataError
from nni_hyperfd.metafeature.features import (
    CHANNELS,
    CONTEXT_CHANNELS,
    FROZEN_CHANNELS,
    LEVELS,
    ImageFeatures,
)

WIDTH = 64
"""Length of a meta-feature and of a configuration embedding (Table 12)."""

IMAGES = 32
"""Images of one sample of a data set. The paper does not say how many; a mask of a few dozen covers our smallest sets."""

STATISTICS = 2
"""log(number of images) and log(1 + number of boxes)."""

HEADS = 4
FEED_FORWARD = 128
FARTHEST = 5.0
"""Standardized inputs are cut at this many standard deviations of the server's data."""

Variant = Literal[
    "full",
    "resnet",
    "mobilenet",
    "statistics",
    "no_labels",
    "no_gwap",
    "last_level",
    "no_statistics",
    "no_attention",
]
"""The extractor itself and the ablations of Tables 1 and 5."""

VARIANTS: tuple[Variant, ...] = get_args(Variant)

_INPUT_WIDTH: dict[Variant, int] = {
    "full": LEVELS * CHANNELS,
    "resnet": FROZEN_CHANNELS["resnet"],
    "mobilenet": FROZEN_CHANNELS["mobilenet"],
    "statistics": 0,
    "no_labels": LEVELS * CONTEXT_CHANNELS,
    "no_gwap": LEVELS * CHANNELS,
    "last_level": CHANNELS,
    "no_statistics": LEVELS * CHANNELS,
    "no_attention": LEVELS * CHANNELS,
}


def image_inputs(features: ImageFeatures, variant: Variant = "full") -> Tensor:
    """The columns of ``features`` that ``variant`` looks at: ``[n, F]`` float32 (F = 0 for ``"statistics"``).

    Raises:
        DataError: Features of a frozen network are asked for and were not computed.
    """
    if variant in FROZEN_CHANNELS:
        frozen: Tensor | None = getattr(features, variant)
        if frozen is None:
            raise DataError(
                f"The {variant} variant of the extractor needs {variant} features; profile the data with them."
            )
        return frozen.float()
    if variant == "statistics":
        return features.gwap.new_zeros(len(features), 0, dtype=torch.float32)
    pooled = features.mean if variant == "no_gwap" else features.gwap
    if variant == "no_labels":
        pooled = pooled[:, :, :CONTEXT_CHANNELS]
    if variant == "last_level":
        pooled = pooled[:, -1:]
    return pooled.flatten(1).float()


def dataset_statistics(boxes: Tensor) -> Tensor:
    """Faces in each image ``[n]`` -> ``[2]``: log(number of images), log(1 + number of boxes).

    The one is added (METHOD §4 has a plain logarithm) so that a data set without any box still has a value.
    """
    return torch.stack([torch.tensor(float(len(boxes))).log(), boxes.sum().float().log1p()])


def sample_indices(count: int, images: int, generator: torch.Generator) -> Tensor:
    """``[images]`` indices below ``count``: without replacement where possible, with replacement from a smaller set."""
    if count >= images:
        return torch.randperm(count, generator=generator)[:images]
    return torch.randint(count, (images,), generator=generator)


def sample_images(inputs: Tensor, images: int, generator: torch.Generator) -> Tensor:
    """A random sample of rows: ``[n, F]`` -> ``[images, F]``, see :func:`sample_indices`."""
    return inputs[sample_indices(inputs.shape[0], images, generator)]


class MetaFeatureExtractor(nn.Module):
    r"""Images of a data set -> meta-feature :math:`\phi \in \mathbb{R}^{64}`.

    A linear map of each image's features (with the data set's statistics appended), one transformer encoder layer over
    the images without positional embedding, and the mean over images. The result does not depend on the images' order.

    Inputs are standardized with a mean and deviation that :meth:`set_normalization` takes once from the server's data;
    they are buffers, so they travel with the parameters and no training changes them. There is no dropout, so that
    a customer who back-propagates a gradient does it through exactly the function that was evaluated.

    Called with images ``[S, n, F]`` and statistics ``[S, 2]``, of S data sets with n sampled images each, it gives ``[S, 64]``;
    F is :attr:`inputs`, see :func:`image_inputs`.

    Args:
        variant: ``"full"`` or one of the ablations in :data:`VARIANTS`.

    Raises:
        DataError: An unknown variant.
    """

    center: Tensor
    scale: Tensor

    def __init__(self, variant: Variant = "full") -> None:
        super().__init__()
        if variant not in VARIANTS:
            raise DataError(f"Extractor variant {variant!r} is unknown; use one of {', '.join(VARIANTS)}.")
        self.variant: Variant = variant
        self.inputs = _INPUT_WIDTH[variant]
        self.statistics = 0 if variant == "no_statistics" else STATISTICS
        self.project = nn.Linear(self.inputs + self.statistics, WIDTH)
        self.attention = (
            None
            if variant == "no_attention"
            else nn.TransformerEncoderLayer(WIDTH, HEADS, FEED_FORWARD, dropout=0.0, batch_first=True)
        )
        self.register_buffer("center", torch.zeros(self.inputs + self.statistics))
        self.register_buffer("scale", torch.ones(self.inputs + self.statistics))

    @torch.no_grad()
    def set_normalization(self, images: Tensor, statistics: Tensor) -> None:
        """Takes the mean and deviation of each input over images ``[n, F]`` and data sets' statistics ``[S, 2]``."""
        columns = [*images.unbind(1), *statistics[:, : self.statistics].unbind(1)]
        self.center.copy_(torch.stack([column.mean() for column in columns]))
        deviation = torch.stack([column.std(correction=0) for column in columns])
        # A column that never varies on the server says nothing there; it keeps its own unit.
        self.scale.copy_(torch.where(deviation > 1e-6, deviation, torch.ones_like(deviation)))

    def forward(self, images: Tensor, statistics: Tensor) -> Tensor:
        return self._aggregate(self._project_images(images), statistics)

    def forward_indexed(self, pool: Tensor, indices: Tensor, statistics: Tensor) -> Tensor:
        """The same for data sets that share images: pool ``[N, F]``, indices ``[S, n]`` into it, statistics ``[S, 2]`` -> ``[S, 64]``.

        Each image of the pool goes through the linear map once, however many data sets it belongs to.
        """
        return self._aggregate(self._project_images(pool)[indices], statistics)

    def _project_images(self, images: Tensor) -> Tensor:
        standard = (images - self.center[: self.inputs]) / self.scale[: self.inputs]
        return functional.linear(standard.clamp(-FARTHEST, FARTHEST), self.project.weight[:, : self.inputs])

    def _aggregate(self, projected: Tensor, statistics: Tensor) -> Tensor:
        statistics = statistics[:, : self.statistics]
        standard = (statistics - self.center[self.inputs :]) / self.scale[self.inputs :]
        shared = functional.linear(
            standard.clamp(-FARTHEST, FARTHEST), self.project.weight[:, self.inputs :], self.project.bias
        )
        tokens = projected + shared[:, None]
        if self.attention is not None:
            tokens = self.attention(tokens)
        return tokens.mean(1)


def samples(
    extractor: MetaFeatureExtractor, features: ImageFeatures, generator: torch.Generator, images: int = IMAGES
) -> Iterator[Tensor]:
    """Endless meta-features ``[64]`` of one data set, each from a fresh sample of its images; gradients flow into G.

    Two of them in a row are the pair φ, φ̃ of the triplet loss.
    """
    inputs = image_inputs(features, extractor.variant)
    statistics = dataset_statistics(features.boxes)[None]
    while True:
        yield extractor(sample_images(inputs, images, generator)[None], statistics)[0]


@torch.no_grad()
def meta_feature(
    extractor: MetaFeatureExtractor,
    features: ImageFeatures,
    generator: torch.Generator,
    images: int = IMAGES,
    repeats: int = 8,
) -> Tensor:
    """φ ``[64]`` to recommend with and to keep: the mean over ``repeats`` samples, which is steadier than a single one."""
    inputs = image_inputs(features, extractor.variant)
    batch = torch.stack([sample_images(inputs, images, generator) for _ in range(repeats)])
    return extractor(batch, dataset_statistics(features.boxes).expand(repeats, -1)).mean(0)


def backpropagate(
    extractor: MetaFeatureExtractor, outputs: list[Tensor], gradients: list[Tensor]
) -> dict[str, Tensor]:
    """The customer's half of an update step: ∂L/∂φ -> ∂L/∂θ_G.

    Args:
        extractor: G, with the parameters that produced ``outputs``.
        outputs: Meta-features ``[64]`` with their graphs, such as φ and φ̃.
        gradients: ∂L/∂output ``[64]`` for each of them, from the platform.

    Returns:
        A gradient for every parameter of G, by its name (zeros where the outputs do not depend on it).
    """
    names, parameters = zip(*extractor.named_parameters())
    found = torch.autograd.grad(outputs, parameters, gradients, allow_unused=True)
    return {
        name: torch.zeros_like(parameter) if gradient is None else gradient
        for name, parameter, gradient in zip(names, parameters, found)
    }
