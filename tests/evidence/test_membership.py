"""The membership attack of benchmarks/membership.py on made-up data with known answers."""

from __future__ import annotations

import math
from types import ModuleType

import pytest
import torch
from scipy.stats import norm

from nni_hyperfd.metafeature.extractor import MetaFeatureExtractor
from nni_hyperfd.metafeature.features import CHANNELS, LEVELS, ImageFeatures
from tests.fixtures.scripts import script


@pytest.fixture(scope="module")
def membership() -> ModuleType:
    """benchmarks/membership.py as a module."""
    return script("benchmarks/membership.py")


def test_area_under_the_curve(membership: ModuleType) -> None:
    assert membership.auc(torch.tensor([2.0, 3.0]), torch.tensor([0.0, 1.0])) == 1.0
    assert membership.auc(torch.tensor([1.0, 1.0]), torch.tensor([1.0, 1.0])) == 0.5
    # The sets of one pair share their other images and are not compared.
    assert membership.auc(torch.tensor([0.0, 5.0]), torch.tensor([1.0, 1.0])) == 0.5


@pytest.mark.parametrize("deviation", [0.0, 1.0, 30.0])
def test_the_attack_is_as_good_as_the_likelihood_ratio(membership: ModuleType, deviation: float) -> None:
    """φ normal with a known covariance: the best attack has AUC Φ(d / √2) for the Mahalanobis distance d."""
    generator = torch.Generator().manual_seed(0)
    scale = torch.linspace(0.5, 2.0, 64)
    change = 0.25 * scale
    others = torch.randn(6, 1000, 64, generator=generator) * scale
    seen = torch.stack([others + change, others], 2).flatten(1, 2)
    found = torch.tensor(membership.attack(seen, deviation, generator)).mean()
    distance = (change**2 / (scale**2 + deviation**2)).sum().sqrt()
    assert float(found) == pytest.approx(norm.cdf(float(distance) / math.sqrt(2)), abs=0.03)


def test_who_knows_the_other_images_is_held_by_the_noise(membership: ModuleType) -> None:
    shares = torch.nn.functional.normalize(
        torch.randn(50, 64, generator=torch.Generator().manual_seed(0)), dim=1
    )
    # z = 1 on opposite images would reach the bound of the mechanism, Φ(1 / √2); others are nearer to each other.
    found = membership.insider_auc(shares, torch.arange(10), 20, 2 / 20)
    assert 0.6 < found < norm.cdf(1 / math.sqrt(2))
    assert membership.insider_auc(shares, torch.arange(10), 20, 1e3) == pytest.approx(0.5, abs=1e-3)


def test_a_small_set_is_more_open_than_a_noisy_one(
    membership: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(membership, "STEPS", 2)
    generator = torch.Generator().manual_seed(0)
    pooled = torch.randn(80, LEVELS, CHANNELS, generator=generator)
    torch.manual_seed(0)
    features = ImageFeatures(pooled, pooled, torch.randint(0, 9, (80,), generator=generator))
    population = membership.Population("made up", features, MetaFeatureExtractor())
    off, bare, *noisy = membership.measure(population, 10, targets=4, shadows=60)
    assert off.once[0] > 0.7
    assert bare.once[0] > 0.7
    assert off.insider > 0.9
    assert [each.multiplier for each in noisy] == list(membership.MULTIPLIERS)
    assert abs(noisy[-1].once[0] - 0.5) < 0.1
    assert noisy[0].epsilon[0] > noisy[1].epsilon[0] > noisy[2].epsilon[0]
    text = membership.markdown([off, bare, *noisy], "about")
    assert "| made up | 10 | off | ∞ |" in text
