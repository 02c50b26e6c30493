"""SQLite's own ways, kept out of the store: looking before touching, the write-ahead log, who may write when."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DatabaseError
from sqlalchemy.pool import NullPool

from nni_hyperfd.errors import PlatformError
from nni_hyperfd.platform.state.schema import found_version

BUSY_SECONDS = 30.0
"""How long a connection waits for another one that writes."""

_MAGIC = b"SQLite format 3\x00"
_HEAD = 100
"""Bytes of a SQLite file's header, whose fields are big endian."""


def examine(path: Path) -> None:
    """Look at a state file without the right to write, so that a wrong one keeps its every byte.

    It takes as long for a large file as for a small one: its head, its length, and the rows that say what it is. Damage further in is
    found when it is read, since every blob has a checksum, and by :mod:`~nni_hyperfd.platform.state.checking`.

    Raises:
        PlatformError: It is damaged, not ours, or written by a newer package.
    """
    with path.open("rb") as file:
        head = file.read(_HEAD)
    if not head.startswith(_MAGIC):
        raise PlatformError(
            f"{path} is not a platform state, or is damaged; restore a backup or choose another folder"
        )
    if _is_cut_off(path, head):
        raise PlatformError(
            f"{path} is damaged (a part is missing); restore a backup or choose another folder"
        )

    def connect() -> sqlite3.Connection:
        return sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=BUSY_SECONDS)

    engine = create_engine("sqlite://", creator=connect, poolclass=NullPool)
    try:
        with engine.connect() as connection:
            found_version(connection)
    except DatabaseError as error:
        raise PlatformError(
            f"{path} is damaged ({error.orig}); restore a backup or choose another folder"
        ) from error
    except PlatformError as error:
        raise PlatformError(f"the state {path} cannot be used: {error}") from None


def _is_cut_off(path: Path, head: bytes) -> bool:
    """Whether the file is shorter than its header says; pages that a write-ahead log still has may be missing."""
    log = path.with_name(f"{path.name}-wal")
    if log.exists() and log.stat().st_size > 0:
        return False
    page = int.from_bytes(head[16:18], "big")
    return path.stat().st_size < int.from_bytes(head[28:32], "big") * (65536 if page == 1 else page)


def sqlite_engine(path: Path) -> Engine:
    """Connections to the file at ``path``, made where there is none, each with foreign keys and durable commits."""
    # An error's text must not hold what a customer sent: it may end in a log.
    engine = create_engine(f"sqlite:///{path}", connect_args={"timeout": BUSY_SECONDS}, hide_parameters=True)

    @event.listens_for(engine, "connect")
    def configure(connection: sqlite3.Connection, _: object) -> None:
        connection.isolation_level = None  # transactions begin below, not where the driver sees fit
        connection.execute("PRAGMA foreign_keys = ON")
        # An acknowledged result survives a power cut, not only a crash.
        connection.execute("PRAGMA synchronous = FULL")
        _use_wal(connection)

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        options = connection.get_execution_options()
        if options.get("hyperfd_layout", False):
            # Tables are made anew under the eyes of those that refer to them; not to be switched inside a transaction.
            connection.exec_driver_sql("PRAGMA foreign_keys = OFF")
        # A deferred transaction that turns from reading to writing fails when another one wrote in between.
        connection.exec_driver_sql("BEGIN IMMEDIATE" if options.get("hyperfd_write", False) else "BEGIN")

    return engine


def _use_wal(connection: sqlite3.Connection) -> None:
    """Switch to the write-ahead log: readers and the writer do not wait for each other."""
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            # The busy timeout does not cover this switch; only the first processes at a new file meet here.
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.05)
