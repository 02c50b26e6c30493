"""The tuner behind a real dispatcher, on a real platform and data set: what it proposes, keeps, replaces and ends."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from nni.runtime.tuner_command_channel import CommandType
from sqlalchemy.exc import OperationalError

from nni_hyperfd.errors import PlatformAwayError, PluginError
from nni_hyperfd.platform.platform import Platform
from nni_hyperfd.plugin.experiment_end import finish_experiment
from nni_hyperfd.plugin.tuner import HyperFDTuner
from nni_hyperfd.protocol.messages import FindTask, Question, RecommendRequest
from nni_hyperfd.spaces.standard import standard_search_space

Make = Callable[..., Any]


@pytest.fixture
def platform(tmp_path: Path) -> Callable[[], Platform]:
    return lambda: Platform.open(tmp_path / "platform")


def experience(platform: Platform) -> dict[float | None, dict[str, Any]]:
    """Trials of the experiment by AP, failures under None."""
    task = platform.ask(FindTask(experiment_id="exp1"))
    assert task is not None
    return {trial.ap: dict(trial.parameters) for trial in platform.trials(task.task_id)}


def test_from_recommendation_to_update(nni_experiment: Make, platform: Callable[[], Platform]) -> None:
    nni = nni_experiment()
    nni.begin(HyperFDTuner(data="faces", budget=2))
    first, second = nni.request(5)
    assert nni.sent[-1][0] is CommandType.NoMoreTrialJobs
    for form in nni.proposals():
        assert set(form["parameters"]) == set(standard_search_space("hpo"))
        assert all(isinstance(value, str | int | float) for value in form["parameters"].values())

    nni.report(second, {"default": 0.6, "test_ap": 0.5, "heldout_ap": 0.55, "seconds": 7.5})
    assert list(experience(platform())) == [0.6], "kept at once"
    assert platform().status().version == 0
    nni.report(first, 0.4)
    assert platform().status().version == 1
    assert nni.request() == []
    assert nni.errors() == []

    (kept,) = [
        t for t in platform().trials(platform().ask(FindTask(experiment_id="exp1")).task_id) if t.ap == 0.6
    ]
    assert (kept.test_ap, kept.heldout_ap, kept.seconds, kept.budget, kept.seed) == (
        0.5,
        0.55,
        7.5,
        "smoke",
        3,
    )
    assert dict(kept.parameters) == nni.proposals()[1]["parameters"]

    nni.tuner._on_exit()
    assert platform().status().version == 1


def test_hyperfd_gp_plans_anew_after_each_result(
    nni_experiment: Make, platform: Callable[[], Platform]
) -> None:
    nni = nni_experiment()
    nni.begin(HyperFDTuner(data="faces", budget=5, method="hyperfd-gp"))

    def plan() -> list[dict[str, Any]]:
        return json.loads((nni.folder / "hyperfd.json").read_text())["ranking"]

    first_plan = plan()
    one, two = nni.request(2)
    nni.report(two, 0.9)
    nni.end(two)
    nni.report(one, 0.05)
    nni.end(one, "SUCCEEDED")
    (failed,) = nni.request()
    nni.end(failed, "FAILED")
    for _ in range(3):
        (trial,) = nni.request()
        nni.report(trial, 0.5)
        nni.end(trial)
    assert nni.errors() == []
    tried = [form["parameters"] for form in nni.proposals()]
    assert tried[:2] == first_plan[:2], "both were begun before there was a result"
    assert tried != first_plan[:6]
    assert plan()[:6] == tried, "what another process would go on from"
    assert len({json.dumps(each) for each in tried}) == 6, "nothing is tried twice"
    assert len({json.dumps(each) for each in plan()}) == len(first_plan)
    assert platform().status().version == 1
    assert [each for each in experience(platform()).values() if each not in tried] == []


def test_hyperfd_gp_keeps_the_plan_that_is_on_the_disk(
    nni_experiment: Make, caplog: pytest.LogCaptureFixture
) -> None:
    """Where a new plan cannot be written, the experiment goes on with the old one."""
    nni = nni_experiment()
    nni.begin(HyperFDTuner(data="faces", budget=2, method="hyperfd-gp"))
    planned = json.loads((nni.folder / "hyperfd.json").read_text())["ranking"]
    (nni.folder / "hyperfd.json").unlink()
    (nni.folder / "hyperfd.json").mkdir()  # what a file cannot take the place of
    for ap in (0.05, 0.5):
        (trial,) = nni.request()
        nni.report(trial, ap)
        nni.end(trial)
    assert caplog.text.count("The plan stays as it is: the tuner's notes") == 1
    assert "hyperfd.json cannot be written (Is a directory): see to the disk" in caplog.text
    assert [form["parameters"] for form in nni.proposals()] == planned[:2]
    assert nni.errors() == []


@pytest.mark.parametrize(
    "error",
    [
        np.linalg.LinAlgError("a covariance is not positive definite"),
        OperationalError("select 1", {}, Exception("the database is away")),
        OSError(28, "No space left on device"),
        MemoryError(),
        PlatformAwayError("the platform is away"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_whatever_goes_wrong_in_planning_the_old_plan_goes_on(
    error: Exception, nni_experiment: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(platform: Platform, question: Question[Any], *more: Any) -> Any:
        if isinstance(question, RecommendRequest):
            raise error
        return original_ask(platform, question, *more)

    with monkeypatch.context() as patch:
        # The first plan is the ranker's, as it is for a customer whose platform is away.
        patch.setattr(Platform, "ask", ranked_alone)
        nni = nni_experiment()
        nni.begin(HyperFDTuner(data="faces", budget=3, method="hyperfd-gp"))
    plan = nni.tuner._experiment.ranking
    monkeypatch.setattr(Platform, "ask", fail)
    for place, ap in enumerate((0.5, 0.25)):
        (trial,) = nni.request()
        assert nni.proposals()[-1]["parameters"] == plan[place]
        nni.report(trial, ap)
        nni.end(trial)
    assert caplog.text.count("The plan stays as it is") == 2
    assert nni.errors() == []


def ranked_alone(platform: Platform, question: Question[Any], *more: Any) -> Any:
    if isinstance(question, RecommendRequest):
        question = question.model_copy(update={"method": "hyperfd"})
    return original_ask(platform, question, *more)


original_ask = Platform.ask


def test_a_failed_trial_is_replaced_and_reported_as_failed(
    nni_experiment: Make, platform: Callable[[], Platform]
) -> None:
    nni = nni_experiment()
    nni.begin(HyperFDTuner(data="faces", budget=1))
    (failed,) = nni.request()
    nni.end(failed, "FAILED")
    assert set(experience(platform())) == {None}, "told at once, for whoever plans by it"
    (replacement,) = nni.request()
    nni.report(replacement, 0.4)
    forms = {form["parameter_id"]: form["parameters"] for form in nni.proposals()}
    assert experience(platform()) == {None: forms[failed], 0.4: forms[replacement]}
    assert platform().status().counts.failed_trials == 1


def test_a_result_that_is_none_is_a_failure(nni_experiment: Make, platform: Callable[[], Platform]) -> None:
    nni = nni_experiment()
    nni.begin(HyperFDTuner(data="faces", budget=1))
    (odd,) = nni.request()
    nni.report(odd, 73.2)
    nni.end(odd)
    (replacement,) = nni.request()
    nni.report(replacement, 0.4)
    assert set(experience(platform())) == {None, 0.4}


def test_the_replacement_comes_even_if_nni_asked_too_early(nni_experiment: Make) -> None:
    nni = nni_experiment()
    nni.begin(HyperFDTuner(data="faces", budget=1))
    (failed,) = nni.request()
    assert nni.request() == []
    before = len(nni.proposals())
    nni.end(failed, "FAILED")
    assert len(nni.start_new(before)) == 1


@pytest.mark.parametrize("limit", [None, 2])
def test_when_no_trial_is_left_the_platform_learns_from_what_there_is(
    limit: int | None, nni_experiment: Make, platform: Callable[[], Platform]
) -> None:
    nni = nni_experiment(maxTrialNumber=limit)
    nni.begin(HyperFDTuner(data="faces", budget=3))
    first, second, *_ = nni.request(2)
    nni.report(first, 0.4)
    nni.end(first)
    nni.end(second, "FAILED")
    assert platform().status().version == (0 if limit is None else 1)


def test_a_stopped_experiment_counts(nni_experiment: Make, platform: Callable[[], Platform]) -> None:
    nni = nni_experiment()
    nni.begin(HyperFDTuner(data="faces", budget=3))
    first, _ = nni.request(2)
    nni.tuner._on_exit()
    assert platform().status().counts.open_tasks == 1, "nothing was learned, so the experiment can go on"
    nni.report(first, 0.4)
    nni.tuner._on_exit()
    assert platform().status().version == 1
    assert set(experience(platform())) == {0.4}, "the other trial did not fail"


def test_an_experiment_goes_on_in_a_new_process(
    nni_experiment: Make, platform: Callable[[], Platform]
) -> None:
    nni = nni_experiment()
    nni.begin(HyperFDTuner(data="faces", budget=3))
    first, second = nni.request(2)
    nni.report(first, 0.4)
    nni.end(first)
    ranking = json.loads((nni.folder / "hyperfd.json").read_text())["ranking"]

    nni.begin(HyperFDTuner(data="faces", budget=3))
    # As NNI 3.0 does: finished trials with their listed parameters, then the ids of those that it starts again.
    nni.do(
        CommandType.ImportData,
        [{"parameter": ranking[1], "value": 0.9, "trialJobId": "job0"}],
    )
    form = {"parameter_id": second, "parameters": ranking[1]}
    nni.do(CommandType.AddCustomizedTrialJob, [form])
    assert len(nni.request(2)) == 1
    assert nni.proposals()[0]["parameters"] == ranking[2]
    nni.report(second, 0.5)
    assert {ap: ranking.index(p) for ap, p in experience(platform()).items()} == {0.4: 0, 0.5: 1}


def test_resumed_with_all_results_it_updates_by_itself(
    nni_experiment: Make, platform: Callable[[], Platform]
) -> None:
    """The tuner's process was killed before it heard of the last result."""
    nni = nni_experiment()
    nni.begin(HyperFDTuner(data="faces", budget=2))
    first, second = nni.request(2)
    nni.report(first, 0.4)
    nni.kill()
    nni.report(second, 0.5)
    nni.end(second)
    assert platform().status().version == 0
    nni.begin(HyperFDTuner(data="faces", budget=2))
    assert set(experience(platform())) == {0.4, 0.5}, "told at once, for whoever plans by it"
    assert platform().status().version == 0
    assert nni.request() == []
    assert nni.errors() == []
    assert platform().status().version == 1
    assert set(experience(platform())) == {0.4, 0.5}


