"""The cache on disk: what is listed, what goes first, and what stays."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from filelock import FileLock

from nni_hyperfd.cli import main
from nni_hyperfd.data.cache import entries, evict, opened
from nni_hyperfd.data.dataset import load_dataset
from nni_hyperfd.data.pixels import open_pixels
from nni_hyperfd.errors import DataError


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """Three entries of 1000 bytes each, opened one after the other, and a ranker that is nobody's to take away."""
    for age, (kind, files) in enumerate(
        [
            ("pixels", {"first.u8": 900, "first.json": 100, "first.lock": 0}),
            ("features", {"second.safetensors": 1000, "second.lock": 0}),
            ("pixels", {"third.u8": 990, "third.json": 10}),
        ]
    ):
        for name, size in files.items():
            path = tmp_path / kind / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(bytes(size))
            os.utime(path, (1000 + age, 1000 + age))
    (tmp_path / "platforms" / "one").mkdir(parents=True)
    (tmp_path / "platforms" / "one" / "ranker-0.safetensors").write_bytes(bytes(5000))
    return tmp_path


def names(cache: Path) -> list[str]:
    return [entry.path.name for entry in entries(cache)]


def test_what_was_opened_longest_ago_goes_first(cache: Path) -> None:
    assert [(entry.kind, entry.size) for entry in entries(cache)] == [
        ("pixels", 1000),
        ("features", 1000),
        ("pixels", 1000),
    ]
    assert names(cache) == ["third", "second", "first"]
    assert evict(cache, 3000) == []
    opened(cache / "pixels" / "first")
    assert names(cache) == ["first", "third", "second"]
    assert [entry.path.name for entry in evict(cache, 2500)] == ["second"]
    assert names(cache) == ["first", "third"]
    evict(cache, 0)
    assert names(cache) == []
    assert (cache / "platforms" / "one" / "ranker-0.safetensors").exists()


def test_what_somebody_is_making_stays(cache: Path) -> None:
    with FileLock(cache / "pixels" / "first.lock"):
        assert [entry.path.name for entry in evict(cache, 0)] == ["third", "second"]
    assert names(cache) == ["first"]


def test_it_does_not_grow_without_bound(
    drawn_faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = load_dataset(drawn_faces)
    monkeypatch.setenv("HYPERFD_CACHE_GB", "1e-9")
    for side in (16, 24):
        store = open_pixels(dataset, side, tmp_path)
        assert len(entries(tmp_path)) == 1
    assert store.image(0).shape[0] == 3
    monkeypatch.setenv("HYPERFD_CACHE_GB", "many")
    with pytest.raises(DataError, match="HYPERFD_CACHE_GB is 'many'; set it to a number"):
        open_pixels(dataset, 32, tmp_path)


def test_the_command_shows_and_prunes(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cache", "--cache", str(cache)]) == 0
    shown = capsys.readouterr().out
    assert "third     decoded images" in shown
    assert "second    image features" in shown
    assert shown.endswith(f"3 entries with 0.0 MB in {cache}.\n")
    assert main(["cache", "--cache", str(cache), "--prune", "0"]) == 0
    assert capsys.readouterr().out.startswith("Removed 3 entries with 0.0 MB.\n0 entries")
    assert names(cache) == []
