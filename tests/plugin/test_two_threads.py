"""Tuner and advisor between NNI's two threads, with callbacks that take long, in every order that a state machine comes upon.

The dispatcher with its two queues and workers is NNI's own, and so are the records; the platform is a real one, whose answers come when
the machine lets them. What is imitated is NNI's manager: what it writes down, and what it tells when.
"""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from nni.runtime import msg_dispatcher
from nni.runtime.tuner_command_channel import CommandType
from numpy.linalg import LinAlgError

from nni_hyperfd.errors import PlatformError
from nni_hyperfd.platform.platform import Platform
from nni_hyperfd.platform.state.store import Store
from nni_hyperfd.plugin import opening
from nni_hyperfd.plugin.advisor import HyperFDAdvisor
from nni_hyperfd.plugin.records import Attempt, Records
from nni_hyperfd.plugin.tuner import HyperFDTuner
from nni_hyperfd.protocol.messages import BeginUpdate, FindTask, Question, RecommendRequest, TrialRecord
from nni_hyperfd.ranker.settings import RankerSettings
from nni_hyperfd.spaces.stages import Stage
from nni_hyperfd.spaces.unread import TRIAL_BUDGET, configuration_of
from tests.fixtures.nni_dispatcher import Nni

PATIENCE = 300.0
"""Seconds after which a thread is stuck."""
EXAMPLES = 20
CALM = 0.01
"""Seconds for the workers to go as far as they can; no assertion rests on how far that is."""
A = TypeVar("A")
SLOW = (TrialRecord, RecommendRequest, BeginUpdate)


