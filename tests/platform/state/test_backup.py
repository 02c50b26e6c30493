"""Backups of a platform at work, restoring them, and the copy from one kind of database to another."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from nni_hyperfd.cli import main
from nni_hyperfd.customer.client import TaskClient
from nni_hyperfd.errors import PlatformError
from nni_hyperfd.metafeature.features import ImageFeatures
from nni_hyperfd.platform.platform import Platform
from nni_hyperfd.platform.state.backup import backup, restore
from nni_hyperfd.platform.state.store import FILE_NAME, Store
from nni_hyperfd.protocol.messages import FindTask
from nni_hyperfd.spaces.standard import standard_search_space

HPO = standard_search_space("hpo")
Opener = Callable[..., Platform]


def work(platform: Platform, features: ImageFeatures, name: str, finish: bool = True) -> None:
    client = TaskClient(platform, features, "base0")
    task = client.open(name, HPO)
    for i, entry in enumerate(client.recommend(task, budget=3).configurations):
        client.record(task, entry.parameters, None if i == 1 else 0.5 + i / 10, seed=2**62 + i)
    if finish:
        client.update(task)


def everything(location: Path | str) -> list[object]:
    """All that a platform knows, blobs included."""
    store = Store(location)
    done = [task.id for task in store.tasks("done")]
    versions = [(v, store.ranker(v.number), store.omega(v.number)) for v in store.versions()]
    found = [versions, store.tasks(), store.trials(), store.offline(), store.base_id(), store.customers()]
    found.append([store.features(task) for task in done])
    store.close()
    return found


@pytest.fixture
def used(open_platform: Opener, features: ImageFeatures) -> Platform:
    platform = open_platform()
    work(platform, features, "one")
    work(platform, features, "two", finish=False)
    return platform


def test_a_restored_platform_is_the_same_and_goes_on(
    used: Platform, open_platform: Opener, features: ImageFeatures, tmp_path: Path
) -> None:
    file = tmp_path / "monday.sqlite"
    backup(tmp_path / "platform", file)
    before = everything(tmp_path / "platform")
    assert file.stat().st_mode & 0o077 == 0
    subprocess.run(["sha256sum", "--check", "--quiet", f"{file.name}.sha256"], cwd=tmp_path, check=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["monday.sqlite", "monday.sqlite.sha256", "platform"]
    restore(file, tmp_path / "new")
    assert everything(tmp_path / "new") == before
    # Both platforms come to the same next version, and rows that the database numbers itself go on being numbered.
    for folder in ("platform", "new"):
        platform = open_platform(tmp_path / folder)
        client = TaskClient(platform, features, "base0")
        assert client.update(platform.ask(FindTask(experiment_id="two"))).version_after == 2
    old, new = (open_platform(tmp_path / folder).ranker(2).state_dict() for folder in ("platform", "new"))
    assert all(torch.equal(tensor, new[name]) for name, tensor in old.items())
    work(open_platform(tmp_path / "new"), features, "three")


def test_a_state_is_replaced_only_by_force(
    used: Platform, open_platform: Opener, features: ImageFeatures, tmp_path: Path
) -> None:
    backup(tmp_path / "platform", file := tmp_path / "b.sqlite")
    before = everything(tmp_path / "platform")
    work(used, features, "three")
    after = everything(tmp_path / "platform")
    with pytest.raises(PlatformError, match="already"):
        restore(file, tmp_path / "platform")
    assert everything(tmp_path / "platform") == after
    restore(file, tmp_path / "platform", force=True)
    assert everything(tmp_path / "platform") == before
    with pytest.raises(PlatformError, match="exists already"):
        backup(tmp_path / "platform", file)


def test_a_backup_under_writes_is_of_one_moment(used: Platform, tmp_path: Path) -> None:
    """Results come in while rows are copied: those of a task are there up to some point, and none after it."""
    task = used.ask(FindTask(experiment_id="two"))
    store = Store(tmp_path / "platform")
    (first,) = {t.trial_key: t for t in store.trials(task.task_id)[:1]}.values()
    stop = threading.Event()

    def write() -> None:
        number = 0
        while not stop.is_set():
            store.record(type(first)(**(vars(first) | {"trial_key": f"more{number}"})))
            number += 1

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for i in range(3):
            backup(tmp_path / "platform", tmp_path / f"b{i}.sqlite")
    finally:
        stop.set()
        writer.join()
    total = [t.trial_key for t in store.trials(task.task_id)]
    for i in range(3):
        restore(tmp_path / f"b{i}.sqlite", tmp_path / f"r{i}")
        kept = [t.trial_key for t in Store(tmp_path / f"r{i}").trials(task.task_id)]
        assert kept == total[: len(kept)]
        assert len(kept) >= 3


def test_damage_is_found(used: Platform, tmp_path: Path) -> None:
    backup(tmp_path / "platform", file := tmp_path / "b.sqlite")
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "bad.sqlite").write_bytes(content)
    with pytest.raises(PlatformError, match=r"checksum .* is missing"):
        restore(tmp_path / "bad.sqlite", tmp_path / "new")
    shutil.copy(tmp_path / "b.sqlite.sha256", tmp_path / "bad.sqlite.sha256")
    with pytest.raises(PlatformError, match="is damaged"):
        restore(tmp_path / "bad.sqlite", tmp_path / "new")
    assert not (tmp_path / "new").exists()
    # A blob that has rotted in the platform itself does not get into a backup unseen.
    used.close()
    with sqlite3.connect(tmp_path / "platform" / FILE_NAME) as connection:
        connection.execute("UPDATE ranker_versions SET omega = x'00' WHERE number = 1")
    with pytest.raises(PlatformError, match="omega of ranker_versions 1 is damaged"):
        backup(tmp_path / "platform", tmp_path / "c.sqlite")
    assert not list(tmp_path.glob("c.*"))


def test_a_full_disk_leaves_no_half_of_either(
    used: Platform, tmp_path: Path, disk_full_after: Callable[[int], object]
) -> None:
    size = (tmp_path / "platform" / FILE_NAME).stat().st_size
    with disk_full_after(size // 3), pytest.raises(PlatformError):  # type: ignore[attr-defined]
        backup(tmp_path / "platform", tmp_path / "b.sqlite")
    assert [p.name for p in tmp_path.iterdir()] == ["platform"]
    backup(tmp_path / "platform", tmp_path / "b.sqlite")
    before = everything(tmp_path / "platform")
    with disk_full_after(size // 3), pytest.raises(PlatformError):  # type: ignore[attr-defined]
        restore(tmp_path / "b.sqlite", tmp_path / "platform", force=True)
    assert everything(tmp_path / "platform") == before


def test_the_copy_goes_by_database_url_too(used: Platform, tmp_path: Path) -> None:
    """The same way leads to PostgreSQL; here to a database behind a URL, which every machine has."""
    backup(tmp_path / "platform", file := tmp_path / "b.sqlite")
    url = f"sqlite:///{tmp_path / 'elsewhere.db'}"
    restore(file, url)
    assert everything(url) == everything(tmp_path / "platform")
    backup(url, tmp_path / "back.sqlite")


def test_the_commands(used: Platform, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = str(tmp_path / "b.sqlite")
    assert main(["backup", file, "--platform", str(tmp_path / "platform")]) == 0
    assert "checksum" in capsys.readouterr().out
    assert main(["restore", file, "--platform", str(tmp_path / "platform")]) == 1
    assert "--force" in capsys.readouterr().err
    assert main(["restore", file, "--platform", str(tmp_path / "new")]) == 0
    assert "version 1, with 2 tasks and 4 results" in capsys.readouterr().out
    assert main(["backup", file, "--platform", str(tmp_path / "nowhere")]) == 1
