"""A table's plan, and the commands that build, merge and sum it up."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from nni_hyperfd.cli import main
from nni_hyperfd.errors import DataError
from nni_hyperfd.evidence.job import TableJob
from nni_hyperfd.evidence.measuring import shard
from nni_hyperfd.evidence.offline_sets import OfflineReport, OfflineSet, OfflineSets, _digest
from nni_hyperfd.evidence.table import LookupTable

FOLDERS = (Path("a/cats"), Path("b/dogs"))


@pytest.fixture
def offline(tmp_path: Path) -> Path:
    """Three offline sets over the first images of a server."""
    parts = [tuple(range(start, start + 16)) for start in (0, 4, 8)]
    sets = tuple(OfflineSet(f"labels.c{i}-{_digest(part)}", part) for i, part in enumerate(parts))
    report = OfflineReport(3, {}, 3, {}, {}, [], [], [], {})
    OfflineSets(sets, report).save(tmp_path / "sets.json")
    return tmp_path / "sets.json"


def test_the_full_grid_and_smaller_ones_inside_it() -> None:
    full = TableJob("hpo", FOLDERS, (Path("server"),)).plan()
    assert Counter(pair.data_set for pair in full) == {"cats": 216, "dogs": 216, "server": 216}
    small = TableJob("hpo", FOLDERS, configurations=72).plan()
    smaller = TableJob("hpo", FOLDERS, configurations=30).plan()
    assert len(set(small)) == 144
    assert set(smaller) < set(small) < set(full)
    networks = TableJob("nas", FOLDERS).plan()
    assert len({pair.configuration for pair in networks}) == 200
    assert set(TableJob("nas", FOLDERS, configurations=20).plan()) < set(networks)
    counts = TableJob("assignment", FOLDERS).plan()
    assert len({pair.configuration for pair in counts}) == 200
    assert set(TableJob("assignment", FOLDERS, configurations=20).plan()) < set(counts)


def test_a_second_training_seed_measures_the_same_pairs(offline: Path) -> None:
    job = TableJob("nas", server=(Path("server"),), offline=offline, pairs=18, per_set=6)
    first, second = job.plan(), TableJob("nas", (), (Path("server"),), offline, 18, 6, seed=1).plan()
    assert [pair._replace(seed=1) for pair in first] == second
    assert set(Counter(pair.data_set for pair in first).values()) == {6}
    assert sorted(shard(first, 0, 2) + shard(first, 1, 2)) == sorted(first)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({}, "nothing to measure"),
        ({"data": (Path("x/cats"), Path("y/cats"))}, "stand for two"),
        ({"data": (Path("x/server"),)}, "stand for two"),
        ({"data": FOLDERS, "offline": Path("sets.json")}, "--server"),
    ],
)
def test_a_job_that_makes_no_sense_is_refused(arguments: dict[str, object], sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        TableJob("hpo", **arguments)  # type: ignore[arg-type]


def test_more_configurations_than_there_are() -> None:
    with pytest.raises(DataError, match="1 to 216"):
        TableJob("hpo", FOLDERS, configurations=217).plan()


def test_build_resume_merge_and_show(
    drawn_faces: Path,
    offline: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Real trainings: a customer's two configurations by two workers, one of them stopped, then one offline pair."""
    monkeypatch.setenv("HYPERFD_CACHE", str(tmp_path / "cache"))
    build = ["table", "build", "--space", "hpo", "--data", str(drawn_faces), "--configurations", "2"]
    one, two = tmp_path / "one.jsonl", tmp_path / "two.jsonl"
    assert main([*build, "--out", str(one), "--minutes", "0"]) == 0
    assert main([*build, "--out", str(one), "--shard", "0/2"]) == 0
    # An interruption in the middle of a line costs that row; what the other worker has is left out.
    whole = one.read_bytes()
    two.write_bytes(whole[:30])
    assert main([*build, "--out", str(two), "--done", str(one), "--dry-run"]) == 0
    assert main([*build, "--out", str(two), "--done", str(one)]) == 0
    told = capsys.readouterr().out
    assert "2 pairs in this shard, 1 of them still to be measured." in told
    assert told.endswith(f"{two}: 1 rows appended, 0 pairs left.\n")
    three = tmp_path / "three.jsonl"
    server = ["--server", str(drawn_faces), "--offline", str(offline), "--pairs", "2", "--per-set", "2"]
    assert main(["table", "build", "--space", "nas", *server, "--shard", "0/2", "--out", str(three)]) == 0

    merged = tmp_path / "table.csv.gz"
    assert main(["table", "merge", *map(str, (one, two, three)), "--out", str(merged)]) == 0
    rows = list(LookupTable.load(merged))
    assert [row.space for row in rows] == ["hpo", "hpo", "nas"]
    assert not any(row.failure for row in rows)
    assert len({row.configuration for row in rows}) == 3
    capsys.readouterr()
    assert main(["table", "show", str(merged)]) == 0
    head, first, second = capsys.readouterr().out.rstrip().splitlines()
    assert head.split()[:2] == ["space", "data"]
    assert first.split()[:6] == ["hpo", "faces", "table", "0", "2", "0"]
    assert "(offline sets)" in second


def test_wrong_words_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    build = ["table", "build", "--space", "hpo", "--data", str(tmp_path)]
    assert main([*build, "--out", "rows.csv"]) == 1
    assert "ends with .jsonl" in capsys.readouterr().err
    assert main(["table", "show", str(tmp_path / "none.jsonl")]) == 1
    assert "there is no table" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([*build, "--out", "rows.jsonl", "--shard", "2/2"])
    assert "counts from 0 to 1" in capsys.readouterr().err
    (tmp_path / "bad.jsonl").write_text(json.dumps({"space": "hpo"}) + "\n")
    assert main(["table", "merge", str(tmp_path / "bad.jsonl"), "--out", str(tmp_path / "x.csv.gz")]) == 1
    assert "bad.jsonl:1" in capsys.readouterr().err