class Gate:
    """Where calls wait until they are let through, one by one, or all of them from now on."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._passes: list[Exception | None] = []
        self.waiting: list[object] = []
        self.open = True

    def go_through(self, question: object) -> None:
        with self._changed:
            self.waiting.append(question)
            self._changed.notify_all()
            assert self._changed.wait_for(lambda: self.open or self._passes, PATIENCE)
            error = None if self.open else self._passes.pop(0)
            self.waiting.remove(question)
        if error is not None:
            raise error

    def let_one_through(self, error: Exception | None = None) -> None:
        """One of those that wait goes on, or ends with an error."""
        with self._changed:
            self._passes.append(error)
            self._changed.notify_all()

    def set(self, open: bool) -> None:
        with self._changed:
            self.open = open
            self._changed.notify_all()


class SlowPlatform:
    """A platform that takes its time."""

    def __init__(self, platform: Platform, gate: Gate) -> None:
        self._platform, self._gate = platform, gate

    def ask(self, question: Question[A]) -> A:
        if isinstance(question, SLOW):
            self._gate.go_through(question)
        return self._platform.ask(question)


@dataclass
class Job:
    """A trial job: listed with one parameter, running another."""

    id: str
    form: dict[str, Any]
    ran: dict[str, Any] | None = None
    validated: int = 0
    ap: float | None = None
    reported: bool = False
    """At any time; ``ap`` is that of the run since the experiment was last resumed."""
    ended: bool = False


class Manager(Nni):
    """NNI's manager and its local training service, and the two workers of the dispatcher."""

    def __init__(self, folder: Path, concurrency: int, limit: int | None) -> None:
        super().__init__(folder, {"maxTrialNumber": limit, **CONFIG})
        self.concurrency, self.limit = concurrency, limit
        self.trials: list[Job] = []
        self.recovered: list[Job] = []
        self.parameters: list[dict[str, Any]] = []
        self.brought: list[tuple[dict[str, Any], float]] = []
        self._before = 0
        self.validations = 0
        self.told: dict[str, list[tuple[CommandType, Any]]] = {"default": [], "ends": []}
        self._done = threading.Semaphore(0)
        self._under_way = 0

    def start_workers(self) -> None:
        dispatcher, process = self._dispatcher, self._dispatcher.process_command

        def counted(command: CommandType, data: Any) -> None:
            try:
                process(command, data)
            finally:
                self._done.release()

        dispatcher.process_command = counted
        dispatcher.default_worker.start()
        dispatcher.assessor_worker.start()
        self.told["default"].append((CommandType.RequestTrialJobs, self.concurrency))

    def resume(self) -> None:
        """What `nnictl resume` does before the new tuner begins: whatever no job was started for is forgotten, all others begin again."""
        self._before = len(self.trials)
        self.recovered = [job for job in self.trials if not job.ended]
        self.parameters = []
        finished = [
            {"parameter": form["parameters"], "value": json.dumps(ap), "trialJobId": "any"}
            for form, ap in self.brought
        ]
        forms = [json.dumps(job.form) for job in self.recovered]
        self.told = {
            "default": [
                (CommandType.ImportData, finished),
                (CommandType.AddCustomizedTrialJob, forms),
            ],
            "ends": [],
        }
        for job in self.recovered:
            job.ran, job.ap, job.validated = None, None, 0
            self.event(job, "ADD_RESUMED", None)

    def stop_workers(self) -> None:
        self._dispatcher.stopping = True
        for queue in (self._dispatcher.default_command_queue, self._dispatcher.assessor_command_queue):
            queue.put((CommandType.Ping, None))
        self._dispatcher.default_worker.join(PATIENCE)
        self._dispatcher.assessor_worker.join(PATIENCE)
        # The pings counted, too.
        self._done, self._under_way = threading.Semaphore(0), 0

    def deliver(self, queue: str) -> None:
        command, data = self.told[queue].pop(0)
        self._under_way += 1
        self._dispatcher.enqueue_command(command, data)

    def wait_until_calm(self, gate: Gate) -> None:
        """Until the workers have nothing to do, or wait at the gate."""
        end = time.monotonic() + PATIENCE
        while self._under_way:
            if self._done.acquire(timeout=CALM):
                self._under_way -= 1
            elif gate.waiting and not gate.open:
                return
            assert time.monotonic() < end, "a callback does not come to an end"

    # ---------------------------------------------------------------------------------------------- trials

    @property
    def waiting(self) -> list[dict[str, Any]]:
        return self.proposals()[len(self.trials) - self._before :]

    @property
    def tried(self) -> list[dict[str, Any]]:
        """All that jobs were or will be started for."""
        return [*(job.form for job in self.trials), *self.waiting]

    def running(self) -> list[Job]:
        return [job for job in self.trials if not job.ended and job not in self.recovered]

    def may_start(self) -> bool:
        if len(self.running()) >= self.concurrency:
            return False
        return bool(
            self.recovered or (self.waiting and (self.limit is None or len(self.trials) < self.limit))
        )

    def start(self) -> None:
        if self.recovered:
            job = self.recovered.pop(0)
            self.event(job, "WAITING", json.dumps(job.form))
            self.parameters.append(job.form)
            return
        form = self.waiting[0]
        job = Job(f"job{len(self.trials)}", form)
        self.event(job, "WAITING", json.dumps(form))
        self.trials.append(job)
        self.parameters.append(form)

    def report(self, job: Job, ap: float) -> None:
        while self.validations_to_come(job):
            self.validate(job, ap)
        job.ap, job.reported, text = ap, True, json.dumps(ap)
        self.brought.append((job.ran, ap))
        self.metric(job, "FINAL", 0, ap)
        metric = {"parameter_id": job.ran["parameter_id"], "trial_job_id": job.id, "type": "FINAL"}
        self.told["default"].append((CommandType.ReportMetricData, {**metric, "sequence": 0, "value": text}))

    def validations_to_come(self, job: Job) -> int:
        stage = Stage.of(job.ran["parameters"]) if job.ran else None
        return stage.stop - stage.begun - job.validated if stage else 0

    def validate(self, job: Job, ap: float) -> None:
        self.metric(job, "PERIODICAL", job.validated, ap)
        job.validated += 1
        self.validations += 1

    def end_job(self, job: Job) -> None:
        job.ended = True
        event = "FAILED" if job.ap is None else "SUCCEEDED"
        self.event(job, event, None)
        ended = {"trial_job_id": job.id, "event": event, "hyper_params": json.dumps(job.form)}
        self.told["ends"].append((CommandType.TrialEnd, ended))
        if self.limit is None or len(self.trials) < self.limit:
            self.told["default"].append((CommandType.RequestTrialJobs, 1))

    def metric(self, job: Job, kind: str, number: int, ap: float) -> None:
        self.execute(
            "insert into MetricData (timestamp, trialJobId, parameterId, type, sequence, data) values (?, ?, ?, ?, ?, ?)",
            next(self.clock),
            job.id,
            str(job.ran["parameter_id"]),
            kind,
            number,
            json.dumps(json.dumps(ap)),
        )

    def event(self, job: Job, event: str, data: str | None) -> None:
        self.execute(
            "insert into TrialJobEvent (timestamp, trialJobId, event, data, sequenceId) values (?, ?, ?, ?, ?)",
            next(self.clock),
            job.id,
            event,
            data,
            len(self.trials),
        )


