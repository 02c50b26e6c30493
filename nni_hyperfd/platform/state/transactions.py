"""How the store reads and writes: short transactions over one engine, and blobs that are checked as they come in."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError
from sqlalchemy.orm import Session

from nni_hyperfd.errors import PlatformAwayError, PlatformError


class Transactions:
    """What all families of rows are read and written with.

    Attributes:
        location: Of the state, for people.
    """

    location: str
    _engine: Engine

    def close(self) -> None:
        """Close the connections."""
        self._engine.dispose()

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
    def reading(self) -> Iterator[Session]:
        """One transaction that only reads.

        Raises:
            PlatformAwayError: The database cannot be asked now.
        """
        with self._errors(), Session(self._engine) as session:
            yield session

    @contextmanager
    def writing(self, **options: bool) -> Iterator[Session]:
        """One transaction that holds SQLite's write lock from its start, so that what it reads stays true.

        Raises:
            PlatformAwayError: The database cannot be asked now.
        """
        engine = self._engine.execution_options(hyperfd_write=True, **options)
        with self._errors(), Session(engine) as session, session.begin():
            yield session

    @contextmanager
    def snapshot(self) -> Iterator[Connection]:
        """A connection that sees the state of one moment, whatever is written meanwhile.

        Raises:
            PlatformAwayError: The database cannot be asked now.
        """
        postgresql = self._engine.dialect.name == "postgresql"
        options = {"isolation_level": "REPEATABLE READ"} if postgresql else {}
        with self._errors(), self._engine.execution_options(**options).connect() as connection:
            yield connection

    def compact(self) -> None:
        """Give room that is not used any more back to the disk; SQLite needs as much again meanwhile, PostgreSQL does it by itself.

        Raises:
            PlatformAwayError: The database cannot be asked now.
        """
        if self._engine.dialect.name != "sqlite":
            return
        with self._errors(), self._engine.connect() as connection:
            driver = connection.connection.driver_connection
            assert driver is not None
            try:
                driver.execute("VACUUM")
                driver.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            except sqlite3.Error as error:
                raise PlatformAwayError(
                    f"the platform state at {self.location} cannot be made smaller now: {error}"
                ) from error

    def blob(self, query: Any, what: str) -> bytes:
        """The blob and checksum that ``query`` finds; ``what`` is its name in errors.

        Raises:
            PlatformError: It is not there.
            PlatformAwayError: It is damaged.
        """
        with self.reading() as session:
            row = session.execute(query).first()
        if row is None:
            raise PlatformError(f"the platform has no {what}")
        content, checksum = row
        if digest(content) != checksum:
            raise PlatformAwayError(
                f"the {what} in {self.location} is damaged (its checksum differs); restore a backup"
            )
        return bytes(content)


def digest(blob: bytes) -> str:
    """The checksum that lies beside a blob."""
    return hashlib.sha256(blob).hexdigest()
