"""A platform on a server, and trials on another machine, in real NNI experiments."""

from __future__ import annotations

import getpass
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml

from nni_hyperfd.platform.state.store import Store

ROOT = Path(__file__).parents[2]
LIMIT = 300.0
SSHD = Path("/usr/sbin/sshd")
REPORT = "nni.report_final_result({'default': 0.4 + nni.get_sequence_id() / 8, 'seconds': 1.0})"


def test_an_experiment_with_a_platform_on_a_server(desk: Any, server: Any) -> None:
    server.start()
    desk.environment["HYPERFD_TOKEN"] = server.token("customer")
    experiment = desk.start(REPORT, {"budget": 2, "platform": server.url})
    experiment.wait_for_status("DONE", "ERROR")
    assert experiment.status() == "DONE", experiment.log()
    with closing(Store(server.folder)) as store:
        assert store.newest().number == 1
        (task,) = store.tasks("done")
        assert sorted(trial.ap for trial in store.trials(task.id)) == [0.4, 0.525]
        assert task.customer == "customer"
    ledger = desk.hyperfd("ledger", experiment.id, "--json")
    calls = [json.loads(line)["call"] for line in ledger.stdout.splitlines()]
    assert calls[:4] == ["extractor", "ranker_state", "open_task", "recommend"], ledger.stderr
    assert calls[-1] == "commit"
    assert calls.count("record") == 4, "each result when it came, and once more at the end"
    # The token is in the environment, so NNI has nothing to show.
    secret = desk.environment["HYPERFD_TOKEN"].split(".")[1]
    for path in experiment.folder.rglob("*"):
        assert not path.is_file() or secret.encode() not in path.read_bytes(), path


class Sshd:
    """An OpenSSH server of the test's own, on loopback, for the account that runs the test."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.key = folder / "key"
        for path in (self.key, folder / "host_key"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
        shutil.copy(f"{self.key}.pub", folder / "authorized_keys")
        with socket.socket() as one:
            one.bind(("127.0.0.1", 0))
            self.port = one.getsockname()[1]
        (folder / "config").write_text(
            f"ListenAddress 127.0.0.1\nPort {self.port}\nHostKey {folder}/host_key\n"
            f"AuthorizedKeysFile {folder}/authorized_keys\nPidFile {folder}/pid\nStrictModes no\nUsePAM no\n"
            "PasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\n"
            "Subsystem sftp internal-sftp\nMaxStartups 50\nMaxSessions 50\n"
            "SetEnv PIP_NO_INDEX=1\n"  # NNI says `pip install nni --upgrade` there, and it is there
        )
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(
                exist_ok=True
            )  # sshd, started by hand, misses what the system's own makes
        self._process = subprocess.Popen(
            [str(SSHD), "-D", "-f", str(folder / "config"), "-E", str(folder / "log")]
        )
        end = time.monotonic() + 300
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=5).close()
                return
            except OSError:
                assert self._process.poll() is None, (folder / "log").read_text()
                assert time.monotonic() < end
                time.sleep(0.05)

    def close(self) -> None:
        self._process.terminate()
        self._process.wait()


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[Sshd]:
    if not SSHD.exists():
        pytest.skip("trials by ssh are tested where OpenSSH's server is installed (Debian: openssh-server)")
    one = Sshd(tmp_path / "sshd")
    yield one
    one.close()


@pytest.fixture
def remove_afterwards() -> Iterator[Callable[[Path], None]]:
    """For what NNI leaves on a remote machine."""
    folders: list[Path] = []
    yield folders.append
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def test_the_example_with_trials_on_another_machine(
    desk: Any, sshd: Sshd, remove_afterwards: Callable[[Path], None]
) -> None:
    """examples/hyperfd_remote.yml with this machine as the other one: its addresses, account and folder are put in."""
    config = yaml.safe_load((ROOT / "examples" / "hyperfd_remote.yml").read_text())
    (desk.home / "other").mkdir()
    proof = desk.home / "other" / "came_by"
    config |= {
        "searchSpaceFile": str(ROOT / "search_spaces" / "hpo.json"),
        "trialCodeDirectory": str(ROOT / "trial_code"),
        "experimentWorkingDirectory": str(desk.home / "experiments"),
        "nniManagerIp": "127.0.0.1",
        "trialConcurrency": 1,
    }
    for example, here in (
        ("/home/me/hyperfd/.venv/bin/python", sys.executable),
        ("/data/faces", str(desk.data)),
        ("--budget short", f"--budget smoke --cache {desk.home / 'other' / 'cache'}"),
    ):
        assert example in config["trialCommand"]
        config["trialCommand"] = config["trialCommand"].replace(example, here)
    config["trialCommand"] = f"echo $SSH_CONNECTION > {proof}; {config['trialCommand']}"
    config["tuner"]["codeDirectory"] = str(ROOT)
    config["tuner"]["classArgs"] |= {"data": str(desk.data), "budget": 1}
    machine = config["trainingService"]["machineList"][0] | {
        "host": "127.0.0.1",
        "port": sshd.port,
        "user": getpass.getuser(),
        "sshKeyFile": str(sshd.key),
        "pythonPath": str(Path(sys.executable).parent),
    }
    config["trainingService"]["machineList"] = [machine]
    file = desk.home / "remote.yml"
    file.write_text(yaml.safe_dump(config))
    (desk.home / "experiments").mkdir()

    experiment = desk.nnictl_start("create", "--config", str(file))
    remove_afterwards(Path.home() / "nni-experiments" / experiment.id)
    experiment.wait_for_status("DONE", "ERROR", limit=3 * LIMIT)  # a real training
    assert experiment.status() == "DONE", experiment.log()
    assert proof.read_text().split()[3] == str(sshd.port)
    assert desk.version() == 1
    ((ap, _),) = desk.tried(experiment.id).items()
    assert ap is not None
    assert 0 <= ap <= 1
