"""What kernels see of configurations."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nni_hyperfd.ranker.encodings import encode
from nni_hyperfd.recommendation.gaussian.description import describe
from nni_hyperfd.spaces.architecture import backbone_flops, codes_of, codes_of_graphs, graphs
from nni_hyperfd.spaces.space import Space
from nni_hyperfd.spaces.standard import standard_space


def test_hyperparameters_are_positions() -> None:
    space = standard_space("hpo")
    every = space.enumerate()
    steps = describe(space, encode(space, every))
    assert steps.shape == (216, 6)
    assert len(np.unique(steps, axis=0)) == 216
    assert steps.max(axis=0).tolist() == [1, 2, 1, 2, 2, 1]
    column = [domain.key for domain in space.domains].index("lr")
    rates = {space.parameters(each)["lr"]: row[column] for each, row in zip(every, steps)}
    assert rates == {3e-4: 0.0, 1e-3: 1.0, 3e-3: 2.0}


def test_networks_are_their_cost_and_blocks() -> None:
    space = standard_space("nas")
    networks = space.sample(40, np.random.default_rng(0))
    described = describe(space, encode(space, networks))
    assert described.shape == (40, 14)
    assert described.std(axis=0).min() > 0
    first = networks[0].architecture
    assert first is not None
    blocks = [block for stage in first.stages for block in stage]
    firsts = [stage[0].expand / 2 for stage in first.stages[1:]]
    others = [[block.expand / 2 for block in stage[1:]] for stage in first.stages[1:-1]]
    assert described[0].tolist() == pytest.approx(
        [
            4 * np.log2(backbone_flops(first)),
            np.mean([block.kernel for block in blocks]),
            np.mean([block.expand for block in blocks]),
            *firsts,
            *(np.mean(each) if each else 2.5 for each in others),
        ]
    )


def test_a_joint_configuration_has_both() -> None:
    space = standard_space("joint")
    some = space.sample(5, np.random.default_rng(0))
    both = describe(space, encode(space, some))
    assert both.shape == (5, 20)


def test_a_range_is_a_line() -> None:
    space = Space.from_search_space(
        {
            "rate": {"_type": "loguniform", "_value": [1e-4, 1e-2]},
            "way": {"_type": "choice", "_value": ["a", "b", "c"]},
        }
    )
    some = [space.parse({"rate": rate, "way": way}) for rate, way in ((1e-4, "a"), (1e-3, "c"), (1e-2, "b"))]
    np.testing.assert_allclose(
        describe(space, encode(space, some)), [[0.0, 0.0], [2.0, 2.0], [4.0, 1.0]], atol=1e-6
    )


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31), count=st.integers(1, 6))
def test_graphs_say_which_networks_they_are(seed: int, count: int) -> None:
    sampled = standard_space("nas").sample(count, np.random.default_rng(seed))
    networks = [each.architecture for each in sampled if each.architecture is not None]
    nodes, _, graph = graphs(networks)
    np.testing.assert_array_equal(codes_of_graphs(nodes, np.bincount(graph)), codes_of(networks))
