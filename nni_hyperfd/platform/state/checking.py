"""Whether a platform's state is whole: the database's own structure, and each blob against its checksum.

Both read all of it, so that they are done when asked for, and with each backup, and not when a platform is opened.
"""

from __future__ import annotations

from contextlib import closing
from hashlib import sha256
from pathlib import Path

from sqlalchemy import Connection, RowMapping, Table, select

from nni_hyperfd.errors import PlatformError
from nni_hyperfd.platform.state.schema import Base
from nni_hyperfd.platform.state.store import Store


def check_state(location: str | Path) -> int:
    """Read the whole state of a platform, which may be at work; returns how many blobs were held against their checksums.

    Raises:
        PlatformError: Something is damaged; the sentence says what.
    """
    with closing(Store(location)) as store, store.snapshot() as reading:
        check_structure(reading)
        return sum(_check_table(reading, table) for table in Base.metadata.sorted_tables)


def check_structure(reading: Connection) -> None:
    """Pages, indexes and foreign keys of a SQLite file; PostgreSQL looks after its own.

    Raises:
        PlatformError: Something is damaged.
    """
    if reading.dialect.name != "sqlite":
        return
    report = reading.exec_driver_sql("PRAGMA quick_check(1)").scalar()
    if report != "ok":
        raise PlatformError(f"the platform's file is damaged ({report}); restore a backup")
    if reading.exec_driver_sql("PRAGMA foreign_key_check").first() is not None:
        raise PlatformError("rows of the platform's file do not belong together; restore a backup")


def check_row(table: Table, row: RowMapping) -> int:
    """Hold the blobs of a row against their checksums: a column ``x_sha256`` is that of ``x``, and ``sha256`` that of ``blob``.

    Raises:
        PlatformError: One differs.
    """
    found = 0
    for column in table.columns:
        blob = "blob" if column.name == "sha256" else column.name.removesuffix("_sha256")
        if column.name.endswith("sha256") and blob in row:
            found += 1
            if sha256(row[blob]).hexdigest() != row[column]:
                key = ", ".join(str(row[part]) for part in table.primary_key)
                raise PlatformError(f"the {blob} of {table.name} {key} is damaged; restore an older backup")
    return found


def _check_table(reading: Connection, table: Table) -> int:
    rows = reading.execution_options(yield_per=16).execute(select(table))
    return sum(check_row(table, row) for row in rows.mappings())
