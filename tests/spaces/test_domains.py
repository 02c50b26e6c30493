from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nni.algorithms.hpo.random_tuner import RandomTuner

from nni_hyperfd.errors import SpaceError
from nni_hyperfd.spaces.domains import Choice, read_domain

NUMBERS: dict[str, list[float]] = {
    "uniform": [-1.5, 2.5],
    "quniform": [0.3, 7.7, 0.5],
    "loguniform": [1e-5, 1e-1],
    "qloguniform": [1, 100, 7],
    "normal": [3, 2],
    "qnormal": [0, 5, 0.25],
    "lognormal": [0, 1],
    "qlognormal": [0, 1, 0.5],
    "randint": [-3, 5],
}


def domain_of(kind: str, value: list[Any]) -> Any:
    return read_domain("x", {"_type": kind, "_value": value})


@pytest.mark.parametrize("kind", NUMBERS)
def test_nnis_own_samples_are_values_of_the_domain(kind: str) -> None:
    domain = domain_of(kind, NUMBERS[kind])
    tuner = RandomTuner(seed=1)
    # A second, continuous key keeps NNI's tuner from running out of distinct points.
    tuner.update_search_space(
        {"x": {"_type": kind, "_value": NUMBERS[kind]}, "y": {"_type": "uniform", "_value": [0, 1]}}
    )
    for _ in range(200):
        value = tuner.generate_parameters()["x"]
        assert domain.value(domain.coordinate(value)) == value


@pytest.mark.parametrize("kind", NUMBERS)
def test_draws_are_values_and_follow_nnis_distribution(kind: str) -> None:
    domain = domain_of(kind, NUMBERS[kind])
    column = domain.draw(np.random.default_rng(0), 4000)
    assert all(domain.coordinate(domain.value(x)) == x for x in column)
    tuner = RandomTuner(seed=1)
    tuner.update_search_space(
        {"x": {"_type": kind, "_value": NUMBERS[kind]}, "y": {"_type": "uniform", "_value": [0, 1]}}
    )
    theirs = [tuner.generate_parameters()["x"] for _ in range(4000)]
    for quantile in (0.1, 0.5, 0.9):
        spread = np.std(theirs) * 0.1 + (domain.step or 0)
        assert np.quantile(column, quantile) == pytest.approx(np.quantile(theirs, quantile), abs=spread)


@pytest.mark.parametrize("kind", NUMBERS)
def test_one_scaled_feature_in_the_order_of_the_values(kind: str) -> None:
    domain = domain_of(kind, NUMBERS[kind])
    column = np.unique(domain.draw(np.random.default_rng(0), 50))
    features = domain.encode(column)
    assert features.shape == (len(column), 1)
    assert np.isfinite(features).all()
    assert (np.diff(features[:, 0]) > 0).all()
    if domain.bounded:
        assert features.min() >= -1e-6
        assert features.max() <= 1 + 1e-6


def test_scaling_by_hand() -> None:
    assert domain_of("uniform", [2, 6]).encode(np.array([3.0])).tolist() == [[0.25]]
    assert domain_of("loguniform", [1e-4, 1e-2]).encode(np.array([1e-3]))[0, 0] == pytest.approx(0.5)
    assert domain_of("randint", [0, 5]).encode(np.array([4.0])).tolist() == [[1.0]]
    assert domain_of("normal", [3, 2]).encode(np.array([7.0])).tolist() == [[2.0]]


@pytest.mark.parametrize(
    ("kind", "arguments", "values"),
    [
        ("randint", [-1, 3], [-1, 0, 1, 2]),
        ("quniform", [0, 1, 0.25], [0, 0.25, 0.5, 0.75, 1]),
        ("quniform", [1, 9.5, 4], [1, 4, 8]),
        ("quniform", [3, 12, 4], [4, 8, 12]),
        ("qloguniform", [1, 20, 8], [1, 8, 16]),
        ("choice", ["a", 2, True], [0, 1, 2]),
    ],
)
def test_finite_domains_are_listed(kind: str, arguments: list[Any], values: list[float]) -> None:
    domain = domain_of(kind, arguments)
    assert domain.all().tolist() == values
    assert domain.size == len(values)


