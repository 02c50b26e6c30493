"""Ranker versions and what belongs to each: Ω, Z, the offline data as it saw them, encoders of customers' own spaces."""

from __future__ import annotations

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from nni_hyperfd.errors import PlatformAwayError, PlatformError
from nni_hyperfd.platform.state.records import NewVersion, VersionInfo
from nni_hyperfd.platform.state.schema import (
    FeatureRow,
    LeaseRow,
    OfflineRow,
    OwnEncoderRow,
    TaskRow,
    TransformationRow,
    VersionRow,
    now,
)
from nni_hyperfd.platform.state.transactions import Transactions, digest

EMPTY = digest(b"")
"""Checksum of the blobs of a version that was pruned."""

_VERSIONS = select(
    VersionRow.number,
    VersionRow.parent,
    VersionRow.experiment_id,
    VersionRow.reason,
    VersionRow.created,
    VersionRow.published,
    VersionRow.guard,
    VersionRow.ranker_sha256 != EMPTY,
).order_by(VersionRow.number.desc())


class Versions(Transactions):
    """Rows of ranker versions."""

    def newest(self) -> VersionInfo:
        """The newest published ranker version: the one that customers use and updates are built on.

        Raises:
            PlatformAwayError: There is none, or the database cannot be asked now.
        """
        query = _VERSIONS.where(VersionRow.published).limit(1)
        with self.reading() as session:
            found = session.execute(query).first()
        if found is None:
            raise PlatformAwayError(
                f"the platform state at {self.location} has no ranker version; restore a backup"
            )
        return VersionInfo(*found)

    def versions(self) -> list[VersionInfo]:
        """All ranker versions, newest first, whether published or not."""
        with self.reading() as session:
            return [VersionInfo(*entry) for entry in session.execute(_VERSIONS)]

    def is_usable(self, number: int) -> bool:
        """Whether there is such a ranker version, customers may use it, and it was not pruned."""
        query = select(VersionRow.published, VersionRow.ranker_sha256).where(VersionRow.number == number)
        with self.reading() as session:
            row = session.execute(query).first()
        return row is not None and row.published and row.ranker_sha256 != EMPTY

    def is_published(self, number: int) -> bool:
        """Whether there is such a ranker version, and customers may use it."""
        query = select(VersionRow.published).where(VersionRow.number == number)
        with self.reading() as session:
            return bool(session.execute(query).scalar_one_or_none())

    def ranker(self, number: int) -> bytes:
        """Ranker blob of a version.

        Raises:
            PlatformError: There is no such version, or it was pruned.
        """
        query = select(VersionRow.ranker, VersionRow.ranker_sha256)
        return _kept(number, self.blob(query.where(VersionRow.number == number), f"ranker version {number}"))

    def omega(self, number: int) -> bytes:
        """Ω blob of a version.

        Raises:
            PlatformError: There is no such version, or it was pruned.
        """
        query = select(VersionRow.omega, VersionRow.omega_sha256)
        return _kept(number, self.blob(query.where(VersionRow.number == number), f"Ω of version {number}"))

    def own_encoder(self, space_key: str, version: int) -> bytes | None:
        """The encoder of somebody's own space as a version has it; None where no version before has moved it."""
        row = OwnEncoderRow
        query = select(row.blob, row.sha256).join(VersionRow, VersionRow.number == row.version)
        query = query.where(row.space_key == space_key, row.version <= version)
        query = query.where(VersionRow.published | (row.version == version))
        query = query.order_by(row.version.desc()).limit(1)
        with self.reading() as session:
            if session.execute(query.with_only_columns(row.version)).first() is None:
                return None
        return self.blob(query, f"encoder of the space {space_key}")

    def offline(self) -> bytes:
        """Offline data blob."""
        return self.blob(select(OfflineRow.blob, OfflineRow.sha256), "offline data")

    def base_id(self) -> str:
        """Hash of the base weights with which the offline features were computed."""
        with self.reading() as session:
            return session.execute(select(OfflineRow.base_id)).scalar_one()

    def features(self, task_id: str) -> bytes:
        """G^(t)(D_offline) of a finished task."""
        query = select(FeatureRow.blob, FeatureRow.sha256).where(FeatureRow.task_id == task_id)
        return self.blob(query, f"offline features of task {task_id}")

    def transformation(self, task_id: str) -> bytes | None:
        """Z^(t) of a finished task where the paper's iteration left it; None where it is fitted when wanted."""
        query = select(TransformationRow.blob, TransformationRow.sha256).where(
            TransformationRow.task_id == task_id
        )
        with self.reading() as session:
            if session.execute(query).first() is None:
                return None
        return self.blob(query, f"transformation of task {task_id}")

    def publish(self, number: int) -> None:
        """Let customers use a version that was kept back, and updates build on it; a published one is left as it is.

        Raises:
            PlatformError: There is no such version, the platform has gone on without it, or it was pruned.
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
            if not row.published and row.ranker_sha256 == EMPTY:
                raise PlatformError(
                    f"version {number} is not kept any more, as only the newest held-back ones are; publish one of these, which "
                    "`hyperfd status` lists"
                )
            row.published = True


def _kept(number: int, blob: bytes) -> bytes:
    if not blob:
        raise PlatformError(f"ranker version {number} is not kept any more; go on with the newest version")
    return blob


def write_version(session: Session, task: TaskRow, parent: int, number: int, made: NewVersion) -> None:
    """Adds a version and all that belongs to it, and ends its task."""
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
            ranker_sha256=digest(made.ranker),
            omega=made.omega,
            omega_sha256=digest(made.omega),
        )
    )
    session.add(FeatureRow(task_id=task.id, blob=made.features, sha256=digest(made.features)))
    session.flush()
    for key, blob in made.own_encoders.items():
        session.add(OwnEncoderRow(space_key=key, version=number, blob=blob, sha256=digest(blob)))
    for task_id, blob in made.transformations.items():
        if not made.published and task_id != task.id:
            continue
        session.merge(TransformationRow(task_id=task_id, version=number, blob=blob, sha256=digest(blob)))
    task.status, task.finished = "done", now()
    task.version_before, task.version_after = parent, number
    task.final_phi = list(made.final_phi)
    task.trials_used, task.trials_failed = made.trials_used, made.trials_failed
