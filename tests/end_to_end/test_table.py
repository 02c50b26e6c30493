"""A lookup table measured as an NNI experiment: two shards, two trials, one table."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from nni.experiment.config import ExperimentConfig

from nni_hyperfd.cli import main
from nni_hyperfd.evidence.job import TableJob, load_tables

ROOT = Path(__file__).parents[2]


def test_the_example_is_valid_and_its_shards_are_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SETS", str(ROOT))
    config = ExperimentConfig.load(ROOT / "examples" / "table.yml").canonical_copy()
    shards = config.search_space["shard"]["_value"]
    assert shards == [f"{index}/{len(shards)}" for index in range(len(shards))]
    script = config.trial_command.split()[1]
    assert (Path(config.trial_code_directory) / script).is_file()


def test_every_shard_is_measured_once_and_merged(desk: Any, tmp_path: Path) -> None:
    example = yaml.safe_load((ROOT / "examples" / "table.yml").read_text())
    example |= {
        "searchSpace": {"shard": {"_type": "choice", "_value": ["0/2", "1/2"]}},
        "trialCommand": f"{sys.executable} table_shard.py --space hpo --data {desk.data} --configurations 2",
        "trialCodeDirectory": str(ROOT / "trial_code"),
        "experimentWorkingDirectory": str(desk.home / "experiments"),
        "trialConcurrency": 1,
    }
    file = desk.home / "table.yml"
    file.write_text(yaml.safe_dump(example))
    (desk.home / "experiments").mkdir(exist_ok=True)
    experiment = desk.nnictl_start("create", "--config", str(file))
    experiment.wait_for_status("DONE", "NO_MORE_TRIAL", "TUNER_NO_MORE_TRIAL", "ERROR")
    experiment.wait(lambda: len(experiment.results()) == 2, "the results of both shards")
    assert sorted(result["rows"] for result in experiment.results()) == [1, 1]

    files = sorted(experiment.folder.glob("environments/*/trials/*/table.jsonl"))
    assert len(files) == 2
    out = tmp_path / "table.csv.gz"
    assert main(["table", "merge", *map(str, files), "--out", str(out)]) == 0
    table = load_tables([out])
    planned = TableJob("hpo", (desk.data,), configurations=2).plan()
    assert {row.pair for row in table} == set(planned)
    mean = {json.dumps(result["default"]) for result in experiment.results()}
    aps = [[row.heldout_ap for row in load_tables([each])] for each in files]
    assert mean == {json.dumps(sum(part) / len(part)) for part in aps}
