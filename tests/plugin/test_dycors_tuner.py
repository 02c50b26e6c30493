"""DYCORS as NNI sees it: two threads, failures, a resume, wrong arguments."""

from __future__ import annotations

import threading

import pytest

from nni_hyperfd import DYCORSTuner
from nni_hyperfd.errors import PluginError, SpaceError

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
