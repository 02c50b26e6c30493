"""DYCORS: its parts against their definitions, brute force and the authors' own program, and the search as a whole."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nni_hyperfd.errors import SpaceError
from nni_hyperfd.recommendation import dycors
from nni_hyperfd.recommendation.dycors import (
    DYCORS,
    RADIUS,
    CubicSurrogate,
    candidates_around,
    change_probability,
    choose,
    symmetric_latin_hypercube,
    unit_range,
)
from nni_hyperfd.recommendation.numeric_search import NumericSearch


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@given(st.integers(1, 12), st.integers(1, 5), st.integers(0, 2**32))
def test_the_design_is_latin_and_symmetric(points: int, dimensions: int, seed: int) -> None:
    design = symmetric_latin_hypercube(points, dimensions, rng(seed))
    levels = np.sort(design, axis=0) * max(1, points - 1)
    np.testing.assert_allclose(levels, np.tile(np.arange(points)[:, None], (1, dimensions)))
    if points > 1:
        np.testing.assert_allclose(design + design[::-1], 1.0)


def test_the_surrogate_goes_through_its_points_and_solves_its_equations() -> None:
    points = rng().random((9, 2))
    values = np.sin(5 * points[:, 0]) + points[:, 1]
    surrogate = CubicSurrogate.fit(points, values)
    np.testing.assert_allclose(surrogate(points), values, atol=1e-4)
    # c is orthogonal to every linear function.
    linear = np.column_stack([np.ones(9), points])
    np.testing.assert_allclose(linear.T @ surrogate.coefficients, 0.0, atol=1e-7)
    at = np.array([0.2, 0.7])
    by_hand = sum(c * math.dist(at, x) ** 3 for c, x in zip(surrogate.coefficients, points))
    by_hand += surrogate.tail[0] + at @ surrogate.tail[1:]
    assert surrogate(at[None])[0] == pytest.approx(by_hand)


def test_a_linear_function_is_found_exactly() -> None:
    points = rng().random((6, 3))
    surrogate = CubicSurrogate.fit(points, 1 + points @ np.array([2.0, -1.0, 0.5]))
    assert surrogate(np.array([[0.5, 0.5, 0.5]]))[0] == pytest.approx(1.75)


def test_points_in_a_plane_are_refused() -> None:
    points = np.column_stack([np.linspace(0, 1, 5), np.zeros(5)])
    with pytest.raises(np.linalg.LinAlgError):
        CubicSurrogate.fit(points, points[:, 0])


def test_fewer_and_fewer_coordinates_change() -> None:
    assert change_probability(1, 100, 30) == pytest.approx(20 / 30)
    assert change_probability(1, 100, 4) == 1.0
    assert change_probability(10, 100, 4) == pytest.approx(0.5)
    assert change_probability(99, 100, 4) == 0.25
    assert change_probability(500, 100, 4) == 0.25


@given(st.integers(1, 8), st.floats(0.0, 1.0), st.integers(0, 2**32))
def test_candidates_stay_in_the_box_and_differ_somewhere(dimensions: int, chance: float, seed: int) -> None:
    best = rng(seed).random(dimensions)
    drawn = candidates_around(best, np.zeros(dimensions), RADIUS, chance, rng(seed))
    assert drawn.shape == (100 * dimensions, dimensions)
    assert ((drawn >= 0) & (drawn <= 1)).all()
    assert (drawn != best).any(axis=1).all()


def test_a_step_is_the_least_deviation() -> None:
    best = np.full(2, 0.5)
    fine = candidates_around(best, np.array([0.0, 0.3]), 0.001, 1.0, rng())
    assert fine[:, 0].std() < 0.01 < 0.1 < fine[:, 1].std()


def test_the_choice_is_the_least_merit_by_brute_force() -> None:
    tried = rng(1).random((8, 2))
    surrogate = CubicSurrogate.fit(tried, ((tried - 0.4) ** 2).sum(1))
    candidates = rng(2).random((50, 2))
    value = unit_range(surrogate(candidates))
    near = np.array([min(math.dist(c, t) for t in tried) for c in candidates])
    for weight in (0.3, 0.95):
        merit = weight * value + (1 - weight) * (1 - unit_range(near))
        chosen = choose(candidates, surrogate, tried, weight)
        assert chosen is not None
        np.testing.assert_array_equal(chosen, candidates[np.argmin(merit)])
    assert choose(tried, surrogate, tried, 0.5) is None


def test_parts_agree_with_the_authors_program() -> None:
    surrogates = pytest.importorskip(
        "pySOT.surrogate", reason="pySOT is an optional extra (pip install pySOT)"
    )
    merit = pytest.importorskip("pySOT.auxiliary_problems.candidate_srbf")
    points, values = rng(3).random((14, 3)), rng(4).random(14)
    theirs = surrogates.RBFInterpolant(3, lb=np.zeros(3), ub=np.ones(3))
    theirs.add_points(points, values[:, None])
    ours = CubicSurrogate.fit(points, values)
    candidates = rng(5).random((300, 3))
    np.testing.assert_allclose(ours(candidates), theirs.predict(candidates)[:, 0], atol=1e-6)
    for weight in dycors.WEIGHTS:
        expected = merit.weighted_distance_merit(
            1, theirs, points, values[:, None], candidates.copy(), [weight]
        )
        np.testing.assert_allclose(choose(candidates, ours, points, weight), expected[0])


@pytest.mark.parametrize("step", [0.0, 1 / 19])
def test_step_by_step_it_goes_where_the_authors_program_goes(
    step: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both are given one design and one draw of candidates at each step; best point, radius, probability, choice and end are their own."""
    theirs = pytest.importorskip(
        "pySOT.strategy.dycors_strategy", reason="pySOT is an optional extra (pip install pySOT)"
    )
    merit = pytest.importorskip("pySOT.auxiliary_problems.candidate_srbf").weighted_distance_merit
    surrogates, designs, problems = (
        pytest.importorskip(f"pySOT.{name}")
        for name in ("surrogate", "experimental_design", "optimization_problems")
    )
    records = pytest.importorskip("poap.strategy")
    dimensions, budget = 4, 60

    def snap(points: np.ndarray) -> np.ndarray:
        return np.round(points / step) * step if step else points

    def value(point: np.ndarray) -> float:
        return float((np.array([1, 3, 9, 27]) * (point - 0.37) ** 2).sum())

    drawn: list[tuple[np.ndarray, float, float, np.ndarray]] = []

    def remembered(
        best: np.ndarray, steps: np.ndarray, radius: float, probability: float, generator: np.random.Generator
    ) -> np.ndarray:
        found = candidates_around(best, steps, radius, probability, generator)
        drawn.append((best, radius, probability, snap(found)))
        return found

    def with_ours(num_pts, X, fX, weights, prob_perturb, Xpend, sampling_radius, surrogate, **_):  # type: ignore[no-untyped-def]
        best, radius, probability, candidates = drawn[-1]
        np.testing.assert_array_equal(X[np.argmin(fX)], best)
        assert sampling_radius == radius
        assert prob_perturb == pytest.approx(probability)
        return merit(num_pts, surrogate, X, fX, candidates.copy(), weights, Xpend)

    monkeypatch.setattr(dycors, "candidates_around", remembered)
    monkeypatch.setattr(theirs, "candidate_dycors", with_ours)
    ours = DYCORS(np.full(dimensions, step), budget, rng(7), snap)
    design = np.stack(ours._design)

    class Given(designs.ExperimentalDesign):  # type: ignore[misc]
        dim, num_pts = dimensions, len(design)

        def __init__(self) -> None:
            pass

        def generate_points(self, **_: object) -> np.ndarray:
            return design[::-1]  # it takes the last one first

    problem = problems.Sphere(dimensions)
    problem.lb, problem.ub = np.zeros(dimensions), np.ones(dimensions)
    box = {"lb": problem.lb, "ub": problem.ub}
    strategy = theirs.DYCORSStrategy(budget, problem, Given(), surrogates.RBFInterpolant(dimensions, **box))
    for number in range(budget):
        if number == len(design):
            # It counts successes from its first adapted point on; the paper, and we, against the best of all.
            strategy._fbest = float(strategy._fX.min())
        point = ours.ask()
        proposal = strategy.propose_action()
        if ours._first:
            assert len(strategy._X) == 0, "both have converged, and begin anew with a design of their own"
            break
        np.testing.assert_allclose(proposal.args[0], point)
        proposal.record = records.EvalRecord(proposal.args)
        proposal.accept()
        proposal.record.complete(value(point))
        ours.tell(point, value(point))
    assert len(drawn) > budget / 2
    assert len({radius for _, radius, *_ in drawn}) > 1, "the radius has changed on the way"


