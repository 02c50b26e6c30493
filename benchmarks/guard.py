"""What honest and poisoned updates do to NDCG on held-out offline lists, and which of them the guard keeps back.

    python benchmarks/guard.py [--place drawn|shipped] [--updates 6] [--only NAME ...] [--out benchmarks/results]

Two platforms. ``drawn`` is a world whose answer is known: images have hidden traits, the traits decide which configuration is
best, 150 offline data sets have taught the ranker so, 30 of them are held out. ``shipped`` is what the package ships; its
customers are its own offline data sets that are not held out, with their real features and results. A poisoned customer
is one who lies, again and again. Every sequence runs with a guard that publishes everything, which shows what it would
do; where the guard as shipped would object, it runs with that, too. What ``guard.json`` has already is not run again.
"""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rows import Rows
from torch import Tensor

from nni_hyperfd.customer.client import TaskClient
from nni_hyperfd.metafeature.extractor import MetaFeatureExtractor, backpropagate, samples
from nni_hyperfd.metafeature.features import CHANNELS, LEVELS, ImageFeatures
from nni_hyperfd.platform.first import first_state, read_assets
from nni_hyperfd.platform.platform import Platform
from nni_hyperfd.platform.state.records import FirstState
from nni_hyperfd.platform.state.store import Store
from nni_hyperfd.protocol import tensors
from nni_hyperfd.protocol.messages import (
    BeginUpdate,
    CommitUpdate,
    FeatureStep,
    GradientStep,
    Task,
    UpdateTicket,
    build,
)
from nni_hyperfd.ranker.encoders import EncoderShape
from nni_hyperfd.ranker.encodings import encode
from nni_hyperfd.ranker.guard import Guard, GuardReport, GuardSettings, Lists, proven_loss
from nni_hyperfd.ranker.offline import Experience, OfflineData
from nni_hyperfd.ranker.ranker import Ranker
from nni_hyperfd.ranker.settings import RankerSettings
from nni_hyperfd.ranker.warmup import warm_up
from nni_hyperfd.spaces.space import Space
from nni_hyperfd.spaces.standard import standard_space

OPEN = GuardSettings(tolerance=math.inf)
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


@dataclass(frozen=True)
class Place:
    """A first state, how its updates work, and customers."""

    first: FirstState
    settings: RankerSettings
    customers: list[Customer]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--place", nargs="+", choices=("drawn", "shipped"), default=["drawn", "shipped"])
    parser.add_argument("--updates", type=int, default=6, help="of one sequence")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="of the sequences: honest, random AP, ...")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    results = options.out / "guard.json"
    for where in options.place:
        place = drawn() if where == "drawn" else shipped()
        for name in options.only or BEHAVIORS:
            for kind, settings in (("off", OPEN), ("on", GuardSettings())):
                # Read anew each time, as another process may work on other sequences.
                key, found = f"{where} | {name} | {kind}", Rows(results)
                if key in found or (
                    kind == "on" and not any(row["objected"] for row in found[f"{where} | {name} | off"])
                ):
                    continue
                rows = sequence(BEHAVIORS[name], place, options.updates, settings)
                print(key, summary(rows), flush=True)
                found = Rows(results)
                found[key] = rows
                found.save()
    (options.out / "guard.md").write_text(page(Rows(results)))


def shipped() -> Place:
    """The package's own version 0."""
    state = read_assets()
    offline = OfflineData.from_bytes(state.offline)
    guard = Guard(offline, GuardSettings(), RankerSettings().images)
    return Place(state, RankerSettings(), known_customers(offline, HPO, guard))


def drawn(datasets: int = 150, images: int = 12, results: int = 6, customers: int = 12) -> Place:
    """AP(c, d) = 0.7 + 0.1 tanh(<taste of c, mean traits of d's images>), and a ranker that has learnt it."""

    def normal(seed: int, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))

    def features(traits: Tensor, seed: int) -> ImageFeatures:
        pooled = traits @ normal(99, 3, LEVELS * CHANNELS) + 0.5 * normal(
            seed, len(traits), LEVELS * CHANNELS
        )
        pooled = pooled.view(-1, LEVELS, CHANNELS)
        return ImageFeatures(pooled, pooled.clone(), torch.ones(len(traits), dtype=torch.long))

    points = HPO.enumerate()
    encodings = encode(HPO, points)
    assert isinstance(encodings, Tensor)
    taste = (encodings - encodings.mean(0)) @ normal(5, encodings.shape[1], 3)
    traits = normal(6, datasets, 3).repeat_interleave(images, 0) + 0.3 * normal(7, datasets * images, 3)
    members = torch.arange(len(traits)).split(images)
    sets = torch.arange(datasets).repeat_interleave(results)
    tried = torch.cat([normal(1000 + d, len(points)).argsort()[:results] for d in range(datasets)])
    aps = torch.stack([0.7 + 0.1 * torch.tanh(taste @ traits[member].mean(0)) for member in members])
    offline = OfflineData(
        features(traits, 9), members, {HPO.key: Experience(encodings, sets, tried, aps[sets, tried])}
    )
    settings = RankerSettings(images=8, warmup_epochs=60)
    ranker = Ranker.build({HPO.key: EncoderShape.of(HPO)}, 0)
    report = warm_up(ranker, offline, settings, 0)
    print(f"drawn: NDCG {report.ndcg[0]:.3f} -> {report.ndcg[1]:.3f}", flush=True)
    found = []
    for number in range(customers):
        center = normal(2000 + number, 3)
        chosen = normal(3000 + number, len(points)).argsort()[:10]
        found.append(
            Customer(
                features(center + 0.3 * normal(4000 + number, 25, 3), 5000 + number),
                [dict(HPO.parameters(points[i])) for i in chosen.tolist()],
                (0.7 + 0.1 * torch.tanh(taste[chosen] @ center)).tolist(),
            )
        )
    return Place(first_state(ranker, offline, read_assets().base_id), settings, found)


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
    points = space.enumerate()
    rows = encode(space, points)
    assert isinstance(rows, Tensor)
    yield from zip(rows, points)


