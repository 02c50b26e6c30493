"""What the largest messages that are taken cost a platform, and how large it becomes.

    python benchmarks/hostile_sizes.py [--only plan ranking loss spaces opening store matching] [--out benchmarks/results]

Each figure is taken in a process of its own: processor seconds, and how much its peak of resident memory rose. The platform is the
shipped one. See docs/scale.md for the limits behind the figures.
"""

from __future__ import annotations

import argparse
import json
import os
import platform as machine
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from forks import ended, fork
from rows import Rows
from sqlalchemy import func, select

from nni_hyperfd.platform.first import read_assets
from nni_hyperfd.platform.platform import Platform
from nni_hyperfd.platform.state.checking import check_state
from nni_hyperfd.platform.state.pruning import AT_ONCE, Keeping, prune
from nni_hyperfd.platform.state.records import NewTask, NewVersion, StoredTrial
from nni_hyperfd.platform.state.schema import LOCAL, OwnEncoderRow
from nni_hyperfd.platform.state.store import FILE_NAME, Store
from nni_hyperfd.protocol.fields import KEYS_LIMIT, VALUES_LIMIT
from nni_hyperfd.protocol.messages import RecommendRequest
from nni_hyperfd.protocol.tensors import to_blob
from nni_hyperfd.ranker.batch import list_loss
from nni_hyperfd.ranker.encoders import EncoderShape
from nni_hyperfd.ranker.encodings import encode
from nni_hyperfd.ranker.losses import lambda_ndcg_loss, pad
from nni_hyperfd.ranker.offline import Experience, OfflineData, RankedList
from nni_hyperfd.ranker.ranker import Ranker
from nni_hyperfd.ranker.settings import RankerSettings
from nni_hyperfd.ranker.update import PastTask
from nni_hyperfd.recommendation.expectation import TRIALS as READ_OF_ONE
from nni_hyperfd.recommendation.expectation import Expectation
from nni_hyperfd.recommendation.ranking import rank
from nni_hyperfd.server.customer_view import TRIALS
from nni_hyperfd.spaces.space import Space
from nni_hyperfd.spaces.standard import standard_space

MB = 2**20
Measured = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="*", choices=PARTS, default=list(PARTS))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    content = Rows(options.out / "hostile_sizes.json")
    content["machine"] = f"{os.cpu_count()} cores, {machine.machine()}, one thread"
    for name in options.only:
        content[name] = PARTS[name]()
        print(name, json.dumps(content[name]), flush=True)
        content.save()
    (options.out / "hostile_sizes.md").write_text(page(content))


