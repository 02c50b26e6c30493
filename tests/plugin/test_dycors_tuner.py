"""DYCORS as NNI sees it: two threads, failures, a resume, wrong arguments."""

from __future__ import annotations

import json
import math
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nni.runtime import msg_dispatcher
from nni.runtime.tuner_command_channel import CommandType

from nni_hyperfd import DYCORSTuner
from nni_hyperfd.errors import PluginError, SpaceError
from nni_hyperfd.spaces.standard import standard_search_space
from tests.fixtures.nni_dispatcher import Nni

SPACE = {"x": {"_type": "uniform", "_value": [-1, 1]}, "n": {"_type": "randint", "_value": [0, 10]}}


def value(parameters: dict) -> float:
    return -((parameters["x"] - 0.3) ** 2) - abs(parameters["n"] - 7)


def begun(**options) -> DYCORSTuner:
    tuner = DYCORSTuner(**{"budget": 40, **options})
    tuner.update_search_space(SPACE)
    return tuner


def test_it_maximizes_and_minimizes() -> None:
    for mode, sign in (("maximize", 1.0), ("minimize", -1.0)):
        tuner = begun(optimize_mode=mode)
        found = []
        for number in range(40):
            parameters = tuner.generate_parameters(number)
            found.append(value(parameters))
            tuner.receive_trial_result(number, parameters, {"default": sign * found[-1]})
            tuner.trial_end(number, True)
        assert max(found) > -0.05


def test_results_of_an_earlier_process_are_known() -> None:
    first = begun()
    known = []
    for number in range(20):
        parameters = first.generate_parameters(number)
        known.append({"parameter": parameters, "value": value(parameters)})
        first.receive_trial_result(number, parameters, known[-1]["value"])
    second = begun(seed=1)
    second.import_data(known)
    later = [second.generate_parameters(number) for number in range(12)]
    # No second design is tried: it goes on around the best.
    assert sum(value(each) > -4 for each in later) >= 6
    assert not any(each in [k["parameter"] for k in known] for each in later)


@pytest.mark.parametrize("space", [SPACE, standard_search_space("assignment")])
def test_a_resumed_search_goes_on_with_its_design(space: dict[str, Any]) -> None:
    """The same seed, as NNI's settings have it; two trials were under way, and NNI starts them again without asking."""
    points = 2 * (len(space) + 1)
    first, second = DYCORSTuner(budget=points), DYCORSTuner(budget=points)
    first.update_search_space(space)
    second.update_search_space(space)
    design = [first.generate_parameters(number) for number in range(points)]
    second.import_data([{"parameter": each, "value": 0.5} for each in design[:2]])
    asked = [second.generate_parameters(number) for number in range(points - 4)]
    second.import_data([{"parameter": each, "value": 0.5} for each in design[2:4]])
    assert asked == design[:3:-1]


def test_what_was_begun_again_and_failed_is_not_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NNI's own dispatcher keeps the end of such a trial from its tuner."""
    monkeypatch.setattr(msg_dispatcher, "_next_parameter_id", 0)
    nni = Nni(tmp_path, {})
    nni.begin(DYCORSTuner(budget=20), SPACE)
    running = nni.request(4)
    design = [nni.forms[each]["parameters"] for each in running]
    for each in running[:2]:
        nni.report(each, 0.5)
        nni.end(each)
    nni.begin(DYCORSTuner(budget=20), SPACE)
    finished = [{"parameter": each, "value": "0.5", "trialJobId": "any"} for each in design[:2]]
    nni.do(CommandType.ImportData, finished)
    nni.do(CommandType.AddCustomizedTrialJob, [json.dumps(nni.forms[each]) for each in running[2:]])
    later = nni.request(1)
    nni.end(running[2], "FAILED")
    nni.report(running[3], 0.5)
    nni.end(running[3])
    later += nni.request(3)
    assert running[-1] < later[0]
    asked = [nni.forms[each]["parameters"] for each in later]
    assert not any(each in design for each in asked)


