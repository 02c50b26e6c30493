"""The process over data sets and configurations against its definition, written out entry by entry."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal

from nni_hyperfd.recommendation.gaussian import task_process
from nni_hyperfd.recommendation.gaussian.factor import factor
from nni_hyperfd.recommendation.gaussian.observed import FloatArray, observe
from nni_hyperfd.recommendation.gaussian.search import Eye, GaussianSearch
from nni_hyperfd.recommendation.gaussian.task_process import (
    OFFSET_VARIANCE,
    Expected,
    KernelWeights,
    TaskProcess,
    _Table,
    posterior,
)

RNG = np.random.default_rng(0)
CONFIGURATIONS = RNG.integers(0, 3, (7, 2)).astype(float)
PLACES = RNG.normal(size=(6, 2))
NEW = RNG.normal(size=(2, 2))


@pytest.fixture(scope="module")
def table() -> FloatArray:
    rng = np.random.default_rng(3)
    aps = 0.5 + 0.05 * rng.normal(size=(6, 7))
    aps[rng.random(aps.shape) < 0.4] = np.nan
    return aps


@pytest.fixture(scope="module")
def process(table: FloatArray) -> TaskProcess:
    return TaskProcess.fit(table, CONFIGURATIONS, PLACES)


def kernel(weights: KernelWeights, part: int, a: int, b: int) -> float:
    steps = np.abs(CONFIGURATIONS[a] - CONFIGURATIONS[b])
    main, decay = weights.main.exp()[part].tolist(), weights.decay.exp().tolist()
    joint = weights.joint.exp()[part].item()
    return sum(m * np.exp(-s) for m, s in zip(main, steps)) + joint * np.exp(-np.dot(decay, steps))


def covariance(weights: KernelWeights, s: int, a: int, t: int, b: int, own: float = 1.0) -> float:
    """Of configuration a on data set s and b on t."""
    everywhere = np.concatenate([PLACES, NEW])
    reach = weights.reach.exp().detach().numpy()
    alike = np.exp(-0.5 * (reach * (everywhere[s] - everywhere[t]) ** 2).sum())
    found = kernel(weights, 0, a, b) + alike * kernel(weights, 1, a, b)
    return found + (own * kernel(weights, 2, a, b) + OFFSET_VARIANCE if s == t else 0.0)


@pytest.mark.parametrize("own", [1.0, 4.0])
def test_customers_are_conditioned_on_the_whole_table(
    table: FloatArray, process: TaskProcess, own: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever each of them has tried, and in however small blocks it is computed."""
    monkeypatch.setattr(task_process, "BLOCK", 30)
    weights = process._weights
    rows = [observe(row, process.spread) for row in table]
    known = [(s, int(c)) for s, row in enumerate(rows) for c in row.indices]
    values = np.concatenate([row.values for row in rows])
    asked = [(6, c) for c in range(5)] + [(7, c) for c in range(3)]

    def between(first: list[tuple[int, int]], second: list[tuple[int, int]], factor: float) -> FloatArray:
        return np.array([[covariance(weights, *a, *b, factor) for b in second] for a in first])

    noisy = between(known, known, 1.0) + process.noise * np.eye(len(known))
    cross = between(asked, known, 1.0)
    mean = cross @ np.linalg.solve(noisy, values)
    left = between(asked, asked, own) - cross @ np.linalg.solve(noisy, cross.T)

    customers = [
        process.customer(place, CONFIGURATIONS).at(np.arange(tried)) for place, tried in zip(NEW, (5, 3))
    ]
    np.testing.assert_allclose(np.concatenate([each.mean for each in customers]), mean, atol=1e-8)
    shared, alone = process.covariance(customers)
    np.testing.assert_allclose(shared + own * alone, left, atol=1e-8)


def test_the_weights_are_the_most_probable_ones_nearby(table: FloatArray, process: TaskProcess) -> None:
    rows = [observe(row, process.spread) for row in table]
    known = [(s, int(c)) for s, row in enumerate(rows) for c in row.indices]
    values = np.concatenate([row.values for row in rows])

    def probability(weights: KernelWeights) -> float:
        noisy = np.array([[covariance(weights, *a, *b) for b in known] for a in known])
        noisy += weights.noise.exp().item() * np.eye(len(known))
        return multivariate_normal(np.zeros(len(known)), noisy).logpdf(values) - weights.surprise().item()

    best = probability(process._weights)
    assert process.surprise == pytest.approx(-best - 0.5 * len(known) * np.log(2 * np.pi))
    assert best > probability(KernelWeights.start(2, 2)) + 0.5
    for name, value in vars(process._weights).items():
        for step in (-0.7, 0.7):
            moved = dict(vars(process._weights))
            moved[name] = value.detach() + step
            assert probability(KernelWeights(**moved)) < best + 0.02, name


