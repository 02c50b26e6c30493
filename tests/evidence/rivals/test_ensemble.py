"""The variant: what looks alike is expected to behave alike, trials correct it, and customers may be stranger than offline sets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from nni_hyperfd.evidence.comparison import Scenario, expected_rank_at_random, run_rival
from nni_hyperfd.evidence.rivals.base import FloatArray, Known, Profile, Study
from nni_hyperfd.evidence.rivals.ensemble import Ensemble, EnsembleGP, EnsembleRanking
from nni_hyperfd.evidence.rivals.gp_prior import GPPrior
from nni_hyperfd.spaces.standard import standard_space

SPACE = standard_space("hpo")


class Said:
    """Stands where a warmed-up ranker is: its scores are given, its φ are the images' mean features."""

    def __init__(self, scores: dict[int, FloatArray]) -> None:
        self._scores = scores

    def reset(self, experience: Known, seed: int) -> None:
        pass

    def scores(self, profile: Profile) -> FloatArray:
        return self._scores[id(profile)]

    def meta_features(self, profile: Profile, count: int) -> Tensor:
        return torch.from_numpy(profile.images.mean(axis=0)).expand(count, -1)


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
    rival = EnsembleRanking(ensemble(varied, varied.choose), "together")
    rival.reset(varied.experience, 0)
    study = Study(varied.profiles[0], 3, varied.choose[:, 0])
    rival.search(study)
    assert [trial.index for trial in study.trials] == np.argsort(-varied.choose[:, 0])[:3].tolist()


def test_what_data_sets_look_like_helps_where_it_matters(
    scenario_of: Callable[..., Scenario],
) -> None:
    """What customers like depends on three numbers that their images show."""
    scenario = scenario_of(tasks=8, offline=40, common=0.3, own=1.5, noise=0.2)

    def rank(rival: EnsembleGP) -> float:
        return float(run_rival(rival, scenario, budgets=(3,), seeds=(0,)).rank.mean())

    seeing, blind = rank(EnsembleGP(SPACE, [silent(scenario)])), rank(EnsembleGP(SPACE, [None]))
    assert seeing < 0.5 * expected_rank_at_random(scenario, 3)
    assert seeing < blind


def test_results_correct_what_the_offline_sets_say(scenario_of: Callable[..., Scenario]) -> None:
    """All customers like the opposite of what the offline sets like."""
    scenario = scenario_of(tasks=6, offline=20, common=1.0, own=0.2, noise=0.2)
    opposite = 1.0 - scenario.choose
    turned = replace(scenario, choose=opposite, judge=opposite)
    stubborn = run_rival(GPPrior(), turned, budgets=(4,), seeds=(0,)).rank
    sure = run_rival(EnsembleGP(SPACE, [None], own=(1.0,)), turned, budgets=(4,), seeds=(0,)).rank
    open_minded = run_rival(EnsembleGP(SPACE, [None]), turned, budgets=(4,), seeds=(0,)).rank
    assert open_minded.mean() < stubborn.mean() - 10
    assert open_minded.mean() <= sure.mean()


def test_it_sees_only_what_was_paid_for(scenario_of: Callable[..., Scenario]) -> None:
    scenario = scenario_of(tasks=3, offline=12)

    def tried(values: np.ndarray) -> list[list[int]]:
        rival = EnsembleGP(SPACE, [silent(scenario)])
        rival.reset(scenario.experience, 0)
        tasks = [Study(profile, 4, column) for profile, column in zip(scenario.profiles, values.T)]
        for study in tasks:
            rival.search(study)
        return [[trial.index for trial in study.trials] for study in tasks]

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