def test_two_threads_lose_nothing() -> None:
    tuner = begun(budget=60)
    handed: list[tuple[int, dict]] = []
    ready = threading.Condition()

    def ask() -> None:
        for number in range(60):
            parameters = tuner.generate_parameters(number)
            with ready:
                handed.append((number, parameters))
                ready.notify()

    def tell() -> None:
        for _ in range(60):
            with ready:
                ready.wait_for(lambda: handed)
                number, parameters = handed.pop(0)
            if number % 7 == 3:
                tuner.trial_end(number, False)
            else:
                tuner.receive_trial_result(number, parameters, value(parameters))

    threads = [threading.Thread(target=ask), threading.Thread(target=tell)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert tuner._search is not None
    assert len(tuner._search._dycors._values) == 60 - 9
    assert not tuner._search._dycors._pending


def test_a_metric_that_is_no_number_is_a_failure() -> None:
    tuner = begun()
    for number, metric in enumerate((float("nan"), "good", {"other": 1.0}, None, True)):
        tuner.receive_trial_result(number, tuner.generate_parameters(number), metric)
    assert tuner._search is not None
    assert tuner._search._dycors._values == []


def test_wrong_arguments_are_named(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(PluginError, match="optimize_mode"):
        DYCORSTuner(budget=5, optimize_mode="best")
    with pytest.raises(PluginError, match="budget"):
        DYCORSTuner(budget=0)
    with pytest.raises(SpaceError, match="optimizer is of the type choice"):
        DYCORSTuner(budget=5).update_search_space({"optimizer": {"_type": "choice", "_value": ["sgd"]}})
    tuner = begun()
    tuner.update_search_space({"y": {"_type": "uniform", "_value": [0, 1]}})
    assert set(tuner.generate_parameters(0)) == {"x", "n"}
    assert "goes on with the one that it began with" in caplog.text


def entries() -> st.SearchStrategy[dict[str, Any]]:
    """Ranges of all numeric types, some of them of a single value."""
    low, width = st.floats(-5, 5), st.floats(0.01, 50)
    ends = st.tuples(low, width).map(lambda drawn: [drawn[0], drawn[0] + drawn[1]])
    positive = st.tuples(st.floats(1e-6, 1.0), st.floats(1.5, 1e4)).map(lambda d: [d[0], d[0] * d[1]])
    step = st.sampled_from([0.25, 1, 3])
    return st.one_of(
        st.tuples(st.integers(-9, 9), st.integers(1, 30)).map(
            lambda drawn: {"_type": "randint", "_value": [drawn[0], drawn[0] + drawn[1]]}
        ),
        ends.map(lambda ends: {"_type": "uniform", "_value": ends}),
        positive.map(lambda ends: {"_type": "loguniform", "_value": ends}),
        st.tuples(ends, step).map(lambda d: {"_type": "quniform", "_value": [*d[0], d[1]]}),
        st.tuples(positive, step).map(lambda d: {"_type": "qloguniform", "_value": [*d[0], d[1]]}),
    )


def inside(value: Any, entry: dict[str, Any]) -> bool:
    """Whether NNI itself might have drawn ``value``."""
    low, high, *step = entry["_value"]
    if entry["_type"] == "randint":
        return isinstance(value, int) and low <= value < high
    near = 1e-9 * max(1.0, abs(low), abs(high))
    if not low - near <= value <= high + near:
        return False
    # A multiple of the step, or an end at which NNI cuts.
    return not step or min(abs(math.remainder(value, step[0])), abs(value - low), abs(value - high)) <= 1e-6


@settings(max_examples=30, deadline=None)
@given(
    st.lists(entries(), min_size=1, max_size=4),
    st.integers(0, 2**63 - 1),
    st.lists(st.sampled_from(["ask", "tell", "fail", "resume"]), max_size=40),
)
def test_whatever_happens_in_whatever_order(
    drawn: list[dict[str, Any]], seed: int, events: list[str]
) -> None:
    """All that is proposed can be tried, and two tuners that are told the same propose the same."""
    space = {f"k{number}": entry for number, entry in enumerate(drawn)}
    tuners = [DYCORSTuner(budget=20, seed=seed) for _ in range(2)]
    for tuner in tuners:
        tuner.update_search_space(space)
    under_way: list[tuple[int, dict[str, Any]]] = []
    known: list[dict[str, Any]] = []
    for number, event in enumerate(events):
        if event == "resume":
            for tuner in tuners:
                tuner.import_data(known)
        elif event == "ask" or not under_way:
            parameters, again = (tuner.generate_parameters(number) for tuner in tuners)
            assert parameters == again
            assert all(inside(parameters[key], entry) for key, entry in space.items()), (space, parameters)
            under_way.append((number, parameters))
        else:
            trial, parameters = under_way.pop(0)
            found = sum(parameters.values())
            for tuner in tuners:
                if event == "fail":
                    tuner.trial_end(trial, False)
                else:
                    tuner.receive_trial_result(trial, parameters, {"default": found})
            if event == "tell":
                known.append({"parameter": parameters, "value": found})


@given(
    st.sampled_from(
        [
            {"_type": "randint", "_value": [5, 5]},
            {"_type": "randint", "_value": [0.5, 3]},
            {"_type": "uniform", "_value": [2, 1]},
            {"_type": "uniform", "_value": [0, math.inf]},
            {"_type": "uniform", "_value": ["0", 1]},
            {"_type": "loguniform", "_value": [0, 1]},
            {"_type": "quniform", "_value": [0, 1, 0]},
            {"_type": "quniform", "_value": [0, 1]},
            {"_type": "normal", "_value": [0, 1]},
            {"_type": "choice", "_value": [1, 2]},
            {"_type": "unheard", "_value": [0, 1]},
            {"_value": [0, 1]},
            [0, 1],
            None,
        ]
    ),
    st.text("abcxyz_", min_size=1, max_size=8),
)
def test_a_key_that_cannot_be_searched_is_named(entry: Any, key: str) -> None:
    with pytest.raises(SpaceError) as told:
        DYCORSTuner(budget=5).update_search_space({"a0": {"_type": "uniform", "_value": [0, 1]}, key: entry})
    assert key in str(told.value)
    assert "\n" not in str(told.value)
