"""The state file: exactly-once, durable, checked on opening. Blobs are opaque here; ``test_platform`` fills them."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import Connection, create_engine, inspect, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import IntegrityError
from sqlalchemy.schema import CreateTable

from nni_hyperfd.errors import PlatformError, UpdateLostError
from nni_hyperfd.platform.state import schema
from nni_hyperfd.platform.state.records import FirstState, NewVersion, StoredTrial
from nni_hyperfd.platform.state.store import FILE_NAME, Store
from tests.fixtures.stored import FIRST, TASK


def new_store(folder: Path) -> Store:
    return Store(folder, lambda: FIRST)


def trial(task_id: str, key: str = "a", ap: float | None = 0.5, lr: float = 0.1) -> StoredTrial:
    status = "failed" if ap is None else "ok"
    return StoredTrial(
        task_id, key, {"lr": lr, "opt": "sgd"}, status, ap, None, None, 12.5, 2**62 + 1, "short"
    )


def version(task_id: str, number: int = 1) -> NewVersion:
    name = str(number).encode()
    return NewVersion(
        b"ranker " + name, b"omega " + name, b"features", {task_id: b"Z"}, {"seed": 1}, TASK.phi[::-1], 3, 1
    )


def test_a_new_platform_begins_at_version_0_and_is_found_again(tmp_path: Path) -> None:
    new_store(tmp_path / "deep" / "er").close()
    store = Store(tmp_path / "deep" / "er")
    assert [v.number for v in store.versions()] == [0]
    assert (store.newest().parent, store.newest().experiment_id) == (None, None)
    assert (store.ranker(0), store.omega(0), store.offline(), store.base_id()) == (
        b"ranker 0",
        b"omega 0",
        b"offline",
        "base",
    )


def test_opening_does_not_start_anew(tmp_path: Path) -> None:
    new_store(tmp_path).close()
    assert Store(tmp_path, lambda: replace(FIRST, ranker=b"other")).ranker(0) == b"ranker 0"


def test_an_empty_place_is_an_error_without_a_first_state(tmp_path: Path) -> None:
    with pytest.raises(PlatformError, match="no platform state"):
        Store(tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()


def test_a_first_state_that_cannot_be_made_leaves_nothing_behind(tmp_path: Path) -> None:
    def broken() -> FirstState:
        raise PlatformError("no assets")

    with pytest.raises(PlatformError, match="no assets"):
        Store(tmp_path / "new", broken)
    assert not (tmp_path / "new").exists()


def test_tasks_and_trials_read_back_exactly(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    task = store.open_task(TASK)
    assert (task.phi, task.space, task.status, task.extractor_version) == (TASK.phi, TASK.space, "open", 0)
    assert store.record(trial(task.id)) == "stored"
    assert store.trials(task.id) == [trial(task.id)]
    assert store.tasks("open") == [task] == [store.find_task("exp")]


def test_opening_a_task_again_changes_nothing(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    task = store.open_task(TASK)
    assert store.open_task(replace(TASK, phi=(0.0,) * 64)) == task
    with pytest.raises(PlatformError, match="another search space"):
        store.open_task(replace(TASK, space={"lr": {"_type": "choice", "_value": [0.1]}}))
    assert len(store.tasks()) == 1


def test_a_task_cannot_refer_to_a_version_that_is_not_there(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    with pytest.raises(PlatformError, match="version 7"):
        store.open_task(replace(TASK, extractor_version=7))
    assert store.tasks() == []


def test_trials_are_idempotent_and_a_late_result_overrules_a_failure(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    task = store.open_task(TASK).id
    assert store.record(trial(task, ap=None)) == "stored"
    assert store.record(trial(task, ap=0.5)) == "replaced"
    assert store.record(trial(task, ap=0.5)) == "known"
    assert store.record(trial(task, ap=0.9)) == "known"
    assert store.record(trial(task, ap=None)) == "known"
    assert [t.ap for t in store.trials(task)] == [0.5]
    with pytest.raises(PlatformError, match="another configuration"):
        store.record(trial(task, lr=0.2))
    with pytest.raises(PlatformError, match="no task"):
        store.record(trial("nobody"))
    assert (store.counts().usable_trials, store.counts().failed_trials) == (1, 0)


def test_an_update_happens_once(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    task = store.open_task(TASK)
    assert store.take_lease("one", task.id, 60) == 0
    done = store.commit_version("one", task.id, 0, version(task.id))
    assert (done.status, done.version_before, done.version_after, done.trials_used) == ("done", 0, 1, 3)
    assert done.final_phi == TASK.phi[::-1]
    assert (store.features(task.id), store.transformation(task.id)) == (b"features", b"Z")
    # Again, even by somebody who holds the turn: the same receipt, no second version, nothing overwritten.
    assert store.take_lease("two", task.id, 60) == 0
    assert store.commit_version("two", task.id, 1, version(task.id, 2)) == done
    assert store.ranker(1) == b"ranker 1"
    assert [v.number for v in store.versions()] == [1, 0]


def test_a_second_update_is_built_on_the_newest_version_or_refused(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    first, second = store.open_task(TASK), store.open_task(replace(TASK, experiment_id="other"))
    store.take_lease("one", first.id, 60)
    store.commit_version("one", first.id, 0, version(first.id))
    store.take_lease("two", second.id, 60)
    with pytest.raises(UpdateLostError):
        store.commit_version("two", second.id, 0, version(second.id))
    both = replace(version(second.id, 2), transformations={first.id: b"Z new", second.id: b"Z2"})
    assert store.commit_version("two", second.id, 1, both).version_after == 2
    assert [(v.number, v.parent) for v in store.versions()] == [(2, 1), (1, 0), (0, None)]
    assert (store.transformation(first.id), store.features(first.id)) == (b"Z new", b"features")
    assert [t.version_after for t in store.tasks("done")] == [1, 2]


def test_the_turn_to_update_is_held_by_one_at_a_time(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    first, second = store.open_task(TASK), store.open_task(replace(TASK, experiment_id="other"))
    assert store.take_lease("one", first.id, 60) == 0
    assert 0 < store.take_lease("two", second.id, 60) <= 60
    assert 0 < store.take_lease("two", second.id, 60, takeover=True) <= 60, (
        "only the same experiment may take over"
    )
    assert 0 < store.take_lease("again", first.id, 60) <= 60
    assert store.take_lease("again", first.id, 60, takeover=True) == 0
    for lost in (
        lambda: store.renew_lease("one", 60),
        lambda: store.commit_version("one", first.id, 0, version(first.id)),
    ):
        with pytest.raises(UpdateLostError):
            lost()
    store.release_lease("one")  # not the holder: no effect
    assert store.take_lease("two", second.id, 60) > 0
    store.release_lease("again")
    assert store.take_lease("two", second.id, 0.0) == 0
    assert store.take_lease("three", first.id, 60) == 0, "a turn whose time is over is free"


def test_a_refused_commit_leaves_no_trace(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    task = store.open_task(TASK)
    store.take_lease("one", task.id, 60)
    broken = replace(
        version(task.id), transformations={"nobody": b"Z"}
    )  # breaks a foreign key at the very end
    with pytest.raises(PlatformError):
        store.commit_version("one", task.id, 0, broken)
    assert [v.number for v in store.versions()] == [0]
    assert store.task(task.id) == task
    with pytest.raises(PlatformError, match="offline features"):
        store.features(task.id)
    assert store.commit_version("one", task.id, 0, version(task.id)).version_after == 1


def test_a_task_without_results_is_closed_and_opens_again_when_one_comes(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    task = store.open_task(TASK)
    store.record(trial(task.id, ap=None))
    closed = store.close_task(task.id, 0)
    assert (closed.status, closed.version_after, closed.trials_used, closed.trials_failed) == (
        "closed",
        None,
        0,
        1,
    )
    assert store.close_task(task.id, 5) == closed
    store.record(trial(task.id, key="b"))
    assert store.task(task.id).status == "open"
    with pytest.raises(UpdateLostError):
        store.close_task(task.id, 0)


def test_results_in_many_threads_are_all_kept(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    task = store.open_task(TASK).id

    def work(worker: int) -> None:
        for i in range(5):
            store.record(trial(task, key=f"{worker}-{i}"))
            store.record(trial(task, key="shared"))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(store.trials(task)) == 21


COLUMNS = {
    "hyperfd_schema": "id product version created",
    "offline_data": "id base_id blob sha256 created",
    "customers": "name token_sha256 created revoked",
    "tasks": "id customer experiment_id space_key space_json flops_limit extractor_version phi status created finished "
    "version_before version_after trials_used trials_failed final_phi",
    "ranker_versions": "number parent task_id experiment_id published guard reason settings ranker ranker_sha256 omega "
    "omega_sha256 created",
    "experience": "id task_id trial_key parameters status ap test_ap heldout_ap seconds seed budget created curve",
    "offline_features": "task_id blob sha256",
    "transformations": "task_id version blob sha256",
    "own_encoders": "space_key version blob sha256",
    "update_lease": "id session_id task_id expires begun",
    "update_queue": "customer task_id since asked",
}


def test_the_tables_are_those_of_schema_version_4() -> None:
    """Whoever changes a table raises SCHEMA_VERSION, adds a migration and a file of the old version as a test asset."""
    found = {name: " ".join(table.columns.keys()) for name, table in schema.Base.metadata.tables.items()}
    assert (schema.SCHEMA_VERSION, found) == (4, COLUMNS)


def test_the_tables_can_be_made_in_postgresql() -> None:
    for table in schema.Base.metadata.sorted_tables:
        assert f"CREATE TABLE {table.name}" in str(CreateTable(table).compile(dialect=postgresql.dialect()))


def test_an_older_state_is_brought_up_to_date_or_left_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = new_store(tmp_path)
    store.record(trial(store.open_task(TASK).id))
    store.close()
    before = (tmp_path / FILE_NAME).read_bytes()

    def to_5(connection: Connection) -> None:
        connection.exec_driver_sql("CREATE TABLE extra (id INTEGER)")
        if fail:
            connection.exec_driver_sql("INSERT INTO nowhere VALUES (1)")

    monkeypatch.setattr(schema, "SCHEMA_VERSION", 5)
    monkeypatch.setattr("nni_hyperfd.platform.state.store.SCHEMA_VERSION", 5)
    monkeypatch.setitem(schema.MIGRATIONS, 4, to_5)
    fail = True
    with pytest.raises(PlatformError, match="nowhere"):
        Store(tmp_path)
    assert (tmp_path / FILE_NAME).read_bytes() == before
    fail = False
    assert len(Store(tmp_path).trials()) == 1
    with sqlite3.connect(tmp_path / FILE_NAME) as database:
        assert database.execute("SELECT version FROM hyperfd_schema").fetchall() == [(5,)]
        assert database.execute("SELECT * FROM extra").fetchall() == []
    database.close()


def layout(path: Path) -> dict[str, object]:
    """Columns, keys and foreign keys of every table, whatever the words in which they were declared."""
    engine = create_engine(f"sqlite:///{path}")
    eye = inspect(engine)

    def sorted_text(items: Iterable[object]) -> list[str]:
        return sorted(map(str, items))

    found = {
        table: (
            [(c["name"], str(c["type"]), c["nullable"], c["primary_key"]) for c in eye.get_columns(table)],
            sorted_text(u["column_names"] for u in eye.get_unique_constraints(table)),
            sorted_text((i["name"], i["column_names"], i["unique"]) for i in eye.get_indexes(table)),
            sorted_text(
                (f["constrained_columns"], f["referred_table"], f["referred_columns"])
                for f in eye.get_foreign_keys(table)
            ),
        )
        for table in eye.get_table_names()
    }
    engine.dispose()
    return found


def test_a_state_of_schema_version_1_keeps_all_it_had(tmp_path: Path) -> None:
    """The file was written by the last revision that had schema version 1."""
    new_store(tmp_path / "new").close()
    (tmp_path / "old").mkdir()
    shutil.copy(Path(__file__).parent / "assets" / "schema1.sqlite", tmp_path / "old" / FILE_NAME)
    for _ in range(2):
        store = Store(tmp_path / "old")
        done, still_open = store.task(store.find_task("exp").id), store.find_task("other")
        assert (done.customer, done.status, done.version_after, done.final_phi) == (
            "local",
            "done",
            1,
            TASK.phi[::-1],
        )
        assert (still_open.customer, still_open.status, still_open.phi) == ("local", "open", TASK.phi)
        assert [(t.trial_key, t.ap) for t in store.trials()] == [("a", 0.5), ("b", None), ("a", 0.25)]
        assert [(v.number, v.parent, v.published) for v in store.versions()] == [
            (1, 0, True),
            (0, None, True),
        ]
        assert (store.ranker(1), store.omega(0)) == (b"ranker 1", b"omega 0")
        assert (store.features(done.id), store.transformation(done.id)) == (b"features", b"Z")
        assert [c.name for c in store.customers()] == ["local"]
        store.close()
    assert layout(tmp_path / "old" / FILE_NAME) == layout(tmp_path / "new" / FILE_NAME)
    store = Store(tmp_path / "old")
    assert store.take_lease("two", still_open.id, 60) == 0
    both = replace(version(still_open.id, 2), transformations={done.id: b"Z new", still_open.id: b"Z2"})
    assert store.commit_version("two", still_open.id, 1, both).version_after == 2
    with pytest.raises(IntegrityError), store.writing() as session:  # foreign keys are looked after again
        session.execute(text("UPDATE tasks SET customer = 'nobody'"))


def test_customers_have_their_own_experiments(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    store.add_customer("ada", "digest")
    with pytest.raises(PlatformError, match="already"):
        store.add_customer("ada", "another")
    mine, hers = store.open_task(TASK), store.open_task(replace(TASK, customer="ada"))
    assert mine.id != hers.id
    assert (store.find_task("exp"), store.find_task("exp", "ada")) == (mine, hers)
    assert store.find_task("exp", "bob") is None
    with pytest.raises(PlatformError, match="customer bob"):
        store.open_task(replace(TASK, customer="bob"))
    assert [(c.name, c.tasks, c.revoked) for c in store.customers()] == [("local", 1, None), ("ada", 1, None)]
    assert (store.token_sha256("ada"), store.token_sha256("local"), store.token_sha256("bob")) == (
        "digest",
        None,
        None,
    )
    store.revoke_customer("ada")
    assert store.token_sha256("ada") is None
    assert store.customers()[1].revoked is not None
    for nobody in ("ada", "bob", "local"):
        with pytest.raises(PlatformError, match="no customer"):
            store.revoke_customer(nobody)
    store.add_customer("ada", "new")
    assert (store.token_sha256("ada"), store.find_task("exp", "ada")) == ("new", hers)


def test_nothing_is_built_on_a_version_that_is_not_published(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    first, second = store.open_task(TASK), store.open_task(replace(TASK, experiment_id="other"))
    store.take_lease("one", first.id, 60)
    held = replace(version(first.id), published=False, guard='{"why": "worse"}')
    assert store.commit_version("one", first.id, 0, held).version_after == 1
    assert (store.newest().number, store.is_published(1), store.is_published(0)) == (0, False, True)
    assert not store.is_published(7)
    assert store.versions()[0].guard == '{"why": "worse"}'
    store.take_lease("two", second.id, 60)
    with pytest.raises(UpdateLostError):
        store.commit_version("two", second.id, 1, version(second.id))
    assert store.commit_version("two", second.id, 0, version(second.id, 2)).version_after == 2
    assert [(v.number, v.parent, v.published) for v in store.versions()] == [
        (2, 0, True),
        (1, 0, False),
        (0, None, True),
    ]
    assert store.newest().number == 2
    third = store.open_task(replace(TASK, experiment_id="third"))
    with pytest.raises(IntegrityError), store.writing() as session:  # the tables hold the chain, too
        session.execute(text("UPDATE ranker_versions SET published = true"))
    assert store.find_task("third") == third


CREATE = """
import sys
from nni_hyperfd.platform.state.records import FirstState
from nni_hyperfd.platform.state.store import Store
name = sys.argv[2].encode()
store = Store(sys.argv[1], lambda: FirstState(name, name, b"offline", "base"))
print(store.ranker(0).decode(), store.omega(0).decode())
"""


def test_processes_that_create_a_platform_at_once_share_one(tmp_path: Path) -> None:
    command = [sys.executable, "-c", CREATE, str(tmp_path / "new")]
    runs = [subprocess.Popen([*command, f"p{i}"], stdout=subprocess.PIPE, text=True) for i in range(4)]
    said = {run.communicate(timeout=600)[0].strip() for run in runs}
    assert all(run.returncode == 0 for run in runs)
    assert len(said) == 1, said


def _corrupt(path: Path, kind: str) -> None:
    content = path.read_bytes()
    if kind == "text":
        path.write_text("this is not a database")
    elif kind == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif kind == "header only":
        path.write_bytes(content[:100])
    elif kind == "pages":
        path.write_bytes(content[:4096] + b"\xa5" * (len(content) - 4096))
    elif kind == "foreign":
        path.unlink()
        with sqlite3.connect(path) as database:
            database.execute("CREATE TABLE songs (title TEXT)")
        database.close()
    elif kind == "foreign product":
        with sqlite3.connect(path) as database:
            database.execute("UPDATE hyperfd_schema SET product = 'something else'")
        database.close()
    elif kind == "newer":
        with sqlite3.connect(path) as database:
            database.execute("UPDATE hyperfd_schema SET version = 99")
        database.close()


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("text", "damaged"),
        ("truncated", "damaged|malformed"),
        ("header only", "damaged|malformed|not a database"),
        ("pages", "damaged|malformed"),
        ("foreign", "other tables"),
        ("foreign product", "not a HyperFD platform"),
        ("newer", "schema version 99.*newer nni_hyperfd"),
    ],
)
def test_a_wrong_file_is_refused_and_left_as_it_is(tmp_path: Path, kind: str, words: str) -> None:
    store = new_store(tmp_path)
    store.record(trial(store.open_task(TASK).id))
    store.close()
    path = tmp_path / FILE_NAME
    _corrupt(path, kind)
    before = path.read_bytes()
    for _ in range(2):
        with pytest.raises(PlatformError, match=words) as error:
            new_store(tmp_path)
        assert str(path.parent) in str(error.value)
    assert path.read_bytes() == before


def test_a_blob_that_changed_on_disk_is_noticed(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    store.close()
    with sqlite3.connect(tmp_path / FILE_NAME) as database:
        database.execute("UPDATE ranker_versions SET ranker = X'00'")
    database.close()
    store = Store(tmp_path)
    with pytest.raises(PlatformError, match="checksum"):
        store.ranker(0)


def test_a_file_in_place_of_the_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("x")
    with pytest.raises(PlatformError, match="is a file"):
        new_store(tmp_path / "state")


def test_an_acknowledged_result_survives_the_death_of_the_process(tmp_path: Path) -> None:
    code = (
        "import os, sys\nsys.path[:0] = sys.argv[2:]\n"
        "from test_store import TASK, new_store, trial\n"
        "store = new_store(sys.argv[1])\ntask = store.open_task(TASK).id\n"
        "for i in range(3): store.record(trial(task, key=str(i)))\n"
        "os.kill(os.getpid(), 9)\n"
    )
    here = Path(__file__)
    places = [str(here.parent), str(here.parents[3])]
    run = subprocess.run([sys.executable, "-c", code, str(tmp_path), *places], check=False)
    assert run.returncode == -9
    store = Store(tmp_path)
    assert [t.trial_key for t in store.trials()] == ["0", "1", "2"]
