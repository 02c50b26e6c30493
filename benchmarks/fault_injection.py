"""``kill -9`` of servers and clients at random moments of their experiments, and what is left afterwards.

    python benchmarks/fault_injection.py [--kills 200] [--seed 0] [--work FOLDER] [--out benchmarks/results]

In every round an experiment (or two at once, of two customers, at two servers over one database) opens its task, reports
three results and updates the platform; one process is killed at a random moment. What it had been told by then must
be in the database; then the killed one is started again, everything ends, and each experiment must have made exactly
one version. A round is named by its number and the seed, and a run that is interrupted goes on where it was.

The processes are forks of this one, which has loaded everything, and the updates are small: a round takes about a second.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import socket
import sqlite3
import statistics
import tempfile
import time
from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import requests
import torch
from forks import ended, fork, kill
from small_platform import BASE_ID, HPO, PUBLISH_ALL, QUICK, create, random_features, random_offline

from nni_hyperfd.customer import http
from nni_hyperfd.customer.client import TaskClient
from nni_hyperfd.customer.http import HTTPPlatform
from nni_hyperfd.platform.platform import Platform
from nni_hyperfd.platform.state.pruning import Keeping
from nni_hyperfd.platform.state.store import FILE_NAME, Store
from nni_hyperfd.platform.state.versions import EMPTY
from nni_hyperfd.protocol.calls import PlatformAPI
from nni_hyperfd.server.limits import Limits
from nni_hyperfd.server.serve import ServerSettings, make_server
from nni_hyperfd.server.tokens import new_token

KINDS = ("one process", "client", "server", "client of two", "server of two")
RESULTS = 3
LEASE_SECONDS = 3.0
PATIENCE = 120.0


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, help="folder that is kept, to go on after an interruption")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        work = options.work or Path(scratch)
        work.mkdir(parents=True, exist_ok=True)
        rounds = run(work, options.kills, options.seed)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "fault_injection.json").write_text(json.dumps(rounds, indent=1) + "\n")
    (options.out / "fault_injection.md").write_text(page(rounds, options.seed))
    print(page(rounds, options.seed))
    return int(any(entry["faults"] for entry in rounds))


def run(work: Path, kills: int, seed: int) -> list[dict[str, Any]]:
    """Rounds 0 to ``kills`` - 1; those that are in the journal already are not done again."""
    journal = work / "rounds.jsonl"
    lines = journal.read_text().splitlines() if journal.exists() else []
    rounds = {entry["round"]: entry for entry in map(json.loads, lines)}
    arena = Arena(work / "platform", seed)
    try:
        for place, kind in enumerate(KINDS):
            arena.round(-1000 * os.getpid() - place, kind)
        for number in range(kills):
            if number in rounds:
                continue
            entry = rounds[number] = {"round": number} | arena.round(number)
            with journal.open("a") as file:
                file.write(json.dumps(entry) + "\n")
            print(number, entry["killed"], entry["state"], entry["faults"] or "", flush=True)
    finally:
        arena.close()
    return [rounds[number] for number in range(kills)]


# --------------------------------------------------------------------------------------------------- processes


@dataclass
class Server:
    """A server of the arena's platform, at the same port however often it is started."""

    folder: Path
    child: int | None = None
    port: int = 0

    def start(self) -> None:
        """Start, and wait until it answers."""
        if not self.port:
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                self.port = free.getsockname()[1]
        self.child = fork(self._serve)
        end = time.monotonic() + PATIENCE
        while True:
            try:
                requests.get(f"{self.url}/healthz", timeout=5).raise_for_status()
                return
            except requests.RequestException:
                if time.monotonic() > end:
                    raise
                time.sleep(0.02)

    def stop(self) -> None:
        """``kill -9``."""
        if self.child is not None:
            kill(self.child)
            self.child = None

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}"

    def _serve(self) -> None:
        store = Store(self.folder)
        platform = Platform(store, QUICK, LEASE_SECONDS, PUBLISH_ALL)
        make_server(store, platform, ServerSettings(port=self.port, limits=Limits(1e5, 10**5))).run()


# ------------------------------------------------------------------------------------------------------ a round