def alone(work: Callable[[], Measured | None], seconds: float = 3000) -> Measured:
    """What ``work`` takes in a process of its own, and what it returns."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "found"

        def measured() -> None:
            # The peak that the parent has left is not this one's.
            Path("/proc/self/clear_refs").write_text("5")
            before, used = _peak(), time.process_time()
            found = work() or {}
            used = time.process_time() - used
            taken = {"seconds": round(used, 2), "mb": round(_peak() - before)}
            file.write_text(json.dumps(found | taken))

        if ended(fork(measured), seconds) != 0:
            raise SystemExit("a measurement failed")
        return json.loads(file.read_text())


def _peak(field: str = "VmHWM") -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(field))


def _resident() -> float:
    return _peak("VmRSS")


# ------------------------------------------------------------------------------------------------------ plans


class DrawnPast:
    """Finished tasks with random results. Those that are read are drawn beforehand, and encoded when they are, as stored ones are."""

    def __init__(self, space: Space, phi: torch.Tensor, tasks: int, trials: int) -> None:
        self._space, self._phi = space, phi
        self._tasks = [self._draw(number, min(trials, READ_OF_ONE)) for number in range(tasks)]

    def _draw(self, number: int, trials: int) -> tuple[list[Any], torch.Tensor, torch.Tensor]:
        rng = np.random.default_rng(number)
        if self._space.kind == "hpo":
            every = self._space.enumerate()
            points = [every[i] for i in rng.integers(len(every), size=trials)]
        else:
            points = self._space.sample(trials, rng)
        turn = torch.randn(64, 64, generator=torch.Generator().manual_seed(number))
        return points, torch.from_numpy(rng.random(trials)).float(), torch.eye(64) + 0.01 * turn

    def of_space(self, space_key: str) -> list[str]:
        return [str(i) for i in range(len(self._tasks))]

    def read(self, task_id: str, most: int | None = None) -> PastTask:
        points, aps, turn = self._tasks[int(task_id)]
        if most != READ_OF_ONE:
            raise SystemExit(f"{most} results are read of one task: draw as many")
        trials = RankedList(self._space.key, encode(self._space, points), aps)
        return PastTask(
            task_id, trials, self._phi[int(task_id) % len(self._phi)] @ turn.T, self._phi @ turn.T
        )


def plan() -> list[Measured]:
    """Plans of hyperfd-gp: fitting, the first plan, which meets all tasks before, and the next."""
    state = read_assets()
    ranker, offline = Ranker.from_bytes(state.ranker).eval(), OfflineData.from_bytes(state.offline)
    phi = offline.meta_features(ranker.extractor, 32)
    found = []
    for kind, tasks, trials, own in (
        ("hpo", 0, 0, 0),
        ("hpo", 100, 200, 0),
        ("nas", 100, 200, 0),
        ("joint", 100, 200, 0),
        ("nas", 100, 2000, 2000),
        ("joint", 100, 2000, 2000),
    ):
        space = standard_space(kind)
        past = DrawnPast(space, phi, tasks, trials)

        def work(space: Space = space, past: DrawnPast = past, own: int = own) -> Measured:
            torch.optim.LBFGS([torch.zeros(1, requires_grad=True)])  # imports a compiler, once in a process
            began = time.process_time()
            expectation = Expectation(ranker, 32, offline, space)
            fitted = time.process_time()
            results = dict.fromkeys(space.sample(own, np.random.default_rng(9)), 0.5) if own else {}
            results = {each: 0.1 + i / 1e4 for i, each in enumerate(results)}
            times = []
            Path("/proc/self/clear_refs").write_text("5")
            rest = _resident()
            for _ in range(2):
                start = time.process_time()
                request = RecommendRequest(task_id="a", budget=4, candidates=512, method="hyperfd-gp")
                vector = tuple(phi[0].tolist())
                expectation.recommend(0, space, vector, request, results, list(results), past)
                times.append(time.process_time() - start)
            return {
                "fit_seconds": round(fitted - began, 2),
                "first_seconds": round(times[0], 2),
                "next_seconds": round(times[1], 2),
                "plan_mb": round(_peak() - rest),
            }

        found.append({"space": kind, "tasks": tasks, "trials": trials, "own": own} | alone(work))
        print(found[-1], flush=True)
    found.append(_wide_table(ranker, offline))
    return found


def _wide_table(ranker: Ranker, offline: OfflineData) -> Measured:
    """Fitting to an offline table of 3000 distinct networks."""
    space = standard_space("nas")
    points = space.sample(3000, np.random.default_rng(0))
    rows = torch.arange(3000)
    experience = Experience(
        encode(space, points), rows % len(offline), rows, torch.rand(3000, generator=torch.Generator())
    )
    wide = OfflineData(offline.features, offline.members, {space.key: experience})
    taken = alone(lambda: Expectation(ranker, 32, wide, space) and None)
    return {"space": "nas, a table of 3000 networks, fit only"} | taken


# ----------------------------------------------------------------------------------------------------- ranking


def ranking() -> list[Measured]:
    """Rankings of the largest sample that a server takes, 20 000 configurations, by number of keys."""
    ranker = Ranker.from_bytes(read_assets().ranker).eval()
    found = []
    for keys in (0, 45, KEYS_LIMIT):
        entry = {"_type": "choice", "_value": list(range(VALUES_LIMIT // KEYS_LIMIT))}
        own = {f"k{number}": entry for number in range(keys)}
        space = Space.from_search_space(own) if keys else standard_space("joint")

        def work(space: Space = space) -> None:
            request = RecommendRequest(task_id="a", budget=4, candidates=20_000)
            rank(ranker, 0, space, torch.zeros(64), request)

        found.append({"space": space.kind, "keys": len(space.domains)} | alone(work))
        print(found[-1], flush=True)
    return found


# ------------------------------------------------------------------------------------------------------- loss


def loss() -> list[Measured]:
    """Loss and gradient of a batch of four long lists."""
    found = []
    for kind, length, whole in (
        ("hpo", 200, True),
        ("hpo", 1000, True),
        ("hpo", 2000, True),
        ("hpo", 2000, False),
        ("hpo", 10_000, False),
        ("nas", 2000, False),
    ):
        space = standard_space(kind)
        ranker = Ranker.build({space.key: EncoderShape.of(space)}, 0)
        rng = np.random.default_rng(0)
        points = space.sample(min(200, length), rng)
        encodings = encode(space, [points[i] for i in rng.integers(len(points), size=length)])
        aps = torch.rand(length, generator=torch.Generator().manual_seed(0))
        lists = [RankedList(space.key, encodings, aps)] * 4

        def work(ranker: Ranker = ranker, lists: list[RankedList] = lists, whole: bool = whole) -> None:
            phi = torch.randn(4, 64, generator=torch.Generator().manual_seed(0))
            if whole:
                rows = [ranker.encoder(e.space)(e.encodings) @ p for e, p in zip(lists, phi)]
                scores, mask = pad(rows)
                lambda_ndcg_loss(scores, pad([e.aps for e in lists])[0], mask).backward()
            else:
                list_loss(ranker, phi, lists, RankerSettings(), torch.Generator().manual_seed(0)).backward()

        way = "all pairs" if whole else "drawn"
        found.append({"space": kind, "length": length, "pairs": way} | alone(work))
        print(found[-1], flush=True)
    return found


# ----------------------------------------------------------------------------------------------------- spaces


def spaces() -> list[Measured]:
    """Bytes of the one ranker and of a row, as wide spaces are learnt from."""
    state = read_assets()
    found = []
    folder = tempfile.TemporaryDirectory()
    Store(folder.name, read_assets).close()
    for number in range(7):
        if number:
            keys = {
                f"k{number}_{i}": {"_type": "choice", "_value": list(range(VALUES_LIMIT // 8))}
                for i in range(8)
            }
            _experiment(folder.name, number, keys, state.base_id)
        store = Store(folder.name)
        newest = store.newest().number
        with store.writing() as session:
            row = session.execute(select(func.max(func.length(OwnEncoderRow.blob)))).scalar_one()
        found.append({"spaces": number, "ranker": len(store.ranker(newest)), "row": row or 0})
        store.close()
    folder.cleanup()
    return found


def _experiment(folder: str, number: int, keys: dict[str, Any], base_id: str) -> None:
    from small_platform import PUBLISH_ALL, random_features

    from nni_hyperfd.customer.client import TaskClient

    platform = Platform(Store(folder), guard=PUBLISH_ALL)
    client = TaskClient(platform, random_features(20, number), base_id)
    task = client.open(f"exp{number}", keys)
    for i, entry in enumerate(client.recommend(task, 3).configurations):
        client.record(task, entry.parameters, 0.5 + i / 10)
    client.update(task)
    platform.close()


# ---------------------------------------------------------------------------------------------- opening, store


def opening() -> list[Measured]:
    """Opening and checking files of two sizes."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        store = Store(folder, read_assets)
        for versions in (10, 300):
            _live(store, versions, keep_all=True)
            size = (Path(folder) / FILE_NAME).stat().st_size
            opened = alone(lambda: Store(folder).close())
            checked = alone(lambda: check_state(folder) and None)
            found.append(
                {
                    "mb": round(size / MB),
                    "open_seconds": opened["seconds"],
                    "check_seconds": checked["seconds"],
                }
            )
        store.close()
    return found


