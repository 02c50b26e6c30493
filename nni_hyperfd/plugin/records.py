"""NNI's own records of an experiment, read from its folder; they outlive the tuner process.

NNI's manager writes ``db/nni.sqlite`` before it tells the tuner anything, so what a killed tuner missed is here.
Nothing in this module writes.
"""

from __future__ import annotations

import glob
import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nni_hyperfd.customer.result import Regime
from nni_hyperfd.errors import PluginError
from nni_hyperfd.spaces.stages import Stage
from nni_hyperfd.spaces.unread import TRIAL_BUDGET, configuration_of

HOME = Path("~/nni-experiments")
"""NNI's folder of experiments, and of the list of those that lie elsewhere."""

_END_EVENTS = frozenset({"SUCCEEDED", "FAILED", "USER_CANCELED", "SYS_CANCELED", "EARLY_STOPPED"})
_START_EVENTS = frozenset({"WAITING", "RUNNING", "ADD_RESUMED"})
"""Others, such as USER_TO_CANCEL, say nothing of a job's state, and may be written after its end."""


@dataclass(frozen=True)
class Attempt:
    """What became of one configuration that the tuner handed out.

    Args:
        parameter_id: By which NNI knew it; ids begin anew when an experiment is resumed.
        parameters: As the tuner gave them to NNI.
        ended: Its trial job has stopped.
        value: Its final metric as the trial that ran it reported it; None where there is none.
        reported: The trial job that is listed with it brought a final metric, be it of another configuration.
        curve: Its intermediate metrics, in order; those of its last run where a resumed experiment began the job again.
        cut_off: How many there were of each run before that one.
    """

    parameter_id: int
    parameters: dict[str, Any]
    ended: bool
    value: Any | None
    reported: bool
    curve: tuple[Any, ...] = ()
    cut_off: tuple[int, ...] = ()

    @property
    def configuration(self) -> dict[str, Any]:
        """The parameters without the length of the training."""
        return configuration_of(self.parameters)

    @property
    def stage(self) -> Stage | None:
        """The part of a training that it is; None where it is none."""
        return Stage.of(self.parameters)

    @property
    def epochs(self) -> int | None:
        """Length of a shortened training; None for one of full length."""
        stage = self.stage
        if stage is not None:
            return stage.stop if stage.stop < stage.full else None
        return self.parameters.get(TRIAL_BUDGET)


@dataclass(frozen=True)
class TrialJob:
    """One trial job, as it went.

    Args:
        job_id: NNI's id, which is also the name of its folder.
        parameters: Those that it ran as far as it says so, or else those that NNI lists for it.
        ended: It has stopped.
        value: Its final metric; None where there is none.
        curve: Its intermediate metrics, in order.
    """

    job_id: str
    parameters: dict[str, Any]
    ended: bool
    value: Any | None
    curve: tuple[Any, ...]


@dataclass
class _Job:
    parameter_id: int
    parameters: dict[str, Any]
    begun: list[int] = field(default_factory=list)
    resumed: int = 0
    ended: bool = False


@dataclass(frozen=True)
class _Report:
    """Job, job whose configuration it ran, kind, number within its kind, value, and whether the job was begun again since."""

    job_id: str
    owner: str
    kind: str
    sequence: int | None
    value: Any
    over: bool


@dataclass
class _Reports:
    """What was reported for one configuration or by one job.

    A resumed experiment begins jobs again that had not ended, with numbers from 0 on. The first final metric is for good, so
    what comes after it is of nobody's interest.
    """

    value: Any | None = None
    runs: list[list[Any]] = field(default_factory=lambda: [[]])
    over: bool = False

    def take(self, report: _Report) -> None:
        if self.value is not None:
            return
        if (self.over and not report.over) or (report.kind == "PERIODICAL" and report.sequence == 0):
            self.runs.append([])
        self.over = report.over
        if report.kind == "FINAL":
            self.value, self.over = report.value, False
        elif report.kind == "PERIODICAL":
            self.runs[-1].append(report.value)

    @property
    def curve(self) -> tuple[Any, ...]:
        return () if self.over else tuple(self.runs[-1])

    @property
    def cut_off(self) -> tuple[int, ...]:
        return tuple(len(run) for run in (self.runs if self.over else self.runs[:-1]) if run)


