"""The platform in one process: the calls of METHOD.md §9 over the store and the ranker.

It keeps no state of its own but an update under way: whatever matters is in the store, so any number of processes
may have a ``Platform`` over the same place, and any of them may die at any moment.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar, cast

import torch

from nni_hyperfd.errors import PlatformError
from nni_hyperfd.metafeature.sending import extractor_state
from nni_hyperfd.platform.first import first_state, read_assets
from nni_hyperfd.platform.past import StoredTasks
from nni_hyperfd.platform.shelf import PLANNING, WORKING, Shelf
from nni_hyperfd.platform.state.records import NewTask, StoredTrial, TaskRecord
from nni_hyperfd.platform.state.schema import LOCAL
from nni_hyperfd.platform.state.store import Store
from nni_hyperfd.platform.status import HistoryEntry, PlatformStatus, history_of, status_of
from nni_hyperfd.platform.updates import LEASE_SECONDS, Updates
from nni_hyperfd.protocol.messages import (
    BeginUpdate,
    CommitUpdate,
    ExtractorState,
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
    build,
)
from nni_hyperfd.ranker.guard import GuardSettings
from nni_hyperfd.ranker.offline import OfflineData
from nni_hyperfd.ranker.ranker import Ranker
from nni_hyperfd.ranker.settings import RankerSettings
from nni_hyperfd.recommendation.ranking import rank, read_space
from nni_hyperfd.spaces.space import Space

A = TypeVar("A")


class Platform:
    """The platform over a store; implements :class:`~nni_hyperfd.protocol.calls.PlatformAPI`.

    Whoever has it in his process is its operator: experiments are those of the customer "local", and any task can be
    reached by its id.  Others get a view of their own (``server.customer_view``).

    Args:
        store: Where everything is kept.
        settings: Of the updates; the paper's by default.
        lease_seconds: How long an update may stand still before another one takes its turn.
        guard: Of the updates; what it objects to is kept and not published.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from nni_hyperfd.protocol.messages import FindTask
        >>> with TemporaryDirectory() as folder:
        ...     platform = Platform.open(folder)
        ...     state = platform.ask(ReadExtractor())
        ...     print(state.version, platform.ask(FindTask(experiment_id="none")))
        ...     platform.close()
        0 None
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
        self._shelf = Shelf(store, self._settings.images, guard or GuardSettings())
        self._updates = Updates(store, self._shelf, self._settings, lease_seconds)
        self._answers: Mapping[type[Question[Any]], Callable[[Any], Any]] = {
            ReadExtractor: self._extractor,
            ReadRanker: self._ranker_state,
            RecommendRequest: self._recommend,
            TrialRecord: self._record,
            BeginUpdate: self._updates.begin,
            FeatureStep: self._updates.features,
            GradientStep: self._updates.gradient,
            CommitUpdate: self._updates.commit,
        }

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
        with WORKING:
            self._updates.close()
            self._store.close()

    def ask(self, question: Question[A], customer: str = LOCAL) -> A:
        """The answer to one question. See `PlatformAPI.ask`.

        Args:
            question: One of those in :data:`~nni_hyperfd.protocol.calls.CALLS`.
            customer: Whose experiment ids are meant; tasks and updates have ids that are the platform's own.
        """
        if isinstance(question, OpenTask):
            return cast(A, self._open_task(question, customer))
        if isinstance(question, FindTask):
            return cast(A, self._find_task(question, customer))
        return cast(A, self._answers[type(question)](question))

    # ------------------------------------------------------------------------------------------------ looking

    def status(self) -> PlatformStatus:
        """What the platform knows."""
        return status_of(self._store)

    def history(self) -> list[HistoryEntry]:
        """All ranker versions, oldest first."""
        return history_of(self._store)

    def trials(self, task_id: str) -> list[StoredTrial]:
        """Experience of one task."""
        return self._store.trials(task_id)

    def experience(self, space: Space) -> tuple[int, int]:
        """What rankings in a space rest on: results on the platform's own data sets, and experiments of customers."""
        known = self._shelf.offline.experience.get(space.key)
        return 0 if known is None else len(known.aps), len(self._store.learnt_tasks(space.key))

    def ranker(self, version: int | None = None) -> Ranker:
        """A copy of a ranker version, by default the newest; encoders of customers' own spaces are not in it."""
        return self._shelf.copy(self._newest() if version is None else version)

    def _extractor(self, question: ReadExtractor) -> ExtractorState:
        with WORKING:
            number = self._published(question.version)
            return extractor_state(self._shelf.ranker(number).extractor, number, self._settings.images)

    def _ranker_state(self, question: ReadRanker) -> RankerState:
        """The whole ranker but for customers' own spaces."""
        number = self._published(question.version)
        with WORKING:
            ranker = self._shelf.ranker(number)
            own = [key for key in ranker.shapes if self._shelf.own_spaces.owns(key)]
            # A version of an older release has others' in it.
            blob = ranker.to_bytes(leaving_out=own) if own else self._store.ranker(number)
        return build(RankerState, version=number, tensors=blob)

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
        task_id = self._updates.task_of(session_id)
        return None if task_id is None else self.owner(task_id)

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
        task: TaskRecord | None = None
        if message.subject is not None:
            space, phi = self._checked_space(message.subject, message), message.subject.phi
            version = message.subject.extractor_version
        else:
            task = self._store.task(message.task_id or "")
            space, phi, version = _space_of(task, message), task.phi, task.extractor_version
        if message.method == "hyperfd":
            with (
                WORKING,
                self._shelf.own_spaces.lent(self._shelf.ranker(version), version, space) as ranker,
            ):
                return rank(ranker, version, space, torch.tensor(phi), message)
        if message.method == "hyperfd-mf" and message.progress is not None:
            with PLANNING:
                foresight = self._shelf.foresight(version, space, message.progress.validations)
                return foresight.recommend(version, space, phi, message, StoredTasks(self._store))
        trials = () if task is None else self._store.trials(task.id)
        results = {space.parse(each.parameters): each.ap for each in trials}
        begun = [space.parse(each) for each in message.begun]
        with PLANNING:
            expectation = self._shelf.expectation(version, space)
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
        outcome = self._store.record(StoredTrial(**(message.model_dump() | {"parameters": parameters})))
        return build(RecordReceipt, task_id=message.task_id, trial_key=message.trial_key, outcome=outcome)

    # ------------------------------------------------------------------------------------------ from the store

    def _newest(self) -> int:
        return self._store.newest().number

    def _published(self, version: int | None) -> int:
        """``version`` where customers may use it, by default the newest such."""
        if version is None:
            return self._newest()
        if not self._store.is_usable(version):
            raise PlatformError(f"there is no ranker version {version}, or it is not kept any more")
        return version

    def _checked_space(self, subject: Subject, request: RecommendRequest | None = None) -> Space:
        base_id = self._store.base_id()
        if subject.base_id != base_id:
            raise PlatformError(
                f"the features were computed with base detector {subject.base_id} and this platform understands those of "
                f"{base_id}; use the base weights that belong to it"
            )
        self._published(subject.extractor_version)
        return read_space(subject.space, subject.flops_limit, request)


def _space_of(task: TaskRecord, request: RecommendRequest | None = None) -> Space:
    return read_space(task.space, task.flops_limit, request)


def _task(task: TaskRecord) -> Task:
    return build(
        Task,
        task_id=task.id,
        experiment_id=task.experiment_id,
        space_key=task.space_key,
        extractor_version=task.extractor_version,
        status=task.status,
    )
