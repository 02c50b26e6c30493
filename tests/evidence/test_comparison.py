"""Ranks, expectations and errors against brute force."""

from __future__ import annotations

import itertools
import math
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from nni_hyperfd.errors import DataError
from nni_hyperfd.evidence.comparison import (
    Outcome,
    Scenario,
    best_found,
    expected_at_random,
    expected_rank_at_random,
    markdown,
    mean_and_errors,
    noise,
    normalized_ranks,
    paired_difference,
    run_rival,
    task_order,
)
from nni_hyperfd.evidence.rivals.base import Known, Profile, Rival, Study

# Few distinct values, so that ties are common; NaN is a failed training.
aps = arrays(
    np.float64, st.integers(1, 8), elements=st.sampled_from([0.1, 0.2, 0.2, 0.5, 0.9, math.nan])
).filter(lambda values: not np.isnan(values).all())


@given(aps)
def test_normalized_rank_is_the_mean_position_of_the_tied(values: np.ndarray) -> None:
    ranks = normalized_ranks(values)
    valid = [v for v in values if not math.isnan(v)]
    for value, rank in zip(values, ranks):
        if math.isnan(value):
            assert math.isnan(rank)
            continue
        # Every position that a value of this size may take when the list is sorted.
        positions = [p for p, v in enumerate(sorted(valid, reverse=True), start=1) if v == value]
        assert rank == pytest.approx(100 * np.mean(positions) / len(valid))


def test_normalized_rank_works_column_by_column() -> None:
    table = np.array([[0.1, 0.3], [0.2, 0.3], [np.nan, 0.1]])
    np.testing.assert_allclose(normalized_ranks(table), [[100, 50], [50, 50], [np.nan, 100]])


@given(choose=aps, budget=st.integers(1, 4), data=st.data())
def test_expected_at_random_equals_all_draws(choose: np.ndarray, budget: int, data: st.DataObject) -> None:
    judge = data.draw(arrays(np.float64, len(choose), elements=st.floats(0, 1)))
    valid = np.flatnonzero(~np.isnan(choose))
    results = []
    for draw in itertools.combinations(valid, min(budget, len(valid))):
        top = max(choose[list(draw)])
        results.append(np.mean([judge[i] for i in draw if choose[i] == top]))
    assert expected_at_random(choose, judge, budget) == pytest.approx(np.mean(results), abs=1e-9)


def test_random_search_has_the_rank_the_paper_prints() -> None:
    values = np.random.default_rng(0).random(200)
    assert expected_at_random(values, normalized_ranks(values), 4) == pytest.approx(20.10, abs=1e-6)


def scenario_of(choose: np.ndarray, judge: np.ndarray) -> Scenario:
    k, d = choose.shape
    profile = Profile(np.zeros((3, 2), np.float32), np.arange(3), np.zeros(2))
    experience = Known(
        tuple(f'{{"a":{i}}}' for i in range(k)), k, ("server",), (profile,), np.full((1, k), 0.5)
    )
    return Scenario("tiny", experience, tuple(f"t{i}" for i in range(d)), (profile,) * d, choose, judge)


class InOrder(Rival):
    name: ClassVar[str] = "in-order"

    def reset(self, experience: Known, seed: int) -> None:
        self.seen: list[Study] = []

    def search(self, study: Study) -> None:
        study.evaluate_ranking(range(study.candidates))
        self.seen.append(study)


def test_a_run_chooses_by_one_ap_and_ranks_by_the_other() -> None:
    choose = np.array([[0.5, 0.2], [0.6, 0.2], [0.9, 0.1], [0.1, 0.9]])
    judge = np.array([[0.8, 0.4], [0.3, 0.2], [0.9, 0.9], [0.1, 0.1]])
    outcome = run_rival(InOrder(), scenario_of(choose, judge), budgets=(1, 2), seeds=(0, 1, 2))
    assert outcome.rank.shape == (2, 3, 2)
    # Budget 1: configuration 0 is second on both tasks. Budget 2: task 0 chooses 1, task 1 has a tie of 0 and 1.
    np.testing.assert_allclose(outcome.rank[0], [[50, 50]] * 3)
    np.testing.assert_allclose(outcome.rank[1], [[75, 62.5]] * 3)
    np.testing.assert_allclose(outcome.ap[1], [[0.3, 0.3]] * 3)
    expected = [expected_at_random(choose[:, d], judge[:, d], 2) for d in range(2)]
    np.testing.assert_allclose(outcome.delta_ap()[1], [100 * (0.6 - sum(expected))] * 3)
    assert expected_rank_at_random(scenario_of(choose, judge), 1) == pytest.approx((100 + 75 + 50 + 25) / 4)


