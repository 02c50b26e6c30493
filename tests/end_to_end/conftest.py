"""Real NNI experiments: nnictl, its manager, its dispatcher and its trials, in a home of their own."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import sysconfig
import time
import urllib.request
import venv
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from nni_hyperfd.platform.state.store import Store
from nni_hyperfd.spaces.standard import standard_search_space

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PORTS = range(8100, 8900)
LIMIT = 300.0
"""Seconds after which an experiment is stuck, on a machine that is busy with other things."""
TRIAL = """
import os, sys, time
import nni
parameters = nni.get_next_parameter()
{body}
"""


class Experiment:
    """One experiment and what can be asked about it."""

    def __init__(
        self,
        experiment_id: str,
        port: int,
        folder: Path,
        nnictl: Callable[..., subprocess.CompletedProcess[str]],
    ) -> None:
        self.id, self.port, self.folder = experiment_id, port, folder
        self._nnictl = nnictl

    def get(self, path: str) -> Any:
        """Answer of NNI's REST interface."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/api/v1/nni/{path}", timeout=60) as answer:
            return json.loads(answer.read())

    def status(self) -> str:
        return str(self.get("check-status")["status"])

    def log(self, name: str = "dispatcher.log") -> str:
        path = self.folder / "log" / name
        return path.read_text() if path.exists() else ""

    def results(self) -> list[dict[str, Any]]:
        """Final metrics that NNI knows, in the order of their arrival."""
        return [json.loads(json.loads(m["data"])) for m in self.get("metric-data") if m["type"] == "FINAL"]

    def wait(self, condition: Callable[[], bool], what: str, limit: float = LIMIT) -> None:
        end = time.monotonic() + limit
        while not condition():
            if time.monotonic() > end:
                pytest.fail(
                    f"{what} did not come within {limit:g} s; dispatcher.log ends:\n{self.log()[-3000:]}"
                )
            time.sleep(0.3)

    def wait_for_status(self, *expected: str, limit: float = LIMIT) -> None:
        self.wait(lambda: self.status() in expected, f"status {' or '.join(expected)}", limit)

    def dispatcher(self) -> psutil.Process:
        """The process in which NNI runs the tuner."""
        channel = f"ws://localhost:{self.port}/tuner"
        for process in psutil.process_iter():
            try:
                if (
                    "--exp_params" in process.cmdline()
                    and process.environ().get("NNI_TUNER_COMMAND_CHANNEL") == channel
                    and process.name() != "sh"
                ):
                    return process
            except psutil.Error:
                continue
        raise AssertionError("there is no dispatcher")

    def stop(self) -> None:
        self._nnictl("stop", self.id).check_returncode()


