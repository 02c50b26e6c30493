"""Tuning experience: tasks and the outcomes of their trials."""

from __future__ import annotations

import json
import secrets

from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from nni_hyperfd.errors import PlatformError, UnknownTaskError, UpdateLostError
from nni_hyperfd.platform.state.records import Counts, NewTask, StoredTrial, TaskRecord
from nni_hyperfd.platform.state.schema import LOCAL, FeatureRow, TaskRow, TrialRow, VersionRow, now
from nni_hyperfd.platform.state.transactions import Transactions


class TuningExperience(Transactions):
    """Rows of tasks and trials."""

    def open_task(self, task: NewTask) -> TaskRecord:
        """Insert a task, or return the one that this experiment of the customer has already.

        Raises:
            PlatformError: The experiment exists with another search space.
        """
        found = self.find_task(task.experiment_id, task.customer)
        if found is None:
            row = TaskRow(
                id=secrets.token_hex(16),
                customer=task.customer,
                experiment_id=task.experiment_id,
                space_key=task.space_key,
                space_json=json.dumps(task.space),
                flops_limit=task.flops_limit,
                extractor_version=task.extractor_version,
                phi=list(task.phi),
            )
            try:
                with self.writing() as session:
                    session.add(row)
            except IntegrityError:
                pass  # another process opened it in between
            found = self.find_task(task.experiment_id, task.customer)
            if found is None:
                raise PlatformError(
                    f"the task refers to ranker version {task.extractor_version} or customer {task.customer}, "
                    "which does not exist"
                )
        if (found.space, found.flops_limit) != (task.space, task.flops_limit):
            raise PlatformError(
                f"experiment {task.experiment_id} is known with another search space; use a new experiment id"
            )
        return found

    def find_task(self, experiment_id: str, customer: str = LOCAL) -> TaskRecord | None:
        """The task of a customer's experiment, if there is one."""
        with self.reading() as session:
            row = session.execute(
                select(TaskRow).where(TaskRow.customer == customer, TaskRow.experiment_id == experiment_id)
            ).scalar_one_or_none()
            return None if row is None else task_record(row)

    def task(self, task_id: str) -> TaskRecord:
        """A task by its id; UnknownTaskError when there is none."""
        with self.reading() as session:
            return task_record(task_row(session, task_id))

    def tasks(self, status: str | None = None) -> list[TaskRecord]:
        """Tasks in the order of their opening, or finished ones in the order of their versions."""
        query = select(TaskRow).order_by(TaskRow.version_after, TaskRow.created, TaskRow.id)
        if status is not None:
            query = query.where(TaskRow.status == status)
        with self.reading() as session:
            return [task_record(row) for row in session.execute(query).scalars()]

    def learnt_tasks(self, space_key: str | None = None) -> list[str]:
        """Ids of the finished tasks whose versions are published, in the order of these; of one search space, or of all."""
        query = select(TaskRow.id).join(VersionRow, VersionRow.number == TaskRow.version_after)
        query = query.join(
            FeatureRow, FeatureRow.task_id == TaskRow.id
        )  # without them, what it taught is in the ranker only
        query = query.where(TaskRow.status == "done", VersionRow.published).order_by(VersionRow.number)
        if space_key is not None:
            query = query.where(TaskRow.space_key == space_key)
        with self.reading() as session:
            return list(session.execute(query).scalars())

    def record(self, trial: StoredTrial) -> str:
        """Keep a trial; returns ``stored``, ``known`` or ``replaced`` (a failure that got a result after all).

        Raises:
            PlatformError: No such task, or its trial of that key had another configuration.
        """
        for _ in range(2):
            try:
                with self.writing() as session:
                    return _record(session, trial)
            except IntegrityError:
                continue  # the same trial came in another process; now it is there
        raise PlatformError(
            f"the trial {trial.trial_key} of task {trial.task_id} could not be kept; send it again"
        )

    def results(self, task_id: str, most: int | None = None) -> list[StoredTrial]:
        """Usable experience of one task in the order in which it came; ``most`` of it, evenly over its course, where there is more."""
        query = select(TrialRow.id).where(TrialRow.task_id == task_id, TrialRow.ap.is_not(None))
        with self.reading() as session:
            ids = list(session.execute(query.order_by(TrialRow.id)).scalars())
            if most is not None and len(ids) > most:
                ids = [ids[i * (len(ids) - 1) // max(most - 1, 1)] for i in range(most)]
                chosen = select(TrialRow).where(TrialRow.id.in_(ids))
            else:
                chosen = select(TrialRow).where(TrialRow.task_id == task_id, TrialRow.ap.is_not(None))
            rows = session.execute(chosen.order_by(TrialRow.id)).scalars()
            return [_trial(row) for row in rows]

    def trials(self, task_id: str | None = None) -> list[StoredTrial]:
        """Experience of one task, or of all, in the order in which it came."""
        query = select(TrialRow).order_by(TrialRow.id)
        if task_id is not None:
            query = query.where(TrialRow.task_id == task_id)
        with self.reading() as session:
            rows = session.execute(query).scalars()
            return [_trial(row) for row in rows]

    def best_aps(self) -> dict[str, float]:
        """Highest AP@50 on val of each task that has a result, by the task's id."""
        query = select(TrialRow.task_id, func.max(TrialRow.ap)).where(TrialRow.ap.is_not(None))
        with self.reading() as session:
            rows = session.execute(query.group_by(TrialRow.task_id)).all()
            return {task: best for task, best in rows if best is not None}

    def finished_by_space(self) -> dict[str, int]:
        """Number of finished tasks of each search space, by its key."""
        query = select(TaskRow.space_key, func.count()).where(TaskRow.status == "done")
        query = query.group_by(TaskRow.space_key).order_by(TaskRow.space_key)
        with self.reading() as session:
            return dict(session.execute(query).all())

    def open_tasks(self, customer: str) -> int:
        """How many tasks of a customer are open."""
        query = select(func.count()).where(TaskRow.customer == customer, TaskRow.status == "open")
        with self.reading() as session:
            return session.execute(query).scalar_one()

    def trial_count(self, task_id: str) -> int:
        """How many trials of a task are kept."""
        query = select(func.count()).where(TrialRow.task_id == task_id)
        with self.reading() as session:
            return session.execute(query).scalar_one()

    def counts(self) -> Counts:
        """Numbers of tasks and trials by status."""
        with self.reading() as session:
            tasks = _by_status(session, TaskRow)
            trials = _by_status(session, TrialRow)
        return Counts(
            tasks.get("open", 0),
            tasks.get("done", 0),
            tasks.get("closed", 0),
            trials.get("ok", 0),
            trials.get("failed", 0),
        )

    def close_task(self, task_id: str, version: int) -> TaskRecord:
        """End a task that has no usable trial, without a new version; a finished one is returned as it is.

        Raises:
            UpdateLostError: A usable trial came in after all.
        """
        with self.writing() as session:
            task = task_row(session, task_id, lock=True)
            if task.status == "open":
                found = session.execute(select(TrialRow.status).where(TrialRow.task_id == task_id))
                statuses = list(found.scalars())
                if "ok" in statuses:
                    raise UpdateLostError(
                        "a result came in while the experiment was closed; begin the update again"
                    )
                task.status, task.finished = "closed", now()
                task.version_before, task.trials_used, task.trials_failed = (
                    version,
                    0,
                    statuses.count("failed"),
                )
                session.flush()
            return task_record(task)


def _by_status(session: Session, table: type[TaskRow] | type[TrialRow]) -> dict[str, int]:
    rows = session.execute(select(table.status, func.count()).group_by(table.status))
    return dict(rows.all())


def task_row(session: Session, task_id: str, lock: bool = False) -> TaskRow:
    """A task's row.

    Raises:
        UnknownTaskError: There is none.
    """
    row = session.get(TaskRow, task_id, with_for_update=lock)
    if row is None:
        raise UnknownTaskError(f"the platform has no task {task_id}")
    return row


def task_record(row: TaskRow) -> TaskRecord:
    """A task's row as the store gives it."""
    return TaskRecord(
        id=row.id,
        customer=row.customer,
        experiment_id=row.experiment_id,
        space_key=row.space_key,
        space=json.loads(row.space_json),
        flops_limit=row.flops_limit,
        extractor_version=row.extractor_version,
        phi=tuple(row.phi),
        status=row.status,
        created=row.created,
        finished=row.finished,
        version_before=row.version_before,
        version_after=row.version_after,
        final_phi=None if row.final_phi is None else tuple(row.final_phi),
        trials_used=row.trials_used,
        trials_failed=row.trials_failed,
    )


def _trial(row: TrialRow) -> StoredTrial:
    values = {name: getattr(row, name) for name in StoredTrial.__dataclass_fields__}
    return StoredTrial(**values | {"curve": tuple((share, ap) for share, ap in row.curve or ())})


def _record(session: Session, trial: StoredTrial) -> str:
    task = task_row(session, trial.task_id, lock=True)
    row = session.execute(
        select(TrialRow).where(TrialRow.task_id == trial.task_id, TrialRow.trial_key == trial.trial_key)
    ).scalar_one_or_none()
    values = {name: getattr(trial, name) for name in StoredTrial.__dataclass_fields__}
    values["parameters"] = dict(trial.parameters)
    values["curve"] = [list(point) for point in trial.curve] or None
    if row is not None and row.parameters != values["parameters"]:
        raise PlatformError(
            f"trial {trial.trial_key} of experiment {task.experiment_id} is known with another configuration; "
            "use another trial key"
        )
    if row is not None and not (row.status == "failed" and trial.status == "ok"):
        return "known"
    if row is None:
        session.add(TrialRow(**values))
    else:
        for name, value in values.items():
            setattr(row, name, value)
    if trial.status == "ok" and task.status == "closed":
        task.status, task.finished = "open", None  # there is something to learn from after all
    return "stored" if row is None else "replaced"
