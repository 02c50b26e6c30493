"""What honest and poisoned updates do to NDCG on held-out offline lists: where the guard's tolerances come from.

    python benchmarks/guard.py [--updates 8] [--orders 2] [--only NAME ...] [--out benchmarks/results]

The platform is the shipped one. Its customers are its own offline data sets that are not held out, with their real images'
features and their real results; a poisoned customer is one of them who lies, again and again. Every sequence is run with a
guard that publishes everything, which shows what it would do; where the guard as shipped would object, it is run with that, too.
Sequences that ``guard.json`` has already are not run again.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nni_hyperfd.metafeature.extractor import MetaFeatureExtractor, backpropagate, samples
from nni_hyperfd.metafeature.features import ImageFeatures
from nni_hyperfd.platform import tensors
from nni_hyperfd.platform.client import TaskClient
from nni_hyperfd.platform.first import read_assets
from nni_hyperfd.platform.messages import (
    BeginUpdate,
    CommitUpdate,
    FeatureStep,
    GradientStep,
    Task,
    UpdateTicket,
    build,
)
from nni_hyperfd.platform.platform import Platform
from nni_hyperfd.platform.store import Store
from nni_hyperfd.ranker.guard import Guard, GuardReport, GuardSettings
from nni_hyperfd.ranker.offline import OfflineData
from nni_hyperfd.ranker.settings import RankerSettings
from nni_hyperfd.spaces.space import Space, standard_space

OPEN = GuardSettings(noise=math.inf)
"""Publishes everything."""

HPO = standard_space("hpo")
Row = dict[str, Any]
Found = dict[str, list[Row]]
"""Updates in their order, by the name of the sequence."""


@dataclass(frozen=True)
class Customer:
    """Image features of a data set, and real results on it."""

    features: ImageFeatures
    parameters: list[Row]
    aps: list[float]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--updates", type=int, default=8, help="of one sequence")
    parser.add_argument("--orders", type=int, default=2, help="orders of honest customers")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="of the sequences: honest, random AP, ...")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    state = read_assets()
    offline = OfflineData.from_bytes(state.offline)
    guard = Guard(offline, GuardSettings(), RankerSettings().images)
    customers = known_customers(offline, HPO, guard)
    lists = {key: sum(d in guard.held_out for d, _ in each.lists) for key, each in offline.experience.items()}
    print(f"{len(customers)} customers; held-out lists {lists}", flush=True)
    options.out.mkdir(parents=True, exist_ok=True)
    results = options.out / "guard.json"
    for name in options.only or BEHAVIORS:
        for order in range(options.orders if name == "honest" else 1):
            for kind, settings in (("unguarded", OPEN), ("guarded", GuardSettings())):
                # Read anew each time, as another process may work on other sequences.
                key, found = f"{name} {order} {kind}", read(results)
                if key in found or (kind == "guarded" and not objected(found[f"{name} {order} unguarded"])):
                    continue
                rows = sequence(BEHAVIORS[name], customers, options.updates, order, settings)
                print(key, summary(rows), flush=True)
                results.write_text(json.dumps(read(results) | {key: rows}, indent=1) + "\n")
    (options.out / "guard.md").write_text(page(read(results), lists, len(customers)))


def read(results: Path) -> Found:
    return json.loads(results.read_text()) if results.exists() else {}


def objected(rows: list[Row]) -> bool:
    return any(row["objections"] for row in rows)


def known_customers(offline: OfflineData, space: Space, guard: Guard) -> list[Customer]:
    """Data sets with results in ``space`` that are not held out."""
    experience = offline.experience[space.key]
    points = {tuple(row.tolist()): space.parameters(point) for row, point in encoded(space)}
    found = []
    for dataset, rows in experience.lists:
        if dataset not in guard.held_out:
            encodings = experience.ranked(space.key, rows).encodings
            assert isinstance(encodings, Tensor)
            found.append(
                Customer(
                    offline.features.subset(offline.members[dataset]),
                    [dict(points[tuple(row.tolist())]) for row in encodings],
                    experience.aps[rows].tolist(),
                )
            )
    return found


def encoded(space: Space) -> Iterator[tuple[Tensor, object]]:
    from nni_hyperfd.ranker.encodings import encode

    points = space.enumerate()
    rows = encode(space, points)
    assert isinstance(rows, Tensor)
    yield from zip(rows, points)


def sequence(
    behavior: Behavior, customers: list[Customer], updates: int, order: int, settings: GuardSettings
) -> list[Row]:
    """``updates`` customers in a row at a fresh platform, each with a task of his own."""
    generator = torch.Generator().manual_seed(100 + order)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        platform = Platform(Store(folder, read_assets), guard=settings)
        shuffled = [
            i for _ in range(updates) for i in torch.randperm(len(customers), generator=generator).tolist()
        ]
        for number, index in enumerate(shuffled[:updates]):
            started = time.process_time()
            behavior(platform, customers[index], f"exp{number}", number)
            version = Store(folder).versions()[0]
            assert version.guard is not None
            report = GuardReport.from_json(version.guard)
            rows.append(
                {
                    "published": version.published,
                    "objections": objections(report),
                    "step": max(report.parent[s] - report.ndcg[s] for s in report.ndcg),
                    "total": max(report.best[s] - report.ndcg[s] for s in report.ndcg),
                    "ndcg": dict(report.ndcg),
                    "seconds": round(time.process_time() - started, 2),
                }
            )
        platform.close()
    return rows


def objections(report: GuardReport) -> int:
    """How many the guard as shipped has, whatever the one at work has."""
    return sum(
        reference[space] - value > allowed
        for space, value in report.ndcg.items()
        for reference, allowed in zip(
            (report.parent, report.best), GuardSettings().allowed(report.lists[space])
        )
    )


# ------------------------------------------------------------------------------------------------------ behavior

Behavior = Callable[[Platform, Customer, str, int], None]


def tell(platform: Platform, customer: Customer, name: str, aps: list[float]) -> tuple[TaskClient, Task]:
    client = TaskClient(platform, customer.features, read_assets().base_id)
    task = client.open(name, HPO.search_space, HPO.flops_limit)
    for parameters, ap in zip(customer.parameters, aps):
        client.record(task, parameters, ap)
    return client, task


def honest(platform: Platform, customer: Customer, name: str, number: int) -> None:
    client, task = tell(platform, customer, name, customer.aps)
    client.update(task)


def random_aps(platform: Platform, customer: Customer, name: str, number: int) -> None:
    """AP drawn from [0, 1]."""
    generator = torch.Generator().manual_seed(number)
    client, task = tell(platform, customer, name, torch.rand(len(customer.aps), generator=generator).tolist())
    client.update(task)


def reversed_aps(platform: Platform, customer: Customer, name: str, number: int) -> None:
    """The best configuration is reported as the worst, and so on."""
    client, task = tell(platform, customer, name, [1 - ap for ap in customer.aps])
    client.update(task)


def reversed_gradient(platform: Platform, customer: Customer, name: str, number: int) -> None:
    """Reversed results, and each gradient turned around and as long as the platform takes it."""
    _, task = tell(platform, customer, name, [1 - ap for ap in customer.aps])
    by_hand(platform, task, customer, phi_scale=1.0)


def huge_feature(platform: Platform, customer: Customer, name: str, number: int) -> None:
    """The same with meta-features a thousand times too long, which shout down all other lists of their batches."""
    _, task = tell(platform, customer, name, [1 - ap for ap in customer.aps])
    by_hand(platform, task, customer, phi_scale=1000.0)


BEHAVIORS: dict[str, Behavior] = {
    "honest": honest,
    "random AP": random_aps,
    "reversed AP": reversed_aps,
    "reversed gradient": reversed_gradient,
    "huge meta-feature": huge_feature,
}


def by_hand(platform: Platform, task: Task, customer: Customer, phi_scale: float) -> None:
    """The customer's half of the protocol, dishonestly."""
    ticket = platform.begin_update(build(BeginUpdate, task_id=task.task_id))
    assert isinstance(ticket, UpdateTicket)
    extractor = MetaFeatureExtractor("full")
    extractor.load_state_dict(tensors.unpack(ticket.extractor.tensors, extractor.state_dict(), "state"))
    drawn = samples(extractor, customer.features, torch.Generator().manual_seed(0), RankerSettings().images)
    phi = next(drawn)
    while ticket.step is not None:
        pair = [next(drawn), next(drawn)]
        one, other = [tuple((phi_scale * phi).tolist()) for phi in pair]
        answer = platform.send_features(
            build(FeatureStep, session_id=ticket.session_id, step=ticket.step, phi=one, phi_tilde=other)
        )
        wanted = [torch.tensor(answer.phi), torch.tensor(answer.phi_tilde)]
        gradient = backpropagate(extractor, pair, [-1e6 * each for each in wanted])
        message = build(
            GradientStep,
            session_id=ticket.session_id,
            step=ticket.step,
            tensors=tensors.pack(tensors.clip(gradient, ticket.gradient_norm)),
        )
        ticket = platform.send_gradient(message)
        extractor.load_state_dict(tensors.unpack(ticket.extractor.tensors, extractor.state_dict(), "state"))
    final = tuple((phi_scale * phi).tolist())
    platform.commit(build(CommitUpdate, task_id=task.task_id, session_id=ticket.session_id, phi=final))