def _live(store: Store, experiments: int, keep_all: bool = False) -> None:
    """That many experiments, with the shipped platform's sizes of everything, pruned as an update does."""
    state = read_assets()
    offline = OfflineData.from_bytes(state.offline)
    rng = np.random.default_rng(0)
    features = to_blob("offline features", {"phi": torch.randn(len(offline), 64)}, {})
    space = standard_space("hpo")
    points = [space.parameters(each) for each in space.enumerate()[:4]]
    begun = store.newest().number
    for number in range(begun, begun + experiments):
        new = NewTask(
            LOCAL,
            f"exp{number}",
            space.key,
            space.search_space,
            space.flops_limit,
            number,
            tuple(rng.random(64)),
        )
        task = store.open_task(new)
        for key, parameters in enumerate(points):
            store.record(StoredTrial(task.id, str(key), parameters, "ok", 0.5, 0.5, 0.5, 60.0, 0, "short"))
        store.take_lease("a", task.id, 60.0)
        blobs = (rng.bytes(len(state.ranker)) for _ in range(2))
        made = NewVersion(*blobs, features, {}, {"seed": 0}, tuple(rng.random(64)), 4, 0)
        store.commit_version("a", task.id, number, made)
        if not keep_all:
            prune(store, at_once=AT_ONCE)


