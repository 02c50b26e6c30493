"""What comes next beside trainings that run: a mean over what they may bring, and never one of them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from nni_hyperfd.evidence.worlds import WORLDS, make
from nni_hyperfd.recommendation.gaussian.every_epoch import EveryEpoch, Standing, Trainings, _gain
from nni_hyperfd.recommendation.gaussian.learning_curves import Ends
from nni_hyperfd.recommendation.gaussian.observed import FloatArray
from nni_hyperfd.recommendation.gaussian.search import normals


@pytest.fixture(scope="module")
def customer() -> tuple[Trainings, FloatArray]:
    scenario = make(WORLDS["φ is worthless"], 0, customers=1)
    return EveryEpoch(scenario.offline).customer(
        scenario.looks[0], scenario.offline.described
    ), scenario.curves[0]


def begun(curves: FloatArray, *lengths: int) -> FloatArray:
    """The first trainings with so many validations each."""
    seen = np.full(curves.shape, np.nan)
    for row, length in enumerate(lengths):
        seen[row, :length] = curves[row, :length]
    return seen


@pytest.mark.parametrize("ended", [False, True])
def test_beside_what_runs_a_gain_is_its_mean_over_outcomes(
    customer: tuple[Trainings, FloatArray], ended: bool
) -> None:
    """Each outcome conditioned on for itself, as if it had been seen."""
    trainings, curves = customer
    belief = trainings.after(begun(curves, 6 * ended, 2, 1))[1]
    done = np.zeros(len(curves), dtype=int)
    done[:3] = 6 * ended, 2, 1
    in_hand = done == 6
    awaited, when = np.array([1, 3]), np.array([2, 5])
    in_hand[3] = True  # it runs to its end
    root, _, usual = belief._seen(awaited, when)
    outcomes = usual + normals(2) @ root.T
    none = np.zeros(0, dtype=int)
    each = [_gains_by_steps(belief.after(awaited, when, values), done, in_hand) for values in outcomes]
    expected = np.mean(each, axis=0).max(axis=1)
    found = _gain(belief, done, in_hand, awaited, when)
    assert found == pytest.approx(expected, rel=1e-6)
    assert not np.allclose(found, _gain(belief, done, in_hand, none, none))


def _gains_by_steps(belief: Ends, done: np.ndarray, ended: np.ndarray) -> np.ndarray:
    """``[K, T]`` gains a validation, of looking to each time; written out."""
    count, times = len(done), len(belief.course.mean)
    best = max(np.flatnonzero(ended), key=lambda row: belief.mean[row])
    found = np.full((count, times), -np.inf)
    for row in range(count):
        for time in range(done[row], times):
            deviation = max(belief.told(int(best))[row, time], 1e-12)
            z = (belief.mean[row] - belief.mean[best]) / deviation
            found[row, time] = deviation * (z * norm.cdf(z) + norm.pdf(z)) / (time + 1 - done[row])
    return found


@pytest.mark.parametrize("at_a_time", [2, 4])
def test_those_that_run_together_are_different_ones_and_are_paid_for(
    customer: tuple[Trainings, FloatArray], at_a_time: int
) -> None:
    trainings, curves = customer
    count, length = curves.shape
    seen, failed = begun(curves, 6), np.zeros(count, dtype=bool)
    until, left = np.zeros(count, dtype=int), 2 * length
    while True:
        while (until > 0).sum() < at_a_time:
            order = trainings.plan(Standing(seen, failed, left, until)).order
            assert not set(order) & set(np.flatnonzero(until)), "it runs already"
            if not len(order):
                break
            done = (~np.isnan(seen)).sum(axis=1)
            assert length - done[order[0]] <= left, "it could not be ended"
            until[order[0]] = done[order[0]] + 1
            left -= 1
        if not until.any():
            break
        row = int(np.flatnonzero(until)[0])
        seen[row, until[row] - 1], until[row] = curves[row, until[row] - 1], 0
    assert left >= 0
    assert (~np.isnan(seen[:, -1])).sum() > 1, "more than the first was brought to its end"


def test_what_runs_to_its_end_counts_as_something_in_hand(customer: tuple[Trainings, FloatArray]) -> None:
    """While the first training runs the portfolio's first is not begun beside it in any case."""
    trainings, curves = customer
    other = (trainings.first + 1) % len(curves)
    until = np.zeros(len(curves), dtype=int)
    nothing, failed = begun(curves), np.zeros(len(curves), dtype=bool)
    assert np.isinf(trainings.plan(Standing.idle(nothing, failed, 24)).gain[trainings.first])
    until[other] = curves.shape[1]
    assert np.isfinite(trainings.plan(Standing(nothing, failed, 18, until)).gain[trainings.first])


@pytest.mark.parametrize("ends_alone", [False, True])
def test_customers_before_are_data_sets(ends_alone: bool) -> None:
    """Customers unlike all offline sets, and like each other: the third is expected to be as the two before."""
    scenario = make(WORLDS["customers unlike all"], 1, customers=2)
    method = EveryEpoch(scenario.offline)
    seen, truth = scenario.curves[0].copy(), scenario.curves[0][:, -1]
    if ends_alone:
        seen[:, :-1] = np.nan
    twin = method.finished(scenario.looks[0], scenario.offline.described, seen)
    assert len(twin.described) == 24
    assert len(twin.telling()[0]) == (24 if ends_alone else 48)
    nothing, failed = begun(seen), np.zeros(len(seen), dtype=bool)
    likeness = [
        np.corrcoef(
            method.customer(scenario.looks[0], scenario.offline.described, past)
            .plan(Standing.idle(nothing, failed, 24))
            .expected,
            truth,
        )[0, 1]
        for past in ([], [twin, twin])
    ]
    assert likeness[1] > max(0.7, likeness[0])


def test_of_very_many_customers_each_gives_up_trainings(customer: tuple[Trainings, FloatArray]) -> None:
    """Those that say least, and there is a plan all the same."""
    scenario = make(WORLDS["φ is worthless"], 0, customers=1)
    method = EveryEpoch(scenario.offline)
    _, curves = customer
    past = [
        method.finished(scenario.looks[0], scenario.offline.described, begun(curves, 6, 6, *(1,) * number))
        for number in range(20)
    ]
    assert all(np.isfinite(each.first(2).values[:, -1]).all() for each in past), "the longest come first"
    trainings = method.customer(scenario.looks[0], scenario.offline.described, past * 3)
    gain = trainings.plan(Standing.idle(begun(curves), np.zeros(len(curves), dtype=bool), 24)).gain
    assert np.isfinite(gain).sum() == len(curves) - 1


def test_the_first_training_goes_to_its_end_in_one_go_and_others_to_the_next_validation() -> None:
    seen, failed = np.full((3, 6), np.nan), np.array([True, False, False])
    seen[0] = 0.5  # failed after all
    seen[1, :2] = 0.4
    standing = Standing.idle(seen, failed, 20)
    assert [standing.stop(1), standing.stop(2)] == [6, 6]
    standing.until[1] = 6
    assert standing.stop(2) == 1
    seen[2], standing.until[1] = 0.6, 0
    assert standing.stop(1) == 3
