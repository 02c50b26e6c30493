"""The bookkeeping of trials under every order in which things may happen and be looked at."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nni_hyperfd.plugin.trials import NO_RESULT, Job, Trials


@dataclass
class Listed:
    """A trial job of an imitated manager: listed with one configuration, running another."""

    place: int
    ran: int | None = None
    result: float | None = None
    trouble: str | None = None
    ended: bool = False

    @property
    def reported(self) -> bool:
        return self.result is not None or self.trouble is not None


class Records(list[Listed]):
    """What such a manager has written down."""

    def __call__(self) -> Iterator[Job[float]]:
        for job in self:
            ran = next((other for other in self if other.ran == job.place), Listed(job.place))
            yield Job(job.place, job.ended, job.reported, ran.result, ran.trouble)

    def run(self, place: int, ran: int | None = None) -> Listed:
        self.append(Listed(place, place if ran is None else ran))
        return self[-1]


@pytest.fixture
def records() -> Records:
    return Records()


def test_hands_out_the_best_first_and_never_more_than_the_budget(records: Records) -> None:
    trials = Trials(10, 4, records)
    assert trials.request(range(8)) == [0, 1, 2, 3]
    assert trials.request([8]) == []
    assert trials.running == 4
    assert not trials.over


def test_a_failure_is_replaced_by_the_next_configuration(records: Records) -> None:
    trials = Trials(3, 2, records)
    assert trials.request([0, 1]) == [0, 1]
    records.run(0).ended = True
    assert trials.request([2]) == []
    assert trials.look().failures == {0: NO_RESULT}
    assert not trials.look(), "news only once"
    assert trials.replacements() == [(2, 2)]
    assert trials.replacements() == []
    assert trials.failures == [0]


def test_a_result_that_is_none_makes_room_before_its_job_ends(records: Records) -> None:
    trials = Trials(3, 1, records)
    assert trials.request([0, 1]) == [0]
    records.run(0).trouble = "73.2 is no AP"
    assert trials.look().failures == {0: "73.2 is no AP"}
    assert trials.replacements() == [(1, 1)]
    records[0].ended = True
    assert not trials.look()


def test_a_result_counts_before_and_after_the_end_of_its_job(records: Records) -> None:
    trials = Trials(4, 2, records)
    trials.request([0, 1])
    records.run(0).result = 0.5
    assert trials.look().results == {0: 0.5}
    job = records.run(1)
    job.result, job.ended = 0.25, True
    assert trials.look().results == {1: 0.25}
    assert not trials.missing
    assert trials.over
    assert trials.failures == []


def test_a_failed_job_is_certain_and_a_failed_configuration_is_not(records: Records) -> None:
    """Job A is listed with 0 and runs 1, job B the other way round; A fails, which looks as if 0 had, until B reports."""
    trials = Trials(4, 2, records)
    trials.request([0, 1])
    a, b = records.run(0, ran=1), records.run(1, ran=0)
    a.ended = True
    assert trials.look().failures == {0: NO_RESULT}
    assert trials.request([2]) == [2]
    b.result = 0.6
    assert trials.look().results == {0: 0.6}
    b.ended = True
    assert trials.look().failures == {1: NO_RESULT}
    assert trials.failures == [1]
    assert trials.results == {0: 0.6}
    assert trials.running == 1


def test_it_is_over_when_the_configurations_have_run_out(records: Records) -> None:
    trials = Trials(2, 2, records)
    trials.request([0, 1])
    records.run(0).ended = True
    trials.look()
    assert trials.request([2]) == []
    assert not trials.over
    records.run(1).ended = True
    trials.look()
    assert trials.over
    assert trials.missing == 2
    assert trials.failures == [0, 1]


def test_a_resumed_experiment_goes_on_where_it_was(records: Records) -> None:
    done = records.run(0)
    done.result, done.ended = 0.4, True
    records.run(1).ended = True
    records.run(2)
    trials = Trials(6, 3, records)
    trials.look()
    assert trials.running == 1
    assert trials.handed_out == [0, 1, 2]
    assert trials.request([1, 2]) == [3]
    records.run(3).result = 0.8
    records[2].result = 0.7
    trials.look()
    assert trials.over


class Imitation:
    """NNI's manager and its local training service, as far as they decide what is in the records when somebody looks."""

    def __init__(self, concurrency: int, budget: int, candidates: int) -> None:
        self.concurrency, self.budget, self.candidates = concurrency, budget, candidates
        self.records = Records()
        self.trials = Trials(candidates, budget, self.records)
        self.handed_out: list[int] = []
        self.waiting: deque[int] = deque()
        self.parameters: deque[int] = deque()
        self.asked_for = concurrency
        self.next_id = 0

    def running(self) -> list[Listed]:
        return [job for job in self.records if not job.ended]

    def possible(self) -> list[Callable[[], None]]:
        """Everything that may happen next, apart from failures."""
        actions: list[Callable[[], None]] = [self.look]
        if self.asked_for:
            actions.append(self.request)
        if self.waiting and len(self.running()) < self.concurrency:
            actions.append(self.start_job)
        for job in self.running():
            if job.ran is None:
                actions.append(partial(self.ask, job))
            elif not job.reported:
                actions.append(partial(self.report, job))
            else:
                actions.append(partial(self.end, job))
        return actions

    def failures(self) -> list[Callable[[], None]]:
        """Jobs that may stop too early: before asking for a parameter (an import error) or after (a crash)."""
        return [partial(self.end, job) for job in self.running() if not job.reported]

    def submit(self, place: int) -> None:
        self.handed_out.append(place)
        self.waiting.append(place)

    def start_job(self) -> None:
        place = self.waiting.popleft()
        self.records.append(Listed(place))
        self.parameters.append(place)

    def ask(self, job: Listed) -> None:
        job.ran = self.parameters.popleft()

    def report(self, job: Listed) -> None:
        job.result = float(len(self.records))

    def end(self, job: Listed) -> None:
        job.ended = True
        self.asked_for += 1

    def look(self) -> None:
        self.trials.look()
        for _, place in self.trials.replacements():
            self.submit(place)

    def request(self) -> None:
        ids = range(self.next_id, self.next_id + self.asked_for)
        self.next_id, self.asked_for = ids.stop, 0
        self.trials.look()
        for place in self.trials.request(ids):
            self.submit(place)

    def check(self) -> None:
        assert self.handed_out == list(range(len(self.handed_out))), "best first, and each once"
        reported = sum(job.reported for job in self.records)
        able = sum(not job.reported for job in self.running()) + len(self.waiting)
        assert reported + able <= self.budget, "a superfluous trial"

    def let_the_rest_succeed(self) -> None:
        for job in self.running():
            if job.ran is None:
                self.ask(job)
            if not job.reported:
                self.report(job)
            self.end(job)
        self.request()
        self.look()
        while self.waiting and len(self.running()) < self.concurrency:
            self.start_job()


@settings(max_examples=500, deadline=None)
@given(
    concurrency=st.integers(1, 4),
    budget=st.integers(1, 4),
    candidates=st.integers(1, 8),
    schedule=st.lists(st.tuples(st.integers(0, 59), st.integers(0, 9).map(lambda n: n == 9)), max_size=80),
)
def test_whenever_one_looks(
    concurrency: int, budget: int, candidates: int, schedule: list[tuple[int, bool]]
) -> None:
    nni = Imitation(concurrency, budget, candidates)
    for choice, failure in schedule:
        possible = (failure and nni.failures()) or nni.possible()
        possible[choice % len(possible)]()
        nni.check()

    nni.let_the_rest_succeed()
    while nni.running():
        nni.let_the_rest_succeed()

    assert nni.trials.over
    assert not nni.trials.missing or len(nni.handed_out) == candidates
    assert set(nni.trials.results) == {job.ran for job in nni.records if job.reported}
    assert len(nni.trials.failures) == sum(not job.reported for job in nni.records)
