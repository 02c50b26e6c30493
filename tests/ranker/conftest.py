"""A small world whose answer is known: images have hidden traits, and the traits decide which configuration is best."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor

from nni_hyperfd.metafeature.features import ImageFeatures
from nni_hyperfd.ranker.encoders import EncoderShape
from nni_hyperfd.ranker.encodings import encode
from nni_hyperfd.ranker.offline import Experience, OfflineData, RankedList
from nni_hyperfd.ranker.ranker import Ranker
from nni_hyperfd.spaces.space import Space
from nni_hyperfd.spaces.standard import standard_space

TRAITS = 3


@dataclass(frozen=True)
class World:
    """AP(c, d) = 0.7 + 0.1 · tanh(<taste of c, mean traits of d's images>), without noise."""

    space: Space
    offline: OfflineData
    taste: Tensor
    traits: Tensor

    def features(self, center: Tensor, images: int, seed: int) -> ImageFeatures:
        """Images of a new customer, scattered around ``center`` [3]."""
        return _images(center + 0.3 * _normal(seed, images, TRAITS), seed)

    def aps(self, center: Tensor) -> Tensor:
        """AP of all configurations of the space for a customer."""
        return _aps(self.taste, center)

    def trials(self, center: Tensor, positions: list[int]) -> RankedList:
        experience = self.offline.experience[self.space.key]
        return RankedList(
            self.space.key, experience.encodings[torch.tensor(positions)], self.aps(center)[positions]
        )

    def ranker(self, seed: int = 0) -> Ranker:
        return Ranker.build({self.space.key: EncoderShape.of(self.space)}, seed)


def _normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _images(traits: Tensor, seed: int) -> ImageFeatures:
    pooled = traits @ _normal(99, TRAITS, 258) + 0.5 * _normal(seed + 1, len(traits), 258)
    boxes = torch.ones(len(traits), dtype=torch.long)
    return ImageFeatures(pooled.view(-1, 3, 86), pooled.view(-1, 3, 86), boxes)


def _aps(taste: Tensor, center: Tensor) -> Tensor:
    return 0.7 + 0.1 * torch.tanh(taste @ center)


def build_world(datasets: int = 60, images_per_set: int = 12, configurations_per_set: int = 6) -> World:
    space = standard_space("hpo")
    encodings = encode(space, space.enumerate())
    taste = (encodings - encodings.mean(0)) @ _normal(5, encodings.shape[1], TRAITS)
    centers = _normal(6, datasets, TRAITS)
    traits = centers.repeat_interleave(images_per_set, 0) + 0.3 * _normal(
        7, datasets * images_per_set, TRAITS
    )
    members = torch.arange(len(traits)).split(images_per_set)
    rng = np.random.default_rng(8)
    configurations = torch.cat(
        [torch.from_numpy(rng.permutation(len(encodings))[:configurations_per_set]) for _ in members]
    )
    sets = torch.arange(datasets).repeat_interleave(configurations_per_set)
    aps = torch.stack([_aps(taste, traits[m].mean(0)) for m in members])[sets, configurations]
    offline = OfflineData(
        _images(traits, 9), members, {space.key: Experience(encodings, sets, configurations, aps)}
    )
    return World(space, offline, taste, traits)


@pytest.fixture(scope="session")
def world() -> World:
    return build_world()
