"""The one command that makes tables, version 0 and evidence: what it plans, and what it does not measure again."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.build_platform import ROOT, TABLES, adopt, committed, steps
from nni_hyperfd.cli import main
from nni_hyperfd.detection.network.weights import base_id
from nni_hyperfd.evidence.job import TableJob
from nni_hyperfd.evidence.table import LookupTable, Row

FOLDERS = [Path("data/cats"), Path("data/dogs")]


@pytest.fixture
def options(tmp_path: Path) -> argparse.Namespace:
    """Two customers, and the offline sets of this repository."""
    numbers = {"hpo": 5, "nas": 3, "pairs": (12, 6, 4), "seeds": 2, "quick": True, "networks": False}
    places = {
        "work": tmp_path,
        "tables": ROOT / "benchmarks" / "tables",
        "assets": tmp_path,
        "results": tmp_path,
    }
    return argparse.Namespace(server=[Path("groups")], data=FOLDERS, **places, **numbers)


def to_be_measured(words: Sequence[object], capsys: pytest.CaptureFixture[str]) -> tuple[int, int]:
    assert main([*map(str, words[2:]), "--dry-run"]) == 0
    found = re.search(r"(\d+) pairs in this shard, (\d+) of them", capsys.readouterr().out)
    assert found
    return int(found[1]), int(found[2])


def test_every_kind_of_rows_is_planned(
    options: argparse.Namespace, capsys: pytest.CaptureFixture[str]
) -> None:
    for table in TABLES:
        adopt(Path("nowhere.csv.gz"), committed(options.work, table))
    planned = {
        step.name.removeprefix("rows: "): to_be_measured(step.words, capsys)[1]
        for step in steps(options)
        if step.rows
    }
    customers = {"hpo-0": 10, "nas-0": 6, "hpo-1": 10, "nas-1": 6, "server-hpo": 5, "server-nas": 3}
    offline = {f"{kind}-hpo": 12 for kind in ("offline", "degraded", "labels")}
    offline |= {f"{kind}-nas": 6 for kind in ("offline", "degraded", "labels")}
    offline |= {f"{kind}-assignment": 4 for kind in ("offline", "degraded", "labels")}
    assert planned == customers | offline


def test_committed_rows_are_kept_where_they_rest_on_the_shipped_bases(
    options: argparse.Namespace, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    pairs = TableJob("hpo", tuple(FOLDERS), configurations=5).plan()
    now = [Row(*pair, 0.5, 0.5, 0.5, 1.0, "cpu", f"base-{base_id()}") for pair in pairs[:3]]
    before = [replace(now[0], configuration=pairs[3].configuration, version="base-of-before")]
    LookupTable([*now, *before]).save(tmp_path / "hpo.csv.gz")
    kept = committed(options.work, "hpo")
    adopt(tmp_path / "hpo.csv.gz", kept)
    assert list(LookupTable.load(kept)) == sorted(now, key=lambda row: row.pair)
    first = next(step for step in steps(options) if step.rows)
    assert to_be_measured(first.words, capsys) == (10, 7)
    # The table is replaced later; what was kept of it stays.
    (tmp_path / "hpo.csv.gz").unlink()
    adopt(tmp_path / "hpo.csv.gz", kept)
    assert len(LookupTable.load(kept)) == 3
    merge = next(step for step in steps(options) if step.name == "table hpo")
    assert kept in merge.words
