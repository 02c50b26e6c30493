"""Final metrics of trials: what counts as a result, and how the trial was trained."""

from __future__ import annotations

import math

import pytest

from nni_hyperfd.customer.result import Regime, Result, read_metric
from nni_hyperfd.errors import PluginError


def test_a_number_is_the_ap_on_val() -> None:
    assert read_metric(0.5) == Result(ap=0.5)
    assert read_metric(1) == Result(ap=1.0)


def test_a_dict_brings_more() -> None:
    value = {"default": 0.5, "test_ap": 0.4, "heldout_ap": 0.45, "seconds": 12, "epochs": 8}
    assert read_metric(value) == Result(0.5, 0.4, 0.45, 12.0)


def test_additions_that_make_no_sense_are_left_out() -> None:
    assert read_metric({"default": 0.5, "test_ap": math.nan, "seconds": -1}) == Result(0.5)


@pytest.mark.parametrize(
    "value", [math.nan, math.inf, 73.2, -0.1, "0.5", True, None, {}, {"ap": 0.5}, {"default": None}]
)
def test_anything_else_is_no_result(value: object) -> None:
    with pytest.raises(PluginError, match="final result"):
        read_metric(value)


@pytest.mark.parametrize(
    ("command", "training"),
    [
        ("python finetune.py --data faces", Regime("short", 0)),
        ("python finetune.py --data faces --budget=paper --seed 7 --unknown x", Regime("paper", 7)),
        ("cd code && python my_own.py", Regime("unnamed", 0)),
        ("python finetune.py --budget 'a path/to.txt'", Regime("unnamed", 0)),
        ("python finetune.py --seed many", Regime("unnamed", 0)),
        ("python finetune.py 'unclosed", Regime("unnamed", 0)),
    ],
)
def test_the_trial_command_says_how_trials_train(command: str, training: Regime) -> None:
    assert Regime.from_command(command) == training