def find_experiment(experiment_id: str, experiments: Path | None = None) -> Path:
    """Folder of an NNI experiment.

    Args:
        experiment_id: As NNI shows it.
        experiments: Folder of experiments (``experimentWorkingDirectory``); None to ask NNI's list.

    Raises:
        PluginError: There is no such experiment.
    """
    home = HOME.expanduser()
    folders = [experiments] if experiments else [home, *_listed(home / ".experiment", experiment_id)]
    for folder in folders:
        if (folder / experiment_id / "db" / "nni.sqlite").is_file():
            return folder / experiment_id
    raise PluginError(
        f"no NNI experiment {experiment_id!r} under {', '.join(map(str, folders))}; check the id with `nnictl experiment list --all`, "
        "or name the folder of a moved one with --experiments."
    )


def all_experiments(experiments: Path | None = None) -> list[Path]:
    """Folders of all NNI experiments on this machine; ``experiments`` as for :func:`find_experiment`."""
    home = HOME.expanduser()
    folders = [experiments] if experiments else [home, *_all_listed(home / ".experiment")]
    found = {path.parent.parent.resolve() for folder in folders for path in folder.glob("*/db/nni.sqlite")}
    return sorted(found)


def _all_listed(experiment_list: Path) -> list[Path]:
    try:
        return [Path(entry["logDir"]) for entry in json.loads(experiment_list.read_text()).values()]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []


def _listed(experiment_list: Path, experiment_id: str) -> Iterator[Path]:
    try:
        yield Path(json.loads(experiment_list.read_text())[experiment_id]["logDir"])
    except (OSError, ValueError, KeyError, TypeError):
        return


