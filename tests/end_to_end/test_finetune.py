"""The whole way with real fine-tuning: NNI, the tuner, ``trial_code/finetune.py``, the platform."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import requests

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


def scalars(port: str) -> dict[str, Any]:
    """What TensorBoard has read so far, by run."""
    try:
        return requests.get(f"http://127.0.0.1:{port}/data/plugin/scalars/tags", timeout=10).json()
    except requests.ConnectionError:
        return {}
