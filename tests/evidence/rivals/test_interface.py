"""What every rival owes to the protocol: it sees only what it paid for, and the same seed gives the same search."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pytest
from _pytest.mark import ParameterSet

from nni_hyperfd.errors import DataError
from nni_hyperfd.evidence.comparison import Scenario, expected_rank_at_random, run_rival
from nni_hyperfd.evidence.methods import SIMPLE
from nni_hyperfd.evidence.rivals.base import Rival, Study
from nni_hyperfd.evidence.rivals.best_on_server import BestOnServer
from nni_hyperfd.evidence.rivals.gp_prior import GPPrior
from nni_hyperfd.evidence.rivals.hyperstar import HyperSTAR, HyperSTARSettings
from nni_hyperfd.evidence.rivals.mean_rank import MeanRank
from nni_hyperfd.evidence.rivals.optuna_tpe import OptunaTPE
from nni_hyperfd.evidence.rivals.portfolio import Portfolio
from nni_hyperfd.evidence.rivals.random_search import RandomSearch
from nni_hyperfd.evidence.rivals.scot import SCoT
from nni_hyperfd.evidence.rivals.syne_tune_transfer import SyneTuneBoundingBox, SyneTuneZeroShot
from nni_hyperfd.evidence.rivals.tr_automl import TrAutoML


def quick_hyperstar() -> HyperSTAR:
    return HyperSTAR(HyperSTARSettings(warmup_steps=40, task_steps=2, images=8, batches=2))


NEEDS = {OptunaTPE: "optuna", SyneTuneZeroShot: "syne_tune", SyneTuneBoundingBox: "syne_tune"}


def if_installed(kind: type[Rival]) -> ParameterSet:
    missing = kind in NEEDS and find_spec(NEEDS[kind]) is None
    return pytest.param(kind, marks=pytest.mark.skipif(missing, reason=f"{NEEDS.get(kind)} is not installed"))


every_rival = pytest.mark.parametrize(
    "make", [*map(if_installed, SIMPLE), quick_hyperstar], ids=lambda make: make.__name__
)


@pytest.fixture(scope="module")
def easy(scenario_of: Callable[..., Scenario]) -> Scenario:
    """What is good on one data set is good on all."""
    return scenario_of(common=1.0, own=0.2, noise=0.2)


@pytest.fixture(scope="module")
def hard(scenario_of: Callable[..., Scenario]) -> Scenario:
    """What is good depends on the data alone."""
    return scenario_of(common=0.0, own=1.5, noise=0.2, offline=100, tasks=12)


class Guarded:
    """Stands where a task has its APs and notes every look at them."""

    def __init__(self, values: np.ndarray) -> None:
        self.values = values
        self.looked_at: list[int] = []

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, index: int) -> float:
        self.looked_at.append(index)
        return self.values[index]


def search_all(
    rival: Rival, scenario: Scenario, values: np.ndarray, budget: int, seed: int = 0
) -> list[Study]:
    rival.reset(scenario.experience, seed)
    tasks = [Study(profile, budget, column) for profile, column in zip(scenario.profiles, values.T)]
    for study in tasks:
        rival.search(study)
    return tasks


@every_rival
def test_no_ap_is_seen_that_was_not_paid_for(make: Callable[[], Rival], scenario: Scenario) -> None:
    rival = make()
    rival.reset(scenario.experience, 0)
    tried = []
    for profile, column in zip(scenario.profiles[:3], scenario.choose.T):
        guarded = Guarded(column)
        study = Study(profile, 5, guarded)  # type: ignore[arg-type]
        rival.search(study)
        assert guarded.looked_at == [trial.index for trial in study.trials]
        assert len(set(guarded.looked_at)) == 5
        tried.append(guarded.looked_at)
    # The same again with other values wherever it did not look: it cannot have known, so it does the same.
    other = np.random.default_rng(9).random(scenario.choose.shape)
    for d, indices in enumerate(tried):
        other[indices, d] = scenario.choose[indices, d]
    again = search_all(make(), scenario, other, 5)[:3]
    assert [[trial.index for trial in study.trials] for study in again] == tried


@every_rival
def test_equal_seeds_search_equally_and_reset_forgets(make: Callable[[], Rival], scenario: Scenario) -> None:
    rival = make()
    runs = [run_rival(rival, scenario, budgets=(3,), seeds=(seed,)).rank for seed in (4, 4)]
    np.testing.assert_array_equal(runs[0], runs[1])
    np.testing.assert_array_equal(runs[0], run_rival(make(), scenario, budgets=(3,), seeds=(4,)).rank)


@every_rival
def test_failures_give_their_place_to_the_next(make: Callable[[], Rival], scenario: Scenario) -> None:
    first = search_all(make(), scenario, scenario.choose, 4)[0].trials[0].index
    broken = scenario.choose.copy()
    broken[first] = np.nan
    for study in search_all(make(), scenario, broken, 4):
        assert sum(not math.isnan(trial.ap) for trial in study.trials) == 4
        assert study.left == 0


@every_rival
def test_the_whole_space_can_be_searched(
    make: Callable[[], Rival], scenario_of: Callable[..., Scenario]
) -> None:
    small = scenario_of(tasks=2, offline=12, per_set=4, grid={"a": [1, 2, 3], "b": ["x", "y"]})
    outcome = run_rival(make(), small, budgets=(6, 9), seeds=(0,))
    best = [small.judge[small.choose[:, d].argmax(), d] for d in range(2)]
    np.testing.assert_array_equal(outcome.ap, [[best]] * 2)


@pytest.mark.parametrize(
    "make",
    [BestOnServer, MeanRank, Portfolio, GPPrior, TrAutoML, SCoT, quick_hyperstar],
    ids=lambda m: m.__name__,
)
def test_transfer_helps_where_configurations_are_good_everywhere(
    make: Callable[[], Rival], easy: Scenario
) -> None:
    reached = run_rival(make(), easy, budgets=(4,), seeds=(0,)).rank.mean()
    assert reached < 0.7 * expected_rank_at_random(easy, 4)


def short_hyperstar() -> HyperSTAR:
    return HyperSTAR(HyperSTARSettings(warmup_steps=150, task_steps=2, images=8, batches=4))


@pytest.mark.parametrize("make", [SCoT, short_hyperstar], ids=lambda m: m.__name__)
def test_looking_at_the_data_helps_where_nothing_else_does(make: Callable[[], Rival], hard: Scenario) -> None:
    aware = run_rival(make(), hard, budgets=(2,), seeds=(0,)).rank.mean()
    assert aware < 0.7 * expected_rank_at_random(hard, 2)
    assert aware < run_rival(MeanRank(), hard, budgets=(2,), seeds=(0,)).rank.mean()


def test_random_search_meets_its_expectation(scenario: Scenario) -> None:
    ranks = run_rival(RandomSearch(), scenario, budgets=(4,), seeds=range(300)).rank
    error = ranks.std() / math.sqrt(ranks.size)
    assert abs(ranks.mean() - expected_rank_at_random(scenario, 4)) < 4 * error


def test_a_task_guards_its_budget(scenario: Scenario) -> None:
    study = Study(scenario.profiles[0], 2, np.array([0.3, math.nan, 0.5, 0.7]))
    assert math.isnan(study.evaluate(1))
    assert study.left == 2
    with pytest.raises(DataError, match="tried before"):
        study.evaluate(1)
    with pytest.raises(DataError, match="unknown"):
        study.evaluate(4)
    with pytest.raises(DataError, match="unknown"):
        study.evaluate(-1)
    study.evaluate_ranking([1, 3, 0], trials=1)
    assert study.left == 1
    assert study.evaluate(0) == 0.3
    with pytest.raises(DataError, match="spent"):
        study.evaluate(2)


def test_best_on_server_says_what_it_lacks(scenario: Scenario) -> None:
    with pytest.raises(DataError, match="server"):
        BestOnServer().reset(replace(scenario.experience, server=None), 0)