# -------------------------------------------------------------------------------------------------------- report


def summary(rows: list[Row]) -> str:
    steps, totals = [row["step"] for row in rows], [row["total"] for row in rows]
    kept = [number for number, row in enumerate(rows, start=1) if not row["published"]]
    return (
        f"largest step {max(steps):+.3f}, largest total {max(totals):+.3f}, last total {totals[-1]:+.3f}, kept back {kept}, "
        f"{rows[0]['seconds']} s an update"
    )


def page(found: Found, lists: dict[str, int], customers: int) -> str:
    """The results as markdown."""
    shipped = GuardSettings()
    lines = [
        "# What updates do to NDCG on held-out lists",
        "",
        f"`python benchmarks/guard.py`: {customers} data sets of the shipped platform as customers; held-out lists: "
        + ", ".join(f"{count} {space.split('-')[0]}" for space, count in lists.items())
        + ". Losses are of the space that loses most; a negative one is a gain.",
        "",
        "| customers | guard | updates | largest loss to the parent | largest loss to the best | loss to the best at the end | kept back |",
        "|---|---|---|---|---|---|---|",
    ]
    for key, rows in found.items():
        name, _, kind = key.rsplit(" ", 2)
        kept = sum(not row["published"] for row in rows)
        lines.append(
            f"| {name} | {'off' if kind == 'unguarded' else 'on'} | {len(rows)} | {max(row['step'] for row in rows):+.3f} | "
            f"{max(row['total'] for row in rows):+.3f} | {rows[-1]['total']:+.3f} | {kept} |"
        )
    lines += [
        "",
        "Losses that the guard allows: "
        + ", ".join(
            "{:.3f} / {:.3f} ({})".format(*shipped.allowed(count), space.split("-")[0])
            for space, count in lists.items()
            if count
        )
        + " to the parent / to the best version so far.",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
