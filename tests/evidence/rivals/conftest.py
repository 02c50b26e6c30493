"""A lookup table drawn from a latent factor model: what the rivals are tried on without any training."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
import torch

from nni_hyperfd.evidence.comparison import Scenario
from nni_hyperfd.evidence.rivals.base import Known, Profile, one_hot_rows
from nni_hyperfd.evidence.table import canonical
from nni_hyperfd.metafeature.features import ImageFeatures

GRID = {
    "optimizer": ["sgd", "adam"],
    "lr": [3e-4, 1e-3, 3e-3],
    "crop": [0.3, 0.55],
    "iou": [0.4, 0.5, 0.6],
    "locw": [2, 4, 8],
    "negp": [2, 7],
}


def make_scenario(
    seed: int = 0,
    tasks: int = 6,
    offline: int = 60,
    per_set: int = 10,
    common: float = 1.0,
    own: float = 1.0,
    noise: float = 0.5,
    grid: dict[str, list[object]] | None = None,
) -> Scenario:
    """AP = base + scale (common · g(c) + own · z_d · V x_c + noise · ε); images and statistics of a set show z_d."""
    grid = grid or GRID
    rng = np.random.default_rng(seed)
    configurations = tuple(canonical(dict(zip(grid, values))) for values in itertools.product(*grid.values()))
    x = one_hot_rows(configurations)
    pairs = np.stack([x[:, i] * x[:, j] for i, j in itertools.combinations(range(x.shape[1]), 2)], 1)
    x = np.concatenate([x, 0.5 * pairs], axis=1)
    g = x @ rng.normal(size=x.shape[1])
    v = x @ rng.normal(size=(x.shape[1], 3))
    g, v = (g - g.mean()) / g.std(), (v - v.mean(0)) / v.std(0)

    sets = offline + 1 + tasks
    z = rng.normal(size=(sets, 3)) / np.sqrt(3)
    z[offline] = 0.0
    clean = common * g + own * z @ v.T
    truth = [clean + noise * rng.normal(size=clean.shape) for _ in range(2)]
    base, scale = rng.uniform(0.4, 0.8, sets)[:, None], rng.uniform(0.01, 0.04, sets)[:, None]
    aps = [np.clip(base + scale * each, 0.0, 1.0) for each in truth]

    projection = rng.normal(size=(3, 12))
    sizes = rng.integers(40, 90, sets)
    pool = (np.repeat(z, sizes, axis=0) @ projection + rng.normal(size=(sizes.sum(), 12))).astype(np.float32)
    levels = torch.from_numpy(pool @ rng.normal(size=(12, 258)).astype(np.float32)).view(-1, 3, 86)
    source = ImageFeatures(levels, levels.clone(), torch.ones(len(pool), dtype=torch.long))
    ends = np.cumsum(sizes)
    statistics = np.concatenate([z + 0.3 * rng.normal(size=z.shape), np.log(sizes)[:, None]], axis=1)
    profiles = tuple(
        Profile(pool, np.arange(end - size, end), row, source)
        for end, size, row in zip(ends, sizes, statistics)
    )
    known = aps[0][: offline + 1].copy()
    for row in known[:offline]:
        row[rng.permutation(len(row))[per_set:]] = np.nan
    experience = Known(
        configurations,
        len(configurations),
        (*(f"offline{i}" for i in range(offline)), "server"),
        profiles[: offline + 1],
        known,
        server=offline,
    )
    customers = slice(offline + 1, None)
    names = tuple(f"customer{i}" for i in range(tasks))
    return Scenario(
        "synthetic", experience, names, profiles[customers], aps[0][customers].T, aps[1][customers].T
    )


@pytest.fixture(scope="session")
def scenario_of() -> Callable[..., Scenario]:
    """The factory :func:`make_scenario`."""
    return make_scenario


@pytest.fixture(scope="session")
def scenario() -> Scenario:
    """A table where both the common part and the data matter."""
    return make_scenario(tasks=4, offline=40)
