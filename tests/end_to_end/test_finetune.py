"""The whole way with real fine-tuning: NNI, the tuner, ``trial_code/finetune.py``, the platform."""

from __future__ import annotations

import json
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import requests

from nni_hyperfd.platform.state.store import Store

ROOT = Path(__file__).parents[2]


def test_one_fine_tuning(desk: Any) -> None:
    """NNI's ``maxTrialNumber`` ends the experiment before the tuner's budget does."""
    experiment = desk.start(
        "",
        {"budget": 4},
        maxTrialNumber=1,
        trialCommand=f"{sys.executable} finetune.py --data {desk.data} --budget smoke",
        trialCodeDirectory=str(ROOT / "trial_code"),
    )
    experiment.wait(lambda: desk.version() == 1, "the update")
    (result,) = experiment.results()
    assert 0 <= result["default"] <= 1
    curve = [metric for metric in experiment.get("metric-data") if metric["type"] == "PERIODICAL"]
    assert len(curve) >= 2, "NNI can draw a curve"
    (job,) = experiment.get("trial-jobs")
    output = Path(job["logPath"])
    assert json.loads((output / "result.json").read_text())["val_ap"] == result["default"]
    assert (output / "best.safetensors").stat().st_size > 0
    assert (output / "detections.png").stat().st_size > 0

    # What the page's TensorBoard button does, and its end.
    page = f"http://127.0.0.1:{experiment.port}/api/v1/nni"
    board = requests.post(f"{page}/tensorboard", json={"trials": job["trialJobId"]}, timeout=60).json()
    try:
        experiment.wait(lambda: bool(scalars(board["port"])), "TensorBoard")
        ((run, tags),) = scalars(board["port"]).items()
        assert run.startswith(f"0-{job['trialJobId']}")
        assert "val/ap50" in tags
    finally:
        requests.delete(f"{page}/tensorboard/{board['id']}", timeout=60)


def test_trials_go_on_with_each_others_trainings(desk: Any) -> None:
    """A full training, then parts of another one: what a trial left is where the next one begins."""
    experiment = desk.start(
        "",
        {"budget": 2, "method": "hyperfd-mf"},
        maxTrialNumber=3,
        trialCommand=f"{sys.executable} finetune.py --data {desk.data} --budget smoke",
        trialCodeDirectory=str(ROOT / "trial_code"),
    )
    experiment.wait(lambda: desk.version() == 1, "the update")
    jobs = sorted(experiment.get("trial-jobs"), key=lambda job: job["sequenceId"])
    parameters = [json.loads(job["hyperParameters"][0])["parameters"] for job in jobs]
    assert [each["TRIAL_EPOCHS"] for each in parameters] == ["1-4/4", "1-1/4", "2-2/4"], (
        "as the page shows it"
    )
    first, begun, gone_on = (json.loads((Path(job["logPath"]) / "result.json").read_text()) for job in jobs)
    assert begun["parameters"]["lr"] == gone_on["parameters"]["lr"]
    assert first["epochs"] == begun["epochs"] == {"before": 0, "of": 4}
    assert gone_on["epochs"] == {"before": 1, "of": 4}, "not anew"
    assert [epoch for epoch, _ in gone_on["curve"]] == [1, 2]
    assert gone_on["curve"][0] == begun["curve"][0]
    reports = [metric for metric in experiment.get("metric-data") if metric["type"] == "PERIODICAL"]
    assert [sum(metric["trialJobId"] == job["trialJobId"] for metric in reports) for job in jobs] == [4, 1, 1]

    assert "price so far: 1.50 full trainings" in experiment.log()
    assert f"Best is AP@50 {first['val_ap']:.4f}, trained to its end" in experiment.log()
    with closing(Store(desk.platform)) as store:
        kept = {trial.budget: trial for trial in store.trials()}
    assert {budget: trial.status for budget, trial in kept.items()} == {"smoke": "ok", "smoke:2": "begun"}
    assert [ap for _, ap in kept["smoke"].curve] == [ap for _, ap in first["curve"]]
    assert kept["smoke:2"].curve == ((0.25, begun["curve"][0][1]), (0.5, gone_on["curve"][1][1]))


def scalars(port: str) -> dict[str, Any]:
    """What TensorBoard has read so far, by run."""
    try:
        return requests.get(f"http://127.0.0.1:{port}/data/plugin/scalars/tags", timeout=60).json()
    except requests.ConnectionError:
        return {}
