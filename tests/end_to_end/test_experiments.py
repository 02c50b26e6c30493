"""What a customer does with nnictl, and what may go wrong, in real NNI experiments whose trials take no time."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]

REPORT = (
    "nni.report_final_result({'default': 0.4 + nni.get_sequence_id() / 8, 'test_ap': 0.4, 'seconds': 1.0})"
)


def waiting_trial(number: int, until: Path) -> str:
    """The trial of that number does not report before there is a file."""
    return f"while nni.get_sequence_id() == {number} and not os.path.exists({str(until)!r}): time.sleep(0.1)\n{REPORT}"


def test_an_experiment_from_beginning_to_end(desk: Any) -> None:
    """Registered by name, four at a time where two are wanted, and the first trial fails before it says anything."""
    assert desk.hyperfd("register").returncode == 0
    experiment = desk.start(
        "if nni.get_sequence_id() == 0: sys.exit(3)\n" + REPORT,
        {"budget": 2},
        tuner={"name": "HyperFD"},
        trialConcurrency=4,
    )
    experiment.wait_for_status("DONE", "ERROR")
    assert experiment.status() == "DONE", experiment.log()
    assert desk.version() == 1

    jobs = experiment.get("trial-jobs")
    assert sorted(job["status"] for job in jobs) == ["FAILED", "SUCCEEDED", "SUCCEEDED"]
    known = desk.tried(experiment.id)
    assert len(known) == 3
    status = desk.hyperfd("status", "--platform", str(desk.platform))
    assert experiment.id in status.stdout.splitlines()[-1], status.stderr
    for job in jobs:
        parameters = json.loads(job["hyperParameters"][0])["parameters"]
        assert parameters in known.values()
        assert all(isinstance(value, str | int | float) for value in parameters.values()), (
            "readable on the page"
        )

    assert experiment.dispatcher().memory_info().rss < 1.5 * 2**30
    finished = desk.hyperfd("finish", experiment.id)
    assert "Finished before: the platform learned from 2 results (1 failed)" in finished.stdout
    experiment.stop()
    assert desk.version() == 1
    assert experiment.log().rstrip().endswith("Dispatcher terminiated")


def test_hyperfd_gp_from_beginning_to_end(desk: Any) -> None:
    """The first result is the worst of all, so what comes next is planned anew."""
    experiment = desk.start(
        "nni.report_final_result(0.05 if nni.get_sequence_id() == 0 else 0.8)",
        {"budget": 3, "method": "hyperfd-gp"},
    )
    experiment.wait_for_status("DONE", "ERROR")
    assert experiment.status() == "DONE", experiment.log()
    assert experiment.log().count("The rest is planned anew; next: ") == 2
    assert desk.version() == 1
    tried = [json.loads(job["hyperParameters"][0])["parameters"] for job in experiment.get("trial-jobs")]
    assert len({json.dumps(each) for each in tried}) == 3
    assert {json.dumps(each) for each in desk.tried(experiment.id).values()} <= {json.dumps(t) for t in tried}


def test_the_tuner_is_killed_after_the_second_trial(desk: Any) -> None:
    killed = desk.home / "killed"
    experiment = desk.start(waiting_trial(2, killed), {"budget": 4})
    experiment.wait(lambda: len(experiment.get("trial-jobs")) == 3, "the third trial")
    dispatcher = experiment.dispatcher()
    dispatcher.send_signal(signal.SIGKILL)
    dispatcher.wait(60)
    killed.touch()
    experiment.wait(lambda: len(experiment.results()) == 3, "the result of the trial that went on")
    assert desk.version() == 0

    first = desk.hyperfd("finish", experiment.id)
    assert first.stdout == "Finished: the platform learned from 3 results and went from version 0 to 1.\n", (
        first.stderr
    )
    again = desk.hyperfd("finish", experiment.id)
    assert again.stdout == first.stdout.replace("Finished", "Finished before")
    assert desk.version() == 1
    assert set(desk.tried(experiment.id)) == {0.4, 0.525, 0.65}


def test_stopped_by_hand_and_resumed(desk: Any) -> None:
    stopped = desk.home / "stopped"
    experiment = desk.start(waiting_trial(1, stopped), {"budget": 2})
    experiment.wait(lambda: len(experiment.get("trial-jobs")) == 2, "the second trial")
    experiment.stop()
    stopped.touch()
    assert desk.version() == 1
    assert "learned from 1 result and" in experiment.log()

    resumed = desk.nnictl_start("resume", experiment.id, "--experiment_dir", str(experiment.folder.parent))
    resumed.wait(lambda: len(resumed.results()) == 2, "the result of the trial that was started again")
    resumed.wait(lambda: set(desk.tried(experiment.id)) == {0.4, 0.525}, "the experience")
    time.sleep(2)
    assert desk.version() == 1
    assert len(resumed.get("trial-jobs")) == 2


def test_a_wrong_setting_is_told(desk: Any) -> None:
    experiment = desk.start(REPORT, {"bugdet": 4})
    experiment.wait_for_status("ERROR")
    sentence = "HyperFD: classArgs: unknown key 'bugdet'; did you mean 'budget'?"
    assert sentence.casefold() in experiment.get("check-status")["errors"][0], "what the page shows"
    # The page learns of it a moment before the log is written.
    experiment.wait(
        lambda: sentence in experiment.log().splitlines()[-1], "the last line of the dispatcher's log"
    )
    assert sentence in experiment.log("nnimanager.log")
    assert sentence in experiment.log("nnictl_stderr.log")
    assert desk.version() == 0


def test_the_advisor_lets_the_better_trainings_go_on(desk: Any) -> None:
    """B = 4 and trainings of 2 epochs: two of 1 epoch and the better one of 2; beside them two of 2."""
    experiment = desk.start(
        "nni.report_final_result(0.5 + parameters['TRIAL_BUDGET'] / 8 + nni.get_sequence_id() / 32)",
        {"budget": 4, "epochs": 2, "brackets": "all", "share": 0.5},
        tuner={"className": "nni_hyperfd.HyperFDAdvisor", "codeDirectory": str(ROOT)},
        trialConcurrency=2,
    )
    experiment.wait_for_status("DONE", "ERROR")
    assert experiment.status() == "DONE", experiment.log()
    assert desk.version() == 1
    lengths = [
        json.loads(job["hyperParameters"][0])["parameters"]["TRIAL_BUDGET"]
        for job in experiment.get("trial-jobs")
    ]
    assert sorted(lengths) == [1, 1, 2, 2, 2]
    shorter, *longer = sorted(desk.tried(experiment.id))
    assert len(longer) == 3
    assert shorter < 0.7 < min(longer)
