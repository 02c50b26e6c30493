"""NNI's dispatcher without its manager: callbacks in an order that the test chooses, records as the manager writes them."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import nni
import pytest
from nni.runtime.msg_dispatcher import MsgDispatcher
from nni.runtime.msg_dispatcher_base import MsgDispatcherBase
from nni.runtime.tuner_command_channel import CommandType

from nni_hyperfd.plugin import session
from nni_hyperfd.plugin.tuner import HyperFDTuner
from nni_hyperfd.spaces.space import standard_search_space

TABLES = """
create table TrialJobEvent (timestamp integer, trialJobId text, event text, data text, logPath text, sequenceId integer,
    message text, environmentId text);
create table MetricData (timestamp integer, trialJobId text, parameterId text, type text, sequence integer, data text);
create table ExperimentProfile (params text, id text, execDuration integer, startTime integer, endTime integer,
    logDir text, nextSequenceId integer, revision integer);
"""


class Nni:
    """The part of NNI that a tuner sees: a real dispatcher, whose messages end here, and the manager's database."""

    def __init__(self, folder: Path, config: Mapping[str, Any]) -> None:
        self.folder = folder
        self.sent: list[tuple[CommandType, Any]] = []
        self.jobs: dict[int, str] = {}
        self._dispatcher: MsgDispatcherBase | None = None
        if not (folder / "db").exists():
            (folder / "db").mkdir(parents=True)
            (folder / "log").mkdir()
            self.execute(TABLES, script=True)
        self.execute("insert into ExperimentProfile (params, revision) values (?, 1)", json.dumps(config))

    def execute(self, statement: str, *values: Any, script: bool = False) -> None:
        with closing(sqlite3.connect(self.folder / "db" / "nni.sqlite")) as connection, connection:
            if script:
                connection.executescript(statement)
            else:
                connection.execute(statement, values)

    def begin_advisor(self, advisor: Any) -> None:
        """Initialize an advisor, which is a dispatcher itself."""
        self.advisor, self.sent = advisor, []
        self._dispatcher = advisor
        advisor.send = self._receive
        self.do(CommandType.Initialize, standard_search_space("hpo"))

    def begin(self, tuner: HyperFDTuner, search_space: Mapping[str, Any] | None = None) -> None:
        """Initialize a tuner as a new dispatcher process does."""
        self.tuner, self.sent = tuner, []
        self._dispatcher = MsgDispatcher("ws://_unittest_placeholder_", tuner)
        self._dispatcher.send = self._receive  # type: ignore[method-assign]
        self.do(CommandType.Initialize, dict(search_space or standard_search_space("hpo")))

    def _receive(self, command: CommandType, data: str) -> None:
        self.sent.append((command, nni.load(data) if command is CommandType.NewTrialJob else data))

    def kill(self) -> None:
        """The process of the tuner is gone; the manager does not notice at once."""
        assert self._dispatcher is not None
        self._dispatcher.process_command = lambda command, data: None  # type: ignore[method-assign]
        (self.folder / "hyperfd.pid").unlink()

    def do(self, command: CommandType, data: Any) -> None:
        assert self._dispatcher is not None
        self._dispatcher.process_command(command, data)

    def errors(self) -> list[str]:
        return [data for command, data in self.sent if command is CommandType.Error]

    def proposals(self) -> list[dict[str, Any]]:
        """All trials that the tuner has asked for, as NNI lists them."""
        return [data for command, data in self.sent if command is CommandType.NewTrialJob]

    def request(self, count: int = 1) -> list[int]:
        """Ask for trials; returns the parameter ids of those that came, and starts a job for each."""
        before = len(self.proposals())
        self.do(CommandType.RequestTrialJobs, count)
        return self.start_new(before)

    def start_new(self, before: int) -> list[int]:
        """Start jobs for all proposals after the first ``before``."""
        new = self.proposals()[before:]
        for form in new:
            parameter_id, job = form["parameter_id"], f"job{form['parameter_id']}"
            self.jobs[parameter_id] = job
            self.execute(
                "insert into TrialJobEvent (trialJobId, event, data, sequenceId) values (?, 'RUNNING', ?, ?)",
                job,
                json.dumps(form),
                len(self.jobs),
            )
        return [form["parameter_id"] for form in new]

    def report(self, parameter_id: int, value: Any) -> None:
        """The final metric of the trial that runs a parameter."""
        text = json.dumps(value)
        job = self.jobs[parameter_id]
        self.execute(
            "insert into MetricData (trialJobId, parameterId, type, data) values (?, ?, 'FINAL', ?)",
            job,
            str(parameter_id),
            json.dumps(text),
        )
        metric = {
            "parameter_id": parameter_id,
            "trial_job_id": job,
            "type": "FINAL",
            "sequence": 0,
            "value": text,
        }
        self.do(CommandType.ReportMetricData, metric)

    def end(self, parameter_id: int, event: str = "SUCCEEDED") -> None:
        """The end of the job that is listed with a parameter."""
        job = self.jobs[parameter_id]
        self.execute("insert into TrialJobEvent (trialJobId, event) values (?, ?)", job, event)
        form = json.dumps({"parameter_id": parameter_id})
        self.do(CommandType.TrialEnd, {"trial_job_id": job, "event": event, "hyper_params": form})


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test calls what a timer would call."""
    monkeypatch.setattr(session, "SETTLE_SECONDS", 3600.0)


@pytest.fixture
def nni_experiment(
    tmp_path: Path,
    drawn_faces: Path,
    make_platform: Callable[[Path], None],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[..., Nni]:
    """Makes an experiment called ``exp1`` on drawn faces with a small platform; ``config`` adds to NNI's config."""
    folder = tmp_path / "experiments" / "exp1"
    make_platform(tmp_path / "platform")
    monkeypatch.setenv("NNI_LOG_DIRECTORY", str(folder / "log"))
    monkeypatch.setenv("NNI_TUNER_COMMAND_CHANNEL", "ws://localhost:9/tuner")
    monkeypatch.setenv("HYPERFD_PLATFORM", str(tmp_path / "platform"))
    # One cache for all tests: the data set is the same.
    monkeypatch.setenv("HYPERFD_CACHE", str(tmp_path_factory.getbasetemp() / "hyperfd-cache"))

    def make(**config: Any) -> Nni:
        return Nni(
            folder,
            {
                "trialCodeDirectory": str(drawn_faces.parent),
                "trialCommand": "python finetune.py --data faces --budget smoke --seed 3",
                **config,
            },
        )

    return make
