from __future__ import annotations

import json
import pickle

import pytest

from nni_hyperfd.errors import SpaceError
from nni_hyperfd.spaces.architecture import mobilenet_v2
from nni_hyperfd.spaces.configuration import Configuration
from nni_hyperfd.spaces.hyperparameters import DEFAULT_HYPERPARAMETERS, HyperParameters

FULL = Configuration(HyperParameters(optimizer="adam"), mobilenet_v2(), {"batch": 16, "warm": True})


def test_a_configuration_survives_json_and_pickling_and_is_a_key() -> None:
    flat = json.loads(json.dumps(FULL.parameters()))
    assert flat["optimizer"] == "adam"
    assert flat["s2_depth"] == 2
    assert flat["s7_b1"] == "k3e6"
    assert not any(isinstance(value, (dict, list)) for value in flat.values())
    assert Configuration.from_parameters(flat) == FULL
    assert pickle.loads(pickle.dumps(FULL)) == FULL
    assert {FULL: 1}[Configuration.from_parameters(flat)] == 1


def test_nested_choices_of_nni_are_read() -> None:
    flat = FULL.parameters()
    nested: dict[str, object] = {key: value for key, value in flat.items() if not key.startswith("s")}
    nested["s7_b1"] = flat["s7_b1"]
    for number in range(2, 7):
        blocks = {key: value for key, value in flat.items() if key.startswith(f"s{number}_b")}
        nested[f"s{number}_depth"] = {"_name": str(flat[f"s{number}_depth"]), **blocks}
    assert Configuration.from_parameters(nested) == FULL


def test_what_is_not_given_is_left_to_the_trial() -> None:
    assert Configuration.from_parameters({}) == Configuration()
    assert Configuration.from_parameters({"batch": 8}) == Configuration(values={"batch": 8})
    assert Configuration.from_parameters({"lr": 0.001}).hyperparameters == DEFAULT_HYPERPARAMETERS


def test_one_line_of_text() -> None:
    assert str(FULL) == (
        "optimizer=adam lr=0.001 crop=0.3 iou=0.5 locw=2 negp=7 batch=16 warm=True "
        "net=36.36|36.36.36|36.36.36.36|36.36.36|36.36.36|36"
    )
    assert str(Configuration()) == "defaults"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"s2_b1": None}, r"^s2_b1 is missing in an architecture; give one of k3e4, "),
        ({"s4_depth": None}, r"^s4_depth is missing in an architecture; give one of 2, 3, 4\.$"),
        ({"s4_depth": 5}, r"^s4_depth is 5; use one of 2, 3, 4\.$"),
        ({"s2_depth": True}, r"^s2_depth is True; use one of 1, 2, 3\.$"),
        ({"s2_depth": 1}, r"^s2_b2 does not belong to an architecture with these depths; leave it out\.$"),
        ({"s7_depth": 1}, r"^s7_depth does not belong"),
        ({"s6_b1": "k9e6"}, r"^s6_b1 is 'k9e6'; use one of k3e4, "),
        ({"s6_b1": {"_name": "k3e6", "s6_b2": "k3e6"}}, r"^s6_b2 is given twice"),
        ({"lr": -1}, r"^lr \(learning_rate\) is -1; use a number above 0"),
        ({"batch": [1]}, r"^batch is \[1\]; give a number"),
    ],
)
def test_wrong_parameters_are_refused_in_one_sentence(change: dict[str, object], message: str) -> None:
    changed = {**FULL.parameters(), **change}
    with pytest.raises(SpaceError, match=message):
        Configuration.from_parameters({key: value for key, value in changed.items() if value is not None})


def test_parameters_must_be_a_mapping() -> None:
    with pytest.raises(SpaceError, match="give a mapping of keys to values"):
        Configuration.from_parameters([1])  # type: ignore[arg-type]
