"""HyperFD under the rivals' interface: the platform's own pieces in the platform's own order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from nni_hyperfd.errors import DataError
from nni_hyperfd.evidence.comparison import Scenario, expected_rank_at_random, run_rival
from nni_hyperfd.evidence.rivals.base import Study
from nni_hyperfd.evidence.rivals.hyperfd import HyperFD
from nni_hyperfd.ranker.settings import RankerSettings
from nni_hyperfd.spaces.standard import standard_space
from tests.fixtures.studies import tried

QUICK = RankerSettings(batches=4, images=8, warmup_epochs=3, warmup_lists=16, learning_rate=1e-3)


@pytest.fixture(scope="module")
def scenario(scenario_of: Callable[..., Scenario]) -> Scenario:
    return scenario_of(tasks=3, offline=30)


def test_it_sees_only_what_was_paid_for_and_learns_from_that(scenario: Scenario) -> None:
    rival = HyperFD(standard_space("hpo"), QUICK)
    first = tried(rival, scenario, scenario.choose)
    unseen = np.random.default_rng(1).random(scenario.choose.shape)
    for d, indices in enumerate(first):
        unseen[indices, d] = scenario.choose[indices, d]
    assert tried(rival, scenario, unseen) == first
    # Other results of the first task move the ranker, so the later ones are searched elsewhere.
    unseen[:, 0] = unseen[::-1, 0]
    strong = HyperFD(standard_space("hpo"), replace(QUICK, learning_rate=0.03, batches=12))
    assert tried(strong, scenario, unseen) != tried(strong, scenario, scenario.choose)


def test_runs_repeat_and_share_a_warm_up(scenario_of: Callable[..., Scenario]) -> None:
    scenario = scenario_of(tasks=3, offline=30)
    rival = HyperFD(standard_space("hpo"), QUICK, warm_ups=1)
    first = run_rival(rival, scenario, budgets=(2, 4), seeds=(0, 1)).rank
    frozen = HyperFD(standard_space("hpo"), replace(QUICK, mode="freeze_all"), warm_ups=1)
    run_rival(frozen, scenario, budgets=(2,), seeds=(0,))
    assert len(rival._prepared.warm) == 1
    assert 0 < frozen.ndcg == rival.ndcg <= 1
    np.testing.assert_array_equal(run_rival(rival, scenario, budgets=(2, 4), seeds=(0, 1)).rank, first)
    alone = HyperFD(standard_space("hpo"), QUICK, warm_ups=1)
    np.testing.assert_array_equal(
        run_rival(alone, scenario, budgets=(4,), seeds=(1,)).rank[0, 0], first[1, 1]
    )


@pytest.mark.parametrize(
    "settings",
    [
        {"mode": "latest_only"},
        {"mode": "freeze_extractor"},
        {"mode": "freeze_all"},
        {"transform": "none"},
        {"transform": "iterative"},
        {"loss": "mse"},
        {"triplet_weight": 0.0, "synaptic_weight": 0.0},
        {"warmup_epochs": 0},
    ],
    ids=str,
)
def test_every_ablation_of_the_paper_runs(scenario: Scenario, settings: dict[str, object]) -> None:
    rival = HyperFD(standard_space("hpo"), replace(QUICK, **settings), name="ablation")
    outcome = run_rival(rival, scenario, budgets=(4,), seeds=(0,))
    assert outcome.method == "ablation"
    assert np.isfinite(outcome.rank).all()


def test_the_oracle_and_other_extractors_run(scenario: Scenario) -> None:
    for rival in (
        HyperFD(standard_space("hpo"), QUICK, oracle=True),
        HyperFD(standard_space("hpo"), QUICK, variant="statistics"),
    ):
        assert np.isfinite(run_rival(rival, scenario, budgets=(4,), seeds=(0,)).rank).all()


def test_warm_up_helps_where_configurations_are_good_everywhere(scenario_of: Callable[..., Scenario]) -> None:
    easy = scenario_of(common=1.0, own=0.2, noise=0.2)
    rival = HyperFD(standard_space("hpo"), replace(QUICK, warmup_epochs=15), exploration=0.0)
    assert run_rival(rival, easy, budgets=(4,), seeds=(0,)).rank.mean() < 0.7 * expected_rank_at_random(
        easy, 4
    )


def test_features_must_be_there(scenario: Scenario) -> None:
    bare = tuple(replace(profile, source=None) for profile in scenario.experience.profiles)
    with pytest.raises(DataError, match="image features"):
        HyperFD(standard_space("hpo"), QUICK).reset(replace(scenario.experience, profiles=bare), 0)


def test_a_customer_without_a_result_teaches_nothing(scenario: Scenario) -> None:
    rival = HyperFD(standard_space("hpo"), QUICK)
    rival.reset(scenario.experience, 0)
    before = {name: each.clone() for name, each in rival.ranker.state_dict().items()}
    rival.search(Study(scenario.profiles[0], 4, np.full(scenario.choose.shape[0], np.nan)))
    assert rival.past == []
    after = rival.ranker.state_dict()
    assert all(torch.equal(each, after[name]) for name, each in before.items())
