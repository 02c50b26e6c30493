"""Tables of the platform's state, their version, and the way from an older version to this one.

Only what SQLAlchemy translates for every database is used, so that PostgreSQL is a URL away.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timezone

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Connection,
    DateTime,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    Text,
    TypeDecorator,
    UniqueConstraint,
    inspect,
    select,
    text,
    update,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from nni_hyperfd.errors import PlatformError
from nni_hyperfd.platform.state.migrations import curves, customers_and_guard, own_encoders_and_queue

SCHEMA_VERSION = 4
PRODUCT = "hyperfd-platform"
LOCAL = "local"
"""The customer who uses the platform in his own process; he has no token, so nobody is him over a network."""

Migration = Callable[[Connection], None]
MIGRATIONS: dict[int, Migration] = {1: customers_and_guard, 2: own_encoders_and_queue, 3: curves}
"""``MIGRATIONS[n]`` turns schema version n into n + 1; a released one never changes."""


def now() -> datetime:
    """The present moment in UTC."""
    return datetime.now(timezone.utc)


class Moment(TypeDecorator[datetime]):
    """A moment in UTC; SQLite forgets the time zone, so it is put back on reading."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Database -> Python."""
        return value.replace(tzinfo=timezone.utc) if value is not None and value.tzinfo is None else value


class Base(DeclarativeBase):
    """Base of all tables."""


class SchemaRow(Base):
    """The one row that says whose file this is and how its tables are laid out."""

    __tablename__ = "hyperfd_schema"
    __table_args__ = (CheckConstraint("id = 1"),)

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    product: Mapped[str] = mapped_column(String(64))
    version: Mapped[int] = mapped_column(Integer)
    created: Mapped[datetime] = mapped_column(Moment, default=now)


class OfflineRow(Base):
    """The server's own data sets and their experience, fixed for the life of a platform."""

    __tablename__ = "offline_data"
    __table_args__ = (CheckConstraint("id = 1"),)

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    base_id: Mapped[str] = mapped_column(String(64))
    blob: Mapped[bytes] = mapped_column(LargeBinary)
    sha256: Mapped[str] = mapped_column(String(64))
    created: Mapped[datetime] = mapped_column(Moment, default=now)


class CustomerRow(Base):
    """Who may talk to the platform: ``token_sha256`` of what he shows, None for the one in the platform's own process."""

    __tablename__ = "customers"

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    token_sha256: Mapped[str | None] = mapped_column(String(64))
    created: Mapped[datetime] = mapped_column(Moment, default=now)
    revoked: Mapped[datetime | None] = mapped_column(Moment)


class TaskRow(Base):
    """One customer experiment; two customers may give theirs the same id.

    ``phi`` is G(d) under ``extractor_version`` while the task is open; ``final_phi`` is G^(t)(d) under
    ``version_after`` once its update is done.
    """

    __tablename__ = "tasks"
    __table_args__ = (UniqueConstraint("customer", "experiment_id"),)

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    customer: Mapped[str] = mapped_column(ForeignKey("customers.name"))
    experiment_id: Mapped[str] = mapped_column(String(64))
    space_key: Mapped[str] = mapped_column(String(64))
    space_json: Mapped[str] = mapped_column(Text)
    flops_limit: Mapped[float] = mapped_column(Float(53))
    extractor_version: Mapped[int] = mapped_column(ForeignKey("ranker_versions.number"))
    phi: Mapped[list[float]] = mapped_column(JSON)
    status: Mapped[str] = mapped_column(String(16), default="open")
    created: Mapped[datetime] = mapped_column(Moment, default=now)
    finished: Mapped[datetime | None] = mapped_column(Moment)
    version_before: Mapped[int | None] = mapped_column(Integer)
    version_after: Mapped[int | None] = mapped_column(Integer, unique=True)
    trials_used: Mapped[int | None] = mapped_column(Integer)
    trials_failed: Mapped[int | None] = mapped_column(Integer)
    final_phi: Mapped[list[float] | None] = mapped_column(JSON)


class VersionRow(Base):
    """One ranker: never changed once written, but that its blobs are emptied when it is pruned.

    The unique ``parent`` makes the published versions one chain and the unique ``task_id`` gives an experiment at
    most one of them, whatever the processes around do.  A version that is not ``published`` is kept to be looked at,
    and nothing is built on it; ``guard`` is the report, as JSON text, that said whether it may be.
    """

    __tablename__ = "ranker_versions"
    __table_args__ = (
        Index(
            "one_published_child",
            "parent",
            unique=True,
            sqlite_where=text("published"),
            postgresql_where=text("published"),
        ),
    )

    number: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    parent: Mapped[int | None] = mapped_column(ForeignKey("ranker_versions.number"))
    task_id: Mapped[str | None] = mapped_column(String(64), unique=True)
    experiment_id: Mapped[str | None] = mapped_column(String(64))
    published: Mapped[bool] = mapped_column(Boolean, default=True)
    guard: Mapped[str | None] = mapped_column(Text)
    reason: Mapped[str] = mapped_column(Text)
    settings: Mapped[dict[str, object]] = mapped_column(JSON)
    ranker: Mapped[bytes] = mapped_column(LargeBinary)
    ranker_sha256: Mapped[str] = mapped_column(String(64))
    omega: Mapped[bytes] = mapped_column(LargeBinary)
    omega_sha256: Mapped[str] = mapped_column(String(64))
    created: Mapped[datetime] = mapped_column(Moment, default=now)


