"""What was acknowledged outlives kill -9, power cuts and full disks; 200 deaths are in ``benchmarks/fault_injection.py``."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from nni_hyperfd.customer.client import TaskClient
from nni_hyperfd.errors import PlatformAwayError
from nni_hyperfd.metafeature.features import ImageFeatures
from nni_hyperfd.platform.platform import Platform
from nni_hyperfd.platform.state.records import FirstState, NewTask, NewVersion, StoredTrial
from nni_hyperfd.platform.state.schema import LOCAL
from nni_hyperfd.platform.state.store import FILE_NAME, Store
from nni_hyperfd.spaces.standard import standard_search_space

ROOT = Path(__file__).parents[2]
PHI = (0.5,) * 64
DiskFull = Callable[[int], AbstractContextManager[None]]


def test_deaths_at_random_moments(tmp_path: Path) -> None:
    """Servers and clients over HTTP, one at a time and two at once over one database."""
    command = [sys.executable, "-W", "ignore", str(ROOT / "benchmarks" / "fault_injection.py")]
    command += ["--kills", os.environ.get("HYPERFD_KILLS", "8"), "--seed", "4", "--out", str(tmp_path)]
    run = subprocess.run(
        command,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    rounds = json.loads((tmp_path / "fault_injection.json").read_text())
    assert [entry["faults"] for entry in rounds] == [[]] * len(rounds)
    assert len({entry["kind"] for entry in rounds}) == 5
    assert sum(entry["killed"] for entry in rounds) >= len(rounds) / 2


# ------------------------------------------------------------------------------------------------- a power cut


@dataclass
class Scene:
    """A state file with its write-ahead log as they lay on the disk, and what had been acknowledged when."""

    folder: Path
    store: Store
    task: str
    acknowledged: list[tuple[int, str]]
    """Length of the log when the acknowledgement came, and what it was for."""

    def told(self, what: str) -> None:
        self.acknowledged.append((self.log.stat().st_size, what))

    @property
    def log(self) -> Path:
        return self.folder / f"{FILE_NAME}-wal"


def trial(task: str, number: int) -> StoredTrial:
    return StoredTrial(task, f"t{number}", {"lr": 0.1}, "ok", number / 100, None, None, None, 0, "short")


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    """Results, an update of realistic size between them, and nothing folded into the file yet."""
    blob = random.Random(0).randbytes(200_000)
    Store(tmp_path / "p", lambda: FirstState(blob, b"omega", b"offline", "base")).close()
    store = Store(tmp_path / "p")
    space = {"lr": {"_type": "choice", "_value": [0.1]}}
    task = store.open_task(NewTask(LOCAL, "exp", "space", space, 1e9, 0, PHI)).id
    scene = Scene(tmp_path / "p", store, task, [])
    for number in range(6):
        store.record(trial(task, number))
        scene.told(f"t{number}")
        if number == 2:
            other = store.open_task(NewTask(LOCAL, "other", "space", space, 1e9, 0, PHI)).id
            store.take_lease("session", other, 60)
            store.commit_version("session", other, 0, NewVersion(blob[::-1], blob, blob, {}, {}, PHI, 3, 0))
            scene.told("version 1")
    yield scene
    store.close()


def look(folder: Path) -> set[str]:
    """Open what is left, as after a restart, and name all that is there and whole."""
    store = Store(folder)
    newest = store.newest().number
    assert len(store.ranker(newest)) == 200_000
    found = {trial.trial_key for trial in store.trials() if trial.ap == int(trial.trial_key[1:]) / 100}
    if newest == 1:
        assert len(store.omega(1)) == 200_000
        done = store.find_task("other")
        assert done is not None
        assert (done.status, done.version_after, len(store.features(done.id))) == ("done", 1, 200_000)
        found.add("version 1")
    # Work goes on from there.
    task = store.find_task("exp")
    assert task is None or store.take_lease("after", task.id, 1, takeover=True) >= 0
    store.close()
    return found


def test_whatever_of_the_log_survives_has_all_that_was_acknowledged_by_then(
    scene: Scene, tmp_path: Path
) -> None:
    """A power cut leaves at least what was synchronized, and of the rest any part, or rubbish."""
    log, state = scene.log.read_bytes(), (scene.folder / FILE_NAME).read_bytes()
    rng = random.Random(1)
    cuts = [length + extra for length, _ in scene.acknowledged for extra in (0, 1, 2500)]
    cuts += [rng.randrange(len(log)) for _ in range(20)]
    before = 0
    for number, cut in enumerate(sorted(min(cut, len(log)) for cut in cuts)):
        place = tmp_path / f"cut{number}"
        place.mkdir()
        rubbish = rng.choice([b"", bytes(5000), rng.randbytes(5000)])
        (place / FILE_NAME).write_bytes(state)
        (place / f"{FILE_NAME}-wal").write_bytes(log[:cut] + rubbish)
        found = look(place)
        due = {what for length, what in scene.acknowledged if length <= cut}
        assert due <= found, f"cut at {cut} lost {due - found}"
        assert len(found) >= before, "a longer log never holds less"
        before = len(found)
        shutil.rmtree(place)
    assert before == len(scene.acknowledged)


def test_a_cut_while_the_log_is_folded_into_the_file_loses_nothing(scene: Scene, tmp_path: Path) -> None:
    """Any of the file's pages may be old or new then, and the log is still whole."""
    path, page = scene.folder / FILE_NAME, 4096
    log, old = scene.log.read_bytes(), path.read_bytes()
    with scene.store.snapshot() as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(PASSIVE)")
    new = path.read_bytes()
    assert new != old
    rng = random.Random(2)
    for number in range(8):
        place = tmp_path / f"mixed{number}"
        place.mkdir()
        pages = [rng.choice((old, new))[at : at + page] for at in range(0, len(new), page)]
        (place / FILE_NAME).write_bytes(b"".join(part or bytes(page) for part in pages))
        (place / f"{FILE_NAME}-wal").write_bytes(log)
        assert look(place) == {what for _, what in scene.acknowledged}


