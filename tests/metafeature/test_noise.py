"""Noise on what leaves: its size, what it may depend on, and what it costs."""

from __future__ import annotations

import math
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.optimize import brentq
from scipy.stats import kstest, norm
from torch import Tensor

from nni_hyperfd.errors import DataError
from nni_hyperfd.metafeature.extractor import MetaFeatureExtractor
from nni_hyperfd.metafeature.features import CHANNELS, LEVELS, ImageFeatures
from nni_hyperfd.metafeature.noise import (
    CLIP,
    GRADIENT_CLIP,
    Noise,
    NoiseSettings,
    clip_rows,
    epsilon,
    noised,
)

SILENT = NoiseSettings(1e-12)
"""So little noise that only the clipped mean is left."""


def draw_features(count: int, seed: int = 0) -> ImageFeatures:
    generator = torch.Generator().manual_seed(seed)
    pooled = torch.randn(count, LEVELS, CHANNELS, generator=generator)
    return ImageFeatures(pooled, pooled, torch.randint(0, 9, (count,), generator=generator))


def replaced(features: ImageFeatures, place: int, image: Tensor, boxes: int) -> ImageFeatures:
    """The neighbor of ``features`` with another image at ``place``."""
    gwap, counts = features.gwap.clone(), features.boxes.clone()
    gwap[place], counts[place] = image, boxes
    return ImageFeatures(gwap, gwap, counts)


def flat(gradient: dict[str, Tensor]) -> Tensor:
    return torch.cat([gradient[name].flatten() for name in sorted(gradient)])


@pytest.fixture
def extractor() -> MetaFeatureExtractor:
    torch.manual_seed(0)
    return MetaFeatureExtractor()


# ------------------------------------------------------------------------------------------------ the mechanism


@given(
    rows=arrays(np.float32, (5, 3), elements=st.floats(width=32, allow_nan=True, allow_infinity=True)),
    limit=st.floats(1e-3, 1e3),
)
@settings(max_examples=200, deadline=None)
def test_clipped_rows_are_short_and_short_rows_stay(rows: np.ndarray, limit: float) -> None:
    given_rows = torch.from_numpy(rows)
    clipped = clip_rows(given_rows, limit)
    assert (clipped.double().norm(dim=1) <= limit * (1 + 1e-5)).all()
    lengths = given_rows.double().norm(dim=1)
    torch.testing.assert_close(clipped[lengths <= limit], given_rows[lengths <= limit])
    long = lengths.isfinite() & (lengths > limit) & (lengths < 1e30)
    torch.testing.assert_close(
        clipped[long].double(),
        given_rows[long].double() * (limit / lengths[long])[:, None],
        rtol=1e-4,
        atol=1e-30,
    )
    assert (clipped[~lengths.isfinite()] == 0).all()


def test_rows_of_no_length_may_be_clipped_to_no_length() -> None:
    rows = torch.tensor([[0.0, 0.0], [3.0, 4.0]])
    assert torch.equal(clip_rows(rows, 0.0), torch.zeros(2, 2))
    assert torch.equal(clip_rows(rows, 1.0), torch.tensor([[0.0, 0.0], [0.6, 0.8]]))


def test_the_noise_is_gaussian_of_the_size_that_was_asked_for() -> None:
    clean = torch.linspace(-3, 3, 20_000)
    noise = (noised(clean, 0.25, 2.0, np.random.default_rng(0)) - clean).numpy() / 0.5
    assert kstest(noise, "norm").pvalue > 0.01
    assert abs(np.corrcoef(noise, clean)[0, 1]) < 0.03


@pytest.mark.parametrize("place", [0, 1, 8])
@pytest.mark.parametrize("scale", [1.0, 1e4, 1e38])
def test_an_image_moves_an_answer_by_its_share_whatever_it_shows(
    extractor: MetaFeatureExtractor, place: int, scale: float
) -> None:
    features = draw_features(9)
    other = replaced(features, place, scale * torch.randn(LEVELS, CHANNELS), 10**6)
    views = [Noise(SILENT, b"s").view(extractor, data) for data in (features, other)]
    halves = [5, 4]
    moved = (views[0].meta_feature() - views[1].meta_feature()).norm()
    assert 0 < moved <= 2 * CLIP / 9
    pairs = [view.pair() for view in views]
    torch.testing.assert_close(pairs[0][1 - place % 2], pairs[1][1 - place % 2])
    assert 0 < (pairs[0][place % 2] - pairs[1][place % 2]).norm() <= 2 * CLIP / halves[place % 2]
    answers = torch.randn(2, 64)
    gradients = [flat(view.gradient(*answers)) for view in views]
    largest = 2 * GRADIENT_CLIP * answers[place % 2].norm() / halves[place % 2]
    assert 0 < (gradients[0] - gradients[1]).norm() <= largest


