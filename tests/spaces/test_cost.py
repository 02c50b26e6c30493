"""Costs of networks as sums over their parts, and networks drawn below limits."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nni_hyperfd.errors import SpaceError
from nni_hyperfd.spaces.architecture import (
    STAGES,
    backbone_flops,
    codes_of,
    flops_of_codes,
    largest,
    mobilenet_v2,
)
from nni_hyperfd.spaces.configuration import Configuration
from nni_hyperfd.spaces.cost import PARTS, PartCosts, stage_costs
from nni_hyperfd.spaces.space import Space
from nni_hyperfd.spaces.standard import standard_search_space, standard_space

NAS = standard_space("nas")


def drawn_costs(seed: int) -> PartCosts:
    rng = np.random.default_rng(seed)
    return PartCosts(float(rng.random()), tuple(rng.lognormal(size=len(PARTS)).tolist()))


def test_parts_are_what_networks_are_made_of() -> None:
    """Stage 1 has one block, stage 7 one of six, the others six first and six later ones."""
    assert len(PARTS) == len({part.label for part in PARTS}) == 1 + 5 * 12 + 6
    ones = PartCosts(0.5, (1.0,) * len(PARTS))
    assert ones.of(mobilenet_v2()) == 0.5 + 1 + 2 + 3 + 4 + 3 + 3 + 1
    assert ones.of(largest()) == 0.5 + sum(max(stage.depths) for stage in STAGES)


@given(seed=st.integers(0, 1000))
@settings(max_examples=10, deadline=None)
def test_a_sum_is_a_sum_however_it_is_added_up(seed: int) -> None:
    costs = drawn_costs(seed)
    networks = [each.architecture for each in NAS.sample(20, np.random.default_rng(seed))]
    by_hand = [
        costs.rest
        + sum(
            next(cost for part, cost in zip(PARTS, costs.parts) if part == (number, place == 0, block))
            for number, stage in enumerate(network.stages, start=1)
            for place, block in enumerate(stage)
        )
        for network in networks
    ]
    assert [costs.of(network) for network in networks] == pytest.approx(by_hand)
    assert costs.of_codes(codes_of(networks)) == pytest.approx(by_hand)
    assert costs.divided(4).of_codes(codes_of(networks)) == pytest.approx(np.array(by_hand) / 4)
    assert NAS.networks.cheapest(costs) <= min(by_hand) + 1e-9


def test_rows_cross_and_come_back() -> None:
    costs = drawn_costs(0)
    assert list(map(len, costs.rows())) == [1, 1, 12, 12, 12, 12, 12, 6]
    assert PartCosts.from_rows(costs.rows()) == costs
    with pytest.raises(SpaceError, match="rows of 1, 1, 12"):
        PartCosts.from_rows(costs.rows()[:-1])
    with pytest.raises(SpaceError, match="negative or not a number"):
        PartCosts(0.0, (float("nan"),) * len(PARTS))


def small_space() -> dict[str, Any]:
    """A few thousand networks, which can be listed."""
    space = copy.deepcopy(standard_search_space("nas"))
    for key, entry in space.items():
        if key == "s7_b1":
            continue
        for option in entry["_value"]:
            for name, block in option.items():
                if name != "_name":
                    block["_value"] = ["k3e4", "k7e6"] if name == "s2_b1" else ["k3e6"]
    return space


def below(space: Space, architecture: Any) -> bool:
    return backbone_flops(architecture) < space.flops_limit and (
        space.costs is None or space.costs.of(architecture) < 1
    )


@given(
    seed=st.integers(0, 10**6),
    kind=st.sampled_from(["nas", "joint"]),
    madds=st.floats(0.02, 1.1),
    other=st.none() | st.floats(0.02, 1.1),
)
@settings(max_examples=40, deadline=None)
def test_nothing_over_a_limit_is_ever_drawn(seed: int, kind: str, madds: float, other: float | None) -> None:
    """Whether sampled or a change of what was sampled; limits anywhere between the cheapest network and the dearest."""
    low, high = NAS.networks.cheapest_flops(), NAS.networks.dearest_flops()
    costs = None
    if other is not None:
        costs = drawn_costs(seed)
        dearest = float(costs.rest + sum(table.max() for table in stage_costs(costs)))
        cheapest = NAS.networks.cheapest(costs)
        costs = costs.divided(cheapest + other * (dearest - cheapest))
    space = Space.from_search_space(standard_search_space(kind), low + madds * (high - low), costs)  # type: ignore[arg-type]
    rng = np.random.default_rng(seed)
    found = space.sample_up_to(30, rng)
    assert len(set(found)) == len(found)
    if costs is None:
        assert len(found) == 30
    for each in found:
        assert below(space, each.architecture)
        assert space.admits(each)
    for each in found[:3]:
        assert all(below(space, other.architecture) for other in space.neighbours(each, rng))
    tight = Configuration(architecture=largest())
    assert space.admits(tight) == below(space, largest())


def test_networks_below_a_limit_are_drawn_alike() -> None:
    """Pearson's statistic over all networks of a small space under two limits."""
    space = Space.from_search_space(small_space())
    listed = space.enumerate()
    costs = drawn_costs(3)
    middle = float(np.median(costs.of_codes(codes_of([each.architecture for each in listed]))))
    flops = float(np.quantile([backbone_flops(each.architecture) for each in listed], 0.7))
    tight = Space.from_search_space(small_space(), flops, costs.divided(middle))
    under = {each.architecture.codes for each in listed if below(tight, each.architecture)}
    assert {each.architecture.codes for each in tight.enumerate()} == under
    assert 10 < len(under) < len(listed) / 2
    drawn = tight.networks.below(flops, tight.costs).draw(np.random.default_rng(0), 40_000)
    kept = [codes for codes in map(tuple, drawn.tolist()) if codes in under]
    # What is turned away lies within the blur of two limits that were added up.
    counts = np.array([kept.count(codes) for codes in sorted(under)])
    expected = len(kept) / len(under)
    free = len(under) - 1
    assert ((counts - expected) ** 2).sum() / expected < free + 6 * (2 * free) ** 0.5


def test_however_few_there_are_they_are_found() -> None:
    """Of 1.4e15 networks the few that cost hardly more than the cheapest."""
    cheapest = NAS.networks.cheapest_flops()
    limit = cheapest + 1e6
    found = standard_space("nas", flops_limit=limit).sample_up_to(400, np.random.default_rng(0))
    costs = sorted(backbone_flops(each.architecture) for each in found)
    assert costs[0] == cheapest
    assert costs[-1] < limit
    assert 1 < len(found) < 400
    # No change of one block leads to a network below the limit that was not found.
    known = {each.architecture.codes for each in found}
    for codes in known:
        near = np.concatenate(NAS.networks.moves(np.array(codes)))
        assert set(map(tuple, near[flops_of_codes(near) < limit].tolist())) <= known


def test_limits_that_nothing_meets_and_limits_without_networks_are_refused() -> None:
    costs = PartCosts(0.5, (0.1,) * len(PARTS))
    with pytest.raises(SpaceError, match=r"^No architecture .* the cheapest costs 1\.6 times as much"):
        Space.from_search_space(standard_search_space("nas"), costs=costs)
    with pytest.raises(SpaceError, match="the search space has none"):
        Space.from_search_space(standard_search_space("hpo"), costs=costs)