def test_an_acknowledgement_waits_for_the_disk(scene: Scene) -> None:
    """What the two tests above take for granted: SQLite synchronizes the log at every commit."""
    with scene.store.snapshot() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2  # FULL


# ------------------------------------------------------------------------------------------------ a full disk


def test_results_on_a_full_disk_are_refused_and_those_before_are_kept(
    scene: Scene, disk_full_after: DiskFull
) -> None:
    kept = {trial.trial_key for trial in scene.store.trials()}
    with disk_full_after(scene.log.stat().st_size + 100_000):
        with pytest.raises(PlatformAwayError, match="cannot be read or written"):  # noqa: PT012
            for number in range(6, 10_000):
                scene.store.record(trial(scene.task, number))
                kept.add(f"t{number}")
        assert {t.trial_key for t in scene.store.trials()} == kept, "and it can be read meanwhile"
    scene.store.close()
    assert {t.trial_key for t in Store(scene.folder).trials()} == kept
    assert len(kept) > 8
    assert scene.store.record(trial(scene.task, 10_000)) == "stored"


def test_an_update_that_finds_the_disk_full_can_be_committed_later(
    open_platform: Callable[..., Platform],
    features: ImageFeatures,
    tmp_path: Path,
    disk_full_after: DiskFull,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    platform = open_platform()
    client = TaskClient(platform, features, "base0")
    task = client.open("exp", standard_search_space("hpo"))
    for i, entry in enumerate(client.recommend(task, 3).configurations):
        client.record(task, entry.parameters, 0.5 + i / 10)
    attempts = []

    @contextmanager
    def full() -> Iterator[None]:
        with disk_full_after((tmp_path / "platform" / FILE_NAME).stat().st_size // 2):
            yield

    commit = platform._store.commit_version

    def on_a_full_disk(*arguments: object) -> object:
        attempts.append(arguments)
        if len(attempts) == 1:
            with full():
                return commit(*arguments)
        return commit(*arguments)

    monkeypatch.setattr(platform._store, "commit_version", on_a_full_disk)
    with pytest.raises(PlatformAwayError):
        client.update(task)
    assert platform.status().version == 0
    assert platform.status().counts.usable_trials == 3
    assert client.update(task).version_after == 1
