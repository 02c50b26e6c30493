"""The platform's memory: one SQLite file (or another database by URL), read and written in short transactions.

The store knows rows and bytes, not tensors: what a blob means is the business of ``platform``.  Three rules hold
whatever processes do around it:

* a ranker version, once written, never changes, and versions form one chain without gaps;
* one experiment makes at most one version;
* what a method has returned from is on disk.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from sqlalchemy import Connection
from sqlalchemy.orm import Session

from nni_hyperfd.errors import PlatformError
from nni_hyperfd.platform.state.customers import Customers
from nni_hyperfd.platform.state.database import database_engine
from nni_hyperfd.platform.state.experience import TuningExperience
from nni_hyperfd.platform.state.records import FirstState
from nni_hyperfd.platform.state.schema import (
    LOCAL,
    PRODUCT,
    SCHEMA_VERSION,
    Base,
    CustomerRow,
    LeaseRow,
    OfflineRow,
    SchemaRow,
    VersionRow,
    found_version,
    migrate,
)
from nni_hyperfd.platform.state.sqlite import examine, sqlite_engine
from nni_hyperfd.platform.state.transactions import digest
from nni_hyperfd.platform.state.turns import Turns
from nni_hyperfd.platform.state.versions import Versions

FILE_NAME = "platform.sqlite"


class Store(Versions, TuningExperience, Customers, Turns):
    """Rows and blobs of one platform.

    Args:
        location: A folder (holding ``platform.sqlite``), or a database URL with ``://``.
        first: Makes the initial state when the place is empty; without it an empty place is an error.

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
    session.add(OfflineRow(id=1, base_id=first.base_id, blob=first.offline, sha256=digest(first.offline)))
    session.add(
        VersionRow(
            number=0,
            reason="warm-up on the offline data",
            settings={},
            ranker=first.ranker,
            ranker_sha256=digest(first.ranker),
            omega=first.omega,
            omega_sha256=digest(first.omega),
        )
    )
