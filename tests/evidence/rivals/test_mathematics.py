"""The pieces of the rivals against brute force, hand-computed values and first principles."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from nni_hyperfd.evidence.comparison import Scenario
from nni_hyperfd.evidence.rivals import completion
from nni_hyperfd.evidence.rivals.base import Study, one_hot_rows
from nni_hyperfd.evidence.rivals.choices import Choices
from nni_hyperfd.evidence.rivals.completion import Completion
from nni_hyperfd.evidence.rivals.hyperstar import agreement, similarity_loss
from nni_hyperfd.evidence.rivals.portfolio import Portfolio, greedy_portfolio
from nni_hyperfd.evidence.rivals.scot import rank_svm
from nni_hyperfd.evidence.rivals.tr_automl import TrAutoML
from nni_hyperfd.recommendation.gaussian.search import expected_improvement

losses = arrays(
    np.float64,
    st.tuples(st.integers(1, 5), st.integers(4, 7)),
    elements=st.sampled_from(np.linspace(0, 1, 9)),
)


def portfolio_loss(table: np.ndarray, chosen: tuple[int, ...]) -> float:
    return float(table[:, list(chosen)].min(axis=1).mean())


@given(losses)
def test_every_greedy_step_is_the_best_extension_of_the_one_before(table: np.ndarray) -> None:
    chosen = greedy_portfolio(table, 4)
    assert len(set(chosen)) == 4
    for size in range(1, 5):
        extensions = [portfolio_loss(table, (*chosen[: size - 1], k)) for k in range(table.shape[1])]
        assert portfolio_loss(table, tuple(chosen[:size])) == pytest.approx(min(extensions), abs=1e-12)


@given(losses)
def test_greedy_gain_is_within_the_submodular_bound_of_the_exhaustive_optimum(table: np.ndarray) -> None:
    start = table.max(axis=1).mean()
    for size in (1, 2, 3):
        best = min(
            portfolio_loss(table, subset) for subset in itertools.combinations(range(table.shape[1]), size)
        )
        reached = portfolio_loss(table, tuple(greedy_portfolio(table, size)))
        bound = 1.0 - (1.0 - 1.0 / size) ** size
        assert start - reached >= bound * (start - best) - 1e-12


def test_a_portfolio_complements_itself_instead_of_repeating_the_best() -> None:
    # Configurations 0 and 1 are good on the same two sets, 2 only on the third.
    table = np.array([[0.0, 0.1, 0.9, 0.5], [0.0, 0.1, 0.9, 0.5], [0.9, 0.9, 0.0, 0.5]])
    assert greedy_portfolio(table, 2) == [0, 2]
    subsets = itertools.combinations(range(4), 2)
    assert min(subsets, key=lambda s: portfolio_loss(table, s)) == (0, 2)
    assert greedy_portfolio(table, 4) == [0, 2, 1, 3]


def test_the_portfolio_rival_takes_full_rows_as_measured(scenario_of: Callable[..., Scenario]) -> None:
    grid = {"a": [1, 2, 3], "b": ["x", "y", "z"]}
    full = scenario_of(offline=8, per_set=9, tasks=1, grid=grid)
    aps = full.experience.aps
    low, high = aps.min(axis=1, keepdims=True), aps.max(axis=1, keepdims=True)
    expected = greedy_portfolio((high - aps) / (high - low), 3)
    rival = Portfolio()
    rival.reset(full.experience, 0)
    study = Study(full.profiles[0], 3, full.choose[:, 0])
    rival.search(study)
    assert [trial.index for trial in study.trials] == expected


def brute_force(
    fitted: Completion, weights: completion.Shares, scenario: Scenario, aps: np.ndarray
) -> np.ndarray:
    """Posterior mean of g + h_s + o_s at all cells from one large covariance matrix."""
    encodings = scenario.experience.encodings
    shape = completion._shape(completion._differing(encodings), weights)
    seen = [completion.observe(row, fitted.spread) for row in aps]
    cells = [(s, k) for s, each in enumerate(seen) for k in each.indices]
    values = np.concatenate([each.values for each in seen])

    def covariance(left: list[tuple[int, int]], right: list[tuple[int, int]]) -> np.ndarray:
        same = np.array([[a == b for b, _ in right] for a, _ in left])
        between = shape[np.ix_([k for _, k in left], [k for _, k in right])]
        return weights.common * between + same * (weights.own * between + completion._OFFSET_VARIANCE)

    wanted = [(s, k) for s in range(len(aps)) for k in range(scenario.experience.candidates)]
    solved = np.linalg.solve(covariance(cells, cells) + weights.noise * np.eye(len(cells)), values)
    mean = (covariance(wanted, cells) @ solved).reshape(len(aps), -1)
    return mean * [[each.scale] for each in seen] + [[each.center] for each in seen]


def test_completion_is_the_exact_posterior(
    scenario_of: Callable[..., Scenario], monkeypatch: pytest.MonkeyPatch
) -> None:
    small = scenario_of(
        offline=7, per_set=5, tasks=2, grid={"a": [1, 2, 3], "b": ["x", "y", "z"], "c": [0, 1]}
    )
    weights = completion.Shares(0.5, 0.2, 0.3, 0.4, 0.3)
    monkeypatch.setattr(completion, "_best_weights", lambda sets, differing: weights)
    fitted = Completion.fit(small.experience)
    aps = small.experience.aps
    np.testing.assert_allclose(fitted.complete(aps), brute_force(fitted, weights, small, aps), atol=1e-6)

    # A finished task is one more row, and a running one is predicted as that row would be.
    study = Study(small.profiles[0], 3, small.choose[:, 0])
    study.evaluate_ranking([4, 11, 2])
    row = np.full((1, 18), np.nan)
    row[0, [4, 11, 2]] = small.choose[[4, 11, 2], 0]
    more = np.concatenate([aps, row])
    exact = brute_force(fitted, weights, small, more)
    np.testing.assert_allclose(fitted.learn(study).complete(more)[-1], exact[-1], atol=1e-6)
    mean, covariance = fitted.posterior(study)
    seen = completion.observe(row[0], fitted.spread)
    np.testing.assert_allclose(seen.center + seen.scale * mean, exact[-1], atol=1e-6)
    assert np.linalg.eigvalsh(covariance).min() > -1e-8


def test_the_marginal_likelihood_is_that_of_the_full_gaussian(scenario_of: Callable[..., Scenario]) -> None:
    small = scenario_of(offline=4, per_set=4, tasks=1, grid={"a": [1, 2, 3], "b": ["x", "y"]})
    differing = completion._differing(small.experience.encodings)
    sets = [completion.observe(row, 0.02) for row in small.experience.aps]

    def direct(weights: completion.Shares) -> float:
        shape = completion._shape(differing, weights)
        rows = np.concatenate([np.full(len(each.indices), s) for s, each in enumerate(sets)])
        at = np.concatenate([each.indices for each in sets])
        same = rows[:, None] == rows
        total = weights.common * shape[np.ix_(at, at)] + weights.noise * np.eye(len(at))
        total += same * (weights.own * shape[np.ix_(at, at)] + completion._OFFSET_VARIANCE)
        values = np.concatenate([each.values for each in sets])
        return float(-0.5 * values @ np.linalg.solve(total, values) - 0.5 * np.linalg.slogdet(total)[1])

    first, second = completion.Shares(0.5, 0.2, 0.3, 0.4, 0.3), completion.Shares(0.1, 0.5, 0.4, 0.9, 0.5)
    found = completion._likelihood(sets, differing, first) - completion._likelihood(sets, differing, second)
    assert found == pytest.approx(direct(first) - direct(second), abs=1e-5)


def test_completion_recovers_what_was_hidden(scenario_of: Callable[..., Scenario]) -> None:
    table = scenario_of(offline=120, per_set=10, own=0.5, noise=0.3)
    other = scenario_of(offline=120, per_set=216, own=0.5, noise=0.3)
    aps = table.experience.aps
    expected = Completion.of(table.experience).complete(aps)
    hidden = np.isnan(aps[:120])
    correlations = [
        np.corrcoef(expected[s][hidden[s]], other.experience.aps[s][hidden[s]])[0, 1] for s in range(120)
    ]
    assert np.mean(correlations) > 0.7


def test_expected_improvement_is_the_mean_of_the_improvement() -> None:
    draws = np.random.default_rng(0).normal(size=400_000)
    mean, deviation = np.array([0.0, 1.0, -0.5]), np.array([1.0, 0.2, 2.0])
    simulated = np.maximum(mean + deviation * draws[:, None] - 0.4, 0).mean(axis=0)
    np.testing.assert_allclose(expected_improvement(mean, deviation, 0.4), simulated, atol=5e-3)
    np.testing.assert_allclose(
        expected_improvement(np.array([0.7, 0.1]), np.zeros(2), 0.4), [0.3, 0.0], atol=1e-9
    )


def test_rank_svm_is_at_its_minimum_and_orders_what_can_be_ordered() -> None:
    rng = np.random.default_rng(0)
    x, true = rng.normal(size=(60, 5)), rng.normal(size=5)
    better, worse = np.triu_indices(60, 1)
    swap = x[better] @ true < x[worse] @ true
    better, worse = np.where(swap, worse, better), np.where(swap, better, worse)
    differences = x[better] - x[worse]
    weights = rng.uniform(0.5, 2, len(differences))
    solution = rank_svm(differences, weights, np.zeros(5), steps=50)

    def objective(w: np.ndarray) -> float:
        return 0.5 * w @ w + 0.5 * (weights * np.maximum(0, 1 - differences @ w) ** 2).sum()

    for direction in np.eye(5):
        assert objective(solution) <= min(
            objective(solution + 1e-3 * direction), objective(solution - 1e-3 * direction)
        )
    assert (differences @ solution > 0).mean() > 0.97


def test_encoding_counts_the_keys_that_differ() -> None:
    rows = one_hot_rows(['{"d":1,"k":"a"}', '{"d":2,"k":"a","m":"b"}', '{"d":2,"k":"a","m":"c"}'])
    distances = ((rows[:, None] - rows) ** 2).sum(-1) / 2
    np.testing.assert_array_equal(distances, [[0, 2, 2], [2, 0, 1], [2, 1, 0]])
    assert (rows.sum(1) == 3).all()


def test_agreement_is_average_precision_at_k() -> None:
    lists = np.array([[1, 2, 3, 4], [4, 3, 2, 1], [9, 1, 8, 2], [5, 6, 7, 0]])
    found = agreement(lists)
    np.testing.assert_allclose(np.diag(found), 1)
    assert found[0, 1] == 1.0
    # List 2 judged by list 0: hits at positions 2 and 4.
    assert found[0, 2] == pytest.approx((1 / 2 + 2 / 4) / 4)
    # List 0 judged by list 2: hits at positions 1 and 2.
    assert found[2, 0] == pytest.approx((1 / 1 + 2 / 2) / 4)
    assert (found[3, :3] == 0).all()


def test_similarity_loss_wants_the_cosine_to_be_the_agreement() -> None:
    tasks = torch.tensor([[1.0, 0.0], [0.0, 2.0], [3.0, 3.0]])
    half = 2**-0.5
    perfect = torch.tensor([[1.0, 0.0, half], [0.0, 1.0, half], [half, half, 1.0]])
    assert similarity_loss(tasks, perfect).item() == pytest.approx(0, abs=1e-12)
    wrong = perfect.clone()
    wrong[0, 1] = wrong[1, 0] = 0.6
    assert similarity_loss(tasks, wrong).item() == pytest.approx(2 * 0.36 / 6)
    assert similarity_loss(tasks[:1], perfect[:1, :1]).item() == 0


def test_tr_automl_joins_the_group_it_cannot_be_told_from(scenario: Scenario) -> None:
    rival = TrAutoML()
    rival.reset(scenario.experience, 0)
    rng = np.random.default_rng(0)
    small = 0.01
    centers = np.array([[2.0, -2.0, 0.0, 0.0], [-2.0, 2.0, 0.0, 0.0]])
    known = np.repeat(centers, 5, axis=0) + small * rng.normal(size=(10, 4))
    assert rival._group(known, centers[1] + 0.7) == [5, 6, 7, 8, 9]
    assert rival._group(known, np.array([0.0, 0.0, 9.0, -9.0])) == list(range(10))
    assert rival._group(known[:, :1], centers[1, :1]) == list(range(10))


def test_a_suggestion_becomes_the_nearest_untried_candidate(scenario_of: Callable[..., Scenario]) -> None:
    whole = scenario_of(tasks=1)
    kept = [k for k in range(216) if k % 3]
    experience = replace(
        whole.experience,
        configurations=tuple(whole.experience.configurations[k] for k in kept),
        candidates=len(kept),
        aps=whole.experience.aps[:, kept],
    )
    choices = Choices(experience)
    study = Study(whole.profiles[0], 3, whole.choose[kept, 0])
    rng = np.random.default_rng(0)
    wanted = choices.parameters[7]
    assert choices.nearest(wanted, study, rng) == 7
    study.evaluate(7)
    differing = [sum(each[key] != wanted[key] for key in wanted) for each in choices.parameters]
    next_best = {k for k, d in enumerate(differing) if d == 1}
    assert {choices.nearest(wanted, study, rng) for _ in range(60)} == next_best
