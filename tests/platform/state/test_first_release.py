"""A state file of every release is kept: each opens, is brought to today's tables, and goes on learning."""

from __future__ import annotations

import hashlib
import shutil
import sqlite3
from pathlib import Path

import pytest
import torch

from nni_hyperfd.customer.client import TaskClient
from nni_hyperfd.errors import PlatformError
from nni_hyperfd.metafeature.features import CHANNELS, LEVELS, ImageFeatures
from nni_hyperfd.platform.platform import Platform
from nni_hyperfd.platform.state import schema
from nni_hyperfd.platform.state.backup import backup, restore
from nni_hyperfd.platform.state.schema import LOCAL, SCHEMA_VERSION
from nni_hyperfd.platform.state.store import FILE_NAME, Store
from nni_hyperfd.protocol.messages import FindTask
from nni_hyperfd.ranker.settings import RankerSettings

ASSETS = Path(__file__).parents[2] / "assets"
STATES = sorted(ASSETS.glob("platform_v*.sqlite"))
SETTINGS = RankerSettings(batches=4, images=4)


@pytest.fixture(params=STATES, ids=lambda path: path.stem)
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A copy, as an operator has it."""
    shutil.copy(request.param, tmp_path / FILE_NAME)
    return tmp_path


@pytest.fixture
def features() -> ImageFeatures:
    """Those of the customer who is in the state files."""
    generator = torch.Generator().manual_seed(2)
    shape = (12, LEVELS, CHANNELS)
    gwap = torch.randn(shape, generator=generator).half()
    return ImageFeatures(gwap, torch.zeros(shape).half(), torch.randint(1, 9, (12,), generator=generator))


def test_there_is_one_of_every_older_schema() -> None:
    versions = set()
    for path in STATES:
        connection = sqlite3.connect(f"{path.as_uri()}?mode=ro&immutable=1", uri=True)
        versions.add(connection.execute("SELECT version FROM hyperfd_schema").fetchone()[0])
        connection.close()
    assert versions >= set(range(1, SCHEMA_VERSION))


def test_an_old_state_opens_and_goes_on(folder: Path, features: ImageFeatures) -> None:
    raw = sqlite3.connect(folder / FILE_NAME)
    rankers = dict(raw.execute("SELECT number, ranker FROM ranker_versions"))
    trials = raw.execute("SELECT task_id, trial_key, ap, status FROM experience ORDER BY id").fetchall()
    raw.close()
    platform = Platform(Store(folder), SETTINGS)
    store = platform._store
    assert platform.status().schema_version == SCHEMA_VERSION
    assert {v.number: store.ranker(v.number) for v in store.versions()} == rankers
    assert [(t.task_id, t.trial_key, t.ap, t.status) for t in store.trials()] == trials
    assert all(v.published for v in store.versions())
    client = TaskClient(platform, features, "base0")
    finished, task = (
        platform.ask(FindTask(experiment_id="finished")),
        platform.ask(FindTask(experiment_id="open")),
    )
    assert (finished.status, task.status, platform.owner(task.task_id)) == ("done", "open", LOCAL)
    assert client.update(finished).version_after == 1, "it was learnt from before"
    before = client.recommend(task, budget=4)
    assert before.version == task.extractor_version == 1
    receipt = client.update(task)
    assert (receipt.version_before, receipt.version_after, receipt.usable_trials) == (1, 2, 2)
    assert store.versions()[0].guard is not None
    platform.close()
    assert Store(folder).newest().number == 2, "and it opens again"


def test_a_backup_of_an_old_release_is_restored_into_this_one(folder: Path, tmp_path: Path) -> None:
    old = folder / "old.sqlite"
    shutil.copy(folder / FILE_NAME, old)
    digest = hashlib.sha256(old.read_bytes()).hexdigest()
    (folder / "old.sqlite.sha256").write_text(f"{digest}  old.sqlite\n")
    restore(old, tmp_path / "new")
    assert hashlib.sha256(old.read_bytes()).hexdigest() == digest, "the backup itself stays as it is"
    assert Store(tmp_path / "new").newest().number == 1
    backup(tmp_path / "new", tmp_path / "new.sqlite")


def test_a_migration_that_fails_leaves_the_old_state(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(connection: object) -> None:
        step(connection)  # type: ignore[arg-type]
        raise PlatformError("its rows do not belong together")

    last = SCHEMA_VERSION - 1
    before = (folder / FILE_NAME).read_bytes()
    step = schema.MIGRATIONS[last]
    monkeypatch.setitem(schema.MIGRATIONS, last, fail)
    with pytest.raises(PlatformError, match="do not belong together"):
        Store(folder)
    monkeypatch.undo()
    assert (folder / FILE_NAME).read_bytes() == before
    assert Store(folder).newest().number == 1
