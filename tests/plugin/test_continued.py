"""method: hyperfd-mf behind a real dispatcher, on a real platform and data set: parts of trainings, their price, and their end."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nni_hyperfd.errors import PlatformAwayError
from nni_hyperfd.platform.platform import Platform
from nni_hyperfd.platform.state.records import StoredTrial
from nni_hyperfd.plugin.continued import Length, trainings_of
from nni_hyperfd.plugin.experiment_end import finish_experiment
from nni_hyperfd.plugin.records import Attempt
from nni_hyperfd.plugin.tuner import HyperFDTuner
from nni_hyperfd.protocol.messages import FindTask, Question, RecommendRequest
from nni_hyperfd.spaces.stages import TRIAL_CHECKPOINTS, TRIAL_EPOCHS, Stage
from nni_hyperfd.spaces.unread import configuration_of

Make = Callable[..., Any]


@pytest.fixture
def platform(tmp_path: Path) -> Callable[[], Platform]:
    return lambda: Platform.open(tmp_path / "platform")


def experience(platform: Platform) -> list[StoredTrial]:
    task = platform.ask(FindTask(experiment_id="exp1"))
    return platform.trials(task.task_id)


def stage(nni: Any, parameter_id: int) -> Stage:
    (form,) = [each for each in nni.proposals() if each["parameter_id"] == parameter_id]
    return Stage.parse(form["parameters"][TRIAL_EPOCHS])


def configuration(nni: Any, parameter_id: int) -> str:
    (form,) = [each for each in nni.proposals() if each["parameter_id"] == parameter_id]
    return json.dumps(configuration_of(form["parameters"]), sort_keys=True)


def train(nni: Any, parameter_id: int, anew: bool = False, ap: float = 0.5) -> None:
    """A trial that does what it is told: a validation an epoch, from where the one before stopped (or from the start)."""
    part = stage(nni, parameter_id)
    first = 0 if anew else part.begun
    curve = [ap * (1 - 0.5 ** (epoch + 1)) for epoch in range(first, part.stop)]
    nni.report_intermediate(parameter_id, *curve)
    nni.report(parameter_id, {"default": max(curve), "test_ap": 0.4, "heldout_ap": 0.45, "seconds": 3.0})
    nni.end(parameter_id)


def play(nni: Any, most: int = 40, **how: Any) -> list[int]:
    """Trials one after the other until the tuner names no more."""
    done: list[int] = []
    while len(done) < most and (ids := nni.request()):
        train(nni, ids[0], **how)
        done += ids
    return done


def test_a_price_of_three_full_trainings(nni_experiment: Make, platform: Callable[[], Platform]) -> None:
    nni = nni_experiment()  # --budget smoke: four epochs with a validation each
    nni.begin(HyperFDTuner(data="faces", budget=3, method="hyperfd-mf"))
    done = play(nni)
    assert nni.errors() == []
    stages = [stage(nni, each) for each in done]
    assert str(stages[0]) == "1-4/4", "the first goes to its end"
    assert all(part.stop == part.begun + 1 for part in stages[1:])
    reached: dict[str, int] = {}
    for each, part in zip(done, stages):
        name = configuration(nni, each)
        assert part.begun == reached.get(name, 0), "each goes on where it stopped"
        reached[name] = part.stop
    paid = sum(part.stop - part.begun for part in stages)
    assert paid <= 12
    assert 12 - paid < min([4, *(4 - stop for stop in reached.values() if stop < 4)]), (
        "nothing is left to be ended"
    )
    folders = {form["parameters"][TRIAL_CHECKPOINTS] for form in nni.proposals()}
    assert folders == {str(nni.folder / "checkpoints")}

    assert platform().status().version == 1
    kept = {json.dumps(dict(each.parameters), sort_keys=True): each for each in experience(platform())}
    assert {name: len(each.curve) for name, each in kept.items()} == reached
    for name, each in kept.items():
        assert each.status == ("ok" if reached[name] == 4 else "begun")
        assert each.budget == ("smoke" if reached[name] == 4 else f"smoke:{reached[name]}")
        assert (each.ap is None) == (reached[name] < 4)
        assert each.curve[-1][0] == reached[name] / 4
    receipt, before = finish_experiment(nni.folder)
    assert before
    assert receipt.usable_trials == sum(stop == 4 for stop in reached.values())
    assert receipt.failed_trials == 0


@pytest.mark.parametrize("at_a_time", [2, 4])
def test_several_at_a_time_train_different_parts_within_the_price(
    nni_experiment: Make, platform: Callable[[], Platform], at_a_time: int
) -> None:
    nni = nni_experiment(trialConcurrency=at_a_time)
    nni.begin(HyperFDTuner(data="faces", budget=3, method="hyperfd-mf"))
    running = nni.request(at_a_time)
    assert [str(stage(nni, each)) for each in running] == ["1-4/4", *["1-1/4"] * (at_a_time - 1)]
    done: list[int] = []
    while running and len(done) < 40:
        together = [configuration(nni, each) for each in running]
        assert len(set(together)) == len(together), "two trials of one training"
        done.append(running.pop(0))
        before = len(nni.proposals())
        train(nni, done[-1])
        running += nni.start_new(before)  # for whom nothing was left to train before this result
        running += nni.request()
    assert nni.errors() == []
    parts = [stage(nni, each) for each in done]
    assert sum(part.stop - part.begun for part in parts) <= 12
    assert platform().status().version == 1


def test_who_finds_no_checkpoint_pays_for_it(nni_experiment: Make) -> None:
    nni = nni_experiment()
    nni.begin(HyperFDTuner(data="faces", budget=3, method="hyperfd-mf"))
    done = play(nni, anew=True)
    assert nni.errors() == []
    assert sum(stage(nni, each).stop for each in done) <= 12
    assert json.loads((nni.folder / "hyperfd.update.json").read_text())["usable_trials"] >= 1


def test_beginnings_decide_what_is_gone_on_with(nni_experiment: Make) -> None:
    """Of those that were begun after the first, the one with the higher curve is gone on with."""
    nni = nni_experiment()
    nni.begin(HyperFDTuner(data="faces", budget=4, method="hyperfd-mf"))
    (first,) = nni.request()
    train(nni, first, ap=0.5)
    aps: dict[str, float] = {}
    for _ in range(10):
        if not (ids := nni.request()):
            break
        name = configuration(nni, ids[0])
        # The first one that is begun promises much, all others nothing.
        aps.setdefault(name, 0.9 if not aps else 0.1)
        train(nni, ids[0], ap=aps[name])
    good = next(iter(aps))
    ends = {
        configuration(nni, form["parameter_id"]): stage(nni, form["parameter_id"]).stop
        for form in nni.proposals()
    }
    assert ends[good] == 4
    assert nni.errors() == []


def test_failures_are_replaced_and_cost_a_validation(
    nni_experiment: Make, platform: Callable[[], Platform]
) -> None:
    nni = nni_experiment()
    nni.begin(HyperFDTuner(data="faces", budget=1, method="hyperfd-mf"))
    (first,) = nni.request()
    nni.report_intermediate(first, 0.3)
    nni.end(first, "FAILED")
    assert nni.request() == [], "three of four validations are left: nothing can be ended any more"
    assert [each.status for each in experience(platform())] == ["failed"]
    assert platform().status().version == 0


@pytest.mark.parametrize(
    "error",
    [
        PlatformAwayError("the platform cannot be reached"),
        np.linalg.LinAlgError("a covariance is not positive definite"),
        OSError(28, "No space left on device"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_whatever_goes_wrong_in_planning_trainings_go_on(
    error: Exception,
    nni_experiment: Make,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    nni = nni_experiment()
    nni.begin(HyperFDTuner(data="faces", budget=2, method="hyperfd-mf"))
    ask = Platform.ask

    def away(self: Platform, question: Question[Any]) -> Any:
        if isinstance(question, RecommendRequest):
            raise error
        return ask(self, question)

    monkeypatch.setattr(Platform, "ask", away)
    done = play(nni)
    assert [str(stage(nni, each)) for each in done] == ["1-4/4", "1-1/4", "2-2/4", "3-3/4", "4-4/4"]
    assert len({configuration(nni, each) for each in done}) == 2
    assert f"The plan goes on as it is: {error}." in caplog.text
    assert nni.errors() == []


def test_a_killed_tuner_is_taken_over(nni_experiment: Make, platform: Callable[[], Platform]) -> None:
    nni = nni_experiment()
    nni.begin(HyperFDTuner(data="faces", budget=2, method="hyperfd-mf"))
    for _ in range(2):
        (trial,) = nni.request()
        train(nni, trial)
    again = HyperFDTuner(data="faces", budget=2, method="hyperfd-mf")
    nni.begin(again)
    done = play(nni)
    assert nni.errors() == []
    parts = [
        (configuration(nni, form["parameter_id"]), str(stage(nni, form["parameter_id"])))
        for form in nni.proposals()
    ]
    assert len(set(parts)) == len(parts), "nothing is trained twice"
    assert done
    assert platform().status().version == 1


def test_resumed_when_the_price_is_paid_it_updates_by_itself(
    nni_experiment: Make, platform: Callable[[], Platform]
) -> None:
    """The tuner's process was killed before it heard of the last result."""
    nni = nni_experiment()
    nni.begin(HyperFDTuner(data="faces", budget=1, method="hyperfd-mf"))
    (only,) = nni.request()
    nni.kill()
    train(nni, only)
    assert platform().status().version == 0
    nni.begin(HyperFDTuner(data="faces", budget=1, method="hyperfd-mf"))
    assert nni.request() == []
    assert nni.errors() == []
    assert platform().status().version == 1


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        (
            "python mine.py",
            "those with --budget unnamed are not so; let the trial command name one of short, smoke",
        ),
        ("python finetune.py --data faces --budget paper", "those with --budget paper are not so"),
    ],
)
def test_trainings_of_unknown_length_are_refused(nni_experiment: Make, command: str, sentence: str) -> None:
    nni = nni_experiment(trialCommand=command)
    nni.begin(HyperFDTuner(data="faces", budget=2, method="hyperfd-mf"))
    nni.request()
    assert sentence in nni.errors()[0]