def test_a_trial_that_was_started_again_and_failed_is_replaced(nni_experiment: Make) -> None:
    """NNI's dispatcher keeps its end to itself; whoever asked too early gets the replacement at once."""
    nni = nni_experiment()
    nni.begin(HyperFDTuner(data="faces", budget=1))
    (first,) = nni.request()
    nni.begin(HyperFDTuner(data="faces", budget=1))
    nni.do(CommandType.ImportData, [])
    nni.do(
        CommandType.AddCustomizedTrialJob,
        [{"parameter_id": first, "parameters": nni.tuner._experiment.ranking[0]}],
    )
    assert nni.request() == []
    nni.end(first, "FAILED")
    assert len(nni.proposals()) == 1
    assert nni.request() == []


def test_after_a_kill_the_records_are_enough(nni_experiment: Make, platform: Callable[[], Platform]) -> None:
    nni = nni_experiment()
    nni.begin(HyperFDTuner(data="faces", budget=3))
    first, second, third = nni.request(3)
    nni.report(first, 0.4)
    nni.end(first)
    nni.kill()
    nni.report(second, 0.5)
    nni.end(third, "FAILED")

    receipt, again = finish_experiment(nni.folder)
    assert (receipt.version_after, receipt.usable_trials, receipt.failed_trials, again) == (1, 2, 1, False)
    assert set(experience(platform())) == {0.4, 0.5, None}
    receipt, again = finish_experiment(nni.folder)
    assert (receipt.version_after, receipt.usable_trials, again) == (1, 2, True)
    assert platform().status().version == 1