CONFIG = {"trialCommand": "python finetune.py --data faces --budget smoke --seed 3"}


class World:
    """What all runs of the machine share: the data, a platform to begin with, and what takes seconds to fit."""

    def __init__(self, folder: Path, data: Path, begin: Callable[[Manager, int], None]) -> None:
        self.folder, self.data, self.begin = folder, data, begin
        self.count = 0
        self.expectations: dict[Any, Any] = {}
        self.foresights: OrderedDict[Any, Any] = OrderedDict()

    def open(self) -> tuple[Path, Platform]:
        self.count += 1
        folder = self.folder / f"run{self.count}"
        shutil.copytree(self.folder / "platform", folder / "platform")
        # An update without steps: what is looked at here is what it is made of.
        platform = Platform(Store(folder / "platform"), RankerSettings(mode="freeze_all"))
        platform._expectations = self.expectations
        platform._shelf._foresights = self.foresights
        return folder / "experiments" / "exp", platform


class TwoThreads(RuleBasedStateMachine):
    """Everything that may happen in an experiment, in any order."""

    def __init__(self, world: World, patch: pytest.MonkeyPatch) -> None:
        super().__init__()
        self.world, self.patch = world, patch
        self.manager: Manager | None = None
        self.resumed = 0

    @initialize(concurrency=st.integers(1, 3), budget=st.integers(1, 4), limit=st.none() | st.integers(1, 5))
    def begin(self, concurrency: int, budget: int, limit: int | None) -> None:
        folder, self.platform = self.world.open()
        self.gate, self.budget = Gate(), budget
        self.patch.setenv("NNI_LOG_DIRECTORY", str(folder / "log"))
        self.new_process()
        self.patch.setattr(opening, "open_platform", lambda *_: SlowPlatform(self.platform, self.gate))
        self.manager = Manager(folder, concurrency, limit)
        self.world.begin(self.manager, budget)
        self.gate.set(open=False)
        self.manager.start_workers()

    def wait(self) -> None:
        self.manager.wait_until_calm(self.gate)

    @precondition(lambda self: self.manager.may_start())
    @rule()
    def a_job_starts(self) -> None:
        self.manager.start()

    @precondition(lambda self: any(job.ran is None for job in self.manager.running()))
    @rule(which=st.integers(0, 2))
    def a_job_asks_for_its_parameter(self, which: int) -> None:
        jobs = [job for job in self.manager.running() if job.ran is None]
        jobs[which % len(jobs)].ran = self.manager.parameters.pop(0)

    @precondition(lambda self: any(job.ran and job.ap is None for job in self.manager.running()))
    @rule(which=st.integers(0, 2))
    def a_job_reports(self, which: int) -> None:
        jobs = [job for job in self.manager.running() if job.ran and job.ap is None]
        self.manager.report(jobs[which % len(jobs)], self.ap())

    @precondition(lambda self: any(job.ap is not None for job in self.manager.running()))
    @rule(which=st.integers(0, 2))
    def a_job_ends(self, which: int) -> None:
        jobs = [job for job in self.manager.running() if job.ap is not None]
        self.manager.end_job(jobs[which % len(jobs)])

    @precondition(lambda self: any(job.ap is None for job in self.manager.running()))
    @rule(which=st.integers(0, 2))
    def a_job_fails(self, which: int) -> None:
        jobs = [job for job in self.manager.running() if job.ap is None]
        self.manager.end_job(jobs[which % len(jobs)])

    @precondition(lambda self: self.manager.told["default"])
    @rule()
    def the_first_thread_hears(self) -> None:
        self.manager.deliver("default")
        self.wait()

    @precondition(lambda self: self.manager.told["ends"])
    @rule()
    def the_second_thread_hears(self) -> None:
        self.manager.deliver("ends")
        self.wait()

    @precondition(lambda self: self.gate.waiting)
    @rule()
    def the_platform_answers(self) -> None:
        self.gate.let_one_through()
        self.wait()

    @precondition(lambda self: any(isinstance(each, RecommendRequest) for each in self.gate.waiting))
    @rule(error=st.sampled_from([PlatformError("full"), LinAlgError("singular"), OSError(5, "I/O error")]))
    def the_platform_cannot_plan(self, error: Exception) -> None:
        self.gate.let_one_through(error)
        self.wait()

    @precondition(lambda self: self.resumed < 2)
    @rule()
    def the_tuner_is_killed(self) -> None:
        """And the experiment is resumed. What was told and not heard yet is lost."""
        self.end_the_process(killed=True)

    def end_the_process(self, killed: bool) -> None:
        self.resumed += 1
        self.gate.set(open=True)
        self.wait()
        self.manager.stop_workers()
        if not killed:
            self.manager.tuner._on_exit()
        self.manager.resume()
        self.new_process()
        self.world.begin(self.manager, self.budget)
        self.gate.set(open=False)
        self.manager.start_workers()

    def new_process(self) -> None:
        """What a dispatcher's process knows of parameters is in its module, and begins anew with it."""
        self.patch.setattr(msg_dispatcher, "_next_parameter_id", 0)
        self.patch.setattr(msg_dispatcher, "_trial_params", {})

    @rule()
    def nothing_happens(self) -> None:
        """As when an experiment is over."""

    def all_is_heard(self) -> None:
        """What was told so far, and what the platform answers."""
        while any(self.manager.told.values()) or self.gate.waiting:
            if self.gate.waiting:
                self.the_platform_answers()
            elif self.manager.told["ends"]:
                self.the_second_thread_hears()
            else:
                self.the_first_thread_hears()
            self.nothing_superfluous()
            self.failures_are_told()

    def a_job_runs(self) -> None:
        """One starts, and gets its parameter."""
        self.a_job_starts()
        self.a_job_asks_for_its_parameter(0)

    def a_job_succeeds(self) -> None:
        self.a_job_runs()
        self.a_job_reports(0)
        self.a_job_ends(0)
        self.all_is_heard()

    def ap(self) -> float:
        return round(0.9 - 0.01 * len(self.manager.brought), 2)

    @invariant()
    def nothing_superfluous(self) -> None:
        if self.manager is None:
            return
        forms = [form["parameters"] for form in self.manager.tried]
        assert len({json.dumps(form, sort_keys=True) for form in forms}) == len(forms), "tried twice"
        # A job that ran what a failed one of another rung left behind brought nothing to its own rung.
        for allowed, rung in self.rungs():
            jobs = [job for job in self.manager.trials if self.rung(job.form) == rung]
            waiting = [form for form in self.manager.waiting if self.rung(form) == rung]
            able = [job for job in jobs if (not job.ended if job.ap is None else self.rung(job.ran) == rung)]
            assert len(able) + len(waiting) <= allowed, "a superfluous trial"
        assert self.manager.errors() == []

    @invariant()
    def failures_are_told(self) -> None:
        """To the platform, as soon as all is heard; an advisor, whose plan does not go by them, tells at the end."""
        if self.manager is None or any(self.manager.told.values()) or self.gate.waiting:
            return
        task = self.platform.ask(FindTask(experiment_id="exp"))
        if getattr(self.manager, "advisor", None) is not None or task.status != "open":
            return
        brought = [form["parameters"] for form, _ in self.manager.brought]
        failed = [job.form["parameters"] for job in self.manager.trials if job.ended and not job.reported]
        known = [
            dict(each.parameters) for each in self.platform.trials(task.task_id) if each.status == "failed"
        ]
        assert all(configuration_of(each) in known for each in failed if each not in brought), "not told"

    def rungs(self) -> list[tuple[int, tuple[int, int] | None]]:
        """How many results are wanted of each rung; a tuner has one, which is None."""
        advisor = getattr(self.manager, "advisor", None)
        if advisor is None:
            return [(self.budget, None)]
        return [
            (rung.count, (bracket.number, rung.epochs))
            for bracket in advisor._brackets
            for rung in bracket.rungs
        ]

    def rung(self, form: dict[str, Any]) -> tuple[int, int] | None:
        """Number of the bracket and epochs of a trial."""
        advisor = getattr(self.manager, "advisor", None)
        if advisor is None:
            return None
        place = advisor._experiment.place(configuration(form))
        (number,) = (each.number for each in advisor._brackets if place in each.trained[0].population)
        return number, length(form)

    def teardown(self) -> None:
        if self.manager is None:
            return
        try:
            self.gate.set(open=True)
            self.wait()
            while self.manager.running() or self.manager.may_start() or any(self.manager.told.values()):
                self.let_everything_succeed()
                self.nothing_superfluous()
            self.check_the_update()
        finally:
            self.gate.set(open=True)
            self.manager.stop_workers()
            self.platform.close()

    def let_everything_succeed(self) -> None:
        while self.manager.may_start():
            self.manager.start()
        for job in self.manager.running():
            if job.ran is None:
                job.ran = self.manager.parameters.pop(0)
            if job.ap is None:
                self.manager.report(job, self.ap())
            self.manager.end_job(job)
        for queue, told in self.manager.told.items():
            while told:
                self.manager.deliver(queue)
        self.wait()

    def check_the_update(self) -> None:
        """The only update was made of all results, each with the configuration that ran."""
        brought: dict[str, tuple[float, int | None]] = {}
        for form, ap in self.manager.brought:
            key = json.dumps(configuration(form), sort_keys=True)
            # Of a job that was begun again though it had its result, that result is for good.
            if key not in brought or (length(form) or 0) > (brought[key][1] or 0):
                brought[key] = ap, length(form)
        task = self.platform.ask(FindTask(experiment_id="exp"))
        trials = [trial for trial in self.platform.trials(task.task_id) if trial.ap is not None]
        known = {json.dumps(dict(trial.parameters), sort_keys=True): trial.ap for trial in trials}
        assert known == {key: ap for key, (ap, _) in brought.items()}
        history = self.platform.history()
        assert task.status == ("done" if brought else "closed"), "no update was made"
        assert len(history) == (2 if brought else 1)
        if brought:
            receipt = self.platform.ask(BeginUpdate(task_id=task.task_id))
            assert receipt.usable_trials == len(brought)


