"""How much one server takes: calls under load, and updates as tasks pile up.

    python benchmarks/load.py [--customers 1 50 500] [--experiments 20] [--tasks 10 100 1000 5000] [--opened 1000]
                              [--out benchmarks/results]

What is left out of the three (``--customers`` without a number) keeps its figures.

The platform is the shipped one, with its 362 offline data sets. Calls: 20 experiments at once, each in a thread of one
client process with a connection of its own, spread over the registered customers; server and clients share the
machine. Updates: finished tasks are written into the database, their G^(t)(D_offline) as turns of the newest one, and
then one customer's experiment is finished by the usual calls in a process of its own, whose time and memory are taken. Opened:
one customer opens experiments one after the other over HTTP and ends none of them.
"""

from __future__ import annotations

import argparse
import json
import os
import platform as machine
import resource
import statistics
import tempfile
import threading
import time
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

import torch
from fault_injection import Server
from forks import ended, fork
from rows import Rows
from small_platform import PUBLISH_ALL

from nni_hyperfd.customer.client import TaskClient
from nni_hyperfd.customer.http import HTTPPlatform
from nni_hyperfd.metafeature.features import ImageFeatures
from nni_hyperfd.platform.first import read_assets
from nni_hyperfd.platform.past import OFFLINE_FEATURES
from nni_hyperfd.platform.platform import Platform
from nni_hyperfd.platform.state.schema import LOCAL, Base, FeatureRow, TaskRow, TrialRow, VersionRow, now
from nni_hyperfd.platform.state.store import Store
from nni_hyperfd.platform.status import history_of, status_of
from nni_hyperfd.protocol.calls import CALLS
from nni_hyperfd.protocol.messages import FindTask, Question
from nni_hyperfd.protocol.tensors import to_blob
from nni_hyperfd.ranker.offline import OfflineData
from nni_hyperfd.server.limits import Limits
from nni_hyperfd.server.serve import ServerSettings, make_server
from nni_hyperfd.server.tokens import new_token
from nni_hyperfd.spaces.standard import standard_space

