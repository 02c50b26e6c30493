"""The variant: rankings that are right are followed, wrong ones are given up, and customers' common taste is learned."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from nni_hyperfd.benchmark.protocol import Scenario, expected_rank_at_random, run
from nni_hyperfd.rivals.base import Experience, FloatArray, Profile, Task
from nni_hyperfd.rivals.completion import _OFFSET_VARIANCE, Completion, observe
from nni_hyperfd.rivals.gp_prior import GPPrior
from nni_hyperfd.rivals.hyperfd_gp import Ensemble, HyperFDEnsemble, HyperFDGP


class Said:
    """Stands where a warmed-up ranker is: its scores are given."""

    def __init__(self, scores: dict[int, FloatArray]) -> None:
        self._scores = scores

    def reset(self, experience: Experience, seed: int) -> None:
        pass

    def scores(self, profile: Profile) -> FloatArray:
        return self._scores[id(profile)]


def ensemble(scenario: Scenario, *scores: FloatArray) -> Ensemble:
    """Rankers that give each task of the scenario these scores ``[K, D]``."""
    width = len(scenario.experience.configurations)

    def said(each: FloatArray) -> Said:
        rows = [np.r_[column, np.zeros(width - len(column))] for column in each.T]
        return Said({id(profile): row for profile, row in zip(scenario.profiles, rows)})

    return Ensemble([said(each) for each in scores])  # type: ignore[list-item]


def silent(scenario: Scenario) -> Ensemble:
    """One ranker to which all configurations are alike."""
    return ensemble(scenario, np.zeros_like(scenario.choose))


@pytest.fixture(scope="module")
def varied(scenario_of: Callable[..., Scenario]) -> Scenario:
    """Offline sets differ, and their tables are nearly free of noise."""
    return scenario_of(tasks=2, offline=24, common=0.5, own=1.5, noise=0.1)


def test_scores_of_warm_ups_are_averaged_on_one_scale(varied: Scenario) -> None:
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(2, *varied.choose.shape))
    profile, k = varied.profiles[1], varied.experience.candidates
    together = ensemble(varied, first, 100 * second + 7).scores(profile, k)
    other = ensemble(varied, 3 * first - 1, second).scores(profile, k)
    assert together == pytest.approx(other)
    assert together.mean() == pytest.approx(0)
    assert together.std() == pytest.approx(1)
    assert np.corrcoef(together, first[:, 1] + second[:, 1])[0, 1] > 0.99
    assert not silent(varied).scores(profile, k).any()


def test_the_best_by_the_warm_ups_are_tried(varied: Scenario) -> None:
    rival = HyperFDEnsemble(ensemble(varied, varied.choose), "together")
    rival.reset(varied.experience, 0)
    task = Task(varied.profiles[0], 3, varied.choose[:, 0])
    rival.search(task)
    assert [trial.index for trial in task.trials] == np.argsort(-varied.choose[:, 0])[:3].tolist()


def test_a_right_ranking_is_followed_and_a_wrong_one_given_up(
    scenario_of: Callable[..., Scenario],
) -> None:
    scenario = scenario_of(tasks=8, offline=12)
    random = expected_rank_at_random(scenario, 6)

    def rank(scores: FloatArray) -> float:
        rival = HyperFDGP(ensemble(scenario, scores))
        return float(run(rival, scenario, budgets=(6,), seeds=(0, 1)).rank.mean())

    right, wrong = rank(scenario.judge), rank(-scenario.judge)
    greedy = run(
        HyperFDEnsemble(ensemble(scenario, -scenario.judge), "wrong"), scenario, budgets=(6,), seeds=(0,)
    )
    assert right < 0.5 * random
    assert wrong < greedy.rank.mean() - 30


def test_the_likelihood_is_that_of_a_normal_distribution(varied: Scenario) -> None:
    belief = Completion.of(varied.experience)
    task = Task(varied.profiles[0], 4, varied.choose[:, 0])
    assert belief.log_likelihood(task) == 0
    task.evaluate_ranking([3, 50, 120, 7])
    row = np.full(varied.experience.candidates, np.nan)
    for trial in task.trials:
        row[trial.index] = trial.ap
    seen = observe(row, belief.spread)
    at = np.ix_(seen.indices, seen.indices)
    covariance = belief.covariance[at] + belief.own[at] + _OFFSET_VARIANCE + belief.noise * np.eye(4)
    expected = multivariate_normal(belief.mean[seen.indices], covariance).logpdf(seen.values)
    assert belief.log_likelihood(task) == pytest.approx(expected + 2 * np.log(2 * np.pi))


def test_what_customers_have_in_common_is_learned(scenario_of: Callable[..., Scenario]) -> None:
    """All customers like the opposite of what the offline sets like, though few of its trials can tell."""
    scenario = scenario_of(tasks=6, offline=20, common=1.0, own=0.2, noise=0.2)
    opposite = 1.0 - scenario.choose
    turned = replace(scenario, choose=opposite, judge=opposite)
    stubborn = run(GPPrior(), turned, budgets=(4,), seeds=(0,)).rank
    learned = run(HyperFDGP(silent(turned)), turned, budgets=(4,), seeds=(0,)).rank
    assert learned.mean() < stubborn.mean() - 10


def test_it_sees_only_what_was_paid_for(scenario_of: Callable[..., Scenario]) -> None:
    scenario = scenario_of(tasks=3, offline=12)

    def tried(values: np.ndarray) -> list[list[int]]:
        rival = HyperFDGP(silent(scenario))
        rival.reset(scenario.experience, 0)
        tasks = [Task(profile, 4, column) for profile, column in zip(scenario.profiles, values.T)]
        for task in tasks:
            rival.search(task)
        return [[trial.index for trial in task.trials] for task in tasks]

    first = tried(scenario.choose)
    unseen = np.random.default_rng(1).random(scenario.choose.shape)
    for d, indices in enumerate(first):
        unseen[indices, d] = scenario.choose[indices, d]
    assert tried(unseen) == first
    # A failed training gives its place to another one, and a run begins anew after reset.
    failed = scenario.choose.copy()
    failed[first[0][0], 0] = np.nan
    assert len(tried(failed)[0]) == 5
    assert tried(scenario.choose) == first
