"""A complete platform that is small in everything but its workings, for benchmarks of what lies around the ranker."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from nni_hyperfd.metafeature.extractor import Variant, image_inputs
from nni_hyperfd.metafeature.features import CHANNELS, LEVELS, ImageFeatures
from nni_hyperfd.platform.platform import Platform
from nni_hyperfd.ranker.encoders import EncoderShape
from nni_hyperfd.ranker.encodings import encode
from nni_hyperfd.ranker.guard import GuardSettings
from nni_hyperfd.ranker.offline import Experience, OfflineData
from nni_hyperfd.ranker.ranker import Ranker
from nni_hyperfd.ranker.settings import RankerSettings
from nni_hyperfd.spaces.standard import standard_space

BASE_ID = "base0"
HPO = standard_space("hpo")
QUICK = RankerSettings(batches=3, images=6)
"""An update of a fraction of a second."""
PUBLISH_ALL = GuardSettings(tolerance=float("inf"))
"""A fresh ranker and random results give the guard nothing to judge by."""


def random_features(images: int, seed: int) -> ImageFeatures:
    """Image-level features as a random detector might give them."""
    generator = torch.Generator().manual_seed(seed)
    shape = (images, LEVELS, CHANNELS)
    return ImageFeatures(
        gwap=torch.randn(shape, generator=generator),
        mean=torch.zeros(shape),
        boxes=torch.randint(1, 9, (images,), generator=generator),
    )


def random_offline(datasets: int, images: int) -> OfflineData:
    """Data sets of 20 of a server's images, with six random results each."""
    generator = torch.Generator().manual_seed(0)
    members = [torch.randperm(images, generator=generator)[:20] for _ in range(datasets)]
    tried = HPO.sample(20, np.random.default_rng(0))
    experience = Experience(
        encode(HPO, tried),
        torch.arange(datasets).repeat_interleave(6),
        torch.cat([torch.randperm(20, generator=generator)[:6] for _ in range(datasets)]),
        torch.rand(6 * datasets, generator=generator),
    )
    return OfflineData(random_features(images, seed=1), members, {HPO.key: experience})


def create(folder: Path, offline: OfflineData, variant: Variant = "full") -> None:
    """A platform with a fresh ranker in ``folder``; one that is there is left alone."""
    ranker = Ranker.build({HPO.key: EncoderShape.of(HPO)}, 0, variant)
    ranker.extractor.set_normalization(image_inputs(offline.features, variant), offline.statistics)
    Platform.create(folder, ranker.eval(), offline, BASE_ID).close()