class Arena:
    """A platform, two servers over it that are started when they are needed, and two customers."""

    def __init__(self, folder: Path, seed: int) -> None:
        self._folder, self._seed, self._run = folder, seed, os.getpid()
        create(folder, random_offline(datasets=12, images=60), "no_attention")
        self._features = random_features(15, seed=2)
        self._servers = [Server(folder), Server(folder)]
        with closing(Store(folder)) as store:
            # A run that goes on after an interruption has lost the tokens, so that its customers get new names.
            names = [f"c{len(store.customers())}", f"c{len(store.customers()) + 1}"]
            self._tokens = [new_token(store, name) for name in names]
        self._digests: dict[int, tuple[str, str]] = {}
        self._gaps: dict[str, list[float]] = {}

    def close(self) -> None:
        """Stop the servers."""
        for server in self._servers:
            server.stop()

    def round(self, number: int, kind: str | None = None) -> dict[str, Any]:
        """One experiment or two, one death; with a given ``kind``, a rehearsal without one."""
        rng = np.random.default_rng([self._seed, max(number, 0)])
        alive, kind = kind is not None, kind or KINDS[rng.integers(len(KINDS))]
        # Most deaths come in the update: between what the first customer is told last and the receipt.
        stage = RESULTS + 1 if rng.uniform() < 0.75 else int(rng.integers(RESULTS + 1))
        share = float(rng.uniform(0, 1.1))
        count = 2 if kind.endswith("two") else 1
        reports = [self._folder.parent / f"told-{i}.jsonl" for i in range(count)]
        for report in reports:
            report.write_bytes(b"")
        if kind != "one process":
            for server in self._servers[:count]:
                if server.child is None:
                    server.start()

        def start(i: int) -> int:
            def work() -> None:
                experiment(self._platform(kind, i), self._features, self._name(number, i), reports[i])

            return fork(work)

        began = time.monotonic()
        clients: dict[int, int] = {i: start(i) for i in range(count)}
        faults: list[str] = []
        moment, killed = 0.0, False
        if not alive:
            while len(told(reports[0])) < stage and time.monotonic() - began < PATIENCE:
                time.sleep(0.001)
            gaps = self._gaps.get("update" if stage > RESULTS else "call", [0.1])
            moment = share * statistics.median(gaps[-9:])
            time.sleep(moment)
            if kind.startswith("server"):
                killed = kill(self._servers[0].child or 0) is None
                self._servers[0].child = None
            else:
                status = kill(clients.pop(0))
                killed = status is None
                if status:
                    faults.append("experiment 0 failed before anybody was killed")
        state, more = self._look(number, reports, ended_all=False)
        faults += more
        if kind.startswith("server") and not alive:
            self._servers[0].start()
        elif killed:
            clients[0] = start(0)
        restarts = 0
        for i, client in clients.items():
            while (status := ended(client, PATIENCE)) != 0:
                if status is None or restarts == 5:
                    faults.append(f"experiment {i} does not end ({status})")
                    if status is None:
                        kill(client)
                    break
                restarts += 1
                client = start(i)
        self._learn_pace(told(reports[0]))
        faults += self._look(number, reports, ended_all=True)[1]
        return {
            "kind": kind,
            "stage": stage,
            "moment": round(moment, 4),
            "killed": killed,
            "state": state,
            "restarts": restarts,
            "seconds": round(time.monotonic() - began, 3),
            "faults": faults,
        }

    def _learn_pace(self, entries: list[dict[str, Any]]) -> None:
        """How long a call and an update take here and now, from what a customer was told in one go."""
        for before, after in itertools.pairwise(entries):
            gap = after["at"] - before["at"]
            self._gaps.setdefault("update" if "version" in after else "call", []).append(gap)

    def _name(self, number: int, i: int) -> str:
        # A round that was interrupted is done again, by new experiments.
        return f"round{number}-{i}-{self._run}"

    def _platform(self, kind: str, i: int) -> PlatformAPI:
        if kind == "one process":
            return Platform(Store(self._folder), QUICK, LEASE_SECONDS, PUBLISH_ALL)
        http.PAUSES = (0.05,) * 200  # type: ignore[assignment]
        return HTTPPlatform(self._servers[i].url, self._tokens[i])

    def _look(self, number: int, reports: list[Path], ended_all: bool) -> tuple[list[str], list[str]]:
        """How far each experiment of the round got, and everything that is not as it must be."""
        faults: list[str] = []
        states = []
        # First what they were told, then the state: the other way round, a live one could be told of more in between.
        all_told = [told(report) for report in reports]
        with closing(sqlite3.connect(self._folder / FILE_NAME, timeout=30, isolation_level=None)) as database:
            database.execute("BEGIN")  # one view of tasks, results and versions, as others may be writing
            versions = database.execute(
                "SELECT number, parent, task_id, ranker_sha256, omega_sha256 FROM ranker_versions ORDER BY number"
            ).fetchall()
            faults += self._chain(versions)
            for i, entries in enumerate(all_told):
                task = database.execute(
                    "SELECT id, status, version_after FROM tasks WHERE experiment_id = ?",
                    (self._name(number, i),),
                ).fetchone()
                states.append(f"{len(entries)} told, {'no task' if task is None else task[1]}")
                if task is None:
                    faults += [f"experiment {i} was told of what is not there"] if entries else []
                    faults += [f"experiment {i} is missing"] if ended_all else []
                    continue
                faults += self._results(database, task, entries)
                made = [version for version in versions if version[2] == task[0]]
                if len(made) != (task[1] == "done") or (made and made[0][0] != task[2]):
                    faults.append(f"experiment {i} is {task[1]} and has versions {[v[0] for v in made]}")
                receipts = {entry["version"] for entry in entries if "version" in entry}
                if receipts - {task[2]}:
                    faults.append(f"experiment {i} was told of versions {receipts} and has {task[2]}")
                if ended_all and (task[1] != "done" or len(receipts) != 1):
                    faults.append(f"experiment {i} has ended as {task[1]}, and was told of {receipts}")
        return states, faults

    def _results(
        self, database: sqlite3.Connection, task: tuple[Any, ...], entries: list[dict[str, Any]]
    ) -> list[str]:
        rows = dict(database.execute("SELECT trial_key, ap FROM experience WHERE task_id = ?", (task[0],)))
        lost = [entry for entry in entries if "key" in entry and rows.get(entry["key"]) != entry["ap"]]
        return [f"acknowledged results are lost: {lost}"] if lost else []

    def _chain(self, versions: list[tuple[Any, ...]]) -> list[str]:
        faults = []
        for place, (number, parent, _, *digests) in enumerate(versions):
            if number != place or parent != (place - 1 if place else None):
                faults.append(f"version {number} has parent {parent}")
            old = number <= versions[-1][0] - Keeping().versions
            pruned = old and set(digests) == {EMPTY}
            if not pruned and self._digests.setdefault(number, tuple(digests)) != tuple(digests):  # type: ignore[arg-type]
                faults.append(f"version {number} has changed")
        if len(versions) < len(self._digests):
            faults.append("a version has gone")
        for blob, digest in (("ranker", 3), ("omega", 4)):
            faults += self._intact(versions[-1][0], blob, versions[-1][digest])
        return faults

    def _intact(self, number: int, blob: str, digest: str) -> list[str]:
        from hashlib import sha256

        with closing(sqlite3.connect(self._folder / FILE_NAME, timeout=30)) as database:
            row = database.execute(
                f"SELECT {blob} FROM ranker_versions WHERE number = ?", (number,)
            ).fetchone()
        return [] if sha256(row[0]).hexdigest() == digest else [f"{blob} of version {number} is damaged"]


