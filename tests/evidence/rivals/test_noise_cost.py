"""What benchmarks/noise_cost.py measures, on a made-up table."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import pytest

from nni_hyperfd.evidence.comparison import Scenario
from nni_hyperfd.ranker.settings import RankerSettings
from nni_hyperfd.spaces.standard import standard_space
from tests.fixtures.scripts import script


@pytest.fixture(scope="module")
def noise_cost() -> ModuleType:
    """benchmarks/noise_cost.py as a module."""
    return script("benchmarks/noise_cost.py")


def test_the_cost_is_measured_against_the_same_run_without_noise(
    noise_cost: ModuleType, scenario_of: Callable[..., Scenario]
) -> None:
    scenario = scenario_of(tasks=2, offline=20)
    settings = RankerSettings(batches=3, images=8, warmup_epochs=3, ratio=(0.0, 0.0, 1.0))
    exact, bare, noisy, blind = noise_cost.measure(
        scenario, standard_space("hpo"), settings, [5.0], seeds=1, warm_ups=1
    )
    assert exact.worse[0] == 0.0
    assert (exact.epsilon, bare.epsilon, blind.epsilon) == (None, None, None)
    # φ, three pairs, three gradients, and φ again with the new G.
    assert bare.answers == noisy.answers == 8
    assert noisy.epsilon == pytest.approx(noise_cost.epsilon({5.0: 8}))
    assert all(0 < line.rank[0] <= 100 for line in (exact, bare, noisy, blind))
    assert "noise z = 5" in noise_cost.markdown([exact, bare, noisy, blind])