@pytest.mark.parametrize("places", [PLACES, PLACES[:, :0]], ids=["seeing", "blind"])
def test_derivatives_are_those_of_the_covariance(places: FloatArray) -> None:
    """One configuration may be measured twice on a set, or on several sets."""
    rng = np.random.default_rng(1)
    sets, configurations = torch.from_numpy(rng.integers(0, 6, 20)), torch.from_numpy(rng.integers(0, 7, 20))
    steps = torch.from_numpy(np.abs(CONFIGURATIONS[:, None] - CONFIGURATIONS))
    table = _Table(sets, configurations, steps, torch.from_numpy(places))
    kernels, alike = torch.from_numpy(rng.normal(size=(3, 7, 7))), torch.from_numpy(rng.normal(size=(6, 6)))
    slope = torch.from_numpy(rng.normal(size=(20, 20)))

    def value(kernels: torch.Tensor, alike: torch.Tensor) -> float:
        return (slope * table.covariance(kernels, alike, torch.tensor(0.1))).sum().item()

    before = value(kernels, alike)
    for place, by in enumerate(table.pulled_back(slope, kernels, alike)):
        for index in np.ndindex(by.shape):
            moved = [kernels.clone(), alike.clone()]
            moved[place][index] += 1.0  # the covariance is linear in each
            assert value(*moved) - before == pytest.approx(by[index].item(), abs=1e-9)


def test_a_posterior_is_that_of_the_joint_normal_distribution() -> None:
    rng = np.random.default_rng(2)
    root = rng.normal(size=(5, 5))
    spread, mean = root @ root.T, rng.normal(size=5)
    at, values, noise = np.array([1, 4]), np.array([0.3, -1.0]), 0.2
    noisy = spread[np.ix_(at, at)] + noise * np.eye(2)
    gain = spread[:, at] @ np.linalg.inv(noisy)
    found_mean, found_spread, density = posterior(mean, spread, at, values, noise)
    np.testing.assert_allclose(found_mean, mean + gain @ (values - mean[at]))
    np.testing.assert_allclose(found_spread, spread - gain @ spread[at])
    expected = multivariate_normal(mean[at], noisy).logpdf(values)
    assert density == pytest.approx(expected + np.log(2 * np.pi))
    part = posterior(mean, spread, at, values, noise, slice(2, None))
    np.testing.assert_allclose(part[0], found_mean[2:])
    np.testing.assert_allclose(part[1], found_spread[2:, 2:])
    assert part[2] == density
    nothing = posterior(mean, spread, np.arange(0), np.zeros(0), noise)
    np.testing.assert_array_equal(nothing[0], mean)
    assert nothing[2] == 0


def test_what_looks_alike_behaves_alike_and_the_unknown_is_left_open() -> None:
    """Two kinds of data sets with opposite tastes."""
    rng = np.random.default_rng(1)
    configurations = np.arange(8.0)[:, None]
    taste = np.linspace(-1, 1, 8)
    places = np.r_[rng.normal(-1, 0.1, (12, 1)), rng.normal(1, 0.1, (12, 1))]
    aps = 0.5 + 0.05 * np.sign(places) * taste + 0.005 * rng.normal(size=(24, 8))
    process = TaskProcess.fit(aps, configurations, places)
    left, right, far = (process.customer(np.array([place]), configurations) for place in (-1.0, 1.0, 30.0))
    assert np.corrcoef(right.mean, taste)[0, 1] > 0.95
    assert np.corrcoef(left.mean, taste)[0, 1] < -0.95
    contrast = taste / np.linalg.norm(taste)

    def doubt(customer: Expected) -> float:
        return float(contrast @ sum(process.covariance([customer])) @ contrast)

    assert np.abs(contrast @ far.mean) < 0.5 * np.abs(contrast @ right.mean)
    assert doubt(far) > 3 * doubt(right)


@pytest.mark.parametrize("looks", [0, 2])
@pytest.mark.parametrize("aps", [np.full((6, 7), 0.5), np.repeat(np.linspace(0.1, 0.6, 6)[:, None], 7, 1)])
def test_a_table_of_equal_aps_is_planned_by(aps: FloatArray, looks: int) -> None:
    """Nothing varies, so the likelihood drives the noise to nothing and the covariance to a singular matrix."""
    eye = Eye(aps, CONFIGURATIONS, PLACES[:, :looks])
    before = [eye.finished(PLACES[s, :looks], CONFIGURATIONS, aps[s]) for s in range(6)]
    search = GaussianSearch([eye.view(NEW[0, :looks], CONFIGURATIONS, before)])
    known = np.array([0.5, 0.5, np.nan, np.nan, np.nan, np.nan, np.nan])
    plan = search.plan(known, np.arange(7) == 2, np.arange(7) == 3, 3)
    assert sorted(plan.order) == [4, 5, 6]
    assert np.isfinite(plan.expected).all()


def test_a_factor_is_exact_where_it_can_be_and_as_near_as_can_be_elsewhere() -> None:
    root = np.tril(RNG.normal(size=(4, 4))) + 3 * np.eye(4)
    np.testing.assert_allclose(factor(root @ root.T), root)
    singular = np.ones((5, 5))
    found = factor(singular)
    np.testing.assert_allclose(found @ found.T, singular, atol=1e-9)
    for hopeless in (-np.eye(3), np.full((3, 3), np.nan)):
        with pytest.raises(np.linalg.LinAlgError, match="not positive definite"):
            factor(hopeless)
