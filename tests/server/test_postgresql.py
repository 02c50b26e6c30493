"""The platform in a real PostgreSQL server, which the test starts from the system's packages."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from nni_hyperfd.cli import main
from nni_hyperfd.customer.client import TaskClient
from nni_hyperfd.errors import PlatformAwayError, PlatformError, UpdateLostError
from nni_hyperfd.metafeature.features import ImageFeatures
from nni_hyperfd.platform.platform import Platform
from nni_hyperfd.platform.state.backup import backup, restore
from nni_hyperfd.platform.state.records import NewVersion, StoredTrial
from nni_hyperfd.platform.state.schema import now
from nni_hyperfd.platform.state.store import Store
from nni_hyperfd.ranker.offline import OfflineData
from nni_hyperfd.ranker.ranker import Ranker
from tests.fixtures.drawn_platform import BASE_ID, SMALL
from tests.fixtures.stored import FIRST, TASK

from .conftest import HPO, PHI, SUBJECT, Caller, Service


def trial(task_id: str, key: str = "a", ap: float | None = 0.1 + 0.2) -> StoredTrial:
    status = "failed" if ap is None else "ok"
    return StoredTrial(task_id, key, {"lr": 0.1}, status, ap, None, None, 12.5, 2**62 + 1, "short")


def made(task_id: str) -> NewVersion:
    return NewVersion(b"ranker", b"omega", b"features", {task_id: b"Z"}, {"seed": 1}, TASK.phi, 1, 0)


class Cluster:
    """A PostgreSQL server that listens at a socket in its own folder only."""

    def __init__(self, folder: Path, binaries: Path, user: str) -> None:
        self.folder, self._binaries, self._user = folder, binaries, user
        # PostgreSQL refuses to run as root.
        self._as = {"user": user} if os.geteuid() == 0 else {}
        self._process: subprocess.Popen[bytes] | None = None
        self._count = 0
        subprocess.run(
            [
                binaries / "initdb",
                "-D",
                folder / "data",
                "-U",
                "hyperfd",
                "-A",
                "trust",
                "-E",
                "UTF8",
                "--no-sync",
            ],
            check=True,
            stdout=subprocess.DEVNULL,
            cwd=folder,
            **self._as,
        )

    def start(self) -> None:
        """Start, and wait until it takes connections."""
        with (self.folder / "log").open("ab") as log:
            options = ["-k", self.folder, "-c", "listen_addresses=", "-c", "fsync=off"]
            self._process = subprocess.Popen(
                [self._binaries / "postgres", "-D", self.folder / "data", *options],
                stdout=log,
                stderr=log,
                cwd=self.folder,
                **self._as,
            )
        for _ in range(600):
            assert self._process.poll() is None, (self.folder / "log").read_text()
            try:
                self.admin("SELECT 1")
                return
            except psycopg.OperationalError:
                time.sleep(0.1)
        pytest.fail("PostgreSQL does not come up")

    def stop(self) -> None:
        """Stop at once, with its connections."""
        if self._process is not None:
            self._process.send_signal(2)
            self._process.wait()
            self._process = None

    def admin(self, statement: str) -> None:
        """A statement outside the platforms' databases."""
        with psycopg.connect(
            host=str(self.folder), user="hyperfd", dbname="postgres", autocommit=True
        ) as connection:
            connection.execute(statement)  # type: ignore[arg-type]

    def url(self) -> str:
        """Of a new, empty database."""
        self._count += 1
        self.admin(f"CREATE DATABASE platform{self._count}")
        return f"postgresql://hyperfd@/platform{self._count}?host={self.folder}"


def find_binaries() -> Path | None:
    on_path = shutil.which("initdb")
    folders = [Path(on_path).resolve().parent] if on_path else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((f for f in folders if (f / "initdb").exists() and (f / "postgres").exists()), None)


def find_user() -> str | None:
    names = {entry.pw_name for entry in pwd.getpwall()}
    return next((name for name in ("postgres", "nobody") if name in names), None)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    binaries = find_binaries()
    if binaries is None:
        pytest.skip("there is no PostgreSQL on this machine (Debian: apt-get install postgresql)")
    user = find_user() if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
    if user is None:
        pytest.skip("PostgreSQL does not run as root, and there is no other user")
    folder = Path(tempfile.mkdtemp(prefix="hyperfd-pg-"))  # a short path: a socket's name has 107 letters
    if os.geteuid() == 0:
        shutil.chown(folder, user)
    one = Cluster(folder, binaries, user)
    one.start()
    yield one
    one.stop()
    shutil.rmtree(folder)


