"""What is measured is what is shipped: the rival tries, one by one, what a platform proposes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nni_hyperfd.customer.client import TaskClient
from nni_hyperfd.evidence.comparison import Scenario, run_rival
from nni_hyperfd.evidence.rivals.base import Profile
from nni_hyperfd.evidence.rivals.hyperfd import features_of
from nni_hyperfd.evidence.rivals.hyperfd_gp import HyperFDGP
from nni_hyperfd.evidence.table import parameters_of
from nni_hyperfd.platform.platform import Platform
from nni_hyperfd.ranker.settings import RankerSettings
from nni_hyperfd.recommendation.expectation import Expectation
from nni_hyperfd.spaces.standard import standard_search_space, standard_space
from tests.fixtures.studies import tried

SPACE = standard_space("hpo")
QUICK = RankerSettings(batches=4, images=8, warmup_epochs=3, warmup_lists=16, learning_rate=1e-3)
FROZEN = replace(QUICK, mode="freeze_all")


@pytest.fixture(scope="module")
def small(scenario_of: Callable[..., Scenario]) -> Scenario:
    """All of the standard space; customers have just as many images as a sample, so that φ does not depend on the draw."""
    found = scenario_of(tasks=3, offline=14)

    def few(profile: Profile) -> Profile:
        return replace(profile, members=profile.members[: QUICK.images])

    return replace(found, profiles=tuple(few(each) for each in found.profiles))


def test_rival_and_platform_try_the_same(small: Scenario, tmp_path: Path) -> None:
    """Three customers one after the other, the results of each before the next trial, a failed one among them."""
    aps = small.choose.copy()
    rival = HyperFDGP(SPACE, FROZEN)
    aps[tried(rival, small, aps)[1][1], 1] = np.nan
    expected = tried(rival, small, aps)
    assert [len(each) for each in expected] == [4, 5, 4]

    rival.reset(small.experience, 0)
    platform = Platform.create(tmp_path / "platform", rival._ranker, rival._prepared.offline, "base", FROZEN)
    for d, profile in enumerate(small.profiles):
        client = TaskClient(platform, features_of(profile), "base")
        task = client.open(f"customer{d}", standard_search_space("hpo"))
        for index in expected[d]:
            proposed = client.recommend(task, 1, method="hyperfd-gp").configurations[0]
            assert SPACE.parse(proposed.parameters) == SPACE.parse(
                parameters_of(small.experience.configurations[index])
            )
            ap = float(aps[index, d])
            client.record(task, dict(proposed.parameters), None if np.isnan(ap) else ap)
        client.update(task)
    platform.close()


def test_the_ranker_goes_on_learning(small: Scenario, monkeypatch: pytest.MonkeyPatch) -> None:
    """One expectation a version: a new one after each update, and one for all customers of a ranker that never moves."""
    made = []
    begin = Expectation.__init__
    monkeypatch.setattr(Expectation, "__init__", lambda self, *rest: made.append(self) or begin(self, *rest))
    rival = HyperFDGP(SPACE, QUICK, warm_ups=1)
    first = run_rival(rival, small, budgets=(3,), seeds=(0, 1)).rank
    assert len(made) == 6
    assert np.isfinite(first).all()
    moved = [task.offline_phi for task in rival._past]
    assert not np.allclose(moved[0], moved[-1])
    np.testing.assert_array_equal(run_rival(rival, small, budgets=(3,), seeds=(1,)).rank[0, 0], first[0, 1])
    made.clear()
    run_rival(HyperFDGP(SPACE, FROZEN), small, budgets=(3,), seeds=(0,))
    assert len(made) == 1


def test_it_sees_only_what_was_paid_for(small: Scenario) -> None:
    rival = HyperFDGP(SPACE, QUICK, at_once=2)
    first = tried(rival, small, small.choose)
    unseen = np.random.default_rng(1).random(small.choose.shape)
    for d, indices in enumerate(first):
        unseen[indices, d] = small.choose[indices, d]
    assert tried(rival, small, unseen) == first
