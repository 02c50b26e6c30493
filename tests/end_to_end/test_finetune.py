"""The whole way with real fine-tuning: NNI, the tuner, ``trial_code/finetune.py``, the platform."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

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
