"""``kill -9`` at every database statement of an update, and two processes that finish one experiment at once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nni_hyperfd.customer.client import TaskClient
from nni_hyperfd.metafeature.features import ImageFeatures
from nni_hyperfd.platform.platform import Platform
from nni_hyperfd.spaces.standard import standard_search_space

STRIDE = int(os.environ.get("HYPERFD_DEATH_STRIDE", "4"))
"""Statements between two deaths; 1 tries every one."""


@pytest.fixture
def report(open_platform: Callable[..., Platform], features: ImageFeatures, tmp_path: Path) -> dict[str, Any]:
    """What happened to a platform with one finished task and an experiment of three acknowledged trials."""
    folder, stored = tmp_path / "platform", tmp_path / "features.safetensors"
    platform = open_platform(folder)
    client = TaskClient(platform, features, "base0")
    for name in ("before", "exp"):
        task = client.open(name, standard_search_space("hpo"))
        for i, entry in enumerate(client.recommend(task, budget=3).configurations):
            client.record(task, entry.parameters, 0.5 + i / 10)
        if name == "before":
            client.update(task)
    platform.close()
    features.save(stored)
    run = subprocess.run(
        [sys.executable, Path(__file__).with_name("sudden_death.py"), folder, stored, str(STRIDE)],
        stdout=subprocess.PIPE,
        check=True,
        # The package that is tested here, installed or not; and one thread, as a fork of a process with more may hang.
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"},
    )
    return json.loads(run.stdout)


def test_nothing_is_lost_and_nothing_is_done_twice(report: dict[str, Any]) -> None:
    assert report["total"] > 30
    ends = []
    for death in report["deaths"]:
        version, status, after, trials, versions = death["found"]
        assert trials == 3, "an acknowledged result was lost"
        assert (version, status, after) in {(1, "open", None), (2, "done", 2)}, death
        assert versions == version + 1
        assert death["again"] == [2, 2], death
        assert death["end"] == [2, "done", 2, 3, 3], death
        ends.append((death["killed"], version))
    assert ends.count((True, 1)) > 0.8 * len(ends), "most deaths come before the commit"
    # Two processes that finish one experiment at the same time make one version, and both learn of it.
    assert report["race"] == {"codes": [0, 0], "end": [2, "done", 2, 3, 3]}
