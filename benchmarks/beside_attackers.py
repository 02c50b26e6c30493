"""What a customer who does nothing wrong notices of others at the same server who do harm as far as its limits let them.

    python benchmarks/beside_attackers.py [--experiments 3] [--attacks NAME ...] [--out benchmarks/results]

One server with the shipped platform and the default limits, in a process of its own. The honest customer goes through experiments, one after
the other, each with all its steps; first alone, then beside each kind of attacker alone, then beside all of them. Every attacker is another
customer with a process and a token of its own, which asks as fast as it is answered. All share one machine; attackers run with the lowest
priority, as they would have processors of their own elsewhere.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import platform as machine
import socket
import statistics
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import requests
import torch
from fault_injection import Server
from forks import fork, kill
from rows import Rows

from nni_hyperfd.customer.client import TaskClient
from nni_hyperfd.customer.http import HTTPPlatform
from nni_hyperfd.platform.first import read_assets
from nni_hyperfd.platform.platform import Platform
from nni_hyperfd.platform.state.store import Store
from nni_hyperfd.protocol.messages import BeginUpdate, UpdateTicket, build
from nni_hyperfd.ranker.offline import OfflineData
from nni_hyperfd.server.limits import Limits
from nni_hyperfd.server.serve import ServerSettings, make_server
from nni_hyperfd.server.tokens import new_token
from nni_hyperfd.spaces.standard import standard_space

HPO, JOINT = standard_space("hpo"), standard_space("joint")
STEPS = ("open", "recommend", "plan", "record", "update")
BUDGET = 4
CONNECTIONS = 32
"""Of each attacker who asks, at once."""
SLOW_CONNECTIONS = 200
WARM_UP = 3.0
"""Seconds until an attack is under way."""

Times = dict[str, list[float]]


class ShippedServer(Server):
    """With the limits that a server has by default."""

    def _serve(self) -> None:
        torch.set_num_threads(1)
        store = Store(self.folder, read_assets)
        make_server(store, Platform(store), ServerSettings(port=self.port)).run()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--experiments", type=int, default=3, help="of the honest customer, beside each attack"
    )
    parser.add_argument("--attacks", nargs="*", default=list(ATTACKS), choices=list(ATTACKS))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    here = f"{os.cpu_count()} cores, {machine.machine()}, load average {os.getloadavg()[0]:.1f} at the start"
    rounds: list[tuple[str, list[str]]] = [("nobody", []), *((name, [name]) for name in options.attacks)]
    if len(options.attacks) > 1:
        rounds.append(("all of them", options.attacks))
    content = Rows(options.out / "beside_attackers.json")
    content.clear()
    content |= {"machine": here, "experiments": options.experiments, "beside": []}
    for name, attacks in rounds:
        with tempfile.TemporaryDirectory() as folder:
            content["beside"].append({"attack": name} | beside(Path(folder), attacks, options.experiments))
        print(json.dumps(content["beside"][-1]), flush=True)
        content.save()
        (options.out / "beside_attackers.md").write_text(page(content))


def beside(folder: Path, attacks: list[str], experiments: int) -> dict[str, Any]:
    """Median seconds of each step of the honest customer, and the longest."""
    with closing(Store(folder, read_assets)) as store:
        tokens = {name: new_token(store, f"attacker{number}") for number, name in enumerate(attacks)}
        token = new_token(store, "honest")
    server = ShippedServer(folder)
    server.start()
    attackers: list[int] = []
    try:
        times: Times = defaultdict(list)
        honest(server.url, token, 1, defaultdict(list), "first")  # what a server reads once
        for name in attacks:
            attackers.append(fork(lambda name=name: _attack(name, server, tokens[name])))
        time.sleep(WARM_UP * bool(attacks))
        honest(server.url, token, experiments, times, "exp")
    finally:
        for child in attackers:
            kill(child)
        server.stop()
    return {
        step: {"median": round(statistics.median(times[step]), 3), "longest": round(max(times[step]), 3)}
        for step in STEPS
    }


def honest(url: str, token: str, experiments: int, times: Times, name: str) -> None:
    """Experiments from their opening to the update."""
    state = read_assets()
    offline = OfflineData.from_bytes(state.offline)
    client = TaskClient(HTTPPlatform(url, token), offline.features.subset(offline.members[0]), state.base_id)

    @contextmanager
    def timed(step: str) -> Iterator[None]:
        began = time.monotonic()
        yield
        times[step].append(time.monotonic() - began)

    for number in range(experiments):
        with timed("open"):
            task = client.open(f"{name}{number}", HPO.search_space, HPO.flops_limit)
        with timed("recommend"):
            found = client.recommend(task, BUDGET)
        for place, entry in enumerate(found.configurations):
            with timed("record"):
                client.record(task, entry.parameters, 0.5 + place / 10)
        with timed("plan"):
            client.recommend(task, BUDGET, method="hyperfd-gp")
        with timed("update"):
            client.update(task)


# ---------------------------------------------------------------------------------------------------- attacks


class Attacker:
    """A customer who means harm."""

    def __init__(self, server: Server, token: str) -> None:
        self.url, self.port, self.token = server.url, server.port, token
        self.head = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        state = read_assets()
        offline = OfflineData.from_bytes(state.offline)
        features = offline.features.subset(offline.members[1])
        self.client = TaskClient(HTTPPlatform(self.url, token), features, state.base_id)

    def post(self, session: requests.Session, call: str, body: bytes, **head: str) -> int:
        """The status of the answer."""
        return session.post(
            f"{self.url}/v1/{call}", data=body, headers=self.head | head, timeout=600
        ).status_code

    def keep_asking(self, call: str, body: Callable[[], bytes], **head: str) -> None:
        """From many connections at once, for ever."""

        def work() -> None:
            session = requests.Session()
            while True:
                try:
                    if self.post(session, call, body(), **head) in (429, 503):
                        time.sleep(0.05)
                except requests.RequestException:
                    time.sleep(0.05)

        _together([work] * CONNECTIONS)

    def rank(self, method: str) -> None:
        """The largest samples of the largest space that are allowed."""
        request = self.client.request(
            JOINT.search_space, BUDGET, JOINT.flops_limit, candidates=Limits().ranked, method=method
        )
        text = request.model_dump_json().encode()
        self.keep_asking("recommend", lambda: text)

    def send_much(self) -> None:
        """Results with as many keys as go into a body, packed."""
        keys = ",".join(f'"k{number}":0.5' for number in range(320_000))
        text = b'{"task_id":"a","trial_key":"b","status":"ok","ap":0.5,"parameters":{%s}}' % keys.encode()
        packed = gzip.compress(text[: Limits().body_bytes])
        self.keep_asking("record", lambda: packed, **{"Content-Encoding": "gzip"})

    def send_slowly(self) -> None:
        """Bodies that come a byte a second, and are begun again."""
        head = (
            f"POST /v1/record HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {self.token}\r\nContent-Length: 1000\r\n\r\n"
        ).encode()
        lines: list[socket.socket | None] = [None] * SLOW_CONNECTIONS
        while True:
            for place, line in enumerate(lines):
                try:
                    if line is None:
                        line = lines[place] = socket.create_connection(("127.0.0.1", self.port), timeout=60)
                        line.sendall(head)
                    line.sendall(b" ")
                except OSError:
                    lines[place] = None
            time.sleep(1.0)

    def open_many(self) -> None:
        """Experiments that nobody ends, of ever new names."""
        subject = self.client.subject(HPO.search_space, HPO.flops_limit).model_dump_json()
        numbers = iter(range(10**9))

        def body() -> bytes:
            return f'{{"experiment_id":"open{next(numbers)}","subject":{subject}}}'.encode()

        self.keep_asking("open_task", body)

    def hold_the_turn(self) -> None:
        """An update that is begun, and left; then the next one, as soon as the queue lets it."""
        platform = HTTPPlatform(self.url, self.token)
        for number in range(10**9):
            task = self.client.open(f"held{number}", HPO.search_space, HPO.flops_limit)
            self.client.record(task, self.client.recommend(task, 1).configurations[0].parameters, 0.5)
            while not isinstance(platform.ask(build(BeginUpdate, task_id=task.task_id)), UpdateTicket):
                time.sleep(0.5)


ATTACKS: dict[str, Callable[[Attacker], None]] = {
    "largest bodies": Attacker.send_much,
    "slow bodies": Attacker.send_slowly,
    "experiments that nobody ends": Attacker.open_many,
    "turns that nobody uses": Attacker.hold_the_turn,
    "largest rankings": lambda attacker: attacker.rank("hyperfd"),
    "largest plans": lambda attacker: attacker.rank("hyperfd-gp"),
}


def _attack(name: str, server: Server, token: str) -> None:
    os.nice(19)
    ATTACKS[name](Attacker(server, token))


def _together(work: list[Callable[[], None]]) -> None:
    threads = [threading.Thread(target=each) for each in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


# --------------------------------------------------------------------------------------------------- report


def page(content: dict[str, Any]) -> str:
    """The results as markdown."""
    alone = content["beside"][0]
    lines = [
        "# A customer beside attackers",
        "",
        f"`python benchmarks/beside_attackers.py` on {content['machine']}: median seconds of each step of an honest customer "
        f"(experiments: {content['experiments']}), how many times as long as alone, and in brackets the longest. Attackers are customers of their "
        f"own, with {CONNECTIONS} connections each ({SLOW_CONNECTIONS} that send slowly), and share the machine with server and customer.",
        "",
        "| beside | " + " | ".join(STEPS) + " |",
        "|" + "---|" * (1 + len(STEPS)),
    ]
    for row in content["beside"]:
        cells = []
        for step in STEPS:
            ratio = row[step]["median"] / max(alone[step]["median"], 1e-3)
            times = "" if row is alone else f" = {ratio:.1f} ×"
            cells.append(f"{row[step]['median']:.2f}{times} ({row[step]['longest']:.2f})")
        lines.append(f"| {row['attack']} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    main()
