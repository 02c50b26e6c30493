"""The variant: what the ranker adds is weighed on lists it has not seen, and customers' common taste is learned apart."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from nni_hyperfd.benchmark.protocol import Scenario, run
from nni_hyperfd.rivals.base import Experience, FloatArray, Profile, Task
from nni_hyperfd.rivals.completion import _OFFSET_VARIANCE, Completion, observe
from nni_hyperfd.rivals.gp_prior import GPPrior
from nni_hyperfd.rivals.hyperfd_gp import HyperFDGP, Residual
from nni_hyperfd.spaces.space import standard_space

SPACE = standard_space("hpo")


class Said:
    """Stands where a warmed-up ranker is: its scores are given."""

    def __init__(self, scores: dict[int, FloatArray], held_out: tuple[int, ...]) -> None:
        self._scores, self.held_out = scores, held_out

    def reset(self, experience: Experience, seed: int) -> None:
        pass

    def scores(self, profile: Profile) -> FloatArray:
        return self._scores[id(profile)]


@pytest.fixture(scope="module")
def varied(scenario_of: Callable[..., Scenario]) -> Scenario:
    """Offline sets differ, and their tables are nearly free of noise."""
    return scenario_of(tasks=2, offline=24, common=0.5, own=1.5, noise=0.1)


def test_a_ranker_that_knows_gets_a_say_and_one_that_guesses_does_not(varied: Scenario) -> None:
    experience = varied.experience
    held_out = tuple(range(10))
    knows, guesses = {}, {}
    rng = np.random.default_rng(0)
    for profile, row in zip(experience.profiles, experience.aps):
        own = np.nan_to_num((row - np.nanmean(row)) / np.nanstd(row))
        knows[id(profile)], guesses[id(profile)] = 3 * own, rng.normal(size=len(own))
    weights = [Residual([Said(said, held_out)], experience).weight for said in (knows, guesses)]  # type: ignore[list-item]
    assert weights[0] > 0.1
    assert 0 <= weights[1] < 0.5 * weights[0]
    # What it says of everybody alike is no residual.
    same = {key: next(iter(knows.values())) for key in knows}
    assert Residual([Said(same, held_out)], experience).weight == 0  # type: ignore[list-item]


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
    learned = run(HyperFDGP(SPACE, rankers=0), turned, budgets=(4,), seeds=(0,)).rank
    assert learned.mean() < stubborn.mean() - 10


def test_it_sees_only_what_was_paid_for(scenario_of: Callable[..., Scenario]) -> None:
    scenario = scenario_of(tasks=3, offline=12)

    def tried(values: np.ndarray) -> list[list[int]]:
        rival = HyperFDGP(SPACE, rankers=0)
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