@given(st.floats(-50, 50), st.floats(0.01, 80), st.floats(0.05, 20))
def test_the_count_of_a_rounded_range_is_the_length_of_its_list(
    low: float, width: float, step: float
) -> None:
    domain = domain_of("quniform", [low, low + width, step])
    listed = domain.all()
    assert len(np.unique(listed)) == domain.size
    assert set(domain.draw(np.random.default_rng(0), 200)) <= set(listed)


def test_continuous_and_unbounded_domains_have_no_size() -> None:
    for kind in ("uniform", "loguniform", "normal", "qnormal", "lognormal", "qlognormal"):
        assert domain_of(kind, NUMBERS[kind]).size == math.inf


def test_choice_is_one_hot_and_numbers_carry_their_scaled_value() -> None:
    rates = Choice("lr", (3e-4, 1e-3, 3e-3))
    logarithmic = math.log(1e-3 / 3e-4) / math.log(10)
    expected = np.array([[1, 0, 0, 0], [0, 1, 0, logarithmic], [0, 0, 1, 1]])
    assert np.allclose(rates.encode(rates.all()), expected)
    linear = Choice("iou", (0.4, 0.5, 0.6))
    assert linear.encode(linear.all())[:, 3] == pytest.approx([0, 0.5, 1])
    for plain in (Choice("o", ("sgd", "adam", "x")), Choice("b", (True, False))):
        assert (plain.encode(plain.all()) == np.eye(plain.size)).all()


def test_true_and_one_are_different_choices() -> None:
    domain = Choice("x", (1, True, "1"))
    assert [domain.coordinate(value) for value in (1, True, "1", 1.0)] == [0, 1, 2, 0]


@pytest.mark.parametrize("kind", [*NUMBERS, "choice"])
def test_moves_are_other_values_of_the_domain(kind: str) -> None:
    domain = domain_of(kind, NUMBERS.get(kind, [1, 2, 3]))
    rng = np.random.default_rng(0)
    seen = 0
    for x in domain.draw(rng, 50):
        for moved in domain.moves(x, rng):
            seen += 1
            assert moved != x
            assert domain.coordinate(domain.value(moved)) == moved
    assert seen > 50


@pytest.mark.parametrize(
    ("kind", "arguments", "wrong"),
    [
        ("uniform", [0, 1], [1.1, -0.1, math.nan, "0.5", True, None]),
        ("quniform", [0, 1, 0.25], [0.3]),
        ("randint", [0, 3], [3, 1.5]),
        ("lognormal", [0, 1], [0, -1]),
        ("normal", [0, 1], [math.inf]),
        ("choice", [1, 2, 3], [4, True, "1", [1]]),
    ],
)
def test_values_out_of_the_domain_are_refused(kind: str, arguments: list[Any], wrong: list[Any]) -> None:
    for value in wrong:
        with pytest.raises(SpaceError, match=r"^x is .*; (give a|use one of) .*\.$"):
            domain_of(kind, arguments).coordinate(value)


@pytest.mark.parametrize(
    ("specification", "message"),
    [
        ([1, 2], "write"),
        ({"_type": "choice"}, "write"),
        ({"_type": "choice", "_value": 3}, "write"),
        ({"_type": "choice", "_value": []}, "list at least one"),
        ({"_type": "choice", "_value": [1, 1.0]}, "list each once"),
        ({"_type": "choice", "_value": [1, [2]]}, "numbers, texts and true/false"),
        ({"_type": "choice", "_value": [{"_name": "a"}]}, "numbers, texts and true/false"),
        ({"_type": "layer_choice", "_value": [1]}, "type 'layer_choice'; use one of choice, uniform"),
        ({"_type": "uniform", "_value": [0]}, "give 2 numbers"),
        ({"_type": "uniform", "_value": [0, "1"]}, "give 2 numbers"),
        ({"_type": "uniform", "_value": [1, 1]}, "the first must be the smaller"),
        ({"_type": "quniform", "_value": [0, 1]}, "give 3 numbers"),
        ({"_type": "quniform", "_value": [0, 1, 0]}, "give one above 0"),
        ({"_type": "loguniform", "_value": [0, 1]}, "starts above 0"),
        ({"_type": "normal", "_value": [0, 0]}, "give one above 0"),
        ({"_type": "randint", "_value": [0, 2.5]}, "give whole numbers"),
    ],
)
def test_malformed_entries_are_refused_by_name(specification: Any, message: str) -> None:
    with pytest.raises(SpaceError, match=rf"^x .*{message}.*\.$"):
        read_domain("x", specification)