def radii(values: list[float], dimensions: int = 2) -> list[float]:
    """The radius after each of ``values``, which come after a design whose best is 1."""
    search = DYCORS(np.zeros(dimensions), 500, rng())
    for _ in range(2 * (dimensions + 1)):
        search.tell(search.ask(), 1.0)
    found = []
    for value in values:
        search.tell(search.ask(), value)
        found.append(search._radius)
    return found


def test_failures_halve_the_radius_and_successes_double_it() -> None:
    assert radii([2.0] * 4) == [0.2, 0.2, 0.2, 0.1]
    assert radii([2.0] * 4 + [0.9, 0.8, 0.7]) == [0.2, 0.2, 0.2, 0.1, 0.1, 0.1, 0.2]
    assert radii([0.9, 0.8, 0.7])[-1] == 0.2  # never above the first
    # A gain below a thousandth is none.
    assert radii([0.9999] * 4)[-1] == 0.1


def test_it_begins_anew_when_it_has_converged() -> None:
    search = DYCORS(np.zeros(2), 500, rng())
    for _ in range(6):
        search.tell(search.ask(), 1.0)
    for _ in range(16):
        assert not search._design
        search.tell(search.ask(), 2.0)
    assert len(search._design) == 6
    assert search._radius == RADIUS
    assert search.best[1] == 1.0


