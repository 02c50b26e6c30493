"""The bookkeeping of trials under every order in which NNI may call back."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from hypothesis import given, settings
from hypothesis import strategies as st

from nni_hyperfd.plugin.trials import Trials


def test_hands_out_the_best_first_and_never_more_than_the_budget() -> None:
    trials: Trials[float] = Trials(candidates=10, budget=4)
    assert trials.request(range(8)) == [0, 1, 2, 3]
    assert trials.request([8]) == []
    assert not trials.over


def test_a_failure_is_replaced_by_the_next_configuration() -> None:
    trials: Trials[float] = Trials(candidates=3, budget=2)
    assert trials.request([0, 1]) == [0, 1]
    trials.end(0)
    assert trials.request([2]) == [2]
    assert trials.failures == [0]


def test_a_request_that_comes_before_the_end_it_belongs_to_is_served_later() -> None:
    trials: Trials[float] = Trials(candidates=3, budget=1)
    assert trials.request([0]) == [0]
    assert trials.request([1]) == []
    trials.end(0)
    assert trials.settle() == [(1, 1)]
    assert trials.place(1) == 1
    assert trials.settle() == []


def test_swapped_trials_are_counted_not_named() -> None:
    """Job A is listed with 0 but ran 1, job B the other way round; B is first and both succeed."""
    trials: Trials[float] = Trials(candidates=4, budget=2)
    trials.request([0, 1])
    assert trials.result(0, 0.5)
    trials.end(1)
    assert trials.request([2]) == []
    assert trials.result(1, 0.6)
    trials.end(0)
    assert trials.complete
    assert trials.failures == []
    assert trials.results == {0: 0.5, 1: 0.6}


def test_the_second_result_of_a_configuration_and_results_of_others_are_refused() -> None:
    trials: Trials[float] = Trials(candidates=2, budget=2)
    trials.request([7])
    assert trials.place(7) == 0
    assert trials.place(8) is None
    assert trials.place(None) is None
    assert trials.result(0, 0.5)
    assert not trials.result(0, 0.9)
    assert not trials.result(1, 0.9)
    assert trials.results == {0: 0.5}


def test_it_is_over_when_the_configurations_have_run_out() -> None:
    trials: Trials[float] = Trials(candidates=2, budget=2)
    trials.request([0, 1])
    trials.end(0)
    assert trials.request([2]) == []
    assert not trials.over
    trials.end(1)
    assert trials.over
    assert not trials.complete
    assert trials.failures == [0, 1]


def test_a_resumed_experiment_goes_on_where_it_was() -> None:
    trials: Trials[float] = Trials(candidates=6, budget=3)
    trials.restore(0, ended=True, result=0.4)
    trials.restore(1, ended=True)
    trials.restore(2, ended=False)
    assert trials.running == 1
    assert trials.unfinished == [2]
    assert trials.request([1, 2]) == [3]
    assert trials.result(2, 0.7)
    assert trials.result(3, 0.8)
    assert trials.complete


@dataclass
class Job:
    """A trial job of the imitated manager: listed with one parameter, running another."""

    listed: int
    ran: int | None = None
    reported: bool = False
    ended: bool = False


class Imitation:
    """NNI's manager, its local training service and the two workers of the dispatcher, as far as they decide in which
    order messages arrive: within a queue in order, the two queues independently of each other."""

    def __init__(self, concurrency: int, budget: int, candidates: int) -> None:
        self.concurrency, self.budget, self.candidates = concurrency, budget, candidates
        self.trials: Trials[int] = Trials(candidates, budget)
        self.handed_out: list[int] = []
        self.waiting: deque[int] = deque()
        self.parameters: deque[int] = deque()
        self.jobs: list[Job] = []
        self.first_queue: deque[tuple[str, int]] = deque([("request", concurrency)])
        self.second_queue: deque[Job] = deque()
        self.next_id = 0
        # Ends that overtook the result of the same job: only these may cost a superfluous trial.
        self.overtaken = 0

    def running(self) -> list[Job]:
        return [job for job in self.jobs if not job.ended]

    def possible(self) -> list[Callable[[], None]]:
        """Everything that may happen next, apart from failures."""
        actions: list[Callable[[], None]] = []
        if self.waiting and len(self.running()) < self.concurrency:
            actions.append(self.start_job)
        for job in self.running():
            if job.ran is None:
                actions.append(partial(self.ask, job))
            elif not job.reported:
                actions.append(partial(self.report, job))
            else:
                actions.append(partial(self.end, job))
        if self.first_queue:
            actions.append(self.first_worker)
        if self.second_queue:
            actions.append(self.second_worker)
        if not self.first_queue and not self.second_queue:
            actions.append(self.timer)
        return actions

    def failures(self) -> list[Callable[[], None]]:
        """Jobs that may stop too early: before asking for a parameter (an import error) or after (a crash)."""
        return [partial(self.end, job) for job in self.running() if not job.reported]

    def submit(self, parameter_id: int, place: int) -> None:
        self.handed_out.append(place)
        assert self.trials.place(parameter_id) == place
        self.waiting.append(parameter_id)

    def start_job(self) -> None:
        parameter_id = self.waiting.popleft()
        self.jobs.append(Job(parameter_id))
        self.parameters.append(parameter_id)

    def ask(self, job: Job) -> None:
        job.ran = self.parameters.popleft()

    def report(self, job: Job) -> None:
        assert job.ran is not None
        job.reported = True
        self.first_queue.append(("result", job.ran))

    def end(self, job: Job) -> None:
        job.ended = True
        self.second_queue.append(job)
        self.first_queue.append(("request", 1))

    def first_worker(self) -> None:
        kind, number = self.first_queue.popleft()
        if kind == "result":
            place = self.trials.place(number)
            assert place is not None
            assert self.trials.result(place, number)
            return
        ids = range(self.next_id, self.next_id + number)
        self.next_id += number
        for parameter_id, place in zip(ids, self.trials.request(ids), strict=False):
            self.submit(parameter_id, place)

    def second_worker(self) -> None:
        job = self.second_queue.popleft()
        self.overtaken += ("result", job.ran) in self.first_queue
        place = self.trials.place(job.listed)
        assert place is not None
        self.trials.end(place)

    def timer(self) -> None:
        for parameter_id, place in self.trials.settle():
            self.submit(parameter_id, place)

    def check(self) -> None:
        assert self.handed_out == list(range(len(self.handed_out))), "best first, and each once"
        reported = sum(job.reported for job in self.jobs)
        able = sum(not job.reported for job in self.running()) + len(self.waiting)
        assert reported + able <= self.budget + self.overtaken, "a superfluous trial"

    def let_the_rest_succeed(self) -> None:
        for job in self.running():
            if job.ran is None:
                self.ask(job)
            if not job.reported:
                self.report(job)
            self.end(job)
        while self.first_queue:
            self.first_worker()
        while self.second_queue:
            self.second_worker()
        self.timer()
        while self.waiting and len(self.running()) < self.concurrency:
            self.start_job()


@settings(max_examples=500, deadline=None)
@given(
    concurrency=st.integers(1, 4),
    budget=st.integers(1, 4),
    candidates=st.integers(1, 8),
    schedule=st.lists(st.tuples(st.integers(0, 59), st.integers(0, 9).map(lambda n: n == 9)), max_size=80),
)
def test_any_order_of_callbacks(
    concurrency: int, budget: int, candidates: int, schedule: list[tuple[int, bool]]
) -> None:
    nni = Imitation(concurrency, budget, candidates)
    for choice, failure in schedule:
        possible = (failure and nni.failures()) or nni.possible()
        if possible:
            possible[choice % len(possible)]()
        nni.check()

    nni.let_the_rest_succeed()
    while nni.first_queue or nni.second_queue or nni.running():
        nni.let_the_rest_succeed()

    assert nni.trials.over
    assert nni.trials.complete or len(nni.handed_out) == candidates
    assert set(nni.trials.results) == {nni.trials.place(job.ran) for job in nni.jobs if job.reported}
    assert len(nni.trials.failures) == sum(not job.reported for job in nni.jobs)
