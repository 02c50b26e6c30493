"""Which recommended configuration was tried, is running, brought a result or failed.

NNI 3.0 calls back from two threads in no fixed order, and the local training service hands parameters to trial jobs
in the order in which they *ask* for them: a job that NNI lists with parameter 3 may have run parameter 4, and says so
in its result, while its end is announced for 3.  Ends and results therefore agree in number, not in name, and only
when everything has stopped is "ended and never brought a result" the list of failures.  All decisions on the way are
made by counting.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Generic, TypeVar

T = TypeVar("T")


class Trials(Generic[T]):
    """Progress through a ranked list of ``candidates`` configurations, up to ``budget`` results.

    Configurations are named by their place in the list, 0 the best.  All methods may be called from any thread.
    A parameter id for which there is nothing to try *yet* is kept: :meth:`settle` hands it out later, when a failure
    makes room, because NNI does not ask again.
    """

    def __init__(self, candidates: int, budget: int) -> None:
        self._lock = threading.RLock()
        self._budget = budget
        self._waiting = list(range(candidates))
        self._places: dict[int, int] = {}
        self._proposed: set[int] = set()
        self._ended: set[int] = set()
        self._results: dict[int, T] = {}
        self._unused_ids: list[int] = []

    # -------------------------------------------------------------------------------------------- NNI's callbacks

    def request(self, parameter_ids: Iterable[int]) -> list[int]:
        """Places for the first of ``parameter_ids``, best configurations first; ids left over are kept."""
        with self._lock:
            ids = list(parameter_ids)
            places = [self._hand_out(parameter_id) for parameter_id in ids[: self._room()]]
            self._unused_ids += ids[len(places) :]
            return places

    def settle(self) -> list[tuple[int, int]]:
        """(parameter id, place) for kept ids that failures have made usable since they were requested."""
        with self._lock:
            usable, self._unused_ids = self._unused_ids[: self._room()], self._unused_ids[self._room() :]
            return [(parameter_id, self._hand_out(parameter_id)) for parameter_id in usable]

    def _room(self) -> int:
        missing = self._budget - len(self._results) - self.running
        return max(0, min(missing, len(self._waiting)))

    def _hand_out(self, parameter_id: int) -> int:
        place = self._waiting.pop(0)
        self._places[parameter_id] = place
        self._proposed.add(place)
        return place

    def place(self, parameter_id: int | None) -> int | None:
        """The configuration that ``parameter_id`` stands for; None for ids of others, such as trials added by hand."""
        with self._lock:
            return None if parameter_id is None else self._places.get(parameter_id)

    def result(self, place: int, value: T) -> bool:
        """Take the result of a configuration, early or late; False if it is not one of ours or has a result already."""
        with self._lock:
            if place not in self._proposed or place in self._results:
                return False
            self._results[place] = value
            return True

    def end(self, place: int) -> None:
        """A trial job that was listed with this configuration has ended, whether or not it brought a result."""
        with self._lock:
            if place in self._proposed:
                self._ended.add(place)

    def restore(
        self, place: int, *, ended: bool, result: T | None = None, parameter_id: int | None = None
    ) -> None:
        """Take over a configuration that was handed out before this process began (``nnictl resume``).

        Its result and end can be told by ``parameter_id`` where ids go on and do not begin anew.
        """
        with self._lock:
            if parameter_id is not None:
                self._places[parameter_id] = place
            if place in self._waiting:
                self._waiting.remove(place)
            self._proposed.add(place)
            if ended:
                self._ended.add(place)
            if result is not None:
                self._results[place] = result

    # -------------------------------------------------------------------------------------------- what is known

    @property
    def running(self) -> int:
        """Trial jobs that may still bring a result, never counted too low.

        Every job gives at most one result and one end; which of the results belong to jobs that have ended is not
        known, so the larger of the two numbers is what is certainly over.
        """
        with self._lock:
            return len(self._proposed) - max(len(self._results), len(self._ended))

    @property
    def handed_out(self) -> list[int]:
        """Places that were given to a trial, whatever became of it."""
        with self._lock:
            return sorted(self._proposed)

    @property
    def results(self) -> dict[int, T]:
        """Results by place."""
        with self._lock:
            return dict(self._results)

    @property
    def complete(self) -> bool:
        """All results that were asked for are there."""
        with self._lock:
            return len(self._results) >= self._budget

    @property
    def over(self) -> bool:
        """No further result can come: complete, or nothing runs and no configuration is left to try."""
        with self._lock:
            return self.complete or (self.running == 0 and not self._waiting)

    @property
    def unused_ids(self) -> list[int]:
        """Parameter ids for which there was nothing to try."""
        with self._lock:
            return list(self._unused_ids)

    @property
    def unfinished(self) -> list[int]:
        """Places that were handed out and have neither a result nor an end."""
        with self._lock:
            return sorted(self._proposed - self._ended - self._results.keys())

    @property
    def failures(self) -> list[int]:
        """Places that ended without a result; final only when nothing runs."""
        with self._lock:
            return sorted(self._ended - self._results.keys())