@pytest.fixture
def url(cluster: Cluster) -> str:
    return cluster.url()


def test_all_kinds_of_rows_read_back_exactly(url: str) -> None:
    store = Store(url, lambda: FIRST)
    task = store.open_task(TASK)
    assert store.open_task(replace(TASK, phi=(0.0,) * 64)) == task
    assert (task.phi, task.space) == (TASK.phi, TASK.space)
    assert store.record(trial(task.id, ap=None)) == "stored"
    assert store.record(trial(task.id)) == "replaced"
    assert store.record(trial(task.id)) == "known"
    assert store.trials(task.id) == [trial(task.id)]
    assert store.take_lease("one", task.id, 60) == 0
    assert store.take_lease("two", task.id, 60) > 0
    with pytest.raises(UpdateLostError):
        store.commit_version("two", task.id, 0, made(task.id))
    done = store.commit_version("one", task.id, 0, made(task.id))
    assert (done.status, done.version_after) == ("done", 1)
    assert store.commit_version("one", task.id, 0, made(task.id)) == done
    store.close()
    again = Store(url)
    assert again.task(task.id) == done
    assert [(v.number, v.parent) for v in again.versions()] == [(1, 0), (0, None)]
    assert (again.ranker(1), again.features(task.id), again.offline()) == (b"ranker", b"features", b"offline")
    assert abs((now() - again.newest().created).total_seconds()) < 60
    again.add_customer("ada", "digest")
    assert again.open_task(replace(TASK, customer="ada")).id != task.id
    assert [c.tasks for c in again.customers()] == [1, 1]
    again.close()


def test_processes_that_create_a_platform_at_once_share_one(url: str) -> None:
    found: list[bytes] = []

    def work(number: int) -> None:
        store = Store(url, lambda: replace(FIRST, ranker=f"ranker of {number}".encode()))
        found.append(store.ranker(0))
        store.close()

    in_threads(work, 6)
    assert len(found) == 6
    assert len(set(found)) == 1


