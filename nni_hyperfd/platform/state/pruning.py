"""What is not kept for ever: old rankers, what carries the oldest tasks' meta-features over, encoders of spaces of long ago.

Rows stay, so that history, results and the chain of versions are whole; only blobs go. See docs/scale.md for what it adds up to.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from nni_hyperfd.platform.state.schema import FeatureRow, OwnEncoderRow, TaskRow, VersionRow
from nni_hyperfd.platform.state.store import Store
from nni_hyperfd.platform.state.versions import EMPTY

AT_ONCE = 32
"""Blobs of a kind that go after an update; a platform that has many old ones gets rid of them little by little."""


@dataclass(frozen=True)
class Keeping:
    """How much is kept.

    Args:
        versions: Published rankers, the newest ones. Version 0, by which later ones may be judged, is kept besides.
        held: Of the versions that the guard held back, and that may still be published, the newest ones.
        open_versions: Rankers beside these that experiments still under way were begun with, the newest ones.
        tasks: Finished tasks from which updates learn again, the newest ones.
        spaces: Customers' own search spaces whose encoder is kept, those learnt from last.
    """

    versions: int = 16
    held: int = 16
    open_versions: int = 64
    tasks: int = 2048
    spaces: int = 128


@dataclass(frozen=True)
class Pruned:
    """How many of each went."""

    versions: int
    tasks: int
    encoders: int


def prune(store: Store, keeping: Keeping | None = None, at_once: int | None = None) -> Pruned:
    """Let go of what need not be kept.

    Args:
        store: A platform, which may be at work.
        keeping: How much is kept.
        at_once: Of each kind no more than so many go, the oldest ones first; all by default.
    """
    keeping = keeping or Keeping()
    with store.writing() as session:
        versions = sorted(_full_versions(session) - _kept_versions(session, keeping))[:at_once]
        empty = {"ranker": b"", "ranker_sha256": EMPTY, "omega": b"", "omega_sha256": EMPTY}
        for part in _parts(versions):
            session.execute(update(VersionRow).where(VersionRow.number.in_(part)).values(empty))
        tasks = _old_tasks(session, keeping)[:at_once]
        for part in _parts(tasks):
            session.execute(delete(FeatureRow).where(FeatureRow.task_id.in_(part)))
        encoders = _old_encoders(session, keeping)[:at_once]
        for key, number in encoders:
            session.execute(
                delete(OwnEncoderRow).where(OwnEncoderRow.space_key == key, OwnEncoderRow.version == number)
            )
    return Pruned(len(versions), len(tasks), len(encoders))


def _full_versions(session: Session) -> set[int]:
    return set(session.execute(select(VersionRow.number).where(VersionRow.ranker_sha256 != EMPTY)).scalars())


def _kept_versions(session: Session, keeping: Keeping) -> set[int]:
    published = select(VersionRow.number).where(VersionRow.published).order_by(VersionRow.number.desc())
    newest = list(session.execute(published.limit(max(keeping.versions, 1))).scalars())
    held = select(VersionRow.number).where(~VersionRow.published, VersionRow.parent == newest[0])
    held = held.order_by(VersionRow.number.desc()).limit(keeping.held)
    begun_with = select(TaskRow.extractor_version).where(TaskRow.status == "open").distinct()
    begun_with = begun_with.where(TaskRow.extractor_version.not_in(newest))
    begun_with = begun_with.order_by(TaskRow.extractor_version.desc()).limit(keeping.open_versions)
    return {
        0,
        *newest,
        *session.execute(held).scalars(),
        *session.execute(begun_with).scalars(),
    }


def _old_tasks(session: Session, keeping: Keeping) -> list[str]:
    """Those with features beyond the newest ones; those of a version that may still be published are among the newest."""
    query = select(FeatureRow.task_id).join(TaskRow).order_by(TaskRow.version_after.desc())
    return list(session.execute(query.offset(keeping.tasks)).scalars())[::-1]


def _old_encoders(session: Session, keeping: Keeping) -> list[tuple[str, int]]:
    """Encoders that nobody reads any more.

    That is all but the newest row of each of the spaces that were learnt from last, what open experiments of these read, and
    those of versions that may still be published, which go after their ranker.
    """
    row = OwnEncoderRow
    query = select(row.space_key, row.version, VersionRow.published).join(VersionRow)
    rows = [
        (key, number, published)
        for key, number, published in session.execute(query.order_by(row.version.desc()))
    ]
    newest: dict[str, int] = {}
    for key, number, published in rows:
        if published:
            newest.setdefault(key, number)
    last = list(newest)[: keeping.spaces]
    kept = {(key, newest[key]) for key in last}
    parent = session.execute(select(func.max(VersionRow.number)).where(VersionRow.published)).scalar_one()
    held = set(
        session.execute(
            select(VersionRow.number).where(
                ~VersionRow.published, VersionRow.parent == parent, VersionRow.ranker_sha256 != EMPTY
            )
        ).scalars()
    )
    kept |= {(key, number) for key, number, published in rows if not published and number in held}
    open_ = select(TaskRow.space_key, TaskRow.extractor_version).where(TaskRow.status == "open").distinct()
    open_ = open_.where(TaskRow.space_key.in_(last)).order_by(TaskRow.extractor_version.desc())
    for key, version in session.execute(open_.limit(keeping.open_versions)):
        read = next((n for k, n, published in rows if k == key and published and n <= version), None)
        if read is not None:
            kept.add((key, read))
    return sorted(((k, n) for k, n, _ in rows if (k, n) not in kept), key=lambda each: each[1])


def _parts(items: list[int] | list[str]) -> Iterable[list[int] | list[str]]:
    """Few enough at once for any database's limit of parameters."""
    return (items[start : start + 500] for start in range(0, len(items), 500))