def test_a_hostile_extractor_gains_nothing(extractor: MetaFeatureExtractor) -> None:
    with torch.no_grad():
        extractor.attention.norm2.weight.fill_(1e30)
    features = draw_features(8)
    other = replaced(features, 0, torch.full((LEVELS, CHANNELS), 9.0), 0)
    views = [Noise(SILENT, b"s").view(extractor, data) for data in (features, other)]
    assert (views[0].meta_feature() - views[1].meta_feature()).norm() <= 2 * CLIP / 8
    answers = torch.ones(2, 64)
    moved = flat(views[0].gradient(*answers)) - flat(views[1].gradient(*answers))
    assert moved.norm() <= 2 * GRADIENT_CLIP * 8 / 4
    with torch.no_grad():
        extractor.project.weight.fill_(3e38)
    assert views[0].meta_feature().isfinite().all()


def test_deviation_of_each_message(extractor: MetaFeatureExtractor) -> None:
    features, multiplier = draw_features(10), 3.0
    clean = Noise(SILENT, b"s").view(extractor, features)
    noisy = [Noise(NoiseSettings(multiplier), bytes([i])).view(extractor, features) for i in range(40)]
    phi = torch.stack([view.meta_feature() for view in noisy]) - clean.meta_feature()
    assert phi.std() == pytest.approx(multiplier * 2 * CLIP / 10, rel=0.05)
    pair = torch.stack([torch.cat(view.pair()) for view in noisy]) - torch.cat(clean.pair())
    assert pair.std() == pytest.approx(multiplier * 2 * CLIP / 5, rel=0.05)
    assert abs(torch.corrcoef(torch.stack([pair[:, :64].flatten(), pair[:, 64:].flatten()]))[0, 1]) < 0.08
    answers = torch.full((64,), 0.5), torch.full((64,), 0.25)
    gradient = flat(noisy[0].gradient(*answers)) - flat(clean.gradient(*answers))
    assert gradient.std() == pytest.approx(multiplier * 2 * GRADIENT_CLIP * 4.0 / 5, rel=0.02)


def test_without_clipping_gradients_are_those_of_automatic_differentiation(
    extractor: MetaFeatureExtractor,
) -> None:
    features = draw_features(7)
    wide = replace(SILENT, clip=1e6, gradient_clip=1e6)
    view = Noise(wide, b"s").view(extractor, features)
    answers = torch.randn(2, 64)
    found = view.gradient(*answers)
    inputs, boxes = features.gwap.flatten(1), (features.boxes.float() * 7).log1p()
    statistics = torch.stack([torch.full((7,), math.log(7)), boxes], 1)
    images = extractor(inputs[:, None], statistics)
    means = images[0::2].mean(0), images[1::2].mean(0)
    for said, expected in zip((view.meta_feature(), *view.pair()), (images.mean(0), *means)):
        torch.testing.assert_close(said, expected.detach(), atol=1e-4, rtol=1e-4)
    parameters = dict(extractor.named_parameters())
    loss = means[0] @ answers[0] + means[1] @ answers[1]
    for (name, parameter), expected in zip(
        parameters.items(), torch.autograd.grad(loss, list(parameters.values()))
    ):
        assert found[name].shape == parameter.shape
        torch.testing.assert_close(found[name], expected, atol=2e-4, rtol=1e-3)


# ------------------------------------------------------------------------------------------------ repetition


def test_the_same_question_has_the_same_answer_and_is_counted_once(extractor: MetaFeatureExtractor) -> None:
    kept: list[tuple[str, str]] = []
    noise = Noise(NoiseSettings(1.0), b"secret", lambda *names: kept.append(names))
    features, answers = draw_features(6), torch.randn(2, 64)
    first = noise.view(extractor, features)
    phi, pair, gradient = first.meta_feature(), first.pair(), first.gradient(*answers)
    assert len(kept) == len(set(kept)) == 3
    again = noise.view(extractor, draw_features(6))
    assert torch.equal(again.meta_feature(), phi)
    assert all(map(torch.equal, again.pair(), pair))
    assert torch.equal(flat(again.gradient(*answers)), flat(gradient))
    assert len(kept) == 3
    restarted = Noise(NoiseSettings(1.0), b"secret").view(extractor, features)
    assert torch.equal(restarted.meta_feature(), phi)