def sequence(behavior: Behavior, place: Place, updates: int, settings: GuardSettings) -> list[Row]:
    """``updates`` customers in a row at a fresh platform, each with a task of his own."""
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        store = Store(folder, lambda: place.first)
        platform = Platform(store, place.settings, guard=settings)
        for number in range(updates):
            started = time.process_time()
            behavior(platform, place.customers[number % len(place.customers)], f"exp{number}", number)
            version = store.versions()[0]
            assert version.guard is not None
            rows.append(
                row(GuardReport.from_json(version.guard))
                | {"published": version.published, "seconds": round(time.process_time() - started, 2)}
            )
        platform.close()
    return rows


def row(report: GuardReport) -> Row:
    """Of the space that has lost most: mean losses, and whether the guard as shipped would object."""
    shipped = GuardSettings()

    def mean(values: tuple[float, ...]) -> float:
        return sum(values) / len(values)

    def losses(reference: Lists) -> list[float]:
        return [mean(reference[space]) - mean(values) for space, values in report.ndcg.items()]

    return {
        "ndcg": {space: round(mean(values), 4) for space, values in report.ndcg.items()},
        "lists": {space: len(values) for space, values in report.ndcg.items()},
        "step": round(max(losses(report.parent)), 4),
        "total": round(max(losses(report.best)), 4),
        "objected": any(
            proven_loss(reference[space], values, shipped.confidence) > shipped.tolerance
            for reference in (report.parent, report.best)
            for space, values in report.ndcg.items()
        ),
    }


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
    ticket = platform.ask(build(BeginUpdate, task_id=task.task_id))
    assert isinstance(ticket, UpdateTicket)
    extractor = MetaFeatureExtractor("full")
    extractor.load_state_dict(tensors.unpack(ticket.extractor.tensors, extractor.state_dict(), "state"))
    drawn = samples(extractor, customer.features, torch.Generator().manual_seed(0), ticket.extractor.images)
    phi = next(drawn)
    while ticket.step is not None:
        pair = [next(drawn), next(drawn)]
        one, other = [tuple((phi_scale * phi).tolist()) for phi in pair]
        answer = platform.ask(
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
        ticket = platform.ask(message)
        extractor.load_state_dict(tensors.unpack(ticket.extractor.tensors, extractor.state_dict(), "state"))
    final = tuple((phi_scale * phi).tolist())
    platform.ask(build(CommitUpdate, task_id=task.task_id, session_id=ticket.session_id, phi=final))


# -------------------------------------------------------------------------------------------------------- report


def summary(rows: list[Row]) -> str:
    kept = [number for number, row in enumerate(rows, start=1) if not row["published"]]
    return (
        f"largest step {max(row['step'] for row in rows):+.3f}, largest total {max(row['total'] for row in rows):+.3f}, "
        f"last total {rows[-1]['total']:+.3f}, kept back {kept}, {rows[-1]['seconds']} s an update"
    )


def page(found: Found) -> str:
    """The results as markdown."""
    shipped = GuardSettings()
    lines = [
        "# What updates do to NDCG on held-out lists",
        "",
        "`python benchmarks/guard.py` (what the two platforms and the customers are, it says at its top). Losses are those of "
        "the space that loses most, as means over its held-out lists; a negative one is a gain.",
        "",
        "| platform | held-out lists | customers | guard | updates | largest loss to the parent | largest loss to the best | "
        "loss to the best at the end | kept back |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for key, rows in sorted(found.items()):
        where, name, kind = key.split(" | ")
        counts = ", ".join(f"{count} {space.split('-')[0]}" for space, count in rows[0]["lists"].items())
        # What is kept back is not what customers get: they still have the version before it.
        end = next((row["total"] for row in reversed(rows) if row["published"]), 0.0)
        kept = [str(number) for number, row in enumerate(rows, start=1) if not row["published"]]
        lines.append(
            f"| {where} | {counts} | {name} | {kind} | {len(rows)} | {max(row['step'] for row in rows):+.3f} | "
            f"{max(row['total'] for row in rows):+.3f} | {end:+.3f} | {', '.join(kept) or 'none'} |"
        )
    lines += [
        "",
        f"The guard objects when a mean loss of more than {shipped.tolerance:g} is proven with a confidence of {shipped.confidence:g} "
        "(Student's t over the lists, one-sided).",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