def store() -> Measured:
    """The size of a platform's file as experiments pile up, under the default of what is kept."""
    found: Measured = {"sizes": []}
    with tempfile.TemporaryDirectory() as folder:
        place = Store(folder, read_assets)
        for experiments in (50, 100, 100, 250):
            _live(place, experiments)
            size = sum(path.stat().st_size for path in Path(folder).glob(f"{FILE_NAME}*"))
            found["sizes"].append({"experiments": place.newest().number, "mb": round(size / MB, 1)})
        place.close()
    sizes = found["sizes"]
    later = sizes[-1], sizes[-2]
    found["kb_an_experiment"] = round(
        1024 * (later[0]["mb"] - later[1]["mb"]) / (later[0]["experiments"] - later[1]["experiments"]), 1
    )
    state = read_assets()
    features = len(OfflineData.from_bytes(state.offline)) * 64 * 4 / 1024
    kept, rows = Keeping(), found["kb_an_experiment"] - features
    versions = (kept.versions + kept.open_versions + kept.held + 1) * 2 * len(state.ranker) / MB
    found["of_10000_mb"] = round(versions + (kept.tasks * features + 10_000 * rows) / 1024)
    return found


# -------------------------------------------------------------------------------------------------- matching


def matching() -> list[Measured]:
    """Bytes of comparing faces and anchors on a device: 256 prepared samples of 640 pixels. Calculated, not measured."""
    from nni_hyperfd.detection.anchors import MOST_PAIRS_DENSE, anchors_per_level

    pairs = 256 * sum(anchors_per_level(640, 640))
    return [
        {
            "faces": faces,
            "at_once_gb": round(32 * pairs * faces / 1e9, 1),
            "in_blocks_gb": round(32 * pairs * min(faces, max(1, MOST_PAIRS_DENSE // pairs)) / 1e9, 2),
        }
        for faces in (1, 10, 100, 1000)
    ]


PARTS: dict[str, Callable[[], Any]] = {
    "plan": plan,
    "ranking": ranking,
    "loss": loss,
    "spaces": spaces,
    "opening": opening,
    "store": store,
    "matching": matching,
}


def page(content: dict[str, Any]) -> str:
    """The results as markdown."""
    lines = [
        "# What the largest messages cost a platform",
        "",
        f"`python benchmarks/hostile_sizes.py` on {content['machine']}; processor seconds, and by how much the peak of resident memory "
        f"rose. The limit of results of one experiment is {TRIALS}.",
        "",
    ]
    for name in PARTS:
        rows = content.get(name)
        if rows is None:
            continue
        extra = {} if isinstance(rows, list) else {k: v for k, v in rows.items() if k != "sizes"}
        rows = rows if isinstance(rows, list) else rows["sizes"]
        heads = list(dict.fromkeys(key for row in rows for key in row))
        lines += [f"## {PARTS[name].__doc__}", "", f"| {' | '.join(h.replace('_', ' ') for h in heads)} |"]
        lines.append("|" + "---|" * len(heads))
        lines += [f"| {' | '.join(str(row.get(head, '')) for head in heads)} |" for row in rows]
        lines.append("")
        lines += [f"* {key.replace('_', ' ')}: {value}" for key, value in extra.items()]
        lines += [""] * bool(extra)
    return "\n".join(lines)


if __name__ == "__main__":
    main()