@pytest.mark.parametrize(
    ("class_args", "search_space", "sentence"),
    [
        ({"data": "faces", "bugdet": 4}, None, "did you mean 'budget'?"),
        ({"data": "nowhere"}, None, "nowhere"),
        ({"data": "faces", "space": "nas"}, None, "space: nas"),
        ({"data": "faces"}, {"lr": {"_type": "choice", "_value": ["fast"]}}, "lr"),
        ({"data": "faces", "platform": "broken"}, None, "not a platform state"),
        ({"data": "faces", "platform": "host:8600"}, None, "write https://host:8600"),
        ({"data": "faces"}, {"learning_rate": {"_type": "choice", "_value": [0.1]}}, "did you mean 'lr'?"),
        ({"data": "faces", "trial_reads": ["lr"]}, None, "the trial reads no 'optimizer'"),
    ],
)
def test_errors_reach_nnis_manager_as_one_sentence(
    class_args: dict[str, Any],
    search_space: dict[str, Any] | None,
    sentence: str,
    nni_experiment: Make,
    platform: Callable[[], Platform],
    drawn_faces: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    broken = drawn_faces.parent / "broken"
    broken.mkdir(exist_ok=True)
    (broken / "platform.sqlite").write_bytes(b"nonsense" * 1000)
    nni = nni_experiment()
    nni.begin(HyperFDTuner(**class_args), search_space)
    assert (CommandType.Initialized, "") in nni.sent, "NNI reports no error before this"
    assert nni.request() == []
    (error,) = nni.errors()
    assert error.startswith("HyperFD: ")
    assert sentence in error
    assert "\n" not in error
    assert error in capfd.readouterr().err
    assert platform().status().counts.open_tasks == 0
    nni.tuner._on_exit()
    assert (broken / "platform.sqlite").read_bytes() == b"nonsense" * 1000


def test_the_search_space_stays(nni_experiment: Make, caplog: pytest.LogCaptureFixture) -> None:
    nni = nni_experiment()
    nni.begin(HyperFDTuner(data="faces"))
    nni.do(CommandType.UpdateSearchSpace, {"lr": {"_type": "choice", "_value": [0.001]}})
    assert "this experiment goes on with the one that it began with" in caplog.text
    assert "start a new experiment with `nnictl create`" in caplog.text
    first, *_ = nni.request(4)
    assert len(nni.proposals()) == 4
    assert nni.errors() == []

    # NNI hands a resumed experiment the search space that was set on the page.
    nni.report(first, 0.4)
    caplog.clear()
    nni.begin(HyperFDTuner(data="faces"), {"lr": {"_type": "choice", "_value": [0.001]}})
    assert "this experiment goes on with the one that it began with" in caplog.text
    assert nni.request() == []
    assert nni.errors() == []


def test_a_living_tuner_is_not_finished_behind_its_back(nni_experiment: Make) -> None:
    nni = nni_experiment()
    nni.begin(HyperFDTuner(data="faces", budget=2))
    nni.report(nni.request()[0], 0.4)
    with pytest.raises(PluginError, match=f"is alive .process {os.getpid()}"):
        finish_experiment(nni.folder)


def test_an_experiment_of_another_tuner_cannot_be_finished(nni_experiment: Make) -> None:
    with pytest.raises(PluginError, match="no recommendation of HyperFD"):
        finish_experiment(nni_experiment().folder)


def test_trials_added_by_hand_are_left_alone(nni_experiment: Make, platform: Callable[[], Platform]) -> None:
    nni = nni_experiment()
    nni.begin(HyperFDTuner(data="faces", budget=1))
    nni.request()
    metric = {"parameter_id": None, "trial_job_id": "hand", "type": "FINAL", "sequence": 0, "value": "0.9"}
    nni.do(CommandType.ReportMetricData, metric)
    nni.do(
        CommandType.TrialEnd,
        {"trial_job_id": "hand", "event": "SUCCEEDED", "hyper_params": '{"parameter_id": null}'},
    )
    assert nni.request() == []
    assert platform().status().counts.usable_trials == 0
