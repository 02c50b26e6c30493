"""Pseudo-customers: sets at one end of an axis, and no experience that looks like them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nni_hyperfd.errors import DataError
from nni_hyperfd.evidence.pseudo import AXES, MOST_SHARED, effects, in_a_row, pseudo_scenarios
from nni_hyperfd.evidence.rivals.base import Known
from nni_hyperfd.evidence.scenario import profile_of
from nni_hyperfd.metafeature.features import CHANNELS, LEVELS, ImageFeatures


def experience(sets: int = 30) -> Known:
    rng = np.random.default_rng(0)
    place = np.arange(300)
    gwap = rng.normal(size=(300, LEVELS, CHANNELS))
    # Images change slowly along one direction, and a set is a stretch of them.
    gwap += 0.05 * place[:, None, None]
    gwap = torch.from_numpy(gwap).float()
    features = ImageFeatures(gwap, gwap, torch.ones(300, dtype=torch.long))
    pool = features.gwap.flatten(1).numpy()
    profiles = tuple(profile_of(features, pool, np.arange(9 * i, 9 * i + 30)) for i in range(sets))
    aps = np.full((sets, 40), np.nan)
    for row in aps:
        row[rng.permutation(40)[:8]] = rng.uniform(0.4, 0.6, 8)
    names = tuple(f"labels.{i}" for i in range(sets))
    return Known(tuple(f'{{"lr":{i}}}' for i in range(40)), 20, names, profiles, aps)


def test_customers_are_at_an_end_and_their_images_are_not_in_the_experience() -> None:
    known = experience()
    scenarios = pseudo_scenarios(known, customers=3)
    assert len(scenarios) == 2 * AXES
    first = scenarios[0]
    seen = [set(profile.members.tolist()) for profile in first.experience.profiles]
    for profile in first.profiles:
        assert all(len(each & set(profile.members.tolist())) <= MOST_SHARED * 30 for each in seen)
    ends = [np.concatenate([profile.members for profile in each.profiles]).mean() for each in scenarios[:2]]
    rest = np.concatenate([profile.members for profile in first.experience.profiles]).mean()
    assert min(ends) + 60 < max(ends), "the two ends of the axis along which images change"
    assert abs(rest - ends[0]) > 60
    assert first.experience.candidates == 40
    with pytest.raises(DataError, match="too few"):
        pseudo_scenarios(experience(10), customers=3)


def test_effects_are_found_behind_offsets() -> None:
    rng = np.random.default_rng(1)
    effect = rng.normal(size=30)
    aps = effect + rng.normal(size=(60, 1)) * 5
    aps[rng.random(aps.shape) < 0.5] = np.nan
    aps[:, 4] = np.nan
    found = effects(aps)
    assert np.isnan(found[4])
    there = ~np.isnan(found)
    assert np.corrcoef(found[there], effect[there])[0, 1] > 0.99


def test_customers_in_a_row_are_alike_among_themselves_and_unlike_the_experience() -> None:
    known = experience()
    found = in_a_row(known, 30, seed=0)
    assert len(found.tasks) == 30
    rest = np.concatenate([profile.members for profile in found.experience.profiles])
    theirs = [profile.members for profile in found.profiles]
    assert (
        min(each.min() for each in theirs) > rest.max()
        or max(each.max() for each in theirs) < rest.min() + 30
    )
    assert len({tuple(each) for each in theirs}) > 10, "no one customer again and again"
    again = in_a_row(known, 30, seed=0)
    np.testing.assert_array_equal(again.judge, found.judge)
    with pytest.raises(DataError, match="too few"):
        in_a_row(experience(10), 30, seed=0)