class TwoThreadsAndParts(TwoThreads):
    """Trials are parts of trainings of four epochs, which go on with each other's; the experiment is stopped and resumed at any time."""

    handed_out = 0
    """By the process of now, when it was last looked at."""

    @precondition(lambda self: any(map(self.manager.validations_to_come, self.manager.running())))
    @rule(which=st.integers(0, 2))
    def a_job_validates(self, which: int) -> None:
        jobs = [job for job in self.manager.running() if self.manager.validations_to_come(job)]
        self.manager.validate(jobs[which % len(jobs)], self.ap())

    @precondition(lambda self: self.resumed < 2)
    @rule()
    def the_experiment_is_stopped(self) -> None:
        """And resumed; the tuner learns from what there is."""
        self.end_the_process(killed=False)

    @invariant()
    def nothing_superfluous(self) -> None:
        if self.manager is None:
            return
        forms = [form["parameters"] for form in self.manager.tried]
        parts = Counter(json.dumps(configuration_of(each), sort_keys=True) for each in forms)
        assert len({json.dumps(each, sort_keys=True) for each in forms}) == len(forms), "tried twice"
        assert max(parts.values(), default=0) <= 4
        able = [job for job in self.manager.trials if not job.ended or job.ap is not None]
        asked = [job.ran for job in able if job.ran is not None]
        to_ask = [*self.manager.parameters, *(job.form for job in self.manager.recovered)]
        to_ask = to_ask[: len(able) - len(asked)]
        assert sum(map(epochs, [*asked, *to_ask, *self.manager.waiting])) <= 4 * self.budget, (
            "more than the price"
        )
        if (handed_out := len(self.manager.proposals())) != self.handed_out:
            # What a stop cuts off later may cost more than is left; nothing is handed out for it then.
            self.handed_out = handed_out
            under_way = sum(map(self.manager.validations_to_come, self.manager.running()))
            to_come = under_way + sum(map(epochs, [*to_ask, *self.manager.waiting]))
            assert self.manager.validations + to_come <= 4 * self.budget, "more than the price is trained"
        assert self.manager.errors() == []

    def check_the_update(self) -> None:
        """The platform has every training that came to its end, each with its configuration, and has learned from these."""
        brought: dict[str, float] = {}
        for form, ap in self.manager.brought:
            if Stage.of(form["parameters"]).stop == 4:
                # Of a job that was begun again though it had its result, that result is for good.
                brought.setdefault(json.dumps(configuration_of(form["parameters"]), sort_keys=True), ap)
        task = self.platform.ask(FindTask(experiment_id="exp"))
        trials = self.platform.trials(task.task_id)
        whole = {
            json.dumps(dict(each.parameters), sort_keys=True): each for each in trials if each.status == "ok"
        }
        assert {key: each.ap for key, each in whole.items()} == brought
        assert all(len(each.curve) == 4 for each in whole.values())
        assert task.status == ("done" if brought else "closed"), "no update was made"
        assert len(self.platform.history()) == (2 if brought else 1)


