"""The advisor over a real platform and data set: rungs, replacements, what the platform learns, and going on after a stop."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from nni.runtime.tuner_command_channel import CommandType

from nni_hyperfd.platform.platform import Platform
from nni_hyperfd.plugin.advisor import HyperFDAdvisor
from nni_hyperfd.plugin.experiment_end import finish_experiment
from nni_hyperfd.protocol.messages import FindTask

Make = Callable[..., Any]


@pytest.fixture
def advise(monkeypatch: pytest.MonkeyPatch) -> Callable[..., HyperFDAdvisor]:
    """An advisor without the connection that its base class makes."""
    environment = SimpleNamespace(NNI_TUNER_COMMAND_CHANNEL="ws://_unittest_placeholder_", NNI_MODE="start")
    monkeypatch.setattr("nni.runtime.msg_dispatcher_base.dispatcher_env_vars", environment)
    return HyperFDAdvisor


def known(folder: Path) -> dict[int, tuple[float | None, str]]:
    """AP and training budget of what the platform knows, by place in the ranking."""
    platform = Platform.open(folder.parents[1] / "platform")
    task = platform.ask(FindTask(experiment_id=folder.name))
    assert task is not None
    ranking = json.loads((folder / "hyperfd.json").read_text())["ranking"]
    return {ranking.index(dict(t.parameters)): (t.ap, t.budget) for t in platform.trials(task.task_id)}


def test_the_better_half_goes_on(nni_experiment: Make, advise: Callable[..., HyperFDAdvisor]) -> None:
    """Budget smoke has 4 epochs: with B = 3 four configurations get 1 epoch, two get 2, one gets 4."""
    nni = nni_experiment()
    nni.begin_advisor(advise(data="faces", budget=3))
    first = nni.request(2)
    assert [form["parameters"]["TRIAL_BUDGET"] for form in nni.proposals()] == [1, 1]
    for parameter_id, ap in zip(first, (0.1, 0.4), strict=True):
        nni.report(parameter_id, ap)
        nni.end(parameter_id)
    third, fourth = nni.request(2)
    nni.report(third, 0.3)
    nni.end(third)
    assert nni.request() == [], "the rung waits for its last trial"

    before = len(nni.proposals())
    nni.report(fourth, 0.2)
    # Two slots are free by now: the id that found nothing, and the one that comes with the end.
    second_rung = nni.start_new(before)
    nni.end(fourth)
    second_rung += nni.request()
    ranking = nni.advisor._experiment.ranking
    assert [form["parameters"] for form in nni.proposals()[4:]] == [
        {**ranking[1], "TRIAL_BUDGET": 2},
        {**ranking[2], "TRIAL_BUDGET": 2},
    ]
    before = len(nni.proposals())
    nni.report(second_rung[0], 0.45)
    nni.end(second_rung[0])
    assert nni.request() == []
    nni.report(second_rung[1], 0.5)
    (last,) = nni.start_new(before)
    assert nni.proposals()[-1]["parameters"] == {**ranking[2], "TRIAL_BUDGET": 4}
    nni.report(last, 0.6)

    assert nni.errors() == []
    assert nni.sent[-1][0] is CommandType.NoMoreTrialJobs
    assert known(nni.folder) == {
        0: (0.1, "smoke:1"),
        1: (0.45, "smoke:2"),
        2: (0.6, "smoke:4"),
        3: (0.2, "smoke:1"),
    }
    assert Platform.open(nni.folder.parents[1] / "platform").status().version == 1


def test_a_failure_gives_its_place_to_the_next_best(
    nni_experiment: Make, advise: Callable[..., HyperFDAdvisor]
) -> None:
    nni = nni_experiment()
    nni.begin_advisor(advise(data="faces", budget=2))
    first, second = nni.request(2)
    nni.end(second, "FAILED")
    (third,) = nni.request()
    nni.report(first, 0.3)
    nni.end(first)
    assert nni.request() == [], "the third is still running"
    before = len(nni.proposals())
    nni.report(third, 0.2)
    nni.end(third)
    nni.request()
    (best,) = nni.start_new(before)
    assert nni.proposals()[-1]["parameters"]["TRIAL_BUDGET"] == 4
    before = len(nni.proposals())
    nni.end(best, "FAILED")
    nni.request()
    (next_best,) = nni.start_new(before)
    nni.report(next_best, 0.25)
    assert known(nni.folder) == {0: (0.3, "smoke:2"), 1: (None, "smoke:2"), 2: (0.25, "smoke:4")}


def test_it_goes_on_in_a_new_process_and_can_be_finished_without_one(
    nni_experiment: Make, advise: Callable[..., HyperFDAdvisor]
) -> None:
    nni = nni_experiment()
    nni.begin_advisor(advise(data="faces", budget=2))
    first, second = nni.request(2)
    nni.report(first, 0.3)
    nni.end(first)
    nni.begin_advisor(advise(data="faces", budget=2))
    assert nni.request() == [], "the second trial is started again by NNI"
    before = len(nni.proposals())
    nni.report(second, 0.4)
    (best,) = nni.start_new(before)
    assert best > second
    assert nni.proposals()[-1]["parameters"] == {**nni.advisor._experiment.ranking[1], "TRIAL_BUDGET": 4}
    nni.kill()
    nni.report(best, 0.5)
    receipt, _ = finish_experiment(nni.folder)
    assert (receipt.version_after, receipt.usable_trials) == (1, 2)
    assert known(nni.folder) == {0: (0.3, "smoke:2"), 1: (0.5, "smoke:4")}


@pytest.mark.parametrize(
    ("class_args", "config", "sentence"),
    [
        ({"data": "faces", "etta": 2}, {}, "did you mean 'eta'?"),
        ({"data": "faces", "eta": 1}, {}, "eta must be a whole number from 2"),
        ({"data": "faces", "method": "hyperfd-gp"}, {}, "leave method out, or use the tuner"),
        ({"data": "faces"}, {"trialCommand": "python my_own.py"}, "epochs is missing"),
        ({"data": "faces", "epochs": 9}, {}, "--budget smoke has from 1 to 4 epochs"),
        (
            {"data": "faces", "epochs": 5},
            {"trialCommand": "python finetune.py --budget paper"},
            "--budget paper has from 10 to 1000 epochs",
        ),
        ({"data": "nowhere"}, {}, "nowhere"),
    ],
)
def test_errors_are_reported_as_one_sentence(
    class_args: dict[str, Any],
    config: dict[str, Any],
    sentence: str,
    nni_experiment: Make,
    advise: Callable[..., HyperFDAdvisor],
) -> None:
    nni = nni_experiment(**config)
    nni.begin_advisor(advise(**class_args))
    assert nni.request() == []
    (error,) = nni.errors()
    assert error.startswith("HyperFD: ")
    assert sentence in error
