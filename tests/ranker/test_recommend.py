"""Who is tried: the best half by score, the rest from just behind, reproducibly."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nni_hyperfd.errors import PlatformError
from nni_hyperfd.ranker.recommend import evolve, recommend


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_four_of_216() -> None:
    scores = torch.randperm(216, generator=generator(1)).float()
    ranking = scores.argsort(descending=True).tolist()
    chosen = recommend(scores, 4, 0.5, generator()).tolist()
    assert chosen[:2] == ranking[:2]
    assert set(chosen[2:]) <= set(ranking[2 : 2 + math.ceil(0.2 * 216)])
    assert chosen == recommend(scores, 4, 0.5, generator()).tolist()


def test_an_odd_budget_gives_the_larger_half_to_the_best() -> None:
    scores = torch.arange(100.0)
    for budget, best in [(1, 1), (3, 2), (5, 3), (10, 5)]:
        assert recommend(scores, budget, 0.5, generator()).tolist()[:best] == list(range(99, 99 - best, -1))


def test_exploration_is_uniform_over_the_next_best_and_only_those() -> None:
    draw = generator()
    counts = torch.zeros(50)
    for _ in range(4000):
        counts[recommend(-torch.arange(50.0), 4, 0.5, draw)] += 1
    assert counts[:2].tolist() == [4000, 4000]
    # 20 % of 50 are 10 places, from which 2 are drawn: 800 each, deviation about 25.
    assert ((counts[2:12] - 800).abs() < 130).all()
    assert not counts[12:].any()


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.integers(-3, 3), min_size=1, max_size=30),
    st.integers(1, 40),
    st.floats(0, 0.99),
    st.integers(0, 99),
)
def test_always_distinct_and_as_many_as_there_are(
    scores: list[int], budget: int, exploration: float, seed: int
) -> None:
    tensor = torch.tensor(scores, dtype=torch.float)
    chosen = recommend(tensor, budget, exploration, generator(seed)).tolist()
    assert len(chosen) == len(set(chosen)) == min(budget, len(scores))
    assert scores[chosen[0]] == max(scores)


def test_extremes() -> None:
    scores = torch.tensor([0.1, 0.9, 0.5, 0.7])
    assert recommend(scores, 3, 0.0, generator()).tolist() == [1, 3, 2]
    assert recommend(scores, 9, 0.5, generator()).tolist()[:2] == [1, 3]
    with pytest.raises(PlatformError, match="no configuration to recommend"):
        recommend(torch.zeros(0), 4, 0.5, generator())
    with pytest.raises(PlatformError, match="Budget 0"):
        recommend(scores, 0, 0.5, generator())


def test_evolution_climbs_beyond_the_sample() -> None:
    """Integers, the larger the better, each with its two neighbors: ten generations climb ten steps."""
    scored: list[int] = []

    def score(points: list[int]) -> torch.Tensor:
        scored.extend(points)
        return torch.tensor([float(point) for point in points])

    found, scores = evolve([3, 1, 3], score, lambda point: [point - 1, point + 1], generations=10, parents=2)
    assert max(found) == 13
    assert scores.tolist() == [float(point) for point in found]
    assert len(scored) == len(set(scored)) == len(found)


def test_evolution_ends_where_nothing_new_is_found() -> None:
    found, _ = evolve([0], lambda points: torch.zeros(len(points)), lambda _: [0], generations=10**9)
    assert found == [0]