def test_any_other_question_has_fresh_noise(extractor: MetaFeatureExtractor) -> None:
    features = draw_features(6)
    neighbor = replaced(features, 2, features.gwap[2] + 1e-6, 1)

    def noise_of(secret: bytes = b"secret", data: ImageFeatures = features, clip: float = CLIP) -> Tensor:
        loud, quiet = (
            Noise(NoiseSettings(z, clip), secret).view(extractor, data).meta_feature() for z in (1.0, 1e-12)
        )
        return loud - quiet

    base = noise_of()
    others = [noise_of(secret=b"other"), noise_of(data=neighbor), noise_of(clip=CLIP / 2)]
    with torch.no_grad():
        extractor.project.bias[0] += 1e-6
    others.append(noise_of())
    for other in others:
        assert abs(torch.corrcoef(torch.stack([base, other]))[0, 1]) < 0.5
        assert (base - other).norm() > 0.5 * base.norm()


def test_an_answer_that_cannot_be_noted_is_not_given(extractor: MetaFeatureExtractor) -> None:
    def full(data: str, question: str) -> None:
        raise DataError("the disk is full")

    noise = Noise(NoiseSettings(1.0), b"s", full)
    with pytest.raises(DataError, match="disk is full"):
        noise.view(extractor, draw_features(4)).meta_feature()
    with pytest.raises(DataError, match="disk is full"):
        noise.view(extractor, draw_features(4)).meta_feature()


# ------------------------------------------------------------------------------------------------ accounting


def exact_epsilon(multiplier: float, questions: int, delta: float) -> float:
    """ε of composed Gaussian mechanisms in closed form: they are one of multiplier z / √k (Balle and Wang 2018, theorem 8)."""
    mu = math.sqrt(questions) / multiplier

    def excess(eps: float) -> float:
        return norm.cdf(mu / 2 - eps / mu) - math.exp(eps + norm.logcdf(-mu / 2 - eps / mu)) - delta

    return brentq(excess, 0, mu * mu + 20 * mu + 20)


@pytest.mark.parametrize(("multiplier", "questions"), [(50, 1), (1, 1), (5, 54), (20, 102), (0.2, 3)])
def test_the_accountant_against_the_closed_form(multiplier: float, questions: int) -> None:
    exact = exact_epsilon(multiplier, questions, 1e-5)
    assert exact <= epsilon({multiplier: questions}) <= 1.15 * exact + 0.02


def test_spending_grows_and_nothing_costs_nothing() -> None:
    assert epsilon({1.0: 0}) == 0.0
    spent = [epsilon({1.0: questions}) for questions in (1, 2, 50)]
    assert spent == sorted(spent)
    # Two mechanisms of multiplier 2 are as one of √2, and one more of 2 makes them one of 2 / √3.
    mixed = epsilon({math.sqrt(2): 1, 2.0: 1})
    assert mixed == pytest.approx(epsilon({2.0: 3}), rel=1e-6)
    assert epsilon({1.0: 1}, 1e-9) > epsilon({1.0: 1}, 1e-5)


def test_a_missing_accountant_is_told_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opacus.accountants.analysis", None)
    with pytest.raises(DataError, match=r"pip install 'nni-hyperfd\[privacy\]'"):
        epsilon({1.0: 1})


@pytest.mark.parametrize(
    "wrong",
    [{"multiplier": 0.0}, {"multiplier": math.nan}, {"clip": -1.0}, {"gradient_clip": 0.0}, {"delta": 1.0}],
)
def test_settings_out_of_range(wrong: dict[str, float]) -> None:
    with pytest.raises(DataError, match=f"{next(iter(wrong))} is"):
        NoiseSettings(**{"multiplier": 1.0, **wrong})


def test_one_image_cannot_hide(extractor: MetaFeatureExtractor) -> None:
    with pytest.raises(DataError, match="at least two images"):
        Noise(NoiseSettings(1.0), b"s").view(extractor, draw_features(1))
