"""What a customer's images say to the platform: φ, the pairs φ, φ̃ of an update, and the gradients that answer them.

There are two ways to say it: exactly, as here, or with noise (``noise``). Whoever sends does not have to know which.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from nni_hyperfd.metafeature.extractor import (
    IMAGES,
    MetaFeatureExtractor,
    backpropagate,
    meta_feature,
    samples,
)
from nni_hyperfd.metafeature.features import ImageFeatures


class View(Protocol):
    """One data set seen through one extractor, whose parameters may move between the calls."""

    def meta_feature(self) -> Tensor:
        """φ ``[64]`` to recommend with and to keep."""

    def pair(self) -> tuple[Tensor, Tensor]:
        """φ and φ̃, ``[64]`` each, from two samples of the images, for one step of an update."""

    def gradient(self, phi: Tensor, phi_tilde: Tensor) -> dict[str, Tensor]:
        """∂L/∂θ_G by parameter name, from ∂L/∂φ and ∂L/∂φ̃ ``[64]`` of the last :meth:`pair`."""


class ExactView:
    """The view without noise; implements :class:`View`.

    Args:
        extractor: G.
        features: Of the data set's images.
        generator: Of the image samples.
        images: Size of one sample.
    """

    def __init__(
        self,
        extractor: MetaFeatureExtractor,
        features: ImageFeatures,
        generator: torch.Generator,
        images: int = IMAGES,
    ) -> None:
        self._extractor, self._features = extractor, features
        self._generator, self._images = generator, images
        self._drawn = samples(extractor, features, generator, images)

    def meta_feature(self) -> Tensor:
        return meta_feature(self._extractor, self._features, self._generator, self._images)

    def pair(self) -> tuple[Tensor, Tensor]:
        # Both are drawn before the gradient is asked for: their graphs are those of this step's θ_G.
        self._pair = next(self._drawn), next(self._drawn)
        return self._pair

    def gradient(self, phi: Tensor, phi_tilde: Tensor) -> dict[str, Tensor]:
        return backpropagate(self._extractor, list(self._pair), [phi, phi_tilde])
