"""The platform in one process: the calls of METHOD.md §9 over the store and the ranker.

It keeps no state of its own but an update under way: whatever matters is in the store, so any number of processes
may have a ``Platform`` over the same place, and any of them may die at any moment.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar, cast

import torch

from nni_hyperfd.errors import PlatformError, UpdateLostError
from nni_hyperfd.metafeature.sending import extractor_state
from nni_hyperfd.platform import report
from nni_hyperfd.platform.first import IMPORTANCE, first_state, read_assets
from nni_hyperfd.platform.past import OFFLINE_FEATURES, TRANSFORMATION, StoredTasks, ranked_list
from nni_hyperfd.platform.session import UpdateOrigin, UpdateSession
from nni_hyperfd.platform.state.records import NewTask, NewVersion, TaskRecord, Trial
from nni_hyperfd.platform.state.schema import LOCAL
from nni_hyperfd.platform.state.store import Store
from nni_hyperfd.protocol.blobs import pack, unpack
from nni_hyperfd.protocol.messages import (
    BeginUpdate,
    CommitUpdate,
    ExtractorState,
    FeatureGradient,
    FeatureStep,
    FindTask,
    GradientStep,
    OpenTask,
    Question,
    RankerState,
    ReadExtractor,
    ReadRanker,
    Recommendation,
    RecommendRequest,
    RecordReceipt,
    Subject,
    Task,
    TrialRecord,
    UpdateReceipt,
    UpdateTicket,
    UpdateWait,
    build,
)
from nni_hyperfd.ranker.guard import Guard, GuardReport, GuardSettings
from nni_hyperfd.ranker.offline import OfflineData
from nni_hyperfd.ranker.ranker import Ranker
from nni_hyperfd.ranker.settings import RankerSettings
from nni_hyperfd.ranker.update import ContinualUpdate, CurrentTask
from nni_hyperfd.recommendation.expectation import Expectation
from nni_hyperfd.recommendation.ranking import add_space, rank, read_space
from nni_hyperfd.spaces.space import Space

LEASE_SECONDS = 120.0
"""How long an update may be silent before another one takes its turn."""

UPDATE_SECONDS = 1800.0
"""How long an update may take in all: who sends a step every minute would otherwise keep the others waiting for hours."""

WAIT_SECONDS = 2.0
"""How soon a waiting customer should ask again."""

_KEPT_RANKERS = 4
_WORKING = (
    threading.RLock()
)  # the ranker borrows torch's one global generator, so one thread at a time may work


A = TypeVar("A")


class Platform:
    """The platform over a store; implements :class:`~nni_hyperfd.protocol.calls.PlatformAPI`.

    Whoever has it in his process is its operator: experiments are those of the customer "local", and any task can be
    reached by its id.  Others get a view of their own (``server.customer_view``).

    Args:
        store: where everything is kept.
        settings: of the updates; the paper's by default.
        lease_seconds: how long an update may be silent before another one takes its turn.
        guard: of the updates; what it objects to is kept and not published.
    """

    def __init__(
        self,
        store: Store,
        settings: RankerSettings | None = None,
        lease_seconds: float = LEASE_SECONDS,
        guard: GuardSettings | None = None,
    ) -> None:
        self._store = store
        self._settings = settings or RankerSettings()
        self._guard_settings = guard or GuardSettings()
        self._lease_seconds = lease_seconds
        self._session: UpdateSession | None = None
        self._begun = self._renewed = 0.0
        self._rankers: dict[int, Ranker] = {}
        self._expectations: dict[tuple[int, str], Expectation] = {}
        self._offline: OfflineData | None = None
        self._guard: Guard | None = None

    @classmethod
    def open(cls, location: str | Path, settings: RankerSettings | None = None) -> Platform:
        """The platform in a folder or at a database URL; an empty place gets the version 0 that the package ships.

        Raises:
            PlatformError: The place holds something damaged, foreign or newer; it is left as it is.
        """
        return cls(Store(location, read_assets), settings)

    @classmethod
    def create(
        cls,
        location: str | Path,
        ranker: Ranker,
        offline: OfflineData,
        base_id: str,
        settings: RankerSettings | None = None,
        lease_seconds: float = LEASE_SECONDS,
        guard: GuardSettings | None = None,
    ) -> Platform:
        """A platform with a version 0 of one's own; where there is a platform already, that one is opened."""
        store = Store(location, lambda: first_state(ranker, offline, base_id))
        return cls(store, settings, lease_seconds, guard)

    def close(self) -> None:
        """Give up an update under way and close the store."""
        with _WORKING:
            if self._session is not None:
                self._store.release_lease(self._session.id)
                self._session = None
            self._store.close()

    def ask(self, question: Question[A], customer: str = LOCAL) -> A:
        """The answer to one question (see :class:`~nni_hyperfd.protocol.calls.PlatformAPI`).

        Args:
            customer: Whose experiment ids are meant.
        """
        if isinstance(question, OpenTask | FindTask):
            return cast(A, _BY_NAME[type(question)](self, question, customer))
        return cast(A, _ANSWERS[type(question)](self, question))

    # ------------------------------------------------------------------------------------------------ looking

    def status(self) -> report.PlatformStatus:
        """What the platform knows."""
        return report.status(self._store)

    def history(self) -> list[report.HistoryEntry]:
        """All ranker versions, oldest first."""
        return report.history(self._store)

    def trials(self, task_id: str) -> list[Trial]:
        """Experience of one task."""
        return self._store.trials(task_id)

    def ranker(self, version: int | None = None) -> Ranker:
        """A copy of a ranker version, by default the newest."""
        return Ranker.from_bytes(self._store.ranker(self._newest() if version is None else version))

    def _extractor(self, question: ReadExtractor) -> ExtractorState:
        with _WORKING:
            number = self._published(question.version)
            return extractor_state(self._kept_ranker(number).extractor, number, self._settings.images)

    def _ranker_state(self, question: ReadRanker) -> RankerState:
        number = self._published(question.version)
        return build(RankerState, version=number, tensors=self._store.ranker(number))

    def _find_task(self, question: FindTask, customer: str) -> Task | None:
        found = self._store.find_task(question.experiment_id, customer)
        return None if found is None else _task(found)

    def owner(self, task_id: str) -> str:
        """The customer whose task it is.

        Raises:
            UnknownTaskError: No such task.
        """
        return self._store.task(task_id).customer

    def update_owner(self, session_id: str) -> str | None:
        """The customer whose update is under way by that id; None where none is."""
        session = self._session
        return None if session is None or session.id != session_id else self.owner(session.origin.task_id)

    # --------------------------------------------------------------------------------------- tasks and trials

    def _open_task(self, message: OpenTask, customer: str) -> Task:
        """Begin or find the task of an experiment.

        Raises:
            PlatformError: The features are of another base detector or a version that is not there, or the experiment
                is known with another search space.
            SpaceError: The search space is malformed.
        """
        subject = message.subject
        space = self._checked_space(subject)
        task = NewTask(
            customer=customer,
            experiment_id=message.experiment_id,
            space_key=space.key,
            space=subject.space,
            flops_limit=subject.flops_limit,
            extractor_version=subject.extractor_version,
            phi=subject.phi,
        )
        return _task(self._store.open_task(task))

    def _recommend(self, message: RecommendRequest) -> Recommendation:
        """Rank configurations with the ranker version that φ was computed with; changes no state.

        Raises:
            PlatformError: No such task, features of another base detector, or no experience for the method that was asked for.
            SpaceError: The search space is malformed, or has fewer configurations than candidates are asked for, or a
                configuration that was begun is not one of it.
        """
        trials: Sequence[Trial] = ()
        if message.subject is not None:
            space, phi = self._checked_space(message.subject), message.subject.phi
            version = message.subject.extractor_version
        else:
            task = self._store.task(message.task_id or "")
            space, phi, version = _space_of(task), task.phi, task.extractor_version
            trials = self._store.trials(task.id)
        with _WORKING:
            if message.method == "hyperfd":
                return rank(self._kept_ranker(version), version, space, torch.tensor(phi), message)
            results = {space.parse(each.parameters): each.ap for each in trials}
            begun = [space.parse(each) for each in message.begun]
            expectation = self._expectation(version, space)
            return expectation.recommend(
                version, space, phi, message, results, begun, StoredTasks(self._store)
            )

    def _record(self, message: TrialRecord) -> RecordReceipt:
        """Keep a trial's outcome; when this returns, it is on disk.

        Raises:
            PlatformError: No such task, or its trial of that key had another configuration.
            SpaceError: The configuration is not one of the task's search space.
        """
        space = _space_of(self._store.task(message.task_id))
        parameters = space.parameters(space.parse(message.parameters))
        outcome = self._store.record(Trial(**(message.model_dump() | {"parameters": parameters})))
        return build(RecordReceipt, task_id=message.task_id, trial_key=message.trial_key, outcome=outcome)

    # ------------------------------------------------------------------------------------------------ updates

    def _begin_update(self, message: BeginUpdate) -> UpdateTicket | UpdateWait | UpdateReceipt:
        """Start the experiment's update from the newest version, or say that it must wait, or that it was done.

        An experiment without a usable result is closed; its receipt names no new version.
        """
        with _WORKING:
            task = self._store.task(message.task_id)
            if task.status != "open":
                return self._receipt(task)
            trials = self._store.trials(task.id)
            if not any(trial.status == "ok" for trial in trials):
                return self._receipt(self._store.close_task(task.id, self._newest()))
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

    def _send_features(self, message: FeatureStep) -> FeatureGradient:
        """First half of a step: φ, φ̃ -> ∂L/∂φ, ∂L/∂φ̃.

        Raises:
            UpdateLostError: The update is over; begin it again.
            PlatformError: Out of turn.
        """
        with self._held_session(message.session_id) as session:
            return session.features(message)

    def _send_gradient(self, message: GradientStep) -> UpdateTicket:
        """Second half of a step: ∂L/∂θ_G through φ and φ̃ -> the next θ_G.

        Raises:
            UpdateLostError: The update is over; begin it again.
            PlatformError: Out of turn, or a gradient that does not fit, is not finite or is too long.
        """
        with self._held_session(message.session_id) as session:
            return session.gradient(message)

    def _commit(self, message: CommitUpdate) -> UpdateReceipt:
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
        with self._held_session(message.session_id) as session:
            origin = session.origin
            if origin.task_id != message.task_id:
                raise PlatformError("the update to be committed is another experiment's")
            state = session.finish(message.phi)
            verdict = self._judge(session.ranker, origin.parent)
            made = NewVersion(
                ranker=session.ranker.to_bytes(),
                omega=pack(IMPORTANCE, state.importance, {}),
                features=pack(OFFLINE_FEATURES, {"phi": state.offline_phi}, {}),
                transformations={t: pack(TRANSFORMATION, {"z": z}, {}) for t, z in state.transforms.items()},
                settings=asdict(self._settings) | {"seed": origin.seed},
                final_phi=tuple(state.phi.tolist()),
                trials_used=origin.trials_used,
                trials_failed=origin.trials_failed,
                published=verdict.passed,
                guard=verdict.to_json(),
            )
            receipt = self._receipt(
                self._store.commit_version(session.id, origin.task_id, origin.parent, made)
            )
            self._session = None
            return receipt

    def _start(self, session_id: str, task: TaskRecord, trials: Sequence[Trial], seed: int) -> UpdateSession:
        parent = self._newest()
        ranker = self.ranker(parent)
        add_space(ranker, _space_of(task))
        importance, _ = unpack(IMPORTANCE, self._store.omega(parent))
        current = ranked_list(task, trials)
        update = ContinualUpdate(
            ranker,
            self._offline_data(),
            StoredTasks(self._store),
            importance,
            CurrentTask(task.id, current),
            self._settings,
            seed,
            self._offline_guard().held_out,
        )
        used = len(current.aps)
        origin = UpdateOrigin(task.id, parent, seed, used, len(trials) - used)
        return UpdateSession(session_id, origin, ranker, update, self._settings.images)

    def _judge(self, made: Ranker, parent: int) -> GuardReport:
        """Compare a new version with its parent and with the best published one."""
        newest = self._store.newest()
        if newest.number != parent:
            raise UpdateLostError("a newer ranker version came first; begin the update again")
        guard = self._offline_guard()
        report = None if newest.guard is None else GuardReport.from_json(newest.guard)
        if report is None:
            best = guard.ndcg(self._kept_ranker(0))
        else:
            # Who publishes a version in spite of the guard says that things are to be measured by it from now on.
            best = dict(report.best if report.passed else report.ndcg)
        return guard.judge(made, self._kept_ranker(parent), best)

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

    @contextmanager
    def _held_session(self, session_id: str) -> Iterator[UpdateSession]:
        """The session under way, its turn lengthened before and after the work.

        A refused message leaves it as it was; a failure of the work itself ends it.
        """
        with _WORKING:
            session = self._session
            if session is None or session.id != session_id:
                raise UpdateLostError("this update is not under way any more; begin it again")
            try:
                self._keep_turn(session.id)
                yield session
            except BaseException as error:
                if isinstance(error, UpdateLostError) or not isinstance(error, PlatformError):
                    self._session = None
                    self._store.release_lease(session.id)
                raise
            if self._session is session:
                self._keep_turn(session.id)

    def _keep_turn(self, session_id: str) -> None:
        """Notices when the turn is over, and lengthens it now and then: each time would cost a write to the disk."""
        if time.monotonic() - self._begun > UPDATE_SECONDS:
            raise UpdateLostError(
                f"this update took longer than {UPDATE_SECONDS / 60:g} minutes; begin it again"
            )
        if time.monotonic() - self._renewed < self._lease_seconds / 4:
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

    # ------------------------------------------------------------------------------------------ from the store

    def _newest(self) -> int:
        return self._store.newest().number

    def _published(self, version: int | None) -> int:
        """``version`` where customers may use it, by default the newest such."""
        if version is None:
            return self._newest()
        if not self._store.is_published(version):
            raise PlatformError(f"there is no ranker version {version}")
        return version

    def _checked_space(self, subject: Subject) -> Space:
        base_id = self._store.base_id()
        if subject.base_id != base_id:
            raise PlatformError(
                f"the features were computed with base detector {subject.base_id} and this platform understands those of "
                f"{base_id}; use the base weights that belong to it"
            )
        self._published(subject.extractor_version)
        return read_space(subject.space, subject.flops_limit)

    def _kept_ranker(self, version: int) -> Ranker:
        """A ranker to score with; versions never change, so the last few are kept in memory."""
        if version not in self._rankers:
            while len(self._rankers) >= _KEPT_RANKERS:
                del self._rankers[next(iter(self._rankers))]
            self._rankers[version] = self.ranker(version).eval()
        return self._rankers[version]

    def _expectation(self, version: int, space: Space) -> Expectation:
        """What a version expects in a space; fitting it takes seconds, so the last few are kept in memory."""
        key = version, space.key
        if key not in self._expectations:
            made = Expectation(self._kept_ranker(version), self._settings.images, self._offline_data(), space)
            while len(self._expectations) >= _KEPT_RANKERS:
                del self._expectations[next(iter(self._expectations))]
            self._expectations[key] = made
        return self._expectations[key]

    def _offline_data(self) -> OfflineData:
        if self._offline is None:
            self._offline = OfflineData.from_bytes(self._store.offline())
        return self._offline

    def _offline_guard(self) -> Guard:
        if self._guard is None:
            self._guard = Guard(self._offline_data(), self._guard_settings, self._settings.images)
        return self._guard


_ANSWERS: dict[type[Question[Any]], Callable[[Platform, Any], Any]] = {
    ReadExtractor: Platform._extractor,
    ReadRanker: Platform._ranker_state,
    RecommendRequest: Platform._recommend,
    TrialRecord: Platform._record,
    BeginUpdate: Platform._begin_update,
    FeatureStep: Platform._send_features,
    GradientStep: Platform._send_gradient,
    CommitUpdate: Platform._commit,
}
_BY_NAME: dict[type[Question[Any]], Callable[[Platform, Any, str], Any]] = {
    OpenTask: Platform._open_task,
    FindTask: Platform._find_task,
}
"""Experiment ids are each customer's own; all other questions name a task or an update by an id that is the platform's."""


def _space_of(task: TaskRecord) -> Space:
    return read_space(task.space, task.flops_limit)


def _task(task: TaskRecord) -> Task:
    return build(
        Task,
        task_id=task.id,
        experiment_id=task.experiment_id,
        space_key=task.space_key,
        extractor_version=task.extractor_version,
        status=task.status,
    )