def sphere(x: np.ndarray) -> float:
    return float(((x - 0.37) ** 2).sum())


def ackley(x: np.ndarray) -> float:
    z = 30 * (x - 0.61)
    return float(
        20 + math.e - 20 * math.exp(-0.2 * math.sqrt((z**2).mean())) - math.exp(np.cos(2 * np.pi * z).mean())
    )


@pytest.mark.parametrize("function", [sphere, ackley])
def test_it_is_far_ahead_of_random_search(function) -> None:
    found, chance = [], []
    for seed in range(5):
        search = DYCORS(np.zeros(5), 80, rng(seed))
        for _ in range(80):
            point = search.ask()
            search.tell(point, function(point))
        found.append(search.best[1])
        chance.append(min(function(x) for x in rng(100 + seed).random((80, 5))))
    assert np.median(found) < 0.5 * np.median(chance)


def test_the_same_seed_gives_the_same_search() -> None:
    def run(seed: int) -> list[list[float]]:
        search = DYCORS(np.zeros(3), 30, rng(seed))
        points = []
        for _ in range(30):
            points.append(search.ask())
            search.tell(points[-1], sphere(points[-1]))
        return [point.tolist() for point in points]

    assert run(1) == run(1)
    assert run(1) != run(2)


def test_points_under_way_are_not_proposed_again() -> None:
    search = DYCORS(np.zeros(2), 60, rng())
    for _ in range(10):
        search.tell(point := search.ask(), sphere(point))
    together = [search.ask() for _ in range(8)]
    distances = [math.dist(a, b) for i, a in enumerate(together) for b in together[:i]]
    assert min(distances) >= dycors.CLOSEST


