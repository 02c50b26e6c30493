"""No network over a limit is ever proposed: by the ranker, by hyperfd-gp, in a new plan, or while the platform is away."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nni_hyperfd.customer.client import TaskClient
from nni_hyperfd.customer.kept import KeptRanker
from nni_hyperfd.customer.outbox import Outbox
from nni_hyperfd.customer.steady import SteadyPlatform
from nni_hyperfd.errors import PlatformAwayError
from nni_hyperfd.metafeature.features import ImageFeatures
from nni_hyperfd.platform.platform import Platform
from nni_hyperfd.protocol.calls import PlatformAPI
from nni_hyperfd.protocol.messages import Question, Recommendation, RecommendRequest
from nni_hyperfd.ranker.encoders import EncoderShape
from nni_hyperfd.ranker.encodings import encode
from nni_hyperfd.ranker.offline import Experience, OfflineData
from nni_hyperfd.ranker.ranker import Ranker
from nni_hyperfd.spaces.architecture import FLOPS_LIMIT, Architecture, backbone_flops
from nni_hyperfd.spaces.configuration import Configuration
from nni_hyperfd.spaces.cost import PARTS, PartCosts, stage_costs
from nni_hyperfd.spaces.space import Space
from nni_hyperfd.spaces.standard import standard_search_space, standard_space
from tests.fixtures.drawn_platform import BASE_ID, SMALL

NAS = standard_space("nas")
A = TypeVar("A")


@pytest.fixture(scope="module")
def with_networks(
    offline: OfflineData, first_ranker: Ranker, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Platform]:
    """The small platform, which knows 30 networks, six on each of its data sets, as well."""
    tried = NAS.sample(30, np.random.default_rng(0))
    generator = torch.Generator().manual_seed(0)
    experience = Experience(
        encode(NAS, tried),
        torch.arange(12).repeat_interleave(6),
        torch.cat([torch.randperm(30, generator=generator)[:6] for _ in range(12)]),
        torch.rand(72, generator=generator),
    )
    known = OfflineData(offline.features, offline.members, {**offline.experience, NAS.key: experience})
    ranker = Ranker.from_bytes(first_ranker.to_bytes())
    ranker.add_space(NAS, 0)
    assert EncoderShape.of(NAS)
    platform = Platform.create(tmp_path_factory.mktemp("platform"), ranker.eval(), known, BASE_ID, SMALL)
    yield platform
    platform.close()


class Away:
    """A platform that is away when it is asked for configurations."""

    def __init__(self, platform: PlatformAPI) -> None:
        self._platform = platform

    def ask(self, question: Question[A]) -> A:
        if isinstance(question, RecommendRequest):
            raise PlatformAwayError("away")
        return self._platform.ask(question)


def between(costs: PartCosts, share: float) -> PartCosts:
    """In units of a limit between the cheapest network and the dearest."""
    dearest = costs.rest + sum(float(table.max()) for table in stage_costs(costs))
    cheapest = NAS.networks.cheapest(costs)
    return costs.divided(cheapest + share * (dearest - cheapest))


@given(
    seed=st.integers(0, 10**6),
    kind=st.sampled_from(["nas", "joint"]),
    madds=st.none() | st.floats(0.02, 0.9),
    ms=st.floats(0.02, 0.9),
    way=st.sampled_from(["hyperfd", "hyperfd-gp", "away"]),
    generations=st.integers(0, 2),
)
@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], database=None
)
def test_nothing_over_a_limit_is_proposed(
    with_networks: Platform,
    features: ImageFeatures,
    tmp_path: Path,
    seed: int,
    kind: str,
    madds: float | None,
    ms: float,
    way: str,
    generations: int,
) -> None:
    if way == "hyperfd-gp":
        kind = "nas"  # the space that there is experience in
    low, high = NAS.networks.cheapest_flops(), NAS.networks.dearest_flops()
    flops_limit = FLOPS_LIMIT if madds is None else low + madds * (high - low)
    rng = np.random.default_rng(seed)
    costs = between(PartCosts(float(rng.random()), tuple(rng.lognormal(size=len(PARTS)).tolist())), ms)
    door: PlatformAPI = with_networks
    if way == "away":
        door = SteadyPlatform(
            Away(with_networks), KeptRanker(tmp_path / "kept"), Outbox(tmp_path / f"outbox{seed}.jsonl")
        )
    client = TaskClient(door, features, BASE_ID)
    task = client.open(
        f"exp-{seed}-{kind}-{madds}-{way}".replace(".", "_")[:60], standard_search_space(kind), flops_limit
    )  # type: ignore[arg-type]
    client_side = Space.from_search_space(standard_search_space(kind), flops_limit, costs)  # type: ignore[arg-type]
    options: dict[str, Any] = {
        "network_costs": costs.rows(),
        "candidates": 40,
        "generations": generations,
        "seed": seed,
        "method": "hyperfd-gp" if way == "hyperfd-gp" else "hyperfd",
    }

    def checked(found: Recommendation) -> list[dict[str, Any]]:
        named = [dict(each.parameters) for each in (*found.configurations, *found.spares)]
        for parameters in named:
            network = Configuration.from_parameters(parameters).architecture
            assert isinstance(network, Architecture)
            assert backbone_flops(network) < flops_limit
            assert costs.of(network) < 1
        return named

    if madds is not None and not client_side.sample_up_to(40, np.random.default_rng(seed)):
        return  # two limits that leave no network at all, each of which leaves some
    named = checked(client.recommend(task, 3, **options))
    if way == "hyperfd-gp" and len(named) > 2:
        # A new plan after a result, with one more running.
        client.record(task, named[0], 0.3)
        again = checked(client.recommend(task, 2, begun=tuple(named[:2]), **options))
        assert not [each for each in again if each in named[:2]]
