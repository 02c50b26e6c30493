"""The platform's memory: one SQLite file (or another database by URL), read and written in short transactions.

The store knows rows and bytes, not tensors: what a blob means is the business of ``platform``.  Three rules hold
whatever processes do around it:

* a ranker version, once written, never changes, and versions form one chain without gaps;
* one experiment makes at most one version;
* what a method has returned from is on disk.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, delete, func, select, update
from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError
from sqlalchemy.orm import Session

from nni_hyperfd.errors import PlatformAwayError, PlatformError, UnknownTaskError, UpdateLostError
from nni_hyperfd.platform.state.database import database_engine
from nni_hyperfd.platform.state.records import (
    Counts,
    CustomerInfo,
    FirstState,
    NewTask,
    NewVersion,
    TaskRecord,
    Trial,
    Turn,
    VersionInfo,
)
from nni_hyperfd.platform.state.schema import (
    LOCAL,
    PRODUCT,
    SCHEMA_VERSION,
    Base,
    CustomerRow,
    FeatureRow,
    LeaseRow,
    OfflineRow,
    OwnEncoderRow,
    QueueRow,
    SchemaRow,
    TaskRow,
    TransformationRow,
    TrialRow,
    VersionRow,
    found_version,
    migrate,
    now,
)
from nni_hyperfd.platform.state.sqlite import examine, sqlite_engine

FILE_NAME = "platform.sqlite"

QUEUE_SECONDS = 15.0
"""Who has not asked for his turn for so long does not wait for it any more."""
NEXT_SECONDS = 0.25
"""How soon the one whose turn is next should ask again."""


class Store:
    """Rows and blobs of one platform.

    Args:
        location: a folder (holding ``platform.sqlite``), or a database URL with ``://``.
        first: makes the initial state when the place is empty; without it an empty place is an error.

    Raises:
        PlatformError: The place holds something damaged, foreign or newer than this package; it is left as it is.
    """

    def __init__(self, location: str | Path, first: Callable[[], FirstState] | None = None) -> None:
        self.location = str(location)
        start: Callable[[], FirstState] | FirstState | None = first
        if "://" in self.location:
            self._engine = database_engine(self.location)
            self.location = self._engine.url.render_as_string(hide_password=True)
        else:
            path = _file_in(Path(location).expanduser())
            if path.exists() and path.stat().st_size > 0:
                examine(path)
            elif first is None:
                raise PlatformError(f"there is no platform state in {path.parent}")
            else:
                start = first()  # before anything is made, so that a failure leaves nothing behind
                _make_folder(path.parent)
            self._engine = sqlite_engine(path)
        try:
            self._prepare(start)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the connections."""
        self._engine.dispose()

    # ------------------------------------------------------------------------------------------------ opening

    def _prepare(self, start: Callable[[], FirstState] | FirstState | None) -> None:
        with self._errors(), self._engine.connect() as connection:
            version = self._found(connection)
        if version == SCHEMA_VERSION:
            return
        state = None
        if version is None:
            if start is None:
                raise PlatformError(f"there is no platform state at {self.location}")
            # Made before the transaction: other processes need not wait for it, and one of them may win.
            state = start() if callable(start) else start
        with self.writing(hyperfd_layout=True) as session:
            connection = session.connection()
            version = self._found(connection)
            if version is not None:
                migrate(connection, version)
            elif state is not None:
                _create(session, connection, state)
        self._engine.dispose()  # SQLite's connection does not look after foreign keys while the layout changes

    def _found(self, connection: Connection) -> int | None:
        try:
            return found_version(connection)
        except PlatformError as error:
            raise PlatformError(f"the state at {self.location} cannot be used: {error}") from None

    # ------------------------------------------------------------------------------------------- transactions

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except IntegrityError:
            raise  # a rule of the tables was about to be broken: the caller knows what that means
        except SQLAlchemyError as error:
            cause = error.orig if isinstance(error, DBAPIError) else error
            raise PlatformAwayError(
                f"the platform state at {self.location} cannot be read or written: {cause}"
            ) from error

    @contextmanager
    def _reading(self) -> Iterator[Session]:
        with self._errors(), Session(self._engine) as session:
            yield session

    @contextmanager
    def writing(self, **options: bool) -> Iterator[Session]:
        """One transaction that holds SQLite's write lock from its start, so that what it reads stays true."""
        engine = self._engine.execution_options(hyperfd_write=True, **options)
        with self._errors(), Session(engine) as session, session.begin():
            yield session

    @contextmanager
    def snapshot(self) -> Iterator[Connection]:
        """A connection that sees the state of one moment, whatever is written meanwhile."""
        postgresql = self._engine.dialect.name == "postgresql"
        options = {"isolation_level": "REPEATABLE READ"} if postgresql else {}
        with self._errors(), self._engine.execution_options(**options).connect() as connection:
            yield connection

    def compact(self) -> None:
        """Give room that is not used any more back to the disk; SQLite needs as much again meanwhile, PostgreSQL does it by itself."""
        if self._engine.dialect.name != "sqlite":
            return
        with self._errors(), self._engine.connect() as connection:
            driver = connection.connection.driver_connection
            try:
                driver.execute("VACUUM")
                driver.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            except sqlite3.Error as error:
                raise PlatformAwayError(
                    f"the platform state at {self.location} cannot be made smaller now: {error}"
                ) from error

    # ----------------------------------------------------------------------------------------------- versions

    def newest(self) -> VersionInfo:
        """The newest published ranker version: the one that customers use and updates are built on."""
        query = _VERSIONS.where(VersionRow.published).limit(1)
        with self._reading() as session:
            found = session.execute(query).first()
        if found is None:
            raise PlatformAwayError(
                f"the platform state at {self.location} has no ranker version; restore a backup"
            )
        return VersionInfo(*found)

    def versions(self) -> list[VersionInfo]:
        """All ranker versions, newest first, whether published or not."""
        with self._reading() as session:
            return [VersionInfo(*entry) for entry in session.execute(_VERSIONS)]

    def is_usable(self, number: int) -> bool:
        """Whether there is such a ranker version, customers may use it, and it was not pruned."""
        query = select(VersionRow.published, VersionRow.ranker_sha256).where(VersionRow.number == number)
        with self._reading() as session:
            row = session.execute(query).first()
        return row is not None and row.published and row.ranker_sha256 != EMPTY

    def is_published(self, number: int) -> bool:
        """Whether there is such a ranker version, and customers may use it."""
        query = select(VersionRow.published).where(VersionRow.number == number)
        with self._reading() as session:
            return bool(session.execute(query).scalar_one_or_none())

    def ranker(self, number: int) -> bytes:
        """Ranker blob of a version.

        Raises:
            PlatformError: There is no such version, or it was pruned.
        """
        query = select(VersionRow.ranker, VersionRow.ranker_sha256)
        return _kept(number, self._blob(query.where(VersionRow.number == number), f"ranker version {number}"))

    def omega(self, number: int) -> bytes:
        """Ω blob of a version.

        Raises:
            PlatformError: There is no such version, or it was pruned.
        """
        query = select(VersionRow.omega, VersionRow.omega_sha256)
        return _kept(number, self._blob(query.where(VersionRow.number == number), f"Ω of version {number}"))

    def own_encoder(self, space_key: str, version: int) -> bytes | None:
        """The encoder of somebody's own space as a version has it; None where no version before has moved it."""
        row = OwnEncoderRow
        query = select(row.blob, row.sha256).join(VersionRow, VersionRow.number == row.version)
        query = query.where(row.space_key == space_key, row.version <= version)
        query = query.where(VersionRow.published | (row.version == version))
        query = query.order_by(row.version.desc()).limit(1)
        with self._reading() as session:
            if session.execute(query.with_only_columns(row.version)).first() is None:
                return None
        return self._blob(query, f"encoder of the space {space_key}")

    def offline(self) -> bytes:
        """Offline data blob."""
        return self._blob(select(OfflineRow.blob, OfflineRow.sha256), "offline data")

    def base_id(self) -> str:
        """Hash of the base weights with which the offline features were computed."""
        with self._reading() as session:
            return session.execute(select(OfflineRow.base_id)).scalar_one()

    def features(self, task_id: str) -> bytes:
        """G^(t)(D_offline) of a finished task."""
        query = select(FeatureRow.blob, FeatureRow.sha256).where(FeatureRow.task_id == task_id)
        return self._blob(query, f"offline features of task {task_id}")

    def transformation(self, task_id: str) -> bytes | None:
        """Z^(t) of a finished task where the paper's iteration left it; None where it is fitted when wanted."""
        query = select(TransformationRow.blob, TransformationRow.sha256).where(
            TransformationRow.task_id == task_id
        )
        with self._reading() as session:
            if session.execute(query).first() is None:
                return None
        return self._blob(query, f"transformation of task {task_id}")

    def _blob(self, query: Any, what: str) -> bytes:
        with self._reading() as session:
            row = session.execute(query).first()
        if row is None:
            raise PlatformError(f"the platform has no {what}")
        blob, digest = row
        if _digest(blob) != digest:
            raise PlatformAwayError(
                f"the {what} in {self.location} is damaged (its checksum differs); restore a backup"
            )
        return bytes(blob)

    # ---------------------------------------------------------------------------------------------- customers

    def add_customer(self, name: str, token_sha256: str) -> None:
        """Let a customer in; one who was revoked gets a new token, and finds his tasks again.

        Raises:
            PlatformError: There is one of that name.
        """
        known = PlatformError(f"there is a customer {name} already; revoke it first to give it a new token")
        try:
            with self.writing() as session:
                row = session.get(CustomerRow, name, with_for_update=True)
                if row is None:
                    session.add(CustomerRow(name=name, token_sha256=token_sha256))
                elif row.revoked is None:
                    raise known
                else:
                    row.token_sha256, row.revoked = token_sha256, None
        except IntegrityError:
            raise known from None

    def revoke_customer(self, name: str) -> None:
        """Refuse a customer from now on; what the platform has learnt from him stays.

        Raises:
            PlatformError: There is none of that name whom the platform takes messages from.
        """
        with self.writing() as session:
            row = session.get(CustomerRow, name, with_for_update=True)
            if row is None or row.token_sha256 is None:
                raise PlatformError(f"there is no customer {name} with a token")
            row.token_sha256, row.revoked = None, now()

    def customers(self) -> list[CustomerInfo]:
        """All customers, in the order in which they came."""
        row = CustomerRow
        query = (
            select(row.name, row.created, row.revoked, func.count(TaskRow.id))
            .outerjoin(TaskRow)
            .group_by(row.name, row.created, row.revoked)
            .order_by(row.created, row.name)
        )
        with self._reading() as session:
            return [CustomerInfo(*entry) for entry in session.execute(query)]

    def token_sha256(self, customer: str) -> str | None:
        """What a customer's token hashes to; None for one who is not let in."""
        query = select(CustomerRow.token_sha256).where(CustomerRow.name == customer)
        with self._reading() as session:
            return session.execute(query).scalar_one_or_none()

    # -------------------------------------------------------------------------------------------------- tasks

    def open_task(self, task: NewTask) -> TaskRecord:
        """Insert a task, or return the one that this experiment of the customer has already.

        Raises:
            PlatformError: The experiment exists with another search space.
        """
        found = self.find_task(task.experiment_id, task.customer)
        if found is None:
            row = TaskRow(
                id=secrets.token_hex(16),
                customer=task.customer,
                experiment_id=task.experiment_id,
                space_key=task.space_key,
                space_json=json.dumps(task.space),
                flops_limit=task.flops_limit,
                extractor_version=task.extractor_version,
                phi=list(task.phi),
            )
            try:
                with self.writing() as session:
                    session.add(row)
            except IntegrityError:
                pass  # another process opened it in between
            found = self.find_task(task.experiment_id, task.customer)
            if found is None:
                raise PlatformError(
                    f"the task refers to ranker version {task.extractor_version} or customer {task.customer}, "
                    "which does not exist"
                )
        if (found.space, found.flops_limit) != (task.space, task.flops_limit):
            raise PlatformError(
                f"experiment {task.experiment_id} is known with another search space; use a new experiment id"
            )
        return found

    def find_task(self, experiment_id: str, customer: str = LOCAL) -> TaskRecord | None:
        """The task of a customer's experiment, if there is one."""
        with self._reading() as session:
            row = session.execute(
                select(TaskRow).where(TaskRow.customer == customer, TaskRow.experiment_id == experiment_id)
            ).scalar_one_or_none()
            return None if row is None else _task(row)

    def task(self, task_id: str) -> TaskRecord:
        """A task by its id; UnknownTaskError when there is none."""
        with self._reading() as session:
            return _task(_task_row(session, task_id))

    def tasks(self, status: str | None = None) -> list[TaskRecord]:
        """Tasks in the order of their opening, or finished ones in the order of their versions."""
        query = select(TaskRow).order_by(TaskRow.version_after, TaskRow.created, TaskRow.id)
        if status is not None:
            query = query.where(TaskRow.status == status)
        with self._reading() as session:
            return [_task(row) for row in session.execute(query).scalars()]

    def learnt_tasks(self, space_key: str | None = None) -> list[str]:
        """Ids of the finished tasks whose versions are published, in the order of these; of one search space, or of all."""
        query = select(TaskRow.id).join(VersionRow, VersionRow.number == TaskRow.version_after)
        query = query.join(
            FeatureRow, FeatureRow.task_id == TaskRow.id
        )  # without them, what it taught is in the ranker only
        query = query.where(TaskRow.status == "done", VersionRow.published).order_by(VersionRow.number)
        if space_key is not None:
            query = query.where(TaskRow.space_key == space_key)
        with self._reading() as session:
            return list(session.execute(query).scalars())

    def record(self, trial: Trial) -> str:
        """Keep a trial; returns ``stored``, ``known`` or ``replaced`` (a failure that got a result after all).

        Raises:
            PlatformError: No such task, or its trial of that key had another configuration.
        """
        for _ in range(2):
            try:
                with self.writing() as session:
                    return _record(session, trial)
            except IntegrityError:
                continue  # the same trial came in another process; now it is there
        raise PlatformError(
            f"the trial {trial.trial_key} of task {trial.task_id} could not be kept; send it again"
        )

    def results(self, task_id: str, most: int | None = None) -> list[Trial]:
        """Usable experience of one task in the order in which it came; ``most`` of it, evenly over its course, where there is more."""
        query = select(TrialRow.id).where(TrialRow.task_id == task_id, TrialRow.ap.is_not(None))
        names = list(Trial.__dataclass_fields__)
        with self._reading() as session:
            ids = list(session.execute(query.order_by(TrialRow.id)).scalars())
            if most is not None and len(ids) > most:
                ids = [ids[i * (len(ids) - 1) // max(most - 1, 1)] for i in range(most)]
                chosen = select(TrialRow).where(TrialRow.id.in_(ids))
            else:
                chosen = select(TrialRow).where(TrialRow.task_id == task_id, TrialRow.ap.is_not(None))
            rows = session.execute(chosen.order_by(TrialRow.id)).scalars()
            return [Trial(**{name: getattr(row, name) for name in names}) for row in rows]

    def trials(self, task_id: str | None = None) -> list[Trial]:
        """Experience of one task, or of all, in the order in which it came."""
        query = select(TrialRow).order_by(TrialRow.id)
        if task_id is not None:
            query = query.where(TrialRow.task_id == task_id)
        names = list(Trial.__dataclass_fields__)
        with self._reading() as session:
            rows = session.execute(query).scalars()
            return [Trial(**{name: getattr(row, name) for name in names}) for row in rows]

    def best_aps(self) -> dict[str, float]:
        """Highest AP@50 on val of each task that has a result, by the task's id."""
        query = select(TrialRow.task_id, func.max(TrialRow.ap)).where(TrialRow.ap.is_not(None))
        with self._reading() as session:
            return dict(session.execute(query.group_by(TrialRow.task_id)).all())

    def finished_by_space(self) -> dict[str, int]:
        """Number of finished tasks of each search space, by its key."""
        query = select(TaskRow.space_key, func.count()).where(TaskRow.status == "done")
        query = query.group_by(TaskRow.space_key).order_by(TaskRow.space_key)
        with self._reading() as session:
            return dict(session.execute(query).all())

    def open_tasks(self, customer: str) -> int:
        """How many tasks of a customer are open."""
        query = select(func.count()).where(TaskRow.customer == customer, TaskRow.status == "open")
        with self._reading() as session:
            return session.execute(query).scalar_one()

    def trial_count(self, task_id: str) -> int:
        """How many trials of a task are kept."""
        query = select(func.count()).where(TrialRow.task_id == task_id)
        with self._reading() as session:
            return session.execute(query).scalar_one()

    def counts(self) -> Counts:
        """Numbers of tasks and trials by status."""
        with self._reading() as session:
            tasks = _by_status(session, TaskRow)
            trials = _by_status(session, TrialRow)
        return Counts(
            tasks.get("open", 0),
            tasks.get("done", 0),
            tasks.get("closed", 0),
            trials.get("ok", 0),
            trials.get("failed", 0),
        )

    # ------------------------------------------------------------------------------------------------ updates

    def take_lease(self, session_id: str, task_id: str, seconds: float, takeover: bool = False) -> float:
        """Try to get the turn to update; returns 0, or after how many seconds to ask again.

        Turns are given in the order in which customers asked. A customer has one place in the queue, and loses it when he does not
        ask for :data:`QUEUE_SECONDS`; ``takeover`` is for the experiment whose turn it is already.
        """
        moment = time.time()
        with self.writing() as session:
            lease = session.execute(select(LeaseRow).with_for_update()).scalar_one()
            held = lease.session_id is not None and lease.expires > moment
            if not (held and takeover and lease.task_id == task_id):
                place = _queue_up(session, _task_row(session, task_id), moment, held)
                if held or place > 0:
                    left = max(lease.expires - moment, NEXT_SECONDS) if held else NEXT_SECONDS
                    return left if place > 0 else min(left, NEXT_SECONDS)
            session.execute(delete(QueueRow).where(QueueRow.task_id == task_id))
            lease.session_id, lease.task_id, lease.expires = session_id, task_id, moment + seconds
            lease.begun = moment
        return 0.0

    def turn(self) -> Turn:
        """Who updates the platform, and who waits for it."""
        moment = time.time()
        with self._reading() as session:
            lease = session.execute(select(LeaseRow)).scalar_one()
            held = lease.session_id is not None and lease.expires > moment
            task = session.get(TaskRow, lease.task_id) if held else None
            since = select(QueueRow.since).where(QueueRow.asked > moment - QUEUE_SECONDS)
            waiting = session.execute(since.order_by(QueueRow.since)).scalars()
            return Turn(
                None if task is None else task.experiment_id,
                moment - (lease.begun or moment) if held else 0.0,
                tuple(moment - each for each in waiting),
            )

    def renew_lease(self, session_id: str, seconds: float) -> None:
        """Lengthen a turn; UpdateLostError when it is over."""
        with self.writing() as session:
            _hold(session, session_id).expires = time.time() + seconds

    def check_lease(self, session_id: str) -> None:
        """UpdateLostError when a turn is over; writes nothing."""
        with self._reading() as session:
            _hold(session, session_id, lock=False)

    def release_lease(self, session_id: str) -> None:
        """Give a turn back, if it is still held."""
        with self.writing() as session:
            session.execute(update(LeaseRow).where(LeaseRow.session_id == session_id).values(session_id=None))

    def commit_version(self, session_id: str, task_id: str, parent: int, made: NewVersion) -> TaskRecord:
        """Write the version after all others, and all that belongs to it, or nothing.

        A task that is finished already is returned as it is.

        Raises:
            UpdateLostError: The turn is over or ``parent`` is not the newest published version any more.
        """
        try:
            with self.writing() as session:
                task = _task_row(session, task_id, lock=True)
                if task.status == "done":
                    return _task(task)
                lease = _hold(session, session_id)
                newest = select(func.max(VersionRow.number))
                if session.execute(newest.where(VersionRow.published)).scalar_one() != parent:
                    raise UpdateLostError("a newer ranker version came first; begin the update again")
                number = session.execute(newest).scalar_one() + 1
                _write_version(session, task, parent, number, made)
                lease.session_id = None
                session.flush()
                return _task(task)
        except IntegrityError:
            raise UpdateLostError("another update came first; begin the update again") from None

    def publish(self, number: int) -> None:
        """Let customers use a version that was kept back, and updates build on it; a published one is left as it is.

        Raises:
            PlatformError: There is no such version, or the platform has gone on without it.
        """
        with self.writing() as session:
            session.execute(select(LeaseRow).with_for_update())  # no version is written meanwhile
            row = session.get(VersionRow, number)
            if row is None:
                raise PlatformError(f"there is no ranker version {number}")
            newest = session.execute(
                select(func.max(VersionRow.number)).where(VersionRow.published)
            ).scalar_one()
            if not row.published and row.parent != newest:
                raise PlatformError(
                    f"version {number} was built on version {row.parent}, and the platform has gone on to version {newest} without it; "
                    "its results are kept, but a new version of it cannot be made"
                )
            row.published = True

    def close_task(self, task_id: str, version: int) -> TaskRecord:
        """End a task that has no usable trial, without a new version; a finished one is returned as it is.

        Raises:
            UpdateLostError: A usable trial came in after all.
        """
        with self.writing() as session:
            task = _task_row(session, task_id, lock=True)
            if task.status == "open":
                statuses = (
                    session.execute(select(TrialRow.status).where(TrialRow.task_id == task_id))
                    .scalars()
                    .all()
                )
                if "ok" in statuses:
                    raise UpdateLostError(
                        "a result came in while the experiment was closed; begin the update again"
                    )
                task.status, task.finished = "closed", now()
                task.version_before, task.trials_used, task.trials_failed = version, 0, len(statuses)
                session.flush()
            return _task(task)


def _file_in(folder: Path) -> Path:
    if folder.exists() and not folder.is_dir():
        raise PlatformError(f"the platform needs a folder, and {folder} is a file")
    return folder / FILE_NAME


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PlatformError(f"the platform cannot make its folder {folder}: {error.strerror}") from error


def _create(session: Session, connection: Connection, first: FirstState) -> None:
    Base.metadata.create_all(connection)
    session.add(SchemaRow(id=1, product=PRODUCT, version=SCHEMA_VERSION))
    session.add(LeaseRow(id=1))
    session.add(CustomerRow(name=LOCAL))
    session.add(OfflineRow(id=1, base_id=first.base_id, blob=first.offline, sha256=_digest(first.offline)))
    session.add(
        VersionRow(
            number=0,
            reason="warm-up on the offline data",
            settings={},
            ranker=first.ranker,
            ranker_sha256=_digest(first.ranker),
            omega=first.omega,
            omega_sha256=_digest(first.omega),
        )
    )


def _digest(blob: bytes) -> str:
    return hashlib.sha256(blob).hexdigest()


EMPTY = _digest(b"")
"""Checksum of the blobs of a version that was pruned."""


_VERSIONS = select(
    VersionRow.number,
    VersionRow.parent,
    VersionRow.experiment_id,
    VersionRow.reason,
    VersionRow.created,
    VersionRow.published,
    VersionRow.guard,
).order_by(VersionRow.number.desc())


def _by_status(session: Session, table: type[TaskRow] | type[TrialRow]) -> dict[str, int]:
    rows = session.execute(select(table.status, func.count()).group_by(table.status))
    return dict(rows.all())


def _task_row(session: Session, task_id: str, lock: bool = False) -> TaskRow:
    row = session.get(TaskRow, task_id, with_for_update=lock)
    if row is None:
        raise UnknownTaskError(f"the platform has no task {task_id}")
    return row


def _task(row: TaskRow) -> TaskRecord:
    return TaskRecord(
        id=row.id,
        customer=row.customer,
        experiment_id=row.experiment_id,
        space_key=row.space_key,
        space=json.loads(row.space_json),
        flops_limit=row.flops_limit,
        extractor_version=row.extractor_version,
        phi=tuple(row.phi),
        status=row.status,
        created=row.created,
        finished=row.finished,
        version_before=row.version_before,
        version_after=row.version_after,
        final_phi=None if row.final_phi is None else tuple(row.final_phi),
        trials_used=row.trials_used,
        trials_failed=row.trials_failed,
    )


def _record(session: Session, trial: Trial) -> str:
    task = _task_row(session, trial.task_id, lock=True)
    row = session.execute(
        select(TrialRow).where(TrialRow.task_id == trial.task_id, TrialRow.trial_key == trial.trial_key)
    ).scalar_one_or_none()
    values = {name: getattr(trial, name) for name in Trial.__dataclass_fields__}
    values["parameters"] = dict(trial.parameters)
    if row is not None and row.parameters != values["parameters"]:
        raise PlatformError(
            f"trial {trial.trial_key} of experiment {task.experiment_id} is known with another configuration; "
            "use another trial key"
        )
    if row is not None and not (row.status == "failed" and trial.status == "ok"):
        return "known"
    if row is None:
        session.add(TrialRow(**values))
    else:
        for name, value in values.items():
            setattr(row, name, value)
    if trial.status == "ok" and task.status == "closed":
        task.status, task.finished = "open", None  # there is something to learn from after all
    return "stored" if row is None else "replaced"


def _kept(number: int, blob: bytes) -> bytes:
    if not blob:
        raise PlatformError(f"ranker version {number} is not kept any more; go on with the newest version")
    return blob


def _queue_up(session: Session, task: TaskRow, moment: float, held: bool) -> int:
    """How many customers' turns come before this one's; he takes his place where he must wait."""
    session.execute(delete(QueueRow).where(QueueRow.asked <= moment - QUEUE_SECONDS))
    queue = session.execute(select(QueueRow).order_by(QueueRow.since, QueueRow.customer)).scalars().all()
    mine = next((row for row in queue if row.customer == task.customer), None)
    if mine is None:
        if held or queue:
            session.add(QueueRow(customer=task.customer, task_id=task.id, since=moment, asked=moment))
        return len(queue)
    if mine.task_id == task.id:
        if moment - mine.asked > QUEUE_SECONDS / 4:  # each time would cost a write to the disk
            mine.asked = moment
        return queue.index(mine)
    return queue.index(mine) + 1  # another experiment of his comes before


def _hold(session: Session, session_id: str, lock: bool = True) -> LeaseRow:
    query = select(LeaseRow).with_for_update() if lock else select(LeaseRow)
    lease = session.execute(query).scalar_one()
    if lease.session_id != session_id:
        raise UpdateLostError("this update was taken over or ran out of time; begin it again")
    return lease


def _write_version(session: Session, task: TaskRow, parent: int, number: int, made: NewVersion) -> None:
    session.add(
        VersionRow(
            number=number,
            parent=parent,
            task_id=task.id,
            experiment_id=task.experiment_id,
            published=made.published,
            guard=made.guard,
            reason=f"update with {made.trials_used} trials",
            settings=dict(made.settings),
            ranker=made.ranker,
            ranker_sha256=_digest(made.ranker),
            omega=made.omega,
            omega_sha256=_digest(made.omega),
        )
    )
    session.add(FeatureRow(task_id=task.id, blob=made.features, sha256=_digest(made.features)))
    session.flush()
    for key, blob in made.own_encoders.items():
        session.add(OwnEncoderRow(space_key=key, version=number, blob=blob, sha256=_digest(blob)))
    for task_id, blob in made.transformations.items():
        if not made.published and task_id != task.id:
            continue
        session.merge(TransformationRow(task_id=task_id, version=number, blob=blob, sha256=_digest(blob)))
    task.status, task.finished = "done", now()
    task.version_before, task.version_after = parent, number
    task.final_phi = list(made.final_phi)
    task.trials_used, task.trials_failed = made.trials_used, made.trials_failed
