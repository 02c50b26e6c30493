"""Several trials at a time: each is chosen while others run, and little is lost by that."""

from __future__ import annotations

import numpy as np
import pytest

from nni_hyperfd.recommendation.gaussian.observed import FloatArray, observe
from nni_hyperfd.recommendation.gaussian.search import Finished, GaussianSearch, Sight
from nni_hyperfd.recommendation.gaussian.task_process import TaskProcess

CONFIGURATIONS = np.stack(np.meshgrid(np.arange(5.0), np.arange(4.0), np.arange(3.0)), -1).reshape(-1, 3)
K = len(CONFIGURATIONS)
BUDGET = 6
NOBODY_KNOWS = np.zeros(0)


Worlds = list[tuple[TaskProcess, FloatArray]]


@pytest.fixture(scope="module")
def worlds() -> Worlds:
    found = []
    for seed in range(4):
        offline, customers = drawn_world(seed, 8, 12)
        process = TaskProcess.fit(offline, CONFIGURATIONS, np.zeros((len(offline), 0)))
        found.append((process, customers))
    return found


@pytest.fixture(scope="module")
def ranks_one_at_a_time(worlds: Worlds) -> float:
    return float(np.mean([play(*world, 1) for world in worlds]))


def drawn_world(seed: int, offline: int, customers: int) -> tuple[FloatArray, FloatArray]:
    """``[offline, K]`` and ``[customers, K]`` APs: a taste that all share, one of each set's own, and noise."""
    rng = np.random.default_rng(seed)
    distance = np.abs(CONFIGURATIONS[:, None] - CONFIGURATIONS[None]).sum(-1)
    root = np.linalg.cholesky(np.exp(-0.4 * distance) + 1e-6 * np.eye(K))

    def taste(count: int, scale: float) -> FloatArray:
        return scale * rng.normal(size=(count, K)) @ root.T

    shared = taste(1, 0.03)
    sets = 0.5 + shared + taste(offline + customers, 0.02) + 0.004 * rng.normal(size=(offline + customers, K))
    return sets[:offline], sets[offline:]


def play(process: TaskProcess, customers: FloatArray, at_a_time: int) -> float:
    """Mean normalized rank in % of the best of BUDGET trials, as the tuner plays: whenever one is done, the next is planned."""
    past: list[Finished] = []
    ranks = []
    for row in customers:
        search = GaussianSearch([Sight(process, process.customer(NOBODY_KNOWS, CONFIGURATIONS), past)])
        aps, none = np.full(K, np.nan), np.zeros(K, dtype=bool)
        running: list[int] = []
        for begun in range(BUDGET + at_a_time):
            if begun < BUDGET:
                out = none.copy()
                out[running] = True
                running.append(int(search.plan(aps, out, none).order[0]))
            if len(running) == at_a_time or (begun >= BUDGET and running):
                done = running.pop(0)
                aps[done] = row[done]
        assert (~np.isnan(aps)).sum() == BUDGET
        ranks.append(100 * (row > np.nanmax(aps)).sum() / (K - 1))
        seen = observe(aps, process.spread)
        past.append(Finished(process.customer(NOBODY_KNOWS, CONFIGURATIONS[seen.indices]), seen.values))
        past = past[-6:]
    return float(np.mean(ranks))


@pytest.mark.parametrize("at_a_time", [2, 4])
def test_little_is_lost(at_a_time: int, ranks_one_at_a_time: float, worlds: Worlds) -> None:
    """At most one point of rank, on average over the customers of all worlds."""
    several = float(np.mean([play(*world, at_a_time) for world in worlds]))
    assert several <= ranks_one_at_a_time + 1