def test_a_failed_point_counts_for_nothing() -> None:
    search = DYCORS(np.zeros(1), 20, rng())
    for _ in range(20):
        point = search.ask()
        search.tell(point, None if point[0] < 0.5 else sphere(point))
    assert search.best[0][0] >= 0.5


def test_without_a_result_there_is_no_best() -> None:
    with pytest.raises(SpaceError, match="no trial"):
        _ = DYCORS(np.zeros(1), 5, rng()).best
    with pytest.raises(SpaceError, match="numeric key"):
        DYCORS(np.zeros(0), 5, rng())


COUNTS = {f"s{i}": {"_type": "randint", "_value": [1, 21]} for i in range(9)}


def test_counts_are_whole_and_the_hidden_ones_are_approached() -> None:
    hidden = np.array([3, 9, 14, 1, 20, 7, 5, 5, 12])
    search = NumericSearch(COUNTS, budget=100, seed=0)
    best = math.inf
    for number in range(100):
        asked = search.ask(number)
        assert all(isinstance(value, int) and 1 <= value <= 20 for value in asked.values())
        value = float(np.abs(np.array(list(asked.values())) - hidden).sum())
        best = min(best, value)
        search.tell(number, value)
    chance = np.abs(rng(9).integers(1, 21, (100, 9)) - hidden).sum(1).min()
    assert best < 0.7 * chance


def test_logarithmic_and_rounded_keys() -> None:
    search = NumericSearch(
        {
            "lr": {"_type": "loguniform", "_value": [1e-4, 1e-1]},
            "width": {"_type": "quniform", "_value": [8, 64, 8]},
        },
        30,
        0,
    )
    asked = [search.ask(number) for number in range(30)]
    assert {value["width"] % 8 for value in asked} == {0}
    assert all(1e-4 <= value["lr"] <= 1e-1 for value in asked)
    assert np.median([math.log10(value["lr"]) for value in asked]) == pytest.approx(-2.5, abs=0.5)


@pytest.mark.parametrize(
    ("entry", "word"),
    [
        ({"_type": "choice", "_value": ["sgd", "adam"]}, "choice"),
        ({"_type": "normal", "_value": [0, 1]}, "normal"),
    ],
)
def test_keys_that_are_no_range_are_named(entry: dict, word: str) -> None:
    with pytest.raises(SpaceError, match=f"k is of the type {word}"):
        NumericSearch({"k": entry}, 10, 0)


def test_a_result_after_a_failure_counts_and_a_second_one_does_not() -> None:
    search = NumericSearch({"x": {"_type": "uniform", "_value": [0, 1]}}, 10, 0)
    search.ask(0)
    search.tell(0, None)
    search.tell(0, 3.0)
    search.tell(0, 1.0)
    assert search._dycors.best[1] == 3.0


def test_a_result_after_a_failure_leaves_the_design_as_it_is() -> None:
    space = {"x": {"_type": "uniform", "_value": [0, 1]}}
    once, twice = (NumericSearch(space, 10, 0) for _ in range(2))
    for search in (once, twice):
        search.ask(0)
    twice.tell(0, None)
    for search in (once, twice):
        search.tell(0, 3.0)
    assert [once.ask(number) for number in (1, 2, 3)] == [twice.ask(number) for number in (1, 2, 3)]


def test_a_failure_elsewhere_takes_its_own_place_in_the_design_and_no_other() -> None:
    search = DYCORS(np.zeros(2), 60, rng())
    design = list(search._design)
    search.learn(np.full(2, 0.123), None)
    assert len(search._design) == 6
    search.learn(design[3], None)
    asked = [search.ask() for _ in range(5)]
    np.testing.assert_array_equal(asked, [design[i] for i in (5, 4, 2, 1, 0)])
    search.learn(asked[-1], None)
    assert len(search._pending) == 4
    assert not search._values
