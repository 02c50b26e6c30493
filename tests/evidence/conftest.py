"""A small made-up table with learning curves, and what belongs to it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from nni_hyperfd.evidence.job import TableJob
from nni_hyperfd.evidence.offline_sets import OfflineReport, OfflineSet, OfflineSets, _digest
from nni_hyperfd.evidence.table import LookupTable, Row
from nni_hyperfd.metafeature.features import CHANNELS, LEVELS, ImageFeatures

CUSTOMERS = ("cats", "masks", "video")


def features(images: int, seed: int) -> ImageFeatures:
    generator = torch.Generator().manual_seed(seed)
    gwap, mean = torch.randn(2, images, LEVELS, CHANNELS, generator=generator)
    return ImageFeatures(gwap, mean, torch.randint(1, 5, (images,), generator=generator))


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three customers, 24 configurations, eight offline sets; ten pairs of each customer with a second seed."""
    pytest.importorskip("matplotlib")
    folder = tmp_path_factory.mktemp("inputs")
    (folder / "features").mkdir()
    for seed, name in enumerate((*CUSTOMERS, "server")):
        features(60 if name == "server" else 30, seed).save(folder / "features" / f"{name}.safetensors")
    parts = [tuple(range(5 * i, 5 * i + 20)) for i in range(8)]
    sets = tuple(OfflineSet(f"labels.c{i}-{_digest(part)}", part) for i, part in enumerate(parts))
    OfflineSets(sets, OfflineReport(8, {}, 8, {}, {}, [], [], [], {})).save(folder / "offline_sets.json")
    (folder / "server_train.json").write_text(json.dumps({"plain": list(range(60)), "degraded": []}))
    paths = tuple(Path(name) for name in CUSTOMERS)
    plan = TableJob("hpo", paths, (Path("s"),), configurations=24).plan()
    plan += TableJob(
        "hpo", (), (Path("s"),), folder / "offline_sets.json", pairs=32, per_set=4, configurations=24
    ).plan()
    plan += [pair._replace(seed=1) for name in CUSTOMERS for pair in plan if pair.data_set == name][::2]
    rng = np.random.default_rng(0)
    quality = {pair.configuration: 0.5 + 0.1 * rng.normal() for pair in plan}
    rows = []
    for pair in plan:
        aps = [float(np.clip(quality[pair.configuration] + 0.01 * rng.normal(), 0, 1)) for _ in range(3)]
        curve = ((1 / 3, 0.5 * aps[0]), (2 / 3, 0.8 * aps[0]), (1.0, aps[0]))
        rows.append(Row(*pair, *aps, 1.0, "cpu", "made-up", curve=curve))
    LookupTable(rows).save(folder / "made_up.csv.gz")
    return folder
