"""A small but complete platform: random images of a server, experience in the hyper-parameter space, a fresh ranker."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from nni_hyperfd.metafeature.extractor import image_inputs
from nni_hyperfd.metafeature.features import CHANNELS, LEVELS, ImageFeatures
from nni_hyperfd.platform.platform import Platform
from nni_hyperfd.ranker.encoders import EncoderShape
from nni_hyperfd.ranker.encodings import encode
from nni_hyperfd.ranker.offline import Experience, OfflineData
from nni_hyperfd.ranker.ranker import Ranker
from nni_hyperfd.ranker.settings import RankerSettings
from nni_hyperfd.spaces.space import standard_space

BASE_ID = "base0"
SMALL = RankerSettings(batches=8, images=6)


def draw_features(count: int, seed: int) -> ImageFeatures:
    """Image-level features as a random detector might give them."""
    generator = torch.Generator().manual_seed(seed)
    center = torch.randn(LEVELS, CHANNELS, generator=generator)
    shape = (count, LEVELS, CHANNELS)
    return ImageFeatures(
        gwap=center + torch.randn(shape, generator=generator),
        mean=center + torch.randn(shape, generator=generator),
        boxes=torch.randint(0, 9, (count,), generator=generator),
    )


@pytest.fixture(scope="session")
def offline() -> OfflineData:
    """12 data sets of a server's 60 images, six results on each."""
    space = standard_space("hpo")
    tried = space.sample(20, np.random.default_rng(0))
    generator = torch.Generator().manual_seed(0)
    members = [torch.randperm(60, generator=generator)[: 5 + s] for s in range(12)]
    experience = Experience(
        encode(space, tried),
        torch.arange(12).repeat_interleave(6),
        torch.cat([torch.randperm(20, generator=generator)[:6] for _ in range(12)]),
        torch.rand(72, generator=generator),
    )
    return OfflineData(draw_features(60, seed=1), members, {space.key: experience})


@pytest.fixture(scope="session")
def first_ranker(offline: OfflineData) -> Ranker:
    """Version 0, not warmed up."""
    space = standard_space("hpo")
    ranker = Ranker.build({space.key: EncoderShape.of(space)}, seed=0)
    ranker.extractor.set_normalization(image_inputs(offline.features), offline.statistics)
    return ranker.eval()


Opener = Callable[..., Platform]


@pytest.fixture
def open_platform(tmp_path: Path, first_ranker: Ranker, offline: OfflineData) -> Iterator[Opener]:
    """Opens the small platform in the test's folder, as often as wanted; every one is closed at the end."""
    opened: list[Platform] = []

    def opener(folder: Path | None = None, lease_seconds: float = 60.0) -> Platform:
        platform = Platform.create(
            folder or tmp_path / "platform", first_ranker, offline, BASE_ID, SMALL, lease_seconds
        )
        opened.append(platform)
        return platform

    yield opener
    for platform in opened:
        platform.close()


@pytest.fixture
def platform(open_platform: Opener) -> Platform:
    """The small platform."""
    return open_platform()


@pytest.fixture
def features() -> ImageFeatures:
    """A customer's data: 15 images."""
    return draw_features(15, seed=2)
