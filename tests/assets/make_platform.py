"""Wrote the state files beside it, each once and with the package of its time; kept to show what is in them.

    PYTHONPATH=<checkout of that release> python tests/assets/make_platform.py FILE [own]

``platform_v1.sqlite``: the first release (commit c2d2319). ``platform_v2.sqlite`` and, with ``own``, ``own_space_v2.sqlite``: the second
layout of the tables (commit 5c46245); in the latter the experiments are of a customer's own space, whose encoder then lay in the ranker.

A state of the next release is made the same way and laid beside it before the tables change again.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from nni_hyperfd.customer.client import TaskClient
from nni_hyperfd.metafeature.extractor import image_inputs
from nni_hyperfd.metafeature.features import CHANNELS, LEVELS, ImageFeatures
from nni_hyperfd.platform.platform import Platform
from nni_hyperfd.ranker.encoders import EncoderShape
from nni_hyperfd.ranker.encodings import encode
from nni_hyperfd.ranker.offline import Experience, OfflineData
from nni_hyperfd.ranker.ranker import Ranker
from nni_hyperfd.ranker.settings import RankerSettings
from nni_hyperfd.spaces.standard import standard_search_space, standard_space

BASE_ID = "base0"


def features(images: int, seed: int) -> ImageFeatures:
    generator = torch.Generator().manual_seed(seed)
    shape = (images, LEVELS, CHANNELS)
    return ImageFeatures(
        gwap=torch.randn(shape, generator=generator).half(),
        mean=torch.zeros(shape).half(),
        boxes=torch.randint(1, 9, (images,), generator=generator),
    )


OWN = {
    "width": {"_type": "quniform", "_value": [8, 64, 8]},
    "act": {"_type": "choice", "_value": ["relu", "silu"]},
}


def main(target: Path, searched: dict[str, Any]) -> None:
    torch.set_num_threads(1)
    space = standard_space("hpo")
    tried = space.enumerate()[::20]
    generator = torch.Generator().manual_seed(0)
    # As few parameters as the extractor can have; one task finished, one still open with two acknowledged results.
    offline = OfflineData(
        features(20, seed=1),
        [torch.randperm(20, generator=generator)[:5] for _ in range(10)],
        {
            space.key: Experience(
                encode(space, tried),
                torch.arange(10).repeat_interleave(4),
                torch.cat([torch.randperm(len(tried), generator=generator)[:4] for _ in range(10)]),
                torch.rand(40, generator=generator),
            )
        },
    )
    ranker = Ranker.build({space.key: EncoderShape.of(space)}, seed=0, variant="no_attention")
    ranker.extractor.set_normalization(image_inputs(offline.features), offline.statistics)
    settings = RankerSettings(batches=4, images=4)
    with tempfile.TemporaryDirectory() as folder:
        platform = Platform.create(folder, ranker.eval(), offline, BASE_ID, settings)
        client = TaskClient(platform, features(12, seed=2), BASE_ID)
        for name, aps in (("finished", (0.61, 0.72, None)), ("open", (0.55, 0.48))):
            task = client.open(name, searched)
            for entry, ap in zip(client.recommend(task, len(aps)).configurations, aps):
                client.record(task, entry.parameters, ap, budget="smoke")
            if name == "finished":
                client.update(task)
        platform.close()  # the last connection folds the write-ahead log into the file
        shutil.copy(Path(folder) / "platform.sqlite", target)


if __name__ == "__main__":
    main(Path(sys.argv[1]), OWN if "own" in sys.argv[2:] else standard_search_space("hpo"))