def epochs(form: dict[str, Any]) -> int:
    stage = Stage.of(form["parameters"])
    return stage.stop - stage.begun


def configuration(form: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in form["parameters"].items() if key != TRIAL_BUDGET}


def length(form: dict[str, Any]) -> int | None:
    return form["parameters"].get(TRIAL_BUDGET)


@pytest.fixture
def world(
    tmp_path: Path,
    drawn_faces: Path,
    make_platform: Callable[[Path], None],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Callable[[Callable[[Manager, int], None]], World]]:
    make_platform(tmp_path / "platform")
    monkeypatch.setenv("NNI_TUNER_COMMAND_CHANNEL", "ws://localhost:9/tuner")
    monkeypatch.setenv("HYPERFD_CACHE", str(tmp_path_factory.getbasetemp() / "hyperfd-cache"))
    monkeypatch.setitem(CONFIG, "trialCodeDirectory", str(drawn_faces.parent))
    environment = SimpleNamespace(NNI_TUNER_COMMAND_CHANNEL="ws://_unittest_placeholder_", NNI_MODE="start")
    monkeypatch.setattr("nni.runtime.msg_dispatcher_base.dispatcher_env_vars", environment)
    return lambda begin: World(tmp_path, drawn_faces, begin)


def explore(
    world: World, patch: pytest.MonkeyPatch, examples: int, machine: type[TwoThreads] = TwoThreads
) -> None:
    run_state_machine_as_test(
        lambda: machine(world, patch),
        settings=settings(
            max_examples=examples,
            # A failure is told as it was come upon: to look for a shorter way to it takes minutes.
            phases=[Phase.generate],
            stateful_step_count=40,
            deadline=None,
            database=None,
            # A run that fails is to fail for everybody and until it is mended; who looks for other orders leaves this out.
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )


def begin_tuner(method: str) -> Callable[[Manager, int], None]:
    return lambda manager, budget: manager.begin(HyperFDTuner(data="faces", budget=budget, method=method))


def begin_advisor(brackets: int | str) -> Callable[[Manager, int], None]:
    return lambda manager, budget: manager.begin_advisor(
        HyperFDAdvisor(data="faces", budget=budget, brackets=brackets, share=0.5)
    )


@pytest.mark.parametrize("method", ["hyperfd", "hyperfd-gp"])
def test_the_tuner(method: str, world: Callable[..., World], monkeypatch: pytest.MonkeyPatch) -> None:
    explore(world(begin_tuner(method)), monkeypatch, EXAMPLES)


@pytest.mark.parametrize("brackets", [1, "all"])
def test_the_advisor(
    brackets: int | str, world: Callable[..., World], monkeypatch: pytest.MonkeyPatch
) -> None:
    explore(world(begin_advisor(brackets)), monkeypatch, EXAMPLES)


def test_what_a_failed_job_left_behind_runs_in_another_rung_and_bracket(
    world: Callable[..., World], monkeypatch: pytest.MonkeyPatch
) -> None:
    """From then on each job runs what the one before was listed with, so the last of a rung comes to those of the next one."""
    machine = TwoThreads(world(begin_advisor("all")), monkeypatch)
    machine.begin(concurrency=1, budget=4, limit=None)
    machine.the_first_thread_hears()
    machine.a_job_starts()
    machine.a_job_fails(0)
    machine.teardown()
    brackets = machine.manager.advisor._brackets
    assert [[rung.epochs for rung in bracket.rungs] for bracket in brackets] == [[2, 4], [4]]
    trials = machine.manager.trials
    assert {machine.rung(job.form) for job in trials if job.ran and job.form != job.ran} == {
        (1, 2),
        (1, 4),
        (2, 4),
    }
    for bracket in brackets:
        for rung, trained in zip(bracket.rungs, bracket.trained, strict=True):
            # One that was left behind comes on top.
            assert rung.count <= len(trained.trials.results) <= rung.count + 1


@pytest.mark.parametrize(
    ("begin", "machine_of"),
    [
        (begin_tuner("hyperfd"), TwoThreads),
        (begin_tuner("hyperfd-gp"), TwoThreads),
        (begin_tuner("hyperfd-mf"), TwoThreadsAndParts),
        (begin_advisor(1), TwoThreads),
    ],
    ids=["hyperfd", "hyperfd-gp", "hyperfd-mf", "advisor"],
)
def test_resumed_when_all_results_are_in_it_updates_by_itself(
    begin: Callable[[Manager, int], None],
    machine_of: type[TwoThreads],
    world: Callable[..., World],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    machine = machine_of(world(begin), monkeypatch)
    machine.begin(concurrency=1, budget=1, limit=None)
    machine.all_is_heard()
    machine.a_job_runs()
    machine.a_job_reports(0)
    machine.a_job_ends(0)
    machine.the_tuner_is_killed()
    machine.all_is_heard()
    machine.check_the_update()
    machine.teardown()


@pytest.mark.parametrize(
    ("begin", "machine_of"),
    [
        (begin_tuner("hyperfd"), TwoThreads),
        (begin_tuner("hyperfd-mf"), TwoThreadsAndParts),
        (begin_advisor(1), TwoThreads),
    ],
    ids=["hyperfd", "hyperfd-mf", "advisor"],
)
def test_one_thread_waits_while_the_other_looks(
    begin: Callable[[Manager, int], None],
    machine_of: type[TwoThreads],
    world: Callable[..., World],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Or both would find the same news, and act upon it twice."""
    machine = machine_of(world(begin), monkeypatch)
    machine.begin(concurrency=2, budget=4, limit=None)
    machine.all_is_heard()
    machine.a_job_runs()
    machine.a_job_runs()
    read = Records.outcomes

    def slow(records: Records) -> list[Attempt]:
        machine.gate.go_through(records)
        return read(records)

    monkeypatch.setattr(Records, "outcomes", slow)
    machine.a_job_reports(0)
    machine.a_job_fails(0)
    machine.the_first_thread_hears()
    machine.the_second_thread_hears()
    for _ in range(30):
        machine.wait()  # time enough to come as far as the other; it must not
        assert len(machine.gate.waiting) == 1
    machine.teardown()


@pytest.mark.parametrize("begin", [begin_tuner("hyperfd"), begin_advisor(1)], ids=["hyperfd", "advisor"])
def test_ids_that_begin_anew_mean_the_job_begun_last_until_then(
    begin: Callable[[Manager, int], None], world: Callable[..., World], monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = TwoThreads(world(begin), monkeypatch)
    machine.begin(concurrency=1, budget=4, limit=None)
    machine.all_is_heard()
    for _ in range(3):
        machine.a_job_succeeds()
    machine.the_tuner_is_killed()
    machine.all_is_heard()
    machine.teardown()


@pytest.mark.parametrize("method", ["hyperfd", "hyperfd-gp"])
def test_the_last_job_is_one_that_was_begun_again_and_fails(
    method: str, world: Callable[..., World], monkeypatch: pytest.MonkeyPatch
) -> None:
    """NNI's dispatcher keeps the end of such a job to itself, and at the limit its manager asks for no other."""
    machine = TwoThreads(world(begin_tuner(method)), monkeypatch)
    machine.begin(concurrency=1, budget=2, limit=2)
    machine.all_is_heard()
    machine.a_job_succeeds()
    machine.a_job_runs()
    machine.the_tuner_is_killed()
    machine.all_is_heard()
    machine.a_job_runs()
    machine.a_job_fails(0)
    machine.all_is_heard()
    machine.check_the_update()
    machine.teardown()


def cut_off_after_three_validations(machine: TwoThreadsAndParts, killed: bool) -> None:
    """The first job trains, and the experiment is resumed."""
    machine.all_is_heard()
    machine.a_job_runs()
    for _ in range(3):
        machine.a_job_validates(0)
    machine.end_the_process(killed)
    machine.all_is_heard()


@pytest.mark.parametrize("killed", [True, False])
def test_what_a_stop_cut_off_is_one_curve_and_paid_twice(
    killed: bool, world: Callable[..., World], monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = TwoThreadsAndParts(world(begin_tuner("hyperfd-mf")), monkeypatch)
    machine.begin(concurrency=1, budget=3, limit=None)
    cut_off_after_three_validations(machine, killed)
    machine.teardown()
    # The price of three, of which 3 were cut off.
    assert machine.manager.validations <= 3 * 4


@pytest.mark.parametrize("killed", [True, False])
def test_what_a_stop_cut_off_is_paid_before_anything_is_handed_out_again(
    killed: bool, world: Callable[..., World], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The job that was cut off trains, and has not validated again when others are asked for."""
    machine = TwoThreadsAndParts(world(begin_tuner("hyperfd-mf")), monkeypatch)
    machine.begin(concurrency=2, budget=2, limit=None)
    cut_off_after_three_validations(machine, killed)
    machine.a_job_runs()
    while machine.manager.may_start():
        machine.a_job_runs()
        machine.a_job_reports(1)
        machine.a_job_ends(0)
        machine.all_is_heard()
    assert machine.manager.validations <= 2 * 4 - 4, "the first is still to be trained"
    machine.teardown()


def test_the_tuner_goes_on_with_trainings(
    world: Callable[..., World], monkeypatch: pytest.MonkeyPatch
) -> None:
    explore(world(begin_tuner("hyperfd-mf")), monkeypatch, EXAMPLES // 2, TwoThreadsAndParts)
