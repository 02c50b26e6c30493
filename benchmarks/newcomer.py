"""A customer at a platform that does not know his domain, for benchmarks that train what it proposes instead of looking it up."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from make_platform import offline_data

from nni_hyperfd.customer.customer import Customer
from nni_hyperfd.customer.result import Regime, Result
from nni_hyperfd.customer.settings import Settings
from nni_hyperfd.detection.network.weights import base_id
from nni_hyperfd.platform.platform import Platform
from nni_hyperfd.ranker.encoders import EncoderShape
from nni_hyperfd.ranker.ranker import Ranker
from nni_hyperfd.ranker.settings import RankerSettings
from nni_hyperfd.ranker.warmup import warm_up
from nni_hyperfd.spaces.standard import standard_space

TABLES = Path(__file__).parent / "tables"
IMAGES = 120
"""That stand for a real domain, as in the shipped version 0."""


def platform_without(domains: Collection[str], folder: Path, budget: str = "table", seed: int = 0) -> None:
    """Version 0 as ``make_platform.py`` makes it, but without any row of ``domains``; one that lies in ``folder`` stays."""
    if folder.exists():
        return
    offline, about = offline_data(TABLES, budget, IMAGES, without=domains)
    spaces = [standard_space(kind) for kind in (*about["pairs"], "joint")]
    ranker = Ranker.build({space.key: EncoderShape.of(space) for space in spaces}, seed)
    warm_up(ranker, offline, RankerSettings(), seed)
    Platform.create(folder, ranker.eval(), offline, base_id()).close()


def proposals(
    data: Path,
    platform: Path,
    search_space: Mapping[str, Any],
    method: str,
    trials: int,
    seed: int,
    train: Callable[[Mapping[str, Any]], float],
    budget: str = "table",
) -> Iterator[tuple[dict[str, Any], float]]:
    """What an experiment of ``trials`` trials tries, in turn, and the AP@50 of each; the platform learns nothing at its end.

    ``hyperfd`` ranks once; ``hyperfd-gp`` plans anew after each result, as the tuner does.
    """
    arguments = {
        "data": str(data),
        "platform": str(platform),
        "method": method,
        "budget": trials,
        "seed": seed,
    }
    settings, home = Settings.from_class_args(arguments), Platform.open(platform)
    try:
        customer = Customer(settings, search_space, home)
        task = customer.open(f"{data.name}-{method}-{trials}-{seed}-{customer.space.kind}")
        ranked = customer.recommend(task, trials).configurations
        begun: list[dict[str, Any]] = []
        while len(begun) < trials:
            if begun and method != "hyperfd":
                ranked = customer.recommend(task, trials - len(begun), begun).configurations
            parameters = dict(ranked[len(begun) if method == "hyperfd" else 0].parameters)
            ap = train(parameters)
            customer.record(task, parameters, Result(ap), Regime(budget, seed))
            begun.append(parameters)
            yield parameters, ap
    finally:
        home.close()