def test_failed_trainings_cost_no_budget_and_have_no_rank() -> None:
    choose = np.array([[np.nan], [0.6], [0.7], [0.8]])
    judge = np.array([[0.9], [0.6], [np.nan], [0.8]])
    scenario = scenario_of(choose, judge)
    rival = InOrder()
    outcome = run_rival(rival, scenario, budgets=(2,), seeds=(0,))
    assert [trial.index for trial in rival.seen[0].trials] == [0, 1, 2, 3]
    assert best_found(rival.seen[0]) == [3]
    assert outcome.rank.item() == 50.0
    assert run_rival(InOrder(), scenario, budgets=(9,), seeds=(0,)).rank.item() == 50.0


def test_a_task_without_any_success_is_refused() -> None:
    with pytest.raises(DataError, match="no successful"):
        scenario_of(np.array([[np.nan], [0.5]]), np.array([[0.5], [np.nan]]))
    with pytest.raises(DataError, match="shape"):
        scenario_of(np.zeros((3, 2)), np.zeros((3, 1)))


def test_a_rival_that_leaves_budget_unused_is_caught() -> None:
    class Lazy(InOrder):
        def search(self, study: Study) -> None:
            study.evaluate(0)

    with pytest.raises(DataError, match="unused"):
        run_rival(Lazy(), scenario_of(np.ones((3, 1)), np.ones((3, 1))), budgets=(2,), seeds=(0,))


def test_orders_are_permutations_that_depend_on_the_seed() -> None:
    orders = [task_order(12, seed) for seed in range(20)]
    assert all(sorted(order) == list(range(12)) for order in orders)
    assert len({tuple(order) for order in orders}) == 20
    assert orders[3] == task_order(12, 3)


def test_errors_are_those_of_means_over_seeds_and_over_tasks() -> None:
    values = np.array([[1.0, 3.0, 5.0], [2.0, 6.0, 10.0]])
    mean, seeds, tasks = mean_and_errors(values)
    assert mean == 4.5
    assert seeds == pytest.approx(np.std([3, 6], ddof=1) / math.sqrt(2))
    assert tasks == pytest.approx(np.std([1.5, 4.5, 7.5], ddof=1) / math.sqrt(3))
    outcome = Outcome("a", "s", ("x", "y", "z"), (4,), values[None], values[None] / 100, np.zeros((1, 3)))
    shifted = Outcome("b", "s", ("x", "y", "z"), (4,), values[None] - 2, values[None] / 100, np.zeros((1, 3)))
    assert paired_difference(outcome, shifted, 4) == (2.0, 0.0, 0.0)
    table = markdown([outcome], 4, {"a": (1.67, 13.16)}).splitlines()
    assert table[2] == f"| a | 4.50 | 1.50 | {tasks:.2f} | +13.50 | 4.50 | 13.16 | +1.67 |"
    assert len({line.count("|") for line in table}) == 1


def test_noise_between_two_seeds() -> None:
    rng = np.random.default_rng(1)
    truth = rng.normal(0.7, 0.05, (4000, 2))
    first, second = (truth + rng.normal(0, 0.01, truth.shape) for _ in range(2))
    found = noise(first, second)
    assert found.pairs == 8000
    assert found.deviation == pytest.approx(0.01, rel=0.05)
    assert found.correlation == pytest.approx(1 / (1 + 0.2**2), abs=0.02)
    assert noise(first, first).oracle_rank == pytest.approx(100 / 4000)
    second[1:] = np.nan
    assert math.isnan(noise(first, second).correlation)
    with pytest.raises(DataError, match="both seeds"):
        noise(first, np.full_like(first, np.nan))