HPO = standard_space("hpo")
BUDGET = 4
A = TypeVar("A")
ASKED = ("extractor", "open_task", "recommend", "record", "find_task")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--customers", type=int, nargs="*", default=[1, 50, 500])
    parser.add_argument("--experiments", type=int, default=20, help="at once")
    parser.add_argument("--each", type=int, default=2, help="experiments one after another in each thread")
    parser.add_argument("--tasks", type=int, nargs="*", default=[10, 100, 1000, 5000])
    parser.add_argument("--opened", type=int, nargs="*", default=[1000], help="experiments, and ends none")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    state = read_assets()
    offline = OfflineData.from_bytes(state.offline)
    content = Rows(options.out / "load.json")
    here = f"{os.cpu_count()} cores, {machine.machine()}, load average {os.getloadavg()[0]:.1f} at the start"
    for part, wanted in (
        ("calls", options.customers),
        ("updates", options.tasks),
        ("opened", options.opened),
    ):
        if wanted:
            content[part], content[f"{part}_machine"] = [], here
    for count in options.customers:
        with tempfile.TemporaryDirectory() as folder:
            content["calls"].append(calls(Path(folder), offline, count, options.experiments, options.each))
        print(json.dumps(content["calls"][-1]), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for count in options.tasks:
            content["updates"].append(update_at(Path(folder), offline, count))
            print(json.dumps(content["updates"][-1]), flush=True)
    for count in options.opened:
        with tempfile.TemporaryDirectory() as folder:
            content["opened"] += opened(Path(folder), offline, count)
    options.out.mkdir(parents=True, exist_ok=True)
    content.save()
    (options.out / "load.md").write_text(page(content))


# ---------------------------------------------------------------------------------------------------- calls


class ShippedServer(Server):
    """A server with the limits off, since one process plays all customers."""

    def _serve(self) -> None:
        store = Store(self.folder, read_assets)
        settings = ServerSettings(port=self.port, limits=Limits(1e6, 10**6))
        make_server(store, Platform(store), settings).run()


def calls(folder: Path, offline: OfflineData, customers: int, at_once: int, each: int) -> dict[str, Any]:
    """Latencies of every call while ``at_once`` experiments go through theirs."""
    store = Store(folder, read_assets)
    tokens = [new_token(store, f"customer{i}") for i in range(customers)]
    store.close()
    server = ShippedServer(folder)
    server.start()
    features = offline.features.subset(offline.members[0])
    seconds: dict[str, list[float]] = {call: [] for call in ASKED}
    gate = threading.Barrier(at_once + 1)

    def work(thread: int) -> None:
        own = HTTPPlatform(server.url, tokens[thread * customers // at_once % customers])
        platform = Timed(own, seconds)
        client = TaskClient(platform, features, read_assets().base_id)
        gate.wait()
        for number in range(each):
            name = f"exp{thread}-{number}"
            task = client.open(name, HPO.search_space, HPO.flops_limit)
            for i, entry in enumerate(client.recommend(task, BUDGET).configurations):
                client.record(task, entry.parameters, 0.5 + i / 10)
            platform.ask(FindTask(experiment_id=name))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(at_once)]
    for thread in threads:
        thread.start()
    used = processor_seconds(server.child or 0)
    gate.wait()
    began = time.monotonic()
    for thread in threads:
        thread.join()
    wall = time.monotonic() - began
    used = processor_seconds(server.child or 0) - used
    memory = peak_memory(server.child or 0)
    server.stop()
    count = sum(map(len, seconds.values()))
    return {
        "customers": customers,
        "at_once": at_once,
        "requests": count,
        "requests_per_second": round(count / wall, 1),
        "server_ms_per_request": round(1000 * used / count, 2),
        "server_peak_mb": round(memory),
        "latency_ms": {
            call: {
                "p50": round(1000 * statistics.median(found), 1),
                "p99": round(1000 * sorted(found)[int(0.99 * len(found))], 1),
            }
            for call, found in seconds.items()
            if found
        },
    }


def opened(folder: Path, offline: OfflineData, count: int) -> list[dict[str, Any]]:
    """What the last 100 of the first 100, 200, ... experiments cost the server; none of them is ended."""
    store = Store(folder, read_assets)
    token = new_token(store, "customer")
    store.close()
    server = ShippedServer(folder)
    server.start()
    client = TaskClient(
        HTTPPlatform(server.url, token), offline.features.subset(offline.members[0]), read_assets().base_id
    )
    found = []
    for begin in range(0, count, 100):
        before = processor_seconds(server.child or 0)
        for number in range(begin, min(begin + 100, count)):
            client.recommend(client.open(f"exp{number}", HPO.search_space, HPO.flops_limit), BUDGET)
        used = processor_seconds(server.child or 0) - before
        size = sum(path.stat().st_size for path in folder.glob("platform.sqlite*"))
        found.append(
            {
                "open": min(begin + 100, count),
                "server_ms_per_experiment": round(1000 * used / min(100, count - begin), 1),
                "server_peak_mb": round(peak_memory(server.child or 0)),
                "database_mb": round(size / 2**20, 1),
            }
        )
        print(json.dumps(found[-1]), flush=True)
    server.stop()
    return found


class Timed:
    """A platform whose calls are timed."""

    def __init__(self, platform: HTTPPlatform, seconds: dict[str, list[float]]) -> None:
        self._platform, self._seconds = platform, seconds

    def ask(self, question: Question[A]) -> A:
        began = time.monotonic()
        answer = self._platform.ask(question)
        self._seconds[CALLS[type(question)].name].append(time.monotonic() - began)
        return answer


def processor_seconds(process: int) -> float:
    """User and system time of a process."""
    fields = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def peak_memory(process: int) -> float:
    """Largest resident memory of a process, MB."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


# -------------------------------------------------------------------------------------------------- updates


def update_at(folder: Path, offline: OfflineData, tasks: int) -> dict[str, Any]:
    """One update of a platform with that many finished tasks; those that are there already count."""
    store = Store(folder, read_assets)
    fill(store, offline, tasks)
    began = time.monotonic()
    status_of(store)
    history_of(store)
    status = time.monotonic() - began
    store.close()
    result = folder / "result.json"

    def work() -> None:
        result.write_text(json.dumps(one_update(folder, offline.features.subset(offline.members[0]), tasks)))

    if ended(fork(work), 600) != 0:
        raise SystemExit("the update failed")
    measured = json.loads(result.read_text())
    size = sum(path.stat().st_size for path in folder.glob("platform.sqlite*"))
    return {
        "tasks": tasks,
        **measured,
        "status_seconds": round(status, 2),
        "database_mb": round(size / 2**20),
    }


def one_update(folder: Path, features: ImageFeatures, tasks: int) -> dict[str, Any]:
    platform = Platform(Store(folder), guard=PUBLISH_ALL)
    client = TaskClient(platform, features, read_assets().base_id)
    task = client.open(f"measured{tasks}", HPO.search_space, HPO.flops_limit)
    for i, entry in enumerate(client.recommend(task, BUDGET).configurations):
        client.record(task, entry.parameters, 0.5 + i / 10)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    wall, processor = time.monotonic(), time.process_time()
    client.update(task)
    wall, processor = time.monotonic() - wall, time.process_time() - processor
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    platform.close()
    return {
        "processor_seconds": round(processor, 2),
        "wall_seconds": round(wall, 2),
        "peak_mb": round(after),
        "of_it_by_the_update_mb": round(after - before),
    }


def fill(store: Store, offline: OfflineData, tasks: int) -> None:
    """Finished tasks up to that number, as a platform's life would have left them but for the rankers in between."""
    known = len(store.learnt_tasks())
    platform = Platform(store)
    first = platform.ranker(0)
    phi = offline.meta_features(first.extractor, 32)
    ranker, omega = store.ranker(0), store.omega(0)
    points = HPO.enumerate()
    last = store.newest().number
    for begin in range(known, tasks, 200):
        rows: list[Base] = []
        for number in range(begin, min(begin + 200, tasks)):
            generator = torch.Generator().manual_seed(number)
            turned = phi @ (torch.eye(64) + 0.01 * torch.randn(64, 64, generator=generator)).T
            blob = to_blob(OFFLINE_FEATURES, {"phi": turned}, {})
            last, name = last + 1, f"past{number}"
            # Only the newest ranker is ever read; a stored one takes 2.4 MB more.
            kept = ranker if number == tasks - 1 else b""
            rows.append(
                VersionRow(
                    number=last,
                    parent=last - 1,
                    task_id=name,
                    experiment_id=name,
                    reason="",
                    settings={},
                    ranker=kept,
                    ranker_sha256=sha256(kept).hexdigest(),
                    omega=omega,
                    omega_sha256=sha256(omega).hexdigest(),
                )
            )
            rows.append(
                TaskRow(
                    id=name,
                    customer=LOCAL,
                    experiment_id=name,
                    space_key=HPO.key,
                    space_json=json.dumps(HPO.search_space),
                    flops_limit=HPO.flops_limit,
                    extractor_version=0,
                    phi=turned[0].tolist(),
                    status="done",
                    finished=now(),
                    version_before=last - 1,
                    version_after=last,
                    trials_used=BUDGET,
                    trials_failed=0,
                    final_phi=turned[0].tolist(),
                )
            )
            rows.append(FeatureRow(task_id=name, blob=blob, sha256=sha256(blob).hexdigest()))
            for trial in range(BUDGET):
                point = points[int(torch.randint(len(points), (), generator=generator))]
                rows.append(
                    TrialRow(
                        task_id=name,
                        trial_key=f"t{trial}",
                        parameters=HPO.parameters(point),
                        status="ok",
                        ap=float(torch.rand((), generator=generator)),
                        seed=0,
                        budget="short",
                    )
                )
        with store.writing() as session:
            session.add_all(row for row in rows if isinstance(row, VersionRow | TaskRow))
            session.flush()  # the others refer to these
            session.add_all(row for row in rows if not isinstance(row, VersionRow | TaskRow))


# --------------------------------------------------------------------------------------------------- report


def page(content: dict[str, Any]) -> str:
    """The results as markdown."""
    lines = [
        "# One server under load, and updates as tasks pile up",
        "",
        f"`python benchmarks/load.py` on {content['calls_machine']}; wall-clock figures share the machine with whatever else ran, "
        "processor figures do not.",
        "",
        "| registered customers | experiments at once | requests/s | server's processor time a request | server's peak memory | "
        + " | ".join(f"{call} p50 / p99" for call in ASKED)
        + " |",
        "|" + "---|" * (5 + len(ASKED)),
    ]
    for row in content["calls"]:
        latencies = [
            f"{row['latency_ms'][call]['p50']:g} / {row['latency_ms'][call]['p99']:g} ms" for call in ASKED
        ]
        lines.append(
            f"| {row['customers']} | {row['at_once']} | {row['requests_per_second']:g} | {row['server_ms_per_request']:g} ms | "
            f"{row['server_peak_mb']} MB | " + " | ".join(latencies) + " |"
        )
    lines += [
        "",
        "| past tasks | update, processor | update, wall | peak memory | of it by the update | `hyperfd status` | database |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in content["updates"]:
        lines.append(
            f"| {row['tasks']} | {row['processor_seconds']:g} s | {row['wall_seconds']:g} s | {row['peak_mb']} MB | "
            f"{row['of_it_by_the_update_mb']} MB | {row['status_seconds']:g} s | {row['database_mb']} MB |"
        )
    lines += [
        "",
        f"One customer opens experiments and ends none, each with its recommendation ({content['opened_machine']}):",
        "",
        "| open | server's processor time an experiment, of the last hundred | server's peak memory | database |",
        "|---|---|---|---|",
    ]
    for row in content["opened"]:
        lines.append(
            f"| {row['open']} | {row['server_ms_per_experiment']:g} ms | {row['server_peak_mb']} MB | {row['database_mb']:g} MB |"
        )
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    main()