class Records:
    """Reader of one experiment's records.

    Raises:
        PluginError: ``folder`` is not an NNI experiment, or its database cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._database = folder / "db" / "nni.sqlite"
        if not self._database.is_file():
            raise PluginError(f"{folder} is not the folder of an NNI experiment: it has no db/nni.sqlite.")

    @property
    def experiment_id(self) -> str:
        """NNI's id of the experiment."""
        return self.folder.name

    def config(self) -> dict[str, Any]:
        """The experiment's config as NNI runs it now: paths absolute, changes made on the page included.

        Raises:
            PluginError: NNI's database cannot be read.
        """
        rows = self._query("select params from ExperimentProfile order by revision desc limit 1")
        return json.loads(rows[0][0]) if rows else {}

    def training(self) -> Regime:
        """How the experiment's trials train, as far as its trial command says."""
        return Regime.from_command(str(self.config().get("trialCommand", "")))

    def started(self) -> int:
        """Trial jobs that NNI has started, whoever asked for them.

        Raises:
            PluginError: NNI's database cannot be read.
        """
        return self._query("select count(distinct trialJobId) from TrialJobEvent where trialJobId != ''")[0][
            0
        ]

    def outcomes(self) -> list[Attempt]:
        """All configurations of the tuner that became trial jobs, in the order of the jobs.

        A result is attached to the configuration that the trial says it ran, which need not be the one that NNI
        lists for its job (see ``trials.py``).  Trials added by hand on the page are left out.

        Raises:
            PluginError: NNI's database cannot be read.
        """
        # The jobs first: where one has ended by then, its metric is there by now.
        jobs = self._jobs()
        reports: dict[str, _Reports] = {}
        reporters = set()
        for report in self._metrics(jobs):
            reports.setdefault(report.owner, _Reports()).take(report)
            if report.kind == "FINAL":
                reporters.add(report.job_id)
        return [
            Attempt(
                job.parameter_id,
                job.parameters,
                job.ended,
                found.value,
                job_id in reporters,
                found.curve,
                found.cut_off,
            )
            for job_id, job in jobs.items()
            for found in (reports.get(job_id, _Reports()),)
        ]

    def trial_jobs(self) -> list[TrialJob]:
        """All trial jobs with configurations of the tuner, in their order, each with what it itself reported.

        Raises:
            PluginError: NNI's database cannot be read.
        """
        jobs = self._jobs()
        ran: dict[str, dict[str, Any]] = {}
        reports: dict[str, _Reports] = {}
        for report in self._metrics(jobs):
            ran[report.job_id] = jobs[report.owner].parameters
            reports.setdefault(report.job_id, _Reports()).take(report)
        return [
            TrialJob(job_id, ran.get(job_id, job.parameters), job.ended, found.value, found.curve)
            for job_id, job in jobs.items()
            for found in (reports.get(job_id, _Reports()),)
        ]

    def _metrics(self, jobs: Mapping[str, _Job]) -> Iterator[_Report]:
        """All that trials reported, in order."""
        for job_id, reported_id, kind, sequence, text, at in self._query(
            "select trialJobId, parameterId, type, sequence, data, timestamp from MetricData order by rowid"
        ):
            owner = _owner(jobs, job_id, reported_id, at or 0)
            if owner is not None:
                over = (at or 0) < jobs[job_id].resumed
                yield _Report(job_id, owner, kind, sequence, json.loads(json.loads(text)), over)

    def trial_folder(self, job_id: str) -> Path | None:
        """The output folder of a trial job, where it is on this machine."""
        return next(iter(sorted(self.folder.glob(f"environments/*/trials/{glob.escape(job_id)}"))), None)

    def seconds(self) -> float:
        """How long NNI says that the experiment has run.

        Raises:
            PluginError: NNI's database cannot be read.
        """
        rows = self._query("select execDuration from ExperimentProfile order by revision desc limit 1")
        return float(rows[0][0] or 0) if rows else 0.0

    def no_trial_left(self) -> bool:
        """NNI will start no further trial of its own accord, because of ``maxTrialNumber``, and none is running.

        Raises:
            PluginError: NNI's database cannot be read.
        """
        limit = self.config().get("maxTrialNumber")
        if limit is None or self.started() < limit:
            return False
        return all(job.ended for job in self._jobs().values())

    def _jobs(self) -> dict[str, _Job]:
        jobs: dict[str, _Job] = {}
        for job_id, event, text, at in self._query(
            "select trialJobId, event, data, timestamp from TrialJobEvent where trialJobId != '' order by rowid"
        ):
            if job_id not in jobs:
                form = json.loads(text) if text else {}
                if not isinstance(form.get("parameter_id"), int):
                    continue
                jobs[job_id] = _Job(form["parameter_id"], form["parameters"])
            if event in _START_EVENTS and text:
                jobs[job_id].begun.append(at or 0)
            if event == "ADD_RESUMED":
                jobs[job_id].resumed = at or 0
            # A resumed experiment starts jobs again that had not ended.
            if event in _END_EVENTS or event in _START_EVENTS:
                jobs[job_id].ended = event in _END_EVENTS
        return jobs

    def _query(self, statement: str) -> list[tuple[Any, ...]]:
        # Not opened read-only: SQLite could not read past the unfinished write of a killed manager then.
        try:
            with closing(
                sqlite3.connect(f"file:{self._database}?mode=rw", uri=True, timeout=10)
            ) as connection:
                return connection.execute(statement).fetchall()
        except sqlite3.Error as error:
            raise PluginError(f"cannot read NNI's records at {self._database}: {error}.") from None


def _owner(jobs: Mapping[str, _Job], job_id: str, reported_id: str | None, moment: int) -> str | None:
    """Job whose listed configuration is the one that job ``job_id`` ran.

    Parameter ids, and NNI's numbers of jobs, begin anew when an experiment is resumed: the job that was begun last until ``moment``,
    when it was reported, is meant.
    """
    if job_id not in jobs or reported_id is None:
        return None
    same = [other for other, job in jobs.items() if str(job.parameter_id) == reported_id]

    def begun(place: int) -> tuple[int, int]:
        return max((at for at in jobs[same[place]].begun if at <= moment), default=-1), place

    return same[max(range(len(same)), key=begun)] if same else None
