"""Plans: one after the other, each in view of what those before it may bring, and corrected by what did come out."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import softmax
from scipy.stats import multivariate_normal

from nni_hyperfd.recommendation.gaussian.observed import FloatArray, observe
from nni_hyperfd.recommendation.gaussian.search import (
    OWN,
    ROWS,
    ROWS_OF_ONE,
    Eye,
    Finished,
    GaussianSearch,
    Glimpses,
    Sight,
    _Belief,
    expected_improvement,
    gain_of_next,
)
from nni_hyperfd.recommendation.gaussian.task_process import TaskProcess, posterior

CONFIGURATIONS = np.stack(np.meshgrid(np.arange(4.0), np.arange(3.0)), -1).reshape(-1, 2)
K = len(CONFIGURATIONS)
NOTHING = np.full(K, np.nan)
NONE = np.zeros(K, dtype=bool)


@pytest.fixture(scope="module")
def process() -> TaskProcess:
    rng = np.random.default_rng(0)
    taste = 0.03 * CONFIGURATIONS[:, 0] - 0.02 * CONFIGURATIONS[:, 1]
    own = 0.02 * rng.normal(size=(14, 1)) * CONFIGURATIONS[:, 0]
    return TaskProcess.fit(
        0.5 + taste + own + 0.01 * rng.normal(size=(14, K)), CONFIGURATIONS, np.zeros((14, 0))
    )


def search(
    process: TaskProcess, past: list[Finished] | None = None, **options: tuple[float, ...]
) -> GaussianSearch:
    return GaussianSearch(
        [Sight(process, process.customer(np.zeros(0), CONFIGURATIONS), past or [])], **options
    )


def with_results(results: dict[int, float]) -> FloatArray:
    aps = NOTHING.copy()
    aps[list(results)] = list(results.values())
    return aps


def test_the_first_trial_is_what_is_best_in_general(process: TaskProcess) -> None:
    plan = search(process).plan(NOTHING, NONE, NONE, 4)
    assert (
        plan.order[0]
        == np.argmax(plan.expected)
        == np.argmax(process.customer(np.zeros(0), CONFIGURATIONS).mean)
    )
    assert len(set(plan.order.tolist())) == 4


def test_a_plan_ends_with_the_candidates_and_passes_over_what_is_begun(process: TaskProcess) -> None:
    everything = search(process).plan(NOTHING, NONE, NONE, 100).order
    assert sorted(everything.tolist()) == list(range(K))
    some = NONE.copy()
    some[everything[:5]] = True
    for running, failed in ((some, NONE), (NONE, some)):
        left = search(process).plan(NOTHING, running, failed, 100).order
        assert sorted([*left, *everything[:5]]) == list(range(K))
    assert len(search(process).plan(NOTHING, ~NONE, NONE, 3).order) == 0


def test_a_glimpse_is_a_measurement_with_more_noise(process: TaskProcess) -> None:
    """Dense conditioning of all candidates at once, by the textbook."""
    running, seen = NONE.copy(), [0, 5, 7]
    running[7] = True
    glimpse = Glimpses(np.array([7]), np.array([0.7]), np.array([0.03**2]))
    plan = search(process, own=(2.0,)).plan(with_results({0: 0.5, 5: 0.6}), running, NONE, 1, glimpse)

    customer = process.customer(np.zeros(0), CONFIGURATIONS)
    shared, alone = process.covariance([customer])
    covariance = shared + 2.0 * alone
    scaled = observe(with_results({0: 0.5, 5: 0.6, 7: 0.7}), process.spread)
    noise = process.noise + np.array([0.0, 0.0, (0.03 / scaled.scale) ** 2])
    weights = covariance[:, seen] @ np.linalg.inv(covariance[np.ix_(seen, seen)] + np.diag(noise))
    assert plan.expected == pytest.approx(customer.mean + weights @ (scaled.values - customer.mean[seen]))


def test_a_failure_that_was_seen_to_its_end_says_what_a_result_says(process: TaskProcess) -> None:
    failed = NONE.copy()
    failed[7] = True
    certain = Glimpses(np.array([7]), np.array([0.7]), np.zeros(1))
    plan = search(process).plan(with_results({0: 0.5}), NONE, failed, K, certain)
    told = search(process).plan(with_results({0: 0.5, 7: 0.7}), NONE, NONE, K)
    assert plan.expected == pytest.approx(told.expected)
    assert 7 not in plan.order


def test_a_failure_says_nothing(process: TaskProcess) -> None:
    """The next one is the best that is left, as if it were the first; were the other running, it would be one that differs."""
    first = search(process).plan(NOTHING, NONE, NONE)
    failed = NONE.copy()
    failed[first.order] = True
    after = search(process).plan(NOTHING, NONE, failed)
    np.testing.assert_array_equal(after.expected, first.expected)
    assert after.order[0] == np.argmax(np.where(failed, -np.inf, first.expected))


def test_the_rest_of_a_plan_is_what_one_chooses_while_its_beginning_runs(process: TaskProcess) -> None:
    whole = search(process).plan(NOTHING, NONE, NONE, 5).order
    running = NONE.copy()
    running[whole[:2]] = True
    np.testing.assert_array_equal(search(process).plan(NOTHING, running, NONE, 3).order, whole[2:])


def test_results_move_the_plan(process: TaskProcess) -> None:
    """Large x is liked in general, but not here."""
    by_x = {int(i): 0.5 - 0.1 * CONFIGURATIONS[i, 0] for i in np.flatnonzero(CONFIGURATIONS[:, 1] == 0)[1:]}
    aps = with_results(by_x)
    usual = CONFIGURATIONS[search(process).plan(NOTHING, NONE, NONE).order[0]]
    corrected = CONFIGURATIONS[search(process).plan(aps, NONE, NONE).order[0]]
    assert usual[0] == 3
    assert corrected[0] == 0


def test_a_trial_is_chosen_by_expected_improvement_under_all_hypotheses(process: TaskProcess) -> None:
    """Against the definition, with one customer before and two results."""
    own = (1.0, 5.0)
    whole = process.customer(np.zeros(0), CONFIGURATIONS)
    before = observe(
        np.where(np.arange(K) < 3, np.array([0.7, 0.5, 0.6] + [0.0] * (K - 3)), np.nan), process.spread
    )
    past = [Finished(whole.at(before.indices), before.values)]
    aps = with_results({4: 0.5, 9: 0.6})
    seen = observe(aps, process.spread)

    shared, alone = process.covariance([past[0].customer, whole])
    at = np.r_[np.arange(3), 3 + seen.indices]
    values = np.r_[before.values, seen.values]
    mean = np.r_[past[0].customer.mean, whole.mean]
    known, gains, means = [], [], []
    for factor in own:
        spread = shared + factor * alone
        noisy = spread[np.ix_(at, at)] + process.noise * np.eye(len(at))
        gain = spread[:, at] @ np.linalg.inv(noisy)
        after, left = (mean + gain @ (values - mean[at]))[3:], (spread - gain @ spread[at])[3:, 3:]
        best = max(seen.indices, key=lambda i, m=after: m[i])
        variance = np.diag(left) + left[best, best] - 2 * left[best]
        gains.append(expected_improvement(after, np.sqrt(np.maximum(variance, 0)), after[best]))
        known.append(multivariate_normal(mean[at], noisy).logpdf(values))
        means.append(after)
    weights = softmax(np.array(known) - np.log(own))
    found = search(process, past, own=own).plan(aps, NONE, NONE)
    np.testing.assert_allclose(found.expected, weights @ np.stack(means), atol=1e-8)
    assert found.order[0] == np.argmax(np.where(np.isnan(aps), weights @ np.stack(gains), -np.inf))


def test_processes_are_believed_by_how_well_they_foretell(process: TaskProcess) -> None:
    """One knows two kinds of data sets apart, and this customer is of the second kind, or only looks like it."""
    rng = np.random.default_rng(1)
    places = np.r_[rng.normal(-1, 0.1, (12, 1)), rng.normal(1, 0.1, (12, 1))]
    taste = CONFIGURATIONS[:, 0] - 1.5
    aps = 0.5 + 0.05 * np.sign(places) * taste + 0.005 * rng.normal(size=(24, K))
    seeing = TaskProcess.fit(aps, CONFIGURATIONS, places)
    blind = TaskProcess.fit(aps, CONFIGURATIONS, np.zeros((24, 0)))
    views = [
        Sight(seeing, seeing.customer(np.array([1.0]), CONFIGURATIONS)),
        Sight(blind, blind.customer(np.zeros(0), CONFIGURATIONS)),
    ]

    def slope(aps: FloatArray, *which: Sight) -> float:
        return float(GaussianSearch(which).plan(aps, NONE, NONE).expected @ taste)

    alone = [slope(NOTHING, view) for view in views]
    assert slope(NOTHING, *views) == pytest.approx(np.mean(alone)), "alike beforehand"
    for turned, trusted in ((1, 0), (-1, 1)):
        results = {i: 0.5 + turned * 0.05 * taste[i] for i in range(6)}
        aps = with_results(results)
        each = [slope(aps, view) for view in views]
        both = slope(aps, *views)
        assert min(each) - 1e-9 <= both <= max(each) + 1e-9, "but for rounding"
        assert abs(both - each[trusted]) < abs(both - each[1 - trusted])


def test_hypotheses_are_believed_in_inverse_proportion_to_what_is_a_customers_own(
    process: TaskProcess,
) -> None:
    """In inverse proportion to :data:`OWN`, times how well each foretold a customer before."""
    whole = process.customer(np.zeros(0), CONFIGURATIONS)
    before = observe(np.where(np.arange(K) < 2, 0.5 + 0.06 * np.arange(K), np.nan), process.spread)
    past = [Finished(whole.at(before.indices), before.values)]
    each = [search(process, past, own=(factor,)).plan(NOTHING, NONE, NONE).expected for factor in OWN]
    shared, alone = process.covariance([past[0].customer])
    noise = process.noise * np.eye(len(before.values))
    foretold = [
        multivariate_normal(past[0].customer.mean, shared + factor * alone + noise).pdf(before.values)
        for factor in OWN
    ]
    weights = np.array(foretold) / OWN
    expected = weights / weights.sum() @ np.stack(each)
    np.testing.assert_allclose(search(process, past).plan(NOTHING, NONE, NONE).expected, expected, atol=1e-8)
    wrong = np.array(foretold) / np.sum(foretold) @ np.stack(each)
    assert np.abs(wrong - expected).max() > 1e-4, "it would be seen if they were believed alike"


def test_a_trial_beside_a_running_one_is_chosen_by_the_mean_over_what_that_may_bring(
    process: TaskProcess,
) -> None:
    """Against very many results of the running trial, drawn one by one and taken in as the measurements that they will be."""
    aps = with_results({4: 0.5, 9: 0.6})
    running = np.arange(K) == 7
    seen = observe(aps, process.spread)
    whole = process.customer(np.zeros(0), CONFIGURATIONS)
    shared, alone = process.covariance([whole])
    mean, covariance, _ = posterior(whole.mean, shared + alone, seen.indices, seen.values, process.noise)
    deviation = np.sqrt(covariance[7, 7] + process.noise)
    tried = running | ~np.isnan(aps)
    gains = []
    for z in np.random.default_rng(0).normal(size=4000):
        then, left, _ = posterior(mean, covariance, np.array([7]), mean[[7]] + z * deviation, process.noise)
        gains.append(gain_of_next(then, left, tried))
    believed = _Belief(process, mean, covariance, 0.0).gain_beside(np.array([7]), tried)
    np.testing.assert_allclose(believed, np.mean(gains, axis=0), rtol=0.1, atol=2e-3)
    by_hand = int(np.argmax(np.where(tried, -np.inf, believed)))
    assert search(process, own=(1.0,)).plan(aps, running, NONE).order[0] == by_hand


def test_what_runs_is_not_taken_for_what_is_expected_of_it(process: TaskProcess) -> None:
    """A running trial moves the choice away from its like, as a failed one does not; expectations stay as they were."""
    first = search(process).plan(NOTHING, NONE, NONE)
    running = np.arange(K) == first.order[0]
    beside = search(process).plan(NOTHING, running, NONE)
    instead = search(process).plan(NOTHING, NONE, running)
    np.testing.assert_array_equal(beside.expected, first.expected)
    apart = np.abs(CONFIGURATIONS - CONFIGURATIONS[first.order[0]]).sum(axis=1)
    assert apart[beside.order[0]] >= apart[instead.order[0]]
    np.testing.assert_array_equal(beside.order, search(process).plan(NOTHING, running, NONE).order)


@pytest.mark.parametrize(("customers", "trials", "kept"), [(100, 4, 4), (100, 200, 4), (5, 2000, 32)])
def test_of_many_customers_with_many_trials_a_bounded_number_takes_part(
    customers: int, trials: int, kept: int
) -> None:
    rng = np.random.default_rng(0)
    eye = Eye(rng.random((14, K)), CONFIGURATIONS, rng.normal(size=(14, 3)))
    tried = rng.random((trials, 2)) * 3
    past = [eye.finished(rng.normal(size=3), tried, rng.random(trials)) for _ in range(customers)]
    seen = eye.view(rng.normal(size=3), CONFIGURATIONS, past).past
    assert [len(each.values) for each in seen] == [kept] * customers
    assert max(len(each.values) for each in past) <= ROWS_OF_ONE
    assert sum(len(each.customer.described) for each in seen) <= ROWS


def test_the_most_telling_trial_is_the_one_of_which_least_is_known_after_those_before_it(
    process: TaskProcess,
) -> None:
    described = np.random.default_rng(1).random((40, 2)) * 3
    chosen = process.telling(described, 6).tolist()
    prior = process._kernels(described, described).sum(axis=0)
    for step, pick in enumerate(chosen):
        at = chosen[:step]
        noisy = prior[np.ix_(at, at)] + process.noise * np.eye(step)
        left = np.diag(prior) - (prior[:, at] @ np.linalg.solve(noisy, prior[at])).diagonal()
        left[at] = -np.inf
        assert left[pick] == pytest.approx(left.max())
    assert process.telling(described, 6, [39]).tolist()[0] == 39