def experiment(platform: PlatformAPI, features: Any, name: str, report: Path) -> None:
    """A customer's whole experiment; whatever the platform acknowledges is written down at once."""
    file = os.open(report, os.O_WRONLY | os.O_APPEND)

    def tell(**entry: Any) -> None:
        os.write(file, (json.dumps(entry | {"at": time.monotonic()}) + "\n").encode())

    client = TaskClient(platform, features, BASE_ID)
    task = client.open(name, HPO.search_space, HPO.flops_limit)
    tell(task=task.task_id)
    for i, entry in enumerate(client.recommend(task, RESULTS).configurations):
        ap = 0.5 + i / 10
        tell(key=client.record(task, entry.parameters, ap).trial_key, ap=ap)
    tell(version=client.update(task).version_after)


def told(report: Path) -> list[dict[str, Any]]:
    """What a customer was told so far; a line that death has cut short does not count."""
    return [json.loads(line) for line in report.read_text().splitlines() if line.endswith("}")]


# -------------------------------------------------------------------------------------------------------- report


def page(rounds: list[dict[str, Any]], seed: int) -> str:
    """The results as markdown."""
    lines = [
        "# `kill -9` at random moments of an experiment",
        "",
        f"`python benchmarks/fault_injection.py --kills {len(rounds)} --seed {seed}`",
        "",
        "| who dies | rounds | killed before the end | of these: no task yet | task open | update done | faults |",
        "|---|---|---|---|---|---|---|",
    ]
    for kind in (*KINDS, "all"):
        own = [entry for entry in rounds if kind in (entry["kind"], "all")]
        killed = [entry for entry in own if entry["killed"]]
        states = Counter(entry["state"][0].split(", ")[1] for entry in killed)
        lines.append(
            f"| {kind} | {len(own)} | {len(killed)} | {states['no task']} | {states['open']} | {states['done']} | "
            f"{sum(len(entry['faults']) for entry in own)} |"
        )
    experiments = sum(len(entry["state"]) for entry in rounds)
    lines += [
        "",
        f"{experiments} experiments made {experiments} versions, one each, unless faults are listed. A fault would be: an "
        "acknowledged result or task that is not there after the death or at the end, a version that changed, has gone or has "
        "another parent than the one before it, an experiment with two versions or none, a receipt that names another version.",
        "",
    ]
    lines += [f"* round {n}: {fault}" for n, entry in enumerate(rounds) for fault in entry["faults"]]
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main())
