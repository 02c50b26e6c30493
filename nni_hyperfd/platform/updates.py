"""The conversation in which a customer's experiment updates the ranker (METHOD.md §9): one at a time, by turns.

The turn is a lease in the store. It is short, and every step forward renews it: who goes away holds up the others for half a minute, and
who dawdles for :data:`UPDATE_SECONDS` at most. Customers get their turns in the order in which they asked.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict

from nni_hyperfd.errors import PlatformAwayError, PlatformError, UpdateLostError
from nni_hyperfd.platform.first import IMPORTANCE
from nni_hyperfd.platform.past import OFFLINE_FEATURES, TRANSFORMATION, StoredTasks, ranked_list
from nni_hyperfd.platform.session import Update, UpdateOrigin
from nni_hyperfd.platform.shelf import WORKING, Shelf
from nni_hyperfd.platform.state.pruning import AT_ONCE, prune
from nni_hyperfd.platform.state.records import NewVersion, StoredTrial, TaskRecord
from nni_hyperfd.platform.state.store import Store
from nni_hyperfd.protocol.messages import (
    BeginUpdate,
    CommitUpdate,
    FeatureGradient,
    FeatureStep,
    GradientStep,
    UpdateReceipt,
    UpdateTicket,
    UpdateWait,
    build,
)
from nni_hyperfd.protocol.tensors import from_blob, to_blob
from nni_hyperfd.ranker.guard import GuardReport
from nni_hyperfd.ranker.ranker import Ranker
from nni_hyperfd.ranker.settings import RankerSettings
from nni_hyperfd.ranker.update import ContinualUpdate, CurrentTask
from nni_hyperfd.recommendation.ranking import read_space
from nni_hyperfd.spaces.space import Space

LEASE_SECONDS = 30.0
"""How long an update may stand still before another one takes its turn."""

UPDATE_SECONDS = 600.0
"""How long an update may take in all; an honest one over a slow line takes a minute or two."""

WAIT_SECONDS = 2.0
"""How soon a waiting customer should ask again."""

_log = logging.getLogger("hyperfd.platform")


class Updates:
    """The updates that go through this process, one after the other.

    Args:
        store: Where everything is kept.
        shelf: Over the same store.
        settings: Of the updates.
        lease_seconds: How long an update may stand still before another one takes its turn.
    """

    def __init__(self, store: Store, shelf: Shelf, settings: RankerSettings, lease_seconds: float) -> None:
        self._store, self._shelf, self._settings = store, shelf, settings
        self._lease_seconds = lease_seconds
        self._session: Update | None = None
        self._begun = self._renewed = 0.0

    def close(self) -> None:
        """Give up an update under way."""
        if self._session is not None:
            self._store.release_lease(self._session.id)
            self._session = None

    def task_of(self, session_id: str) -> str | None:
        """Id of the task whose update is under way by that id; None where none is."""
        session = self._session
        return None if session is None or session.id != session_id else session.origin.task_id

    def begin(self, message: BeginUpdate) -> UpdateTicket | UpdateWait | UpdateReceipt:
        """Start the experiment's update from the newest version, or say that it must wait, or that it was done.

        An experiment without a usable result is closed; its receipt names no new version.
        """
        with WORKING:
            task = self._store.task(message.task_id)
            if task.status != "open":
                return self._receipt(task)
            trials = self._store.trials(task.id)
            if not any(trial.status == "ok" for trial in trials):
                return self._receipt(self._store.close_task(task.id, self._store.newest().number))
            session_id = secrets.token_hex(16)
            wait = self._store.take_lease(session_id, task.id, self._lease_seconds, message.takeover)
            if wait > 0:
                return build(UpdateWait, seconds=min(wait, WAIT_SECONDS))
            with self._giving_up_on_failure(session_id):
                self._session = None  # its turn is over, as this one's has begun
                task = self._store.task(message.task_id)
                if task.status != "open":  # the turn before this one was the same experiment's
                    self._store.release_lease(session_id)
                    return self._receipt(task)
                session = self._start(session_id, task, trials, message.seed)
                ticket = session.advance()
                self._store.renew_lease(session_id, self._lease_seconds)
                self._begun = self._renewed = time.monotonic()
            self._session = session
            return ticket

    def features(self, message: FeatureStep) -> FeatureGradient:
        """First half of a step: φ, φ̃ -> ∂L/∂φ, ∂L/∂φ̃.

        Raises:
            UpdateLostError: The update is over; begin it again.
            PlatformError: Out of turn.
        """
        with self._held_session(message) as session:
            return session.features(message)

    def gradient(self, message: GradientStep) -> UpdateTicket:
        """Second half of a step: ∂L/∂θ_G through φ and φ̃ -> the next θ_G.

        Raises:
            UpdateLostError: The update is over; begin it again.
            PlatformError: Out of turn, or a gradient that does not fit, is not finite or is too long.
        """
        with self._held_session(message) as session:
            return session.gradient(message)

    def commit(self, message: CommitUpdate) -> UpdateReceipt:
        """Make the new version, once; repeating it returns the same receipt.

        A version that the guard objects to is kept, but nobody gets it and nothing is built on it until an operator
        publishes it.

        Raises:
            UpdateLostError: The update is over, or a newer version came first; begin it again.
            PlatformError: Steps are left.
        """
        task = self._store.task(message.task_id)
        if task.status != "open":
            return self._receipt(task)
        with self._held_session(message) as session:
            origin = session.origin
            if origin.task_id != message.task_id:
                raise PlatformError("the update to be committed is another experiment's")
            state = session.finish(message.phi)
            verdict = self._judge(session.ranker, origin.parent)
            ranker, importance, own_encoders = self._shelf.own_spaces.parted(session.ranker, state.importance)
            made = NewVersion(
                ranker=ranker,
                omega=to_blob(IMPORTANCE, importance, {}),
                features=to_blob(OFFLINE_FEATURES, {"phi": state.offline_phi}, {}),
                transformations={
                    t: to_blob(TRANSFORMATION, {"z": z}, {}) for t, z in state.transforms.items()
                },
                settings=asdict(self._settings) | {"seed": origin.seed},
                final_phi=tuple(state.phi.tolist()),
                trials_used=origin.trials_used,
                trials_failed=origin.trials_failed,
                published=verdict.passed,
                guard=verdict.to_json(),
                own_encoders=own_encoders,
            )
            receipt = self._receipt(
                self._store.commit_version(session.id, origin.task_id, origin.parent, made)
            )
            self._session = None
        self._prune()
        return receipt

    def _start(self, session_id: str, task: TaskRecord, trials: Sequence[StoredTrial], seed: int) -> Update:
        parent = self._store.newest().number
        ranker = self._shelf.copy(parent)
        importance, _ = from_blob(IMPORTANCE, self._store.omega(parent))

        def meet(space: Space) -> None:
            importance.update(self._shelf.own_spaces.give(ranker, parent, space))

        meet(read_space(task.space, task.flops_limit))
        current = ranked_list(task, trials)
        update = ContinualUpdate(
            ranker,
            self._shelf.offline,
            StoredTasks(self._store, meet),
            importance,
            CurrentTask(task.id, current),
            self._settings,
            seed,
            self._shelf.guard.held_out,
        )
        used = len(current.aps)
        failed = sum(trial.status == "failed" for trial in trials)
        origin = UpdateOrigin(task.id, parent, seed, used, failed)
        return Update(session_id, origin, ranker, update, self._settings.images)

    def _judge(self, made: Ranker, parent: int) -> GuardReport:
        """Compare a new version with its parent and with the best published one."""
        newest = self._store.newest()
        if newest.number != parent:
            raise UpdateLostError("a newer ranker version came first; begin the update again")
        guard = self._shelf.guard
        report = None if newest.guard is None else GuardReport.from_json(newest.guard)
        if report is None:
            best = guard.ndcg(self._shelf.ranker(0))
        else:
            # Who publishes a version in spite of the guard says that things are to be measured by it from now on.
            best = dict(report.best if report.passed else report.ndcg)
        return guard.judge(made, self._shelf.ranker(parent), best)

    def _receipt(self, task: TaskRecord) -> UpdateReceipt:
        return build(
            UpdateReceipt,
            task_id=task.id,
            experiment_id=task.experiment_id,
            version_before=task.version_before,
            version_after=task.version_after,
            published=task.version_after is None or self._store.is_published(task.version_after),
            usable_trials=task.trials_used,
            failed_trials=task.trials_failed,
        )

    def _prune(self) -> None:
        try:
            prune(self._store, at_once=AT_ONCE)
        except (
            PlatformAwayError
        ) as error:  # the version is there; the next update, or `hyperfd prune`, tries again
            _log.warning("old rankers are still there: %s", error)

    @contextmanager
    def _held_session(self, message: FeatureStep | GradientStep | CommitUpdate) -> Iterator[Update]:
        """The session under way. A message that it waits for renews its turn, before the work and after it.

        A refused message leaves it as it was; a failure of the work itself ends it.
        """
        waiting = self._session
        if waiting is not None and waiting.id == message.session_id and waiting.awaits(message):
            # The time that the message waits here for others is not the customer's.
            with suppress(UpdateLostError):  # which is found out below
                self._keep_turn(waiting.id, forward=True)
        with WORKING:
            session = self._session
            if session is None or session.id != message.session_id:
                raise UpdateLostError("this update is not under way any more; begin it again")
            forward = session.awaits(message)
            try:
                self._keep_turn(session.id, forward)
                yield session
            except BaseException as error:
                if isinstance(error, UpdateLostError) or not isinstance(error, PlatformError):
                    self._session = None
                    self._store.release_lease(session.id)
                raise
            if self._session is session:
                self._keep_turn(session.id, forward)

    def _keep_turn(self, session_id: str, forward: bool) -> None:
        """Notices when the turn is over; a step forward lengthens it now and then, as each time would cost a write to the disk."""
        if time.monotonic() - self._begun > UPDATE_SECONDS:
            raise UpdateLostError(
                f"this update took longer than {UPDATE_SECONDS / 60:g} minutes; begin it again"
            )
        if not forward or time.monotonic() - self._renewed < self._lease_seconds / 4:
            self._store.check_lease(session_id)
        else:
            self._store.renew_lease(session_id, self._lease_seconds)
            self._renewed = time.monotonic()

    @contextmanager
    def _giving_up_on_failure(self, session_id: str) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self._store.release_lease(session_id)
            raise
