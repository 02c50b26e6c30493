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


def test_resumed_with_all_results_it_updates_by_itself(
    nni_experiment: Make, advise: Callable[..., HyperFDAdvisor]
) -> None:
    """The advisor's process was killed before it heard of the last result."""
    nni = nni_experiment()
    nni.begin_advisor(advise(data="faces", budget=1))
    (only,) = nni.request()
    nni.kill()
    nni.report(only, 0.5)
    nni.end(only)
    nni.begin_advisor(advise(data="faces", budget=1))
    assert nni.request() == []
    assert nni.errors() == []
    assert json.loads((nni.folder / "hyperfd.update.json").read_text())["usable_trials"] == 1


def work_through(nni: Any, ap: Callable[[dict[str, Any]], float | None], slots: int) -> None:
    """Run trials, ``slots`` at a time and first come first served, until nothing is left to do; ``ap`` None: it fails."""
    running = nni.request(slots)
    while running:
        trial, before = running.pop(0), len(nni.proposals())
        form = next(form for form in nni.proposals() if form["parameter_id"] == trial)
        value = ap(form["parameters"])
        if value is not None:
            nni.report(trial, value)
        nni.end(trial, "FAILED" if value is None else "SUCCEEDED")
        nni.do(CommandType.RequestTrialJobs, 1)
        running += nni.start_new(before)


def begun(nni: Any) -> list[tuple[int, int]]:
    """Place in the ranking and epochs of every training."""
    ranking = nni.advisor._experiment.ranking
    return [
        (ranking.index({k: v for k, v in form["parameters"].items() if k != "TRIAL_BUDGET"}), epochs)
        for form in nni.proposals()
        for epochs in [form["parameters"]["TRIAL_BUDGET"]]
    ]


@pytest.mark.parametrize("slots", [1, 3])
def test_all_brackets(slots: int, nni_experiment: Make, advise: Callable[..., HyperFDAdvisor]) -> None:
    """B = 9, η = 2, 4 epochs: 4 × 1, 2 × 2, 1 × 4 epochs; 3 × 2, 1 × 4; 3 × 4. The best three are trained in full at once."""
    nni = nni_experiment()
    nni.begin_advisor(advise(data="faces", budget=9, brackets="all"))
    ranking = nni.advisor._experiment.ranking
    value = {json.dumps(each): (place * 37 % 100) / 100 for place, each in enumerate(ranking)}

    def ap(parameters: dict[str, Any]) -> float:
        return value[json.dumps({k: v for k, v in parameters.items() if k != "TRIAL_BUDGET"})]

    work_through(nni, ap, slots)
    assert nni.errors() == []
    trained = begun(nni)
    # By hand: 37 · place mod 100 orders 6 to 9 as 8 (.96), 7 (.59), 9 (.33), 6 (.22), and 3 to 5 as 5 (.85), 4 (.48), 3 (.11).
    first = [(6, 1), (7, 1), (8, 1), (9, 1), (8, 2), (7, 2), (8, 4)]
    second, third = [(3, 2), (4, 2), (5, 2), (5, 4)], [(0, 4), (1, 4), (2, 4)]
    assert sorted(trained) == sorted([*first, *second, *third])
    assert sum(epochs for _, epochs in trained) <= 9 * 4
    assert nni.sent[-1][0] is CommandType.NoMoreTrialJobs
    assert {place: budget for place, (_, budget) in known(nni.folder).items()} == {
        **dict.fromkeys((0, 1, 2, 5, 8), "smoke:4"),
        **dict.fromkeys((3, 4, 7), "smoke:2"),
        **dict.fromkeys((6, 9), "smoke:1"),
    }


def test_a_share_is_drawn_at_random_and_failures_stay_in_their_bracket(
    nni_experiment: Make, advise: Callable[..., HyperFDAdvisor]
) -> None:
    def drawn(seed: int) -> list[str]:
        nni = nni_experiment()
        (nni.folder / "hyperfd.json").unlink(missing_ok=True)
        nni.begin_advisor(advise(data="faces", budget=9, brackets="all", share=0.5, seed=seed))
        ranking = [json.dumps(each) for each in nni.advisor._experiment.ranking]
        assert len(set(ranking)) == len(ranking)
        # Of 4, 3 and 3 configurations 2, 2 and 2 are recommended.
        return ranking[6:10]

    assert drawn(1) != drawn(2)
    assert drawn(2) == drawn(2)


def test_failures_and_a_stop_in_the_middle_of_the_brackets(
    nni_experiment: Make, advise: Callable[..., HyperFDAdvisor]
) -> None:
    """What another process goes on with is what this one would have: nothing twice, and as many results as promised."""
    nni = nni_experiment()
    nni.begin_advisor(advise(data="faces", budget=9, brackets="all"))
    first = nni.request(3)
    nni.report(first[0], 0.4)
    nni.end(first[0])
    nni.end(first[1], "FAILED")
    (third, fourth) = nni.request(2)
    nni.report(third, 0.7)
    before = begun(nni)
    nni.begin_advisor(advise(data="faces", budget=9, brackets="all"))
    for trial in (first[2], third, fourth):
        if trial != third:
            nni.report(trial, 0.3)
        nni.end(trial)
    work_through(nni, lambda parameters: 0.5, 2)
    assert nni.errors() == []
    trained = [*before, *begun(nni)]
    assert len(set(trained)) == len(trained)
    # One more than the 14 trainings of the brackets, in the place of the failed one.
    assert len(trained) == 15
    lengths = [epochs for _, epochs in trained]
    assert [lengths.count(epochs) for epochs in (1, 2, 4)] == [5, 5, 5]
    assert nni.sent[-1][0] is CommandType.NoMoreTrialJobs


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
        (
            {"data": "faces", "brackets": 3},
            {},
            "has room for at most 2 (k of them want k² full trainings, each a length of its own); write brackets: 2 or all, or a larger budget",
        ),
        (
            {"data": "faces", "brackets": "some"},
            {},
            "brackets must be a whole number from 1 to 100, not 'some'",
        ),
        ({"data": "faces", "share": 1.5}, {}, "share must be a number from 0 to 1"),
        ({"data": "faces", "budget": 900}, {}, "at most 1000 can be recommended at once"),
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
