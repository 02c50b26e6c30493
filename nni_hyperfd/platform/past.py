"""Finished tasks as the update wants them, fetched from the store one by one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import overload

import torch

from nni_hyperfd.errors import PlatformError
from nni_hyperfd.platform.state.records import StoredTrial, TaskRecord
from nni_hyperfd.platform.state.store import Store
from nni_hyperfd.protocol.tensors import from_blob
from nni_hyperfd.ranker.encodings import encode
from nni_hyperfd.ranker.offline import RankedList
from nni_hyperfd.ranker.update import PastTask
from nni_hyperfd.recommendation.ranking import read_space
from nni_hyperfd.spaces.configuration import Configuration
from nni_hyperfd.spaces.space import Space

OFFLINE_FEATURES, TRANSFORMATION = "offline features", "transformation"
"""Kinds of the blobs that hold G^(t)(D_offline) and Z^(t)."""


class StoredTasks(Sequence[PastTask]):
    """The tasks that a published version was learnt from, in the order of their versions.

    An update draws a few dozen of them, and each brings a third of a megabyte: to read all of them would make every
    update larger and slower than the one before.

    Args:
        store: Where they are.
        meet: Called with the search space of each one that is read.
    """

    def __init__(self, store: Store, meet: Callable[[Space], None] | None = None) -> None:
        self._store, self._ids, self._meet = store, store.learnt_tasks(), meet

    def __len__(self) -> int:
        return len(self._ids)

    def of_space(self, space_key: str) -> list[str]:
        """Ids of those of one search space, in the same order."""
        return self._store.learnt_tasks(space_key)

    @overload
    def __getitem__(self, index: int) -> PastTask: ...
    @overload
    def __getitem__(self, index: slice) -> list[PastTask]: ...
    def __getitem__(self, index: int | slice) -> PastTask | list[PastTask]:
        if isinstance(index, slice):
            return [self.read(task_id) for task_id in self._ids[index]]
        return self.read(self._ids[index])

    def read(self, task_id: str, most: int | None = None) -> PastTask:
        """One of them by its id, with no more than ``most`` of its results, evenly over its course.

        Raises:
            PlatformError: It is not there, or not finished.
        """
        task = self._store.task(task_id)
        if task.final_phi is None:
            raise PlatformError(f"the finished task {task.id} has no meta-feature; restore a backup")
        if self._meet is not None:
            self._meet(read_space(task.space, task.flops_limit))
        offline_phi, _ = from_blob(OFFLINE_FEATURES, self._store.features(task.id))
        stored = self._store.transformation(task.id)
        return PastTask(
            key=task.id,
            trials=ranked_list(task, self._store.results(task.id, most)),
            phi=torch.tensor(task.final_phi),
            offline_phi=offline_phi["phi"],
            transform=None if stored is None else from_blob(TRANSFORMATION, stored)[0]["z"],
        )

    def curves(self, task_id: str, most: int) -> dict[Configuration, Sequence[tuple[float, float]]]:
        """The longest learning curve of each configuration of a task, of no more than ``most`` of those that came first.

        Of a training whose curve was not sent its end is all that there is.
        """
        task = self._store.task(task_id)
        space = read_space(task.space, task.flops_limit)
        found: dict[Configuration, Sequence[tuple[float, float]]] = {}
        for trial in self._store.trials(task_id):
            known = space.parse(trial.parameters)
            curve = trial.curve or ([] if trial.ap is None else [(1.0, trial.ap)])
            if curve and (known in found or len(found) < most):
                found[known] = max(found.get(known, curve), curve, key=lambda each: (each[-1][0], len(each)))
        return found


def ranked_list(task: TaskRecord, trials: Sequence[StoredTrial]) -> RankedList:
    """The usable trials of a task."""
    space = read_space(task.space, task.flops_limit)
    used = [(space.parse(trial.parameters), trial.ap) for trial in trials if trial.ap is not None]
    return RankedList(
        task.space_key,
        encode(space, [configuration for configuration, _ in used]),
        torch.tensor([ap for _, ap in used]),
    )