def in_threads(work: Callable[[int], object], count: int) -> None:
    threads = [threading.Thread(target=work, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_results_that_come_at_once_are_all_kept(url: str) -> None:
    Store(url, lambda: FIRST).close()
    stores = [Store(url) for _ in range(4)]
    tasks: list[str] = []

    def work(number: int) -> None:
        task_id = stores[number].open_task(TASK).id
        tasks.append(task_id)
        for i in range(8):
            stores[number].record(trial(task_id, key=f"{number}-{i}"))
            stores[number].record(trial(task_id, key="shared"))

    in_threads(work, 4)
    assert len(set(tasks)) == 1
    assert len(stores[0].trials(tasks[0])) == 33
    for store in stores:
        store.close()


def test_a_result_that_comes_while_its_task_is_closed_is_not_forgotten(url: str) -> None:
    """The task must not end up closed with a result that nothing was learnt from."""
    Store(url, lambda: FIRST).close()
    one, two = Store(url), Store(url)
    for i in range(20):
        task_id = one.open_task(replace(TASK, experiment_id=f"exp{i}")).id
        gate = threading.Barrier(2)

        def work(number: int, task_id: str = task_id, gate: threading.Barrier = gate) -> None:
            gate.wait()
            if number:
                two.record(trial(task_id))
            else:
                with suppress(UpdateLostError):
                    one.close_task(task_id, 0)

        in_threads(work, 2)
        assert one.task(task_id).status == "open"
    one.close()
    two.close()


@pytest.fixture
def opener(url: str, first_ranker: Ranker, offline: OfflineData) -> Iterator[Callable[[], Platform]]:
    opened: list[Platform] = []

    def open_one() -> Platform:
        opened.append(Platform.create(url, first_ranker, offline, BASE_ID, SMALL))
        return opened[-1]

    yield open_one
    for platform in opened:
        platform.close()


def test_updates_of_several_processes_are_serialized(
    opener: Callable[[], Platform], features: ImageFeatures
) -> None:
    platforms = [opener() for _ in range(3)]

    def work(number: int) -> None:
        client = TaskClient(platforms[number], features, BASE_ID)
        task = client.open(f"exp{number}", HPO)
        client.record(task, client.recommend(task, budget=1).configurations[0].parameters, 0.5)
        client.update(task)

    in_threads(work, 3)
    assert [v.parent for v in platforms[0].history()] == [None, 0, 1, 2]


def test_the_server_over_it(opener: Callable[[], Platform], tmp_path: Path) -> None:
    from nni_hyperfd.server.limits import Limits

    service = Service(opener(), tmp_path, Limits())
    try:
        ada, bob = service.customer("ada"), service.customer("bob")
        ticket = ada.begin("exp")
        turn = {"session_id": ticket["session_id"], "step": ticket["step"], "phi": PHI, "phi_tilde": PHI}
        assert ada.post("send_features", turn).status_code == 200
        assert bob.post("begin_update", {"task_id": ticket["task_id"]}).status_code == 403
        assert bob.get("tasks/exp").status_code == 404
        assert bob.post("open_task", {"experiment_id": "exp", "subject": SUBJECT}).status_code == 200
        assert (
            'hyperfd_tasks{status="open"} 2.0'
            in Caller(service.url, "")._session.get(service.url + "/metrics").text
        )
    finally:
        service.stop()


def test_a_database_that_goes_away_and_comes_back(cluster: Cluster, url: str) -> None:
    store = Store(url, lambda: FIRST)
    task_id = store.open_task(TASK).id
    cluster.stop()
    with pytest.raises(PlatformAwayError):
        store.record(trial(task_id))
    with pytest.raises(PlatformAwayError):
        Store(url)
    cluster.start()
    assert store.record(trial(task_id)) == "stored"
    store.close()


def test_a_state_of_schema_version_1_keeps_all_it_had(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as old:
        old.execute(
            (
                Path(__file__).parents[1] / "platform" / "state" / "assets" / "schema1_postgresql.sql"
            ).read_text()
        )  # type: ignore[arg-type]
        phi, space = json.dumps(TASK.phi), json.dumps(TASK.space)
        old.execute("INSERT INTO hyperfd_schema VALUES (1, 'hyperfd-platform', 1, now())")
        old.execute("INSERT INTO update_lease VALUES (1, NULL, NULL, 0)")
        for number, parent, experiment in ((0, None, None), (1, 0, "exp")):
            old.execute(
                "INSERT INTO ranker_versions VALUES (%s, %s, %s, 'r', '{}', 'x', 'x', 'x', 'x', now())",
                (number, parent, experiment),
            )
        old.execute(
            "INSERT INTO tasks VALUES ('t', 'exp', 'space', %s, 1e9, 0, %s, 'done', now(), now(), 0, 1, 1, 0, %s)",
            (space, phi, phi),
        )
        old.execute("INSERT INTO offline_features VALUES ('t', 'x', 'x')")
    store = Store(url)
    task = store.find_task("exp")
    assert task is not None
    assert (task.customer, task.version_after, task.final_phi) == ("local", 1, TASK.phi)
    assert [(v.number, v.published) for v in store.versions()] == [(1, True), (0, True)]
    store.add_customer("ada", "digest")
    other = store.open_task(replace(TASK, customer="ada"))
    store.take_lease("one", other.id, 60)
    assert store.commit_version("one", other.id, 1, made(other.id)).version_after == 2
    store.close()


def test_a_backup_goes_from_one_database_to_another(cluster: Cluster, url: str, tmp_path: Path) -> None:
    store = Store(url, lambda: FIRST)
    task = store.open_task(TASK)
    store.record(trial(task.id))
    store.take_lease("one", task.id, 60)
    done = store.commit_version("one", task.id, 0, made(task.id))
    backup(url, tmp_path / "state.sqlite")
    other = cluster.url()
    restore(tmp_path / "state.sqlite", other)
    copy = Store(other)
    assert (copy.task(task.id), copy.trials(), copy.versions()) == (done, store.trials(), store.versions())
    assert copy.record(trial(copy.open_task(replace(TASK, experiment_id="new")).id)) == "stored", (
        "it goes on counting"
    )
    copy.close()
    store.close()


def test_customers_from_the_command_line(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    Store(url, lambda: FIRST).close()
    assert main(["customer", "add", "ada", "--platform", url]) == 0
    assert capsys.readouterr().out.startswith("ada.")
    assert main(["customer", "list", "--platform", url]) == 0
    assert "ada" in capsys.readouterr().out
    assert main(["status", "--platform", url]) == 0
    assert "postgresql" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("location", "words"),
    [
        ("https://platform.example", "postgresql:// URL, not at https://"),
        ("mysql://me:secret@host/db", "not at mysql://"),
        ("postgresql://me:secret@127.0.0.1:1/db", "cannot be read or written"),
        ("://", "must be named like"),
    ],
)
def test_what_is_no_database_is_refused_in_a_sentence(location: str, words: str) -> None:
    with pytest.raises(PlatformError, match=words) as error:
        Store(location, lambda: FIRST)
    assert "secret" not in str(error.value)