@pytest.mark.parametrize("value", [None, 0.5, float("nan")])
@pytest.mark.parametrize("ended", [False, True])
def test_whoever_reports_in_each_batch_has_trained_no_more_than_was_wanted(
    value: float | None, ended: bool
) -> None:
    """One trial with a thousand intermediate results would else pay the price of the whole experiment."""
    attempt = Attempt(0, {"lr": 0.1, TRIAL_EPOCHS: "1-2/6"}, ended, value, value is not None, (0.5,) * 1000)
    (training,) = trainings_of([attempt], Length(6, 1))
    assert training.paid == 2
    assert len(training.aps) <= 2
    assert training.result is None
    assert (training.trouble is not None) == (ended or value is not None)


def test_a_part_that_somebody_wrote_on_the_page_and_that_is_none_is_nobodys_training() -> None:
    """It ends with its own sentence; an error here would end the whole experiment."""
    parts = ["1-2/6", "2-9/6", "all", 3, None, ["1-2/6"]]
    attempts = [Attempt(i, {"lr": i, TRIAL_EPOCHS: part}, False, None, False) for i, part in enumerate(parts)]
    assert [each.configuration for each in trainings_of(attempts, Length(6, 1))] == [{"lr": 0}]


def test_a_part_that_a_stop_cut_off_is_trained_and_paid_again(nni_experiment: Make) -> None:
    """A resumed experiment begins it anew, in the same job: its curve is that of the second run, its price that of both."""
    nni = nni_experiment()
    nni.begin(HyperFDTuner(data="faces", budget=3, method="hyperfd-mf"))
    (first,) = nni.request()
    nni.report_intermediate(first, 0.1, 0.2)
    again = HyperFDTuner(data="faces", budget=3, method="hyperfd-mf")
    nni.begin(again)
    nni.begin_again(first)
    nni.report_intermediate(first, 0.1, 0.2, 0.3, 0.4)
    nni.report(first, 0.4)
    nni.end(first)
    (training,) = again._continued.trainings
    assert training.trouble is None
    assert (training.stop, training.aps, training.paid) == (4, [0.1, 0.2, 0.3, 0.4], 6)


