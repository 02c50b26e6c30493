"""The platform as one of its customers sees it: his own tasks, and what all may know."""

from __future__ import annotations

from nni_hyperfd.errors import ForbiddenError, PlatformError
from nni_hyperfd.platform.platform import Platform
from nni_hyperfd.platform.state.store import Store
from nni_hyperfd.protocol.messages import (
    BeginUpdate,
    CommitUpdate,
    ExtractorState,
    FeatureGradient,
    FeatureStep,
    GradientStep,
    OpenTask,
    RankerState,
    Recommendation,
    RecommendRequest,
    RecordReceipt,
    Task,
    TrialRecord,
    UpdateReceipt,
    UpdateTicket,
    UpdateWait,
)

OPEN_TASKS = 1000
"""Most experiments of one customer that have not updated the platform yet."""
TRIALS = 10_000
"""Most results of one experiment."""


class CustomerView:
    """Implements :class:`~nni_hyperfd.protocol.messages.PlatformAPI` for one customer.

    Every call may raise what the platform's own raises, and ForbiddenError where it names a task or an update of
    another customer, or PlatformError where he would fill the platform's disk.
    """

    def __init__(self, platform: Platform, store: Store, customer: str) -> None:
        self._platform, self._store, self._customer = platform, store, customer

    def extractor(self, version: int | None = None) -> ExtractorState:
        """θ_G of ``version``, by default the newest."""
        return self._platform.extractor(version)

    def ranker_state(self, version: int | None = None) -> RankerState:
        """The whole ranker of ``version``, by default the newest."""
        return self._platform.ranker_state(version)

    def open_task(self, message: OpenTask) -> Task:
        """Begin or find the task of an experiment of this customer."""
        if (
            self._store.open_tasks(self._customer) >= OPEN_TASKS
            and self.find_task(message.experiment_id) is None
        ):
            raise PlatformError(f"you have {OPEN_TASKS} open experiments; finish some of them first")
        return self._platform.open_task(message, self._customer)

    def find_task(self, experiment_id: str) -> Task | None:
        """The task of an experiment of this customer, if there is one."""
        return self._platform.find_task(experiment_id, self._customer)

    def recommend(self, message: RecommendRequest) -> Recommendation:
        """Rank configurations; changes no state."""
        if message.task_id is not None:
            self._require_task(message.task_id)
        return self._platform.recommend(message)

    def record(self, message: TrialRecord) -> RecordReceipt:
        """Keep a trial's outcome."""
        self._require_task(message.task_id)
        if self._store.trial_count(message.task_id) >= TRIALS:
            raise PlatformError(f"this experiment has {TRIALS} results; finish it and begin another one")
        return self._platform.record(message)

    def begin_update(self, message: BeginUpdate) -> UpdateTicket | UpdateWait | UpdateReceipt:
        """Start the experiment's update, or say that it must wait, or that it was done."""
        self._require_task(message.task_id)
        return self._platform.begin_update(message)

    def send_features(self, message: FeatureStep) -> FeatureGradient:
        """First half of a step."""
        self._require_update(message.session_id)
        return self._platform.send_features(message)

    def send_gradient(self, message: GradientStep) -> UpdateTicket:
        """Second half of a step; the answer says what comes next."""
        self._require_update(message.session_id)
        return self._platform.send_gradient(message)

    def commit(self, message: CommitUpdate) -> UpdateReceipt:
        """Make the new version."""
        self._require_task(message.task_id)
        self._require_update(message.session_id)
        return self._platform.commit(message)

    def _require_task(self, task_id: str) -> None:
        self._require(self._platform.owner(task_id))

    def _require_update(self, session_id: str) -> None:
        owner = self._platform.update_owner(session_id)
        if owner is not None:  # otherwise it is over, and the platform says so
            self._require(owner)

    def _require(self, owner: str) -> None:
        if owner != self._customer:
            raise ForbiddenError("this task belongs to another customer")