class OwnEncoderRow(Base):
    """The encoder of a customer's own search space as a version left it, and its Ω; later versions have it so until one of them moves it."""

    __tablename__ = "own_encoders"

    space_key: Mapped[str] = mapped_column(String(64), primary_key=True)
    version: Mapped[int] = mapped_column(
        ForeignKey("ranker_versions.number"), primary_key=True, autoincrement=False
    )
    blob: Mapped[bytes] = mapped_column(LargeBinary)
    sha256: Mapped[str] = mapped_column(String(64))


class TrialRow(Base):
    """Tuning experience: one configuration tried on one customer's data."""

    __tablename__ = "experience"
    __table_args__ = (UniqueConstraint("task_id", "trial_key"),)

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    task_id: Mapped[str] = mapped_column(ForeignKey("tasks.id"), index=True)
    trial_key: Mapped[str] = mapped_column(String(64))
    parameters: Mapped[dict[str, object]] = mapped_column(JSON)
    status: Mapped[str] = mapped_column(String(16))
    ap: Mapped[float | None] = mapped_column(Float(53))
    test_ap: Mapped[float | None] = mapped_column(Float(53))
    heldout_ap: Mapped[float | None] = mapped_column(Float(53))
    seconds: Mapped[float | None] = mapped_column(Float(53))
    seed: Mapped[int] = mapped_column(BigInteger)
    budget: Mapped[str] = mapped_column(String(64))
    created: Mapped[datetime] = mapped_column(Moment, default=now)
    curve: Mapped[list[list[float]] | None] = mapped_column(JSON(none_as_null=True))


class FeatureRow(Base):
    """G^(t)(D_offline) of a finished task t: what Z^(t) is fitted on; never changed once written."""

    __tablename__ = "offline_features"

    task_id: Mapped[str] = mapped_column(ForeignKey("tasks.id"), primary_key=True)
    blob: Mapped[bytes] = mapped_column(LargeBinary)
    sha256: Mapped[str] = mapped_column(String(64))


class TransformationRow(Base):
    """Z^(t) of a finished task t where the paper's iteration left it; the exact one is fitted whenever it is wanted.

    It lies apart from the features because a database may rewrite a whole row when a part of it changes.
    """

    __tablename__ = "transformations"

    task_id: Mapped[str] = mapped_column(ForeignKey("tasks.id"), primary_key=True)
    version: Mapped[int] = mapped_column(ForeignKey("ranker_versions.number"))
    blob: Mapped[bytes] = mapped_column(LargeBinary)
    sha256: Mapped[str] = mapped_column(String(64))


class LeaseRow(Base):
    """Whose turn it is to update; the one row is free when ``session_id`` is None or its time is over."""

    __tablename__ = "update_lease"
    __table_args__ = (CheckConstraint("id = 1"),)

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    session_id: Mapped[str | None] = mapped_column(String(64))
    task_id: Mapped[str | None] = mapped_column(String(64))
    expires: Mapped[float] = mapped_column(Float(53), default=0.0)  # seconds since 1970, UTC
    begun: Mapped[float | None] = mapped_column(Float(53))  # seconds since 1970, UTC


class QueueRow(Base):
    """A customer who waits for his turn to update; each has one place, whatever number of experiments he wants to finish."""

    __tablename__ = "update_queue"

    customer: Mapped[str] = mapped_column(ForeignKey("customers.name"), primary_key=True)
    task_id: Mapped[str] = mapped_column(ForeignKey("tasks.id"))
    since: Mapped[float] = mapped_column(Float(53))  # seconds since 1970, UTC
    asked: Mapped[float] = mapped_column(Float(53))  # seconds since 1970, UTC


def found_version(connection: Connection) -> int | None:
    """Schema version of a database, or None for an empty one.

    Raises PlatformError where it is somebody else's or written by a newer package.

    Raises:
        PlatformError: It is somebody else's, or was written by a newer package.
    """
    tables = inspect(connection).get_table_names()
    if not tables:
        return None
    if SchemaRow.__tablename__ not in tables:
        raise PlatformError("it holds other tables and is not a HyperFD platform; choose another place")
    row = connection.execute(select(SchemaRow.product, SchemaRow.version)).first()
    if row is None or row.product != PRODUCT:
        raise PlatformError("it is not a HyperFD platform; choose another place")
    if row.version > SCHEMA_VERSION:
        raise PlatformError(
            f"it has schema version {row.version} and this package knows {SCHEMA_VERSION}; install a newer nni_hyperfd"
        )
    return int(row.version)


def migrate(connection: Connection, version: int) -> None:
    """Bring a database from ``version`` to ``SCHEMA_VERSION`` within the caller's transaction."""
    for step in range(version, SCHEMA_VERSION):
        MIGRATIONS[step](connection)
    if version < SCHEMA_VERSION:
        connection.execute(update(SchemaRow).values(version=SCHEMA_VERSION))
