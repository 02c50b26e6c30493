"""What the platform tells an operator about itself."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from nni_hyperfd.platform.state.records import Counts, Turn
from nni_hyperfd.platform.state.schema import SCHEMA_VERSION
from nni_hyperfd.platform.state.store import Store


@dataclass(frozen=True)
class PlatformStatus:
    """What the platform knows.

    Args:
        location: Where the state is.
        schema_version: Layout of the state.
        version: Newest published ranker version.
        base_id: Of the base detector whose features it understands.
        counts: Tasks and trials by status.
        tasks_by_space: Finished tasks of each search space, by its key.
        turn: Who updates the platform, and who waits for it.
    """

    location: str
    schema_version: int
    version: int
    base_id: str
    counts: Counts
    tasks_by_space: Mapping[str, int]
    turn: Turn


@dataclass(frozen=True)
class HistoryEntry:
    """One ranker version and the experiment that made it (None for version 0).

    Args:
        version, parent: Its number and the one it was built on.
        experiment_id, space_key: Of the experiment.
        trials_used, trials_failed: How many results it was learnt from, and how many trials had none.
        best_ap: Highest AP@50 on val among the experiment's trials.
        created: Moment of the commit.
        published: Whether customers get it and updates build on it.
        objections: What the guard said against it.
        kept: Whether its ranker is still there.
    """

    version: int
    parent: int | None
    experiment_id: str | None
    space_key: str | None
    trials_used: int
    trials_failed: int
    best_ap: float | None
    created: datetime
    published: bool
    objections: tuple[str, ...]
    kept: bool


def status_of(store: Store) -> PlatformStatus:
    """Where the platform stands."""
    return PlatformStatus(
        location=store.location,
        schema_version=SCHEMA_VERSION,
        version=store.newest().number,
        base_id=store.base_id(),
        counts=store.counts(),
        tasks_by_space=store.finished_by_space(),
        turn=store.turn(),
    )


def history_of(store: Store) -> list[HistoryEntry]:
    """All ranker versions, oldest first."""
    tasks = {task.version_after: task for task in store.tasks("done")}
    aps = store.best_aps()
    entries = []
    for version in reversed(store.versions()):
        task = tasks.get(version.number)
        entries.append(
            HistoryEntry(
                version=version.number,
                parent=version.parent,
                experiment_id=version.experiment_id,
                space_key=None if task is None else task.space_key,
                trials_used=0 if task is None else task.trials_used or 0,
                trials_failed=0 if task is None else task.trials_failed or 0,
                best_ap=None if task is None else aps.get(task.id),
                created=version.created,
                published=version.published,
                objections=() if version.guard is None else tuple(json.loads(version.guard)["reasons"]),
                kept=version.kept,
            )
        )
    return entries
