"""What goes and what stays; ``hyperfd prune`` and ``hyperfd check`` as an operator runs them. Blobs are opaque here."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from nni_hyperfd.cli import main
from nni_hyperfd.errors import PlatformError
from nni_hyperfd.platform.state.pruning import Keeping, Pruned, prune
from nni_hyperfd.platform.state.records import FirstState, NewTask, NewVersion
from nni_hyperfd.platform.state.store import FILE_NAME, Store

PHI = (0.0,) * 64
LARGE = 2**16


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    found = Store(tmp_path, lambda: FirstState(b"ranker 0", b"omega 0", b"offline", "base"))
    yield found
    found.close()


def begin(store: Store, name: str, version: int = 0, space: str = "space") -> str:
    return store.open_task(NewTask("local", name, space, {"lr": 0.1}, 1e9, version, PHI)).id


def finish(store: Store, name: str, published: bool = True, space: str = "space") -> int:
    """A version that an experiment of that name leaves."""
    task = begin(store, name, store.newest().number, space)
    assert store.take_lease(name, task, 60) == 0
    blob = name.encode() * (LARGE // len(name))
    made = NewVersion(
        blob,
        blob,
        b"features",
        {},
        {},
        PHI,
        3,
        0,
        published,
        own_encoders={space: b"encoder " + name.encode()},
    )
    after = store.commit_version(name, task, store.newest().number, made).version_after
    assert after is not None
    return after


def kept(store: Store) -> list[int]:
    """Versions that can still be read, each whole."""
    found = []
    for version in store.versions():
        if store.is_usable(version.number) or not version.published:
            with suppress(PlatformError):
                assert store.ranker(version.number)
                assert store.omega(version.number)
                found.append(version.number)
        else:
            for read in (store.ranker, store.omega):
                with pytest.raises(PlatformError, match="not kept any more"):
                    read(version.number)
    return sorted(found)


def test_the_newest_the_first_and_those_that_are_needed_stay(store: Store) -> None:
    for i in range(3):
        finish(store, f"early {i}")
    begin(store, "under way", 2)
    finish(store, "late 0")
    forgotten = finish(store, "held back then", published=False)
    for i in range(3):
        finish(store, f"late {i + 1}")
    held = finish(store, "held back", published=False)
    newest = store.newest().number
    gone = prune(store, Keeping(versions=2))
    assert kept(store) == [0, 2, newest - 1, newest, held]
    assert forgotten not in kept(store)
    assert gone.versions == 5
    assert store.newest().number == newest
    assert len(store.versions()) == 10, "the chain stays whole"
    assert prune(store, Keeping(versions=2)) == Pruned(0, 0, 0)


def test_what_the_guard_holds_back_is_bounded_while_it_holds_back_everything(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finish(store, "good", space="good")
    few = Keeping(held=3)
    for i in range(8):
        finish(store, f"bad {i}", published=False, space=f"space {i}")
        prune(store, few, at_once=1)
    assert kept(store) == [0, 1, 7, 8, 9]
    encoders = {i: store.own_encoder(f"space {i - 2}", i) for i in range(2, 10)}
    assert [i for i, found in encoders.items() if found] == [7, 8, 9]
    assert main(["status", "--platform", str(tmp_path)]) == 0
    told = capsys.readouterr().out
    assert "`hyperfd publish 7`" in told
    assert "`hyperfd publish 6`" not in told
    with pytest.raises(PlatformError, match="version 6 is not kept any more"):
        store.publish(6)
    store.publish(7)
    assert store.newest().number == 7
    assert store.own_encoder("space 5", 7) == b"encoder bad 5"


def test_of_the_versions_that_open_experiments_read_the_newest_stay(store: Store) -> None:
    for i in range(6):
        finish(store, f"done {i}")
    for version in (1, 2, 3, 4):
        begin(store, f"under way {version}", version)
    prune(store, Keeping(versions=1, open_versions=2))
    assert kept(store) == [0, 3, 4, 6]


def test_old_ones_go_little_by_little_oldest_first(store: Store) -> None:
    for i in range(6):
        finish(store, f"done {i}")
    assert prune(store, Keeping(versions=1), at_once=2).versions == 2
    assert kept(store) == [0, 3, 4, 5, 6]
    assert prune(store, Keeping(versions=1), at_once=2).versions == 2
    assert kept(store) == [0, 5, 6]


def test_old_tasks_are_not_learnt_from_again_but_stay(store: Store) -> None:
    for i in range(4):
        finish(store, f"done {i}")
    assert prune(store, Keeping(tasks=2)).tasks == 2
    learnt = [task.experiment_id for task in store.tasks() if task.id in store.learnt_tasks("space")]
    assert sorted(learnt) == ["done 2", "done 3"]
    assert len(store.tasks()) == 4


def test_encoders_of_the_spaces_learnt_from_last_stay(store: Store) -> None:
    for name, space in (("a", "one"), ("b", "two"), ("c", "two"), ("d", "three")):
        finish(store, name, space=space)
    assert prune(store, Keeping(spaces=2)).encoders == 2
    newest = store.newest().number
    assert store.own_encoder("one", newest) is None
    assert store.own_encoder("two", newest) == b"encoder c"
    assert store.own_encoder("three", newest) == b"encoder d"


def test_tasks_and_encoders_go_little_by_little_oldest_first(store: Store) -> None:
    for i in range(5):
        finish(store, f"done {i}")
    few = Keeping(tasks=1, spaces=1)
    for learnt in (["done 2", "done 3", "done 4"], ["done 4"]):
        gone = prune(store, few, at_once=2)
        assert (gone.tasks, gone.encoders) == (2, 2)
        left = [task.experiment_id for task in store.tasks() if task.id in store.learnt_tasks("space")]
        assert sorted(left) == learnt
    gone = prune(store, few, at_once=2)
    assert (gone.tasks, gone.encoders) == (0, 0)


def test_prune_makes_the_file_smaller(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    standard = Keeping().versions
    for i in range(standard + 8):
        finish(store, f"done {i}")
    store.close()
    before = (tmp_path / FILE_NAME).stat().st_size
    assert main(["prune", "--platform", str(tmp_path)]) == 0
    assert capsys.readouterr().out.startswith("8 old rankers, ")
    assert before - (tmp_path / FILE_NAME).stat().st_size > 8 * LARGE
    again = Store(tmp_path)
    assert kept(again) == [0, *range(9, standard + 9)]
    again.close()
    assert main(["check", "--platform", str(tmp_path)]) == 0, "an emptied blob has its checksum"


def test_check_reads_everything(store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    finish(store, "done")
    store.close()
    assert main(["check", "--platform", str(tmp_path)]) == 0
    # Two rankers, two Ω, the offline data, one task's features and one encoder.
    assert "is sound: 7 blobs" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("UPDATE ranker_versions SET omega = X'00' WHERE number = 0", "the omega of ranker_versions 0"),
        ("UPDATE own_encoders SET blob = X'00'", "the blob of own_encoders space, 1"),
        ("UPDATE offline_features SET task_id = 'nobody'", "do not belong together"),
    ],
)
def test_check_names_what_is_damaged(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str], change: str, words: str
) -> None:
    finish(store, "done")
    store.close()
    database = sqlite3.connect(tmp_path / FILE_NAME)
    database.execute(change)
    database.commit()
    database.close()
    Store(tmp_path).close()  # opening does not read it all
    assert main(["check", "--platform", str(tmp_path)]) == 1
    message = capsys.readouterr().err
    assert words in message
    assert "restore" in message
