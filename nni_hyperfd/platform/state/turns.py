"""Whose turn it is to update: a lease, a queue for it, and the version with which a turn ends."""

from __future__ import annotations

import time

from sqlalchemy import delete, func, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from nni_hyperfd.errors import UpdateLostError
from nni_hyperfd.platform.state.experience import task_record, task_row
from nni_hyperfd.platform.state.records import NewVersion, TaskRecord, Turn
from nni_hyperfd.platform.state.schema import LeaseRow, QueueRow, TaskRow, VersionRow
from nni_hyperfd.platform.state.transactions import Transactions
from nni_hyperfd.platform.state.versions import write_version

QUEUE_SECONDS = 15.0
"""Who has not asked for his turn for so long does not wait for it any more."""
NEXT_SECONDS = 0.25
"""How soon the one whose turn is next should ask again."""


class Turns(Transactions):
    """The row of the lease, and those of the queue."""

    def take_lease(self, session_id: str, task_id: str, seconds: float, takeover: bool = False) -> float:
        """Try to get the turn to update; returns 0, or after how many seconds to ask again.

        Turns are given in the order in which customers asked. A customer has one place in the queue, and loses it when he does not
        ask for :data:`QUEUE_SECONDS`; while it is his turn he has none, or he who lets turns lapse would be before all others again.
        ``takeover`` is for the experiment whose turn it is already.
        """
        moment = time.time()
        with self.writing() as session:
            lease = session.execute(select(LeaseRow).with_for_update()).scalar_one()
            held = lease.session_id is not None and lease.expires > moment
            if not (held and takeover and lease.task_id == task_id):
                task = task_row(session, task_id)
                holder = session.get(TaskRow, lease.task_id) if held else None
                if holder is not None and holder.customer == task.customer:
                    return NEXT_SECONDS
                place = _queue_up(session, task, moment, held)
                if held or place > 0:
                    left = max(lease.expires - moment, NEXT_SECONDS) if held else NEXT_SECONDS
                    return left if place > 0 else min(left, NEXT_SECONDS)
            session.execute(delete(QueueRow).where(QueueRow.task_id == task_id))
            lease.session_id, lease.task_id, lease.expires = session_id, task_id, moment + seconds
            lease.begun = moment
        return 0.0

    def turn(self) -> Turn:
        """Who updates the platform, and who waits for it."""
        moment = time.time()
        with self.reading() as session:
            lease = session.execute(select(LeaseRow)).scalar_one()
            held = lease.session_id is not None and lease.expires > moment
            task = session.get(TaskRow, lease.task_id) if held else None
            since = select(QueueRow.since).where(QueueRow.asked > moment - QUEUE_SECONDS)
            waiting = session.execute(since.order_by(QueueRow.since)).scalars()
            return Turn(
                None if task is None else task.experiment_id,
                moment - (lease.begun or moment) if held else 0.0,
                tuple(moment - each for each in waiting),
            )

    def renew_lease(self, session_id: str, seconds: float) -> None:
        """Lengthen a turn.

        Raises:
            UpdateLostError: It is over.
        """
        with self.writing() as session:
            _hold(session, session_id).expires = time.time() + seconds

    def check_lease(self, session_id: str) -> None:
        """See that a turn is not over; writes nothing.

        Raises:
            UpdateLostError: It is over.
        """
        with self.reading() as session:
            _hold(session, session_id, lock=False)

    def release_lease(self, session_id: str) -> None:
        """Give a turn back, if it is still held."""
        with self.writing() as session:
            session.execute(update(LeaseRow).where(LeaseRow.session_id == session_id).values(session_id=None))

    def commit_version(self, session_id: str, task_id: str, parent: int, made: NewVersion) -> TaskRecord:
        """Write the version after all others, and all that belongs to it, or nothing.

        A task that is finished already is returned as it is.

        Raises:
            UpdateLostError: The turn is over or ``parent`` is not the newest published version any more.
        """
        try:
            with self.writing() as session:
                task = task_row(session, task_id, lock=True)
                if task.status == "done":
                    return task_record(task)
                lease = _hold(session, session_id)
                newest = select(func.max(VersionRow.number))
                if session.execute(newest.where(VersionRow.published)).scalar_one() != parent:
                    raise UpdateLostError("a newer ranker version came first; begin the update again")
                number = session.execute(newest).scalar_one() + 1
                write_version(session, task, parent, number, made)
                lease.session_id = None
                session.flush()
                return task_record(task)
        except IntegrityError:
            raise UpdateLostError("another update came first; begin the update again") from None


def _queue_up(session: Session, task: TaskRow, moment: float, held: bool) -> int:
    """How many customers' turns come before this one's; he takes his place where he must wait."""
    session.execute(delete(QueueRow).where(QueueRow.asked <= moment - QUEUE_SECONDS))
    queue = session.execute(select(QueueRow).order_by(QueueRow.since, QueueRow.customer)).scalars().all()
    mine = next((row for row in queue if row.customer == task.customer), None)
    if mine is None:
        if held or queue:
            session.add(QueueRow(customer=task.customer, task_id=task.id, since=moment, asked=moment))
        return len(queue)
    if mine.task_id == task.id:
        if moment - mine.asked > QUEUE_SECONDS / 4:  # each time would cost a write to the disk
            mine.asked = moment
        return queue.index(mine)
    return queue.index(mine) + 1  # another experiment of his comes before


def _hold(session: Session, session_id: str, lock: bool = True) -> LeaseRow:
    query = select(LeaseRow).with_for_update() if lock else select(LeaseRow)
    lease = session.execute(query).scalar_one()
    if lease.session_id != session_id:
        raise UpdateLostError("this update was taken over or ran out of time; begin it again")
    return lease
