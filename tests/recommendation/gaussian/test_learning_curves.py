"""The gray-box belief against dense conditioning, and what it learns of the way trainings come to their end."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from nni_hyperfd.recommendation.gaussian.learning_curves import Course, Ends, Remaining, StillToCome, in_units


def belief(seed: int, count: int = 4, times: int = 3) -> tuple[Ends, np.random.Generator]:
    rng = np.random.default_rng(seed)
    ends, amounts = (rng.standard_normal((count, count + 2)) for _ in range(2))
    direction = np.append(-rng.random(times - 1), 0.0)
    course = Course(np.append(-rng.random(times - 1), 0.0), direction, 0.01 + rng.random(times) / 10)
    prior = Ends.prior(
        course,
        (rng.standard_normal(count), ends @ ends.T),
        (rng.standard_normal(count), amounts @ amounts.T),
    )
    return prior, rng


@pytest.mark.parametrize("seed", range(3))
def test_the_belief_is_that_of_dense_conditioning(seed: int) -> None:
    prior, rng = belief(seed)
    which, when = np.array([0, 0, 2, 3, 3, 3]), np.array([0, 1, 0, 0, 1, 2])
    values = rng.standard_normal(6)
    # All K x T validations and the 2 K unknowns as one Gaussian vector, written out entry by entry.
    course, count, times = prior.course, 4, 3
    ends, amounts = prior.covariance[:count, :count], prior.covariance[count:, count:]
    cells = [(k, t) for k in range(count) for t in range(times)]
    w = course.direction
    seen = np.array(
        [
            [ends[k, j] + w[t] * w[u] * amounts[k, j] + course.rest[t] * ((k, t) == (j, u)) for j, u in cells]
            for k, t in cells
        ]
    )
    across = np.array(
        [[ends[i, j] for j, _ in cells] for i in range(count)]
        + [[w[u] * amounts[i, j] for j, u in cells] for i in range(count)]
    )
    mean = np.array([prior.mean[k] + course.mean[t] + w[t] * prior.mean[count + k] for k, t in cells])
    at = [cells.index((k, t)) for k, t in zip(which, when)]
    inverse = np.linalg.inv(seen[np.ix_(at, at)])
    expected = prior.mean + across[:, at] @ inverse @ (values - mean[at])
    covariance = prior.covariance - across[:, at] @ inverse @ across[:, at].T

    after = prior.after(which, when, values)
    np.testing.assert_allclose(after.mean, expected, rtol=1e-8)
    np.testing.assert_allclose(after.covariance, covariance, atol=1e-8)
    density = multivariate_normal(mean[at], seen[np.ix_(at, at)]).logpdf(values)
    assert after.density == pytest.approx(density + 3 * np.log(2 * np.pi))


def test_what_is_awaited_moves_the_belief_as_far_as_its_doubt_shrinks() -> None:
    """Law of total variance, over outcomes whose covariance is exactly one."""
    prior, _ = belief(4)
    which, when = np.array([0, 0, 3]), np.array([0, 1, 2])
    outcomes = np.sqrt(3) * np.concatenate([np.eye(3), -np.eye(3)])
    means, then = prior.awaiting(which, when, outcomes)
    np.testing.assert_allclose(means.mean(axis=0), prior.mean)
    moved = means - prior.mean
    np.testing.assert_allclose(moved.T @ moved / 6 + then.covariance, prior.covariance, atol=1e-9)
    assert then.covariance[0, 0] < prior.covariance[0, 0]


@pytest.mark.parametrize("against", [None, 1])
def test_what_a_validation_would_tell_is_how_far_it_moves_the_expected_end(against: int | None) -> None:
    prior, _ = belief(5)
    told = prior.told(against)
    for k in range(4):
        for t in range(3):
            which, when = np.array([k]), np.array([t])
            usual = prior.mean[which] + prior.course.mean[t] + prior.course.direction[t] * prior.mean[4 + k]
            w = prior.course.direction[t]
            variance = prior.covariance[k, k] + w**2 * prior.covariance[4 + k, 4 + k] + prior.course.rest[t]
            moved = prior.after(which, when, usual + np.sqrt(variance)).mean - prior.mean
            distance = moved[k] - (0.0 if against is None else moved[against])
            assert told[k, t] == pytest.approx(abs(distance), abs=1e-10)


def test_a_course_is_found_again() -> None:
    rng = np.random.default_rng(0)
    amounts = rng.standard_normal((20, 30))
    amounts = (amounts - amounts.mean()) / amounts.std()
    mean, direction = np.array([-2.0, -0.5, 0.0]), np.array([-1.0, -0.4, 0.0])
    ahead = mean + direction * amounts[..., None]
    ahead[3, 4, 1] = np.nan
    course, found = Course.of(ahead)
    np.testing.assert_allclose(course.mean, mean, atol=0.02)
    np.testing.assert_allclose(course.direction, direction, atol=0.02)
    assert course.mean[-1] == course.direction[-1] == 0.0
    assert np.isnan(found[3, 4])
    kept = ~np.isnan(found)
    assert np.corrcoef(found[kept], amounts[kept])[0, 1] > 0.9999


def test_that_high_rates_begin_below_and_end_above_is_known_before_the_first_epoch() -> None:
    """Early AP falls with the rate, final AP rises with it, on every offline set: an early lead is no lead."""
    rng = np.random.default_rng(1)
    rate = np.arange(5.0)
    final = 0.5 + 0.03 * rate + 0.002 * rng.standard_normal((8, 5))
    first = final - 0.05 * rate - 0.1
    still = StillToCome.fit(np.stack([first, final], axis=-1), rate[:, None], np.zeros((8, 0)))
    mean, covariance = still.customers([np.zeros(0)], [rate[:, None]])
    assert (np.diff(mean) > 0).all()
    spread = float(np.std(final - final.mean(axis=1, keepdims=True)))
    prior = Ends.prior(still.course, (np.zeros(5), 5.0 * np.eye(5) + 4.0), (mean, covariance))
    seen = np.full((5, 2), np.nan)
    seen[:, 0] = first[0]
    values = in_units(seen, still.course, spread)[:, 0]
    ends = prior.after(np.arange(5), np.zeros(5, dtype=int), values).mean[:5]
    assert np.argmax(first[0]) == 0
    assert np.argmax(ends) == 4


def test_what_remains_is_read_off_whole_curves() -> None:
    curves = np.array([[0.2, 0.5, 0.6], [0.4, 0.5, 0.8], [0.1, np.nan, 0.3]])
    remaining = Remaining.of(curves)
    assert remaining is not None
    assert remaining.mean == pytest.approx([-0.4, -0.2, 0.0])
    assert remaining.variance == pytest.approx([0.0, 0.01, 0.0])
    seen = remaining.glimpses(np.array([4, 2, 7]), np.array([0.1, 0.5, 2 / 3]), np.array([0.3, 0.4, 0.5]))
    assert seen.at.tolist() == [4, 2, 7]
    assert seen.ends == pytest.approx([0.7, 0.7, 0.7])
    assert seen.variances == pytest.approx([0.0, 0.005, 0.01])
    assert Remaining.of(curves[2:]) is None
    assert Remaining.of(np.zeros((0, 0))) is None
