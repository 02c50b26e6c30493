"""Networks below a limit, against counting them one by one."""

from __future__ import annotations

import numpy as np
import pytest

from nni_hyperfd.errors import DataError
from nni_hyperfd.evidence.below import below, multiply_adds
from nni_hyperfd.evidence.comparison import Scenario
from nni_hyperfd.evidence.rivals.base import Known, Profile
from nni_hyperfd.evidence.table import canonical
from nni_hyperfd.spaces.architecture import backbone_flops
from nni_hyperfd.spaces.standard import standard_space

PROFILE = Profile(np.zeros((1, 2), np.float32), np.array([0]), np.zeros(3))


def scenario() -> Scenario:
    """Eight candidates and four networks that are known elsewhere alone; APs are their numbers."""
    space = standard_space("nas")
    texts = tuple(canonical(space.parameters(each)) for each in space.sample(12, np.random.default_rng(0)))
    aps = np.arange(12.0)[None] / 12
    judge = aps[:, :8].T
    return Scenario("nas", Known(texts, 8, ("s",), (PROFILE,), aps), ("a",), (PROFILE,), judge, judge)


def test_only_networks_below_the_limit_can_be_tried_and_all_that_was_known_stays_known() -> None:
    whole = scenario()
    known = whole.experience
    space = standard_space("nas")
    costs = multiply_adds(known.configurations[:8])
    networks = [each.architecture for each in space.sample(12, np.random.default_rng(0))][:8]
    assert costs.tolist() == [backbone_flops(each) for each in networks if each is not None]
    cut = below(whole, 0.75)
    limit = costs.min() + 0.75 * (costs.max() - costs.min())
    kept = [i for i in range(8) if costs[i] <= limit]
    assert 3 <= cut.experience.candidates == len(kept) < 8
    assert cut.experience.configurations[: len(kept)] == tuple(known.configurations[i] for i in kept)
    assert set(cut.experience.configurations) == set(known.configurations)
    for text, ap in zip(cut.experience.configurations, cut.experience.aps[0]):
        assert ap == known.aps[0, known.configurations.index(text)]
    np.testing.assert_array_equal(cut.judge[:, 0], [i / 12 for i in kept])
    assert below(whole, 1.0).experience.candidates == 8


def test_too_few_networks_or_none_is_one_sentence() -> None:
    with pytest.raises(DataError, match=r"1 of 8 networks cost less than \d+ million multiply-adds"):
        below(scenario(), 1e-6)
    with pytest.raises(DataError, match="without a network"):
        multiply_adds(['{"lr":0.01}'])