@pytest.mark.parametrize("named", [False, True], ids=["its own folder", "a named folder"])
def test_checkpoints_stay_for_a_resumed_experiment_and_go_when_the_price_is_paid(
    nni_experiment: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture, named: bool
) -> None:
    """Those of others in a folder that all experiments share are nobody's business."""
    nni = nni_experiment()
    folder = tmp_path / "shared" / "exp1" if named else nni.folder / "checkpoints"
    (tmp_path / "shared" / "exp2").mkdir(parents=True)
    (tmp_path / "shared" / "exp2" / "theirs.safetensors").write_bytes(b"0")
    settings: dict[str, Any] = {"data": "faces", "budget": 2, "method": "hyperfd-mf"}
    if named:
        settings["checkpoints"] = str(tmp_path / "shared")
    nni.begin(HyperFDTuner(**settings))
    (first,) = nni.request()
    assert [form["parameters"][TRIAL_CHECKPOINTS] for form in nni.proposals()] == [str(folder)]
    train(nni, first)
    (second,) = nni.request()
    train(nni, second)
    folder.mkdir()
    (folder / "begun-1.safetensors").write_bytes(bytes(2_000_000))
    with caplog.at_level(logging.INFO):
        nni.tuner._on_exit()
    assert f"wait in {folder} (1 checkpoints, 2.0 MB)" in caplog.text
    assert folder.is_dir()

    nni.begin(HyperFDTuner(**settings))
    with caplog.at_level(logging.INFO):
        play(nni)
    assert nni.errors() == []
    assert f"checkpoints in {folder} any more: 2.0 MB were removed" in caplog.text
    assert not folder.exists()
    assert (tmp_path / "shared" / "exp2" / "theirs.safetensors").exists()


def test_an_experiment_that_is_stopped_after_beginnings_alone_is_learned_from_when_it_is_resumed(
    nni_experiment: Make, platform: Callable[[], Platform]
) -> None:
    nni = nni_experiment()
    nni.begin(HyperFDTuner(data="faces", budget=2, method="hyperfd-mf"))
    whole, begun = nni.request(2)
    train(nni, begun)
    assert (stage(nni, whole).stop, stage(nni, begun).stop) == (4, 1)
    nni.tuner._on_exit()
    assert platform().status().version == 0
    nni.begin(HyperFDTuner(data="faces", budget=2, method="hyperfd-mf"))
    nni.begin_again(whole)
    nni.report_intermediate(whole, 0.1, 0.2, 0.3, 0.4)
    nni.report(whole, 0.4)
    nni.end(whole)
    play(nni)
    assert nni.errors() == []
    assert platform().status().version == 1
