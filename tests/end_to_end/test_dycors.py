"""HPS-Det's example in a real experiment: its counts searched by DYCORS, two trials at a time, stopped by hand and resumed."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import yaml

from nni_hyperfd.spaces.hyperparameters import COUNT_KEYS, HyperParameters

EXAMPLES = Path(__file__).parents[2] / "examples"
TRIAL = """
import os, time
import nni
parameters = nni.get_next_parameter()
if nni.get_sequence_id() in (2, 3) and not os.path.exists({resumed!r}):
    time.sleep(600)
nni.report_final_result(sum(parameters.values()) / 200)
"""


def test_the_counts_of_the_example_two_at_a_time_stopped_and_resumed(desk: Any) -> None:
    code, resumed = desk.home / "code", desk.home / "resumed"
    code.mkdir()
    desk.experiments.mkdir()
    (code / "trial.py").write_text(TRIAL.format(resumed=str(resumed)))
    config = yaml.safe_load((EXAMPLES / "hps_det.yml").read_text())
    config["searchSpaceFile"] = str((EXAMPLES / config["searchSpaceFile"]).resolve())
    config["tuner"]["codeDirectory"] = str(EXAMPLES.parent)
    config |= {
        "trialCommand": f"{sys.executable} trial.py",
        "trialCodeDirectory": str(code),
        "experimentWorkingDirectory": str(desk.experiments),
        "maxTrialNumber": 6,
    }
    file = desk.home / "hps_det.yml"
    file.write_text(yaml.safe_dump(config))
    first = desk.nnictl_start("create", "--config", str(file))
    first.wait(
        lambda: (
            [job["status"] for job in first.get("trial-jobs")].count("RUNNING") == 2
            and len(first.results()) == 2
        ),
        "two results, and two trials side by side",
    )
    first.stop()
    resumed.touch()
    second = desk.nnictl_start("resume", first.id, "--experiment_dir", str(first.folder.parent))
    second.wait_for_status("DONE", "ERROR")
    tried = [json.loads(job["hyperParameters"][0])["parameters"] for job in second.get("trial-jobs")]
    assert len(second.results()) == 6
    # None twice: what was tried, and what was under way and started again, is not proposed anew.
    assert len({json.dumps(each) for each in tried}) == 6
    for parameters in tried:
        assert set(parameters) == set(COUNT_KEYS)
        assert HyperParameters.from_parameters(parameters).counts
