"""A database by URL: PostgreSQL with its own ways, which are kept out of the store, or a SQLite file."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError

from nni_hyperfd.errors import PlatformError
from nni_hyperfd.platform.state.sqlite import sqlite_engine

CONNECT_SECONDS = 10
_WAITS = "-c lock_timeout=30s -c idle_in_transaction_session_timeout=120s"
"""A process that hangs within a transaction does not stop the others for ever."""
_LAYOUT_LOCK = int.from_bytes(b"hyperfd", "big")  # a number that nobody else uses


def database_engine(location: str) -> Engine:
    """Connections to the database at a URL such as ``postgresql://user:password@host/database``; none is opened yet.

    Raises:
        PlatformError: It is no such URL, or the driver is missing.
    """
    try:
        url = make_url(location)
    except (ArgumentError, ValueError):
        raise PlatformError(
            "a platform's database must be named like postgresql://user:password@host/database"
        ) from None
    kind = url.drivername.partition("+")[0]
    if kind in ("postgresql", "postgres"):
        return _postgresql_engine(url)
    if kind == "sqlite" and url.database:
        return sqlite_engine(Path(url.database))
    raise PlatformError(
        f"a platform's state is kept in a folder or at a postgresql:// URL, not at {url.drivername}://"
    )


def _postgresql_engine(url: URL) -> Engine:
    try:
        engine = create_engine(
            url.set(drivername="postgresql+psycopg"),
            connect_args={"connect_timeout": CONNECT_SECONDS, "options": _WAITS},
            # A server that was started again has forgotten the connections that are kept here.
            pool_pre_ping=True,
            # An error's text must not hold what a customer sent: it may end in a log.
            hide_parameters=True,
        )
    except ModuleNotFoundError:
        raise PlatformError(
            "PostgreSQL needs its driver: run pip install '.[server]' in a clone of this package"
        ) from None

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # "If it is not there, make it" is no single step: of several first processes, one goes first.
        if connection.get_execution_options().get("hyperfd_layout", False):
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LAYOUT_LOCK})")

    return engine
