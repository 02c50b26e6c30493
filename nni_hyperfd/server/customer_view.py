"""The platform as one of its customers sees it: his own tasks, and what all may know."""

from __future__ import annotations

from typing import Any, TypeVar

from nni_hyperfd.errors import ForbiddenError, PlatformError
from nni_hyperfd.platform.platform import Platform
from nni_hyperfd.platform.state.store import Store
from nni_hyperfd.protocol.messages import FindTask, OpenTask, Question, TrialRecord

OPEN_TASKS = 1000
"""Most experiments of one customer that have not updated the platform yet."""
TRIALS = 2000
"""Most results of one experiment. Each is a detector that was trained, and the whole of the standard space of hyper-parameters has 216
configurations; an update takes 128 of them at a time, a plan of hyperfd-gp no more than 32 of a past task."""

A = TypeVar("A")


class CustomerView:
    """Implements :class:`~nni_hyperfd.protocol.calls.PlatformAPI` for one customer.

    Beside what the platform itself refuses, a question is refused with ForbiddenError where it names a task or an update of
    another customer, and with PlatformError where it would fill the platform's disk.
    """

    def __init__(self, platform: Platform, store: Store, customer: str) -> None:
        self._platform, self._store, self._customer = platform, store, customer

    def ask(self, question: Question[A]) -> A:
        """The answer to one question. See `PlatformAPI.ask`."""
        for owner in self._owners(question):
            if owner != self._customer:
                raise ForbiddenError("this task belongs to another customer")
        self._refuse_too_many(question)
        return self._platform.ask(question, self._customer)

    def _owners(self, question: Question[Any]) -> list[str]:
        """Whose the task and the update are that a question names."""
        owners = []
        if (task_id := getattr(question, "task_id", None)) is not None:
            owners.append(self._platform.owner(task_id))
        if (session_id := getattr(question, "session_id", None)) is not None:
            owner = self._platform.update_owner(session_id)
            owners += [] if owner is None else [owner]  # if it is over, the platform says so
        return owners

    def _refuse_too_many(self, question: Question[Any]) -> None:
        if isinstance(question, TrialRecord) and self._store.trial_count(question.task_id) >= TRIALS:
            raise PlatformError(f"this experiment has {TRIALS} results; finish it and begin another one")
        if (
            isinstance(question, OpenTask)
            and self._store.open_tasks(self._customer) >= OPEN_TASKS
            and self.ask(FindTask(experiment_id=question.experiment_id)) is None
        ):
            raise PlatformError(f"you have {OPEN_TASKS} open experiments; finish some of them first")
