"""AutoHAS as one NNI trial: its example through nnictl, from the search on the page to the experience of the platform."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from nni_hyperfd.cli.record import read_result

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_the_example_from_its_search_to_its_experience(desk: Any) -> None:
    config = yaml.safe_load((EXAMPLES / "autohas.yml").read_text())
    config["trialCommand"] = config["trialCommand"].replace("--budget short", "--budget smoke")
    config["trialCodeDirectory"] = str(EXAMPLES.parent / "trial_code")
    config["experimentWorkingDirectory"] = str(desk.experiments)
    desk.experiments.mkdir()
    file = desk.home / "autohas.yml"
    file.write_text(yaml.safe_dump(config))
    desk.environment["FACES"] = str(desk.data)
    experiment = desk.nnictl_start("create", "--config", str(file))
    experiment.wait_for_status("DONE", "ERROR", limit=1200)

    (job,) = experiment.get("trial-jobs")
    output = Path(job["logPath"])
    assert job["status"] == "SUCCEEDED", (output / "stderr").read_text()[-3000:]
    shown = [
        json.loads(json.loads(metric["data"]))
        for metric in experiment.get("metric-data")
        if metric["type"] == "PERIODICAL"
    ]
    search = [each for each in shown if isinstance(each, dict) and "architecture_entropy" in each]
    assert len(search) >= 10
    assert all(each["default"] == each["val_loss"] > 0 for each in search)
    assert all(0 < each["hyperparameter_entropy"] < 1 for each in search)
    assert search[-1]["architecture_entropy"] < search[0]["architecture_entropy"]
    assert len(shown) > len(search), "the training's AP follows"

    found = json.loads((output / "search.json").read_text())["configuration"]
    result = json.loads((output / "result.json").read_text())
    assert result["parameters"] == found
    (final,) = experiment.results()
    assert final["default"] == result["val_ap"]
    assert desk.version() == 1
    name, _ = read_result(output / "result.json")
    ((ap, parameters),) = desk.tried(name).items()
    assert (ap, parameters) == (result["val_ap"], found)
