"""What became of every configuration that was handed out: one owner, and one place to know it from.

**No callback and no clock says what became of a trial; NNI's records do.** NNI's manager writes a result, and the end of a
trial job, into its database before it tells anybody, and a job's result before its end. Its callbacks come late and in any
order: from two threads, one of which may be busy for minutes with what an earlier callback has to do. So a callback only says that
it is time to :meth:`~Trials.look`. With each look a configuration is in one of these states::

    waiting ──▶ handed out ──▶ running ──▶ result
                                  │          ▲
                                  └──▶ failed ┘

* *waiting*: nobody has it. A failure gives the place of the one that failed to the next of these.
* *handed out*: NNI has it and lists no job with it yet; one that an earlier process handed out without that is waiting again.
* *running*: a job is listed with it.
* *result*: a job reported a usable final metric for it. This is for good.
* *failed*: what a job reported for it is no result, or the job that is listed with it has ended and no job reported anything for it.

Two things about NNI 3.0 decide how these are counted. Its local training service hands parameters to jobs in the order in which
they *ask* for them: a job that is listed with one configuration may have run another, and says so in its result. Which configuration
failed is known for certain only when nothing runs that may have been swapped with it, so *failed* may still become *result*. But whether a
*job* has failed is certain at once (it ended and reported nothing), and how many jobs may still bring a result is all that
matters for how many are to be started.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")

NO_RESULT = "it ended without a result"


@dataclass(frozen=True)
class Job(Generic[T]):
    """What is known of a trial job, and of the configuration that it is listed with.

    Args:
        place: Of that configuration in the ranked list, 0 the best.
        ended: The job has stopped.
        reported: The job brought a final metric, of whichever configuration.
        result: Of the configuration, whichever job brought it.
        trouble: Why the configuration's final metric is no result.
    """

    place: int
    ended: bool
    reported: bool
    result: T | None = None
    trouble: str | None = None


@dataclass(frozen=True)
class News(Generic[T]):
    """What a look found that those before it did not: results, and the reasons of failures, by place."""

    results: dict[int, T]
    failures: dict[int, str]

    def __bool__(self) -> bool:
        return bool(self.results or self.failures)


class Trials(Generic[T]):
    """Progress through a ranked list of configurations until there are ``budget`` results.

    Configurations are named by their place in the list, 0 the best. To be used by one thread at a time. A parameter id for which
    there is nothing to try *yet* is kept, because NNI does not ask again: :meth:`replacements` has one for it later.

    Args:
        candidates: Length of the list.
        budget: Results that are wanted.
        jobs: Reads NNI's records: the trial jobs so far that run configurations of the list, those of earlier processes included.
    """

    def __init__(self, candidates: int, budget: int, jobs: Callable[[], Iterable[Job[T]]]) -> None:
        self._budget, self._read = budget, jobs
        self._waiting = list(range(candidates))
        self._handed_out: set[int] = set()
        self._jobs: list[Job[T]] = []
        self._results: dict[int, T] = {}
        self._failures: dict[int, str] = {}
        self._unused_ids: list[int] = []

    def look(self) -> News[T]:
        """See what has become of the trials."""
        self._jobs = list(self._read())
        for job in self._jobs:
            if job.place in self._waiting:
                self._waiting.remove(job.place)
            self._handed_out.add(job.place)
        results = {
            job.place: job.result
            for job in self._jobs
            if job.result is not None and job.place not in self._results
        }
        self._results |= results
        failed = {
            job.place: job.trouble or NO_RESULT
            for job in self._jobs
            if (job.trouble or job.ended) and job.place not in self._results
        }
        failures = {place: why for place, why in failed.items() if self._failures.get(place) != why}
        self._failures = failed
        return News(results, failures)

    def request(self, parameter_ids: Iterable[int]) -> list[int]:
        """Places for the first of ``parameter_ids``, best configurations first; ids left over are kept."""
        ids = list(parameter_ids)
        places = [self._hand_out() for _ in ids[: self.room]]
        self._unused_ids += ids[len(places) :]
        return places

    def replacements(self) -> list[tuple[int, int]]:
        """(parameter id, place) for kept ids that there is something to try for by now."""
        room = self.room
        usable, self._unused_ids = self._unused_ids[:room], self._unused_ids[room:]
        return [(parameter_id, self._hand_out()) for parameter_id in usable]

    @property
    def room(self) -> int:
        """How many more trials there is something to try for now."""
        missing = self._budget - len(self._results) - self.running
        return max(0, min(missing, len(self._waiting)))

    def _hand_out(self) -> int:
        place = self._waiting.pop(0)
        self._handed_out.add(place)
        return place

    # -------------------------------------------------------------------------------------------- what is known

    @property
    def running(self) -> int:
        """Trials that may still bring a result."""
        listed = {job.place for job in self._jobs}
        return len(self._handed_out - listed) + sum(not (job.ended or job.reported) for job in self._jobs)

    @property
    def handed_out(self) -> list[int]:
        """Places that were given to a trial, whatever became of it."""
        return sorted(self._handed_out)

    @property
    def results(self) -> dict[int, T]:
        """Results by place."""
        return dict(self._results)

    @property
    def failures(self) -> list[int]:
        """Places that failed; final only when nothing runs."""
        return sorted(self._failures)

    @property
    def missing(self) -> int:
        """Results that are still wanted."""
        return max(0, self._budget - len(self._results))

    @property
    def over(self) -> bool:
        """No further result is wanted, or can come: nothing runs and nothing is left to try."""
        return not self.missing or (self.running == 0 and not self._waiting)
