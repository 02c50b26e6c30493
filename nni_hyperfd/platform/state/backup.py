"""A platform's whole state from one database into another: backups, and the way from SQLite to PostgreSQL and back.

A backup is a SQLite file, whatever database the platform lives in, with its SHA-256 beside it as ``sha256sum`` writes it.
Rows are copied through one snapshot, so the platform may be at work meanwhile; each blob is held against its checksum
on the way, so that damage is found when a backup is made and not when it is needed.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from hashlib import sha256
from pathlib import Path

from sqlalchemy import Connection, insert, select
from sqlalchemy.exc import DBAPIError

from nni_hyperfd.errors import PlatformAwayError, PlatformError
from nni_hyperfd.files import write_file
from nni_hyperfd.platform.state.checking import check_row, check_structure
from nni_hyperfd.platform.state.database import database_engine
from nni_hyperfd.platform.state.schema import Base, found_version
from nni_hyperfd.platform.state.sqlite import sqlite_engine
from nni_hyperfd.platform.state.store import FILE_NAME, Store

_AT_ONCE = 16
"""Rows in memory; a ranker version has some megabytes."""


def backup(location: str | Path, file: Path) -> None:
    """Write the state of a platform to a new file, and its checksum beside it.

    Raises:
        PlatformError: There is no sound platform at ``location``, or the file exists or cannot be written.
    """
    if file.exists():
        raise PlatformError(f"{file} exists already; name another file")
    source = Store(location)
    try:
        with tempfile.TemporaryDirectory(dir=file.parent, prefix=".hyperfd-backup-") as folder:
            with source.snapshot() as reading, _writing(folder) as writing:
                check_structure(reading)
                Base.metadata.create_all(writing)
                _copy(reading, writing)
            copy = Path(folder) / FILE_NAME
            with closing(sqlite3.connect(copy)) as connection:
                # Without a write-ahead log it can be read from where nothing can be written.
                connection.execute("PRAGMA journal_mode = DELETE")
            write_file(_beside(file), f"{_digest(copy)}  {file.name}\n")
            # Not by write_file: the copy has permissions of its own, see _writing.
            os.replace(copy, file)
    except OSError as error:
        raise PlatformError(f"cannot write the backup {file} ({error.strerror or error})") from error
    finally:
        source.close()


def restore(file: Path, location: str | Path, force: bool = False) -> None:
    """Make the platform at ``location`` what it was when ``file`` was written; all of it or nothing.

    Args:
        file: Of :func:`backup`, of this release or an older one; it is not changed.
        location: A folder or a database URL.
        force: Replace a state that is there. Processes that have it open must be started again.

    Raises:
        PlatformError: The file is not what was written, or there is a state already.
    """
    expected = _expected_digest(file)
    with tempfile.TemporaryDirectory(prefix="hyperfd-restore-") as folder:
        try:
            shutil.copyfile(file, Path(folder) / FILE_NAME)
            found = _digest(Path(folder) / FILE_NAME)
        except OSError as error:
            raise PlatformError(f"cannot read the backup {file} ({error.strerror or error})") from error
        if found != expected:
            raise PlatformError(
                f"{file} is damaged: its checksum is not the one beside it; use another backup"
            )
        source = Store(folder)  # migrates the copy of an old backup
        try:
            with source.snapshot() as reading, _writing(location) as writing:
                if found_version(writing) is not None:
                    if not force:
                        raise PlatformError(
                            f"there is a platform at {location} already; choose another place, or replace it with --force"
                        )
                    Base.metadata.drop_all(writing)
                Base.metadata.create_all(writing)
                _copy(reading, writing)
        finally:
            source.close()


@contextmanager
def _writing(location: str | Path) -> Iterator[Connection]:
    """One transaction on the database at ``location``, whether there is a platform in it or not."""
    if "://" in str(location):
        engine = database_engine(str(location))
    else:
        folder = Path(location).expanduser()
        folder.mkdir(parents=True, exist_ok=True)
        (folder / FILE_NAME).touch(mode=0o600)  # what customers have told is in it
        engine = sqlite_engine(folder / FILE_NAME)
    try:
        with engine.execution_options(hyperfd_write=True).begin() as connection:
            yield connection
    except DBAPIError as error:
        raise PlatformAwayError(f"the state at {location} cannot be written: {error.orig}") from error
    finally:
        engine.dispose()


def _copy(reading: Connection, writing: Connection) -> None:
    for table in Base.metadata.sorted_tables:
        # A number that the database gives is given anew, in the same order, so that it goes on counting from there.
        columns = [column for column in table.columns if column is not table.autoincrement_column]
        rows = reading.execute(select(*columns).order_by(*table.primary_key))
        for part in rows.mappings().partitions(_AT_ONCE):
            for row in part:
                check_row(table, row)
            writing.execute(insert(table), [dict(row) for row in part])


def _beside(file: Path) -> Path:
    return file.with_name(f"{file.name}.sha256")


def _digest(file: Path) -> str:
    digest = sha256()
    with file.open("rb") as opened:
        while part := opened.read(1 << 20):
            digest.update(part)
    return digest.hexdigest()


def _expected_digest(file: Path) -> str:
    try:
        return _beside(file).read_text().split()[0]
    except (OSError, IndexError):
        raise PlatformError(
            f"the checksum {_beside(file)} is missing; if you trust the backup, make it with sha256sum"
        ) from None