class Desk:
    """A customer's desk: a home folder, a data set, a platform, and NNI in the environment of an interpreter."""

    def __init__(self, home: Path, platform: Path, data: Path, python: str = sys.executable) -> None:
        self.home, self.platform, self.data, self.python = home, platform, data, python
        self.experiments = home / "experiments"
        self.environment = {
            **os.environ,
            "HOME": str(home),
            "NNI_CONFIG_DIR": str(home / "nni-config"),
            "HYPERFD_PLATFORM": str(platform),
            "HYPERFD_CACHE": str(home / "cache"),
            "OMP_NUM_THREADS": "1",
            "PATH": f"{Path(python).parent}{os.pathsep}{os.environ['PATH']}",
            # The page of a test is nobody else's business.
            "NODE_OPTIONS": f'--require "{ROOT / "examples" / "loopback_only.cjs"}" --require "{HERE / "patience.cjs"}"',
        }
        self.started: list[Experiment] = []

    def start(
        self,
        trial: str,
        class_args: Mapping[str, Any] | None = None,
        tuner: Mapping[str, Any] | None = None,
        **config: Any,
    ) -> Experiment:
        """Start an experiment whose trial script runs ``trial`` after ``parameters = nni.get_next_parameter()``."""
        code = self.home / "code"
        code.mkdir(exist_ok=True)
        (code / "trial.py").write_text(TRIAL.format(body=trial))
        content = {
            "experimentName": "test",
            "searchSpace": standard_search_space("hpo"),
            "trialCommand": f"{sys.executable} trial.py",
            "trialCodeDirectory": str(code),
            "trialConcurrency": 1,
            "experimentWorkingDirectory": str(self.experiments),
            "tuner": {
                **(tuner or {"className": "nni_hyperfd.HyperFDTuner", "codeDirectory": str(ROOT)}),
                "classArgs": {"data": str(self.data), **(class_args or {})},
            },
            "trainingService": {"platform": "local"},
            **config,
        }
        file = self.home / "experiment.yml"
        file.write_text(yaml.safe_dump(content))
        self.experiments.mkdir(exist_ok=True)
        return self.nnictl_start("create", "--config", str(file))

    def nnictl_start(self, *arguments: str) -> Experiment:
        """Create or resume an experiment."""
        port = free_port()
        run = self.nnictl(*arguments, "--port", str(port))
        assert run.returncode == 0, run.stdout + run.stderr
        return self.latest(port)

    def latest(self, port: int) -> Experiment:
        """The experiment that was started last, at this port."""
        folder = (self.experiments / "_latest").resolve()
        experiment = Experiment(folder.name, port, folder, self.nnictl)
        self.started.append(experiment)
        return experiment

    def nnictl(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [self.python, "-W", "ignore", str(HERE / "patient_nnictl.py"), *arguments]
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=120)

    def hyperfd(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "nni_hyperfd.cli", *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=300,
            cwd=ROOT,
        )

    def version(self) -> int:
        """Newest ranker version of the platform."""
        with closing(Store(self.platform)) as store:
            return store.newest().number

    def tried(self, experiment_id: str) -> dict[float | None, dict[str, Any]]:
        """What the platform knows of an experiment's trials: parameters by AP, failures under None."""
        with closing(Store(self.platform)) as store:
            task = store.find_task(experiment_id)
            return {} if task is None else {t.ap: dict(t.parameters) for t in store.trials(task.id)}

    def clear(self) -> None:
        """Stop everything that was started, whatever state it is in."""
        for experiment in self.started:
            self.nnictl("stop", experiment.id)
        # A manager that nnictl has lost sight of is ended by the port that it was given.
        ports = {str(experiment.port) for experiment in self.started}
        for process in psutil.process_iter():
            try:
                command = process.cmdline()
            except psutil.Error:
                continue
            if (
                "--port" in command
                and command[command.index("--port") + 1] in ports
                and "main.js" in " ".join(command)
            ):
                process.send_signal(signal.SIGKILL)


def free_port() -> int:
    # Other processes look for one as well, and NNI takes it seconds later: each begins elsewhere.
    start = os.getpid() * 101 % len(PORTS)
    for port in (*PORTS[start:], *PORTS[:start]):
        with socket.socket() as one:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                one.bind(("", port))
            except OSError:
                continue
            return port
    raise AssertionError("no port is free")


@pytest.fixture(scope="session")
def make_environment() -> Callable[[Path, Sequence[Path]], Path]:
    """``make_environment(folder, paths)``: an environment with what is below ``paths`` and, after that, all that runs the tests."""

    def make(folder: Path, paths: Sequence[Path] = ()) -> Path:
        venv.create(folder)
        (packages,) = folder.glob("lib/python*/site-packages")
        # Paths in a .pth come after those of the environment, and a .pth of theirs is not read: this package, which
        # stands there in development mode, stays out.
        lines = [*paths, sysconfig.get_path("purelib")]
        (packages / "others.pth").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        return folder

    return make


@pytest.fixture
def port() -> int:
    """A port that nobody listens at."""
    return free_port()


@pytest.fixture
def desk(tmp_path: Path, drawn_faces: Path, make_platform: Callable[[Path], None]) -> Iterator[Desk]:
    """A fresh home and a small platform; experiments are stopped at the end."""
    make_platform(tmp_path / "platform")
    one = Desk(tmp_path, tmp_path / "platform", drawn_faces)
    yield one
    one.clear()
