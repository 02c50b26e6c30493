"""From a meta-feature to a ranked list of configurations (METHOD.md §8)."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nni_hyperfd.protocol.messages import RankedConfiguration, Recommendation, RecommendRequest, build
from nni_hyperfd.ranker.encodings import Encodings, encode
from nni_hyperfd.ranker.ranker import Ranker
from nni_hyperfd.ranker.recommend import evolve, recommend
from nni_hyperfd.spaces.configuration import Configuration
from nni_hyperfd.spaces.cost import PartCosts
from nni_hyperfd.spaces.space import Space

LISTED = 4096
"""Spaces up to this size are ranked whole; larger ones by a sample."""

LISTED_VALUES = 2**17
"""Values, of all keys together, in what is ranked of a space, whole or a sample: time and memory grow with their number, and others wait."""

SPARES = 16
"""Fewest configurations that are named beyond the budget, to take the place of failed ones."""


def read_space(
    search_space: Mapping[str, Any], flops_limit: float, request: RecommendRequest | None = None
) -> Space:
    """A search space from its JSON object; the same object gives the same ``Space``, with what it has worked out.

    Args:
        search_space: As NNI has it.
        flops_limit: Of its networks.
        request: With further limits to them.

    Raises:
        SpaceError: It is malformed, or no network is under the limits.
    """
    rows = None if request is None else request.network_costs
    return _read_space(
        json.dumps(search_space), flops_limit, None if rows is None else PartCosts.from_rows(rows)
    )


@functools.lru_cache(maxsize=32)
def _read_space(text: str, flops_limit: float, costs: PartCosts | None) -> Space:
    return Space.from_search_space(json.loads(text), flops_limit, costs)


@functools.lru_cache(maxsize=8)
def _listed(space: Space) -> tuple[list[Configuration], Encodings]:
    configurations = space.enumerate()
    return configurations, encode(space, configurations)


def add_space(ranker: Ranker, space: Space) -> None:
    """Gives ``ranker`` an encoder for a space that it does not know, always the same one for the same space."""
    seed = int.from_bytes(sha256(space.key.encode()).digest()[:4], "big")
    ranker.add_space(space, seed)


def rank(
    ranker: Ranker, version: int, space: Space, phi: Tensor, request: RecommendRequest
) -> Recommendation:
    """The configurations to try for φ ``[64]``, and spares, by ``ranker``, which stays as it was; it depends on nothing else.

    Raises:
        SpaceError: The space has fewer configurations than candidates are asked for.
    """
    known = space.key in ranker.shapes
    add_space(ranker, space)
    try:
        candidates, scores = _score(ranker, space, phi, request)
    finally:
        if not known:
            # Or else a ranker that is kept in memory would grow with every space that anybody asks about.
            ranker.remove_space(space.key)
    generator = torch.Generator().manual_seed(request.seed)
    order = with_spares(scores, request.budget, request.exploration, generator)
    return in_order(version, space, candidates, order, scores.tolist(), request.budget)


def with_spares(scores: Tensor, budget: int, exploration: float, generator: torch.Generator) -> list[int]:
    """What is recommended by ``scores`` ``[M]``, as positions: ``budget`` to try (:func:`.recommend`), and behind them the best of the others.

    Raises:
        PlatformError: No candidate, or a budget or an exploration ratio out of range.
    """
    chosen = recommend(scores, budget, exploration, generator).tolist()
    taken = set(chosen)
    rest = [i for i in scores.argsort(descending=True, stable=True).tolist() if i not in taken]
    return [*chosen, *rest[: max(budget, SPARES)]]


def in_order(
    version: int,
    space: Space,
    candidates: Sequence[Configuration],
    order: Sequence[int],
    scores: Sequence[float],
    budget: int,
) -> Recommendation:
    """The answer that names candidates: the first ``budget`` of ``order`` are to be tried, those behind them are spares.

    Args:
        version: Of the ranker.
        space: That the candidates are points of.
        candidates: K configurations.
        order: Positions in ``candidates``, best first.
        scores: ``[K]`` what each is said to be worth.
        budget: Configurations to try.
    """
    named = tuple(
        build(RankedConfiguration, parameters=space.parameters(candidates[i]), score=float(scores[i]))
        for i in order
    )
    return build(Recommendation, version=version, configurations=named[:budget], spares=named[budget:])


def _score(
    ranker: Ranker, space: Space, phi: Tensor, request: RecommendRequest
) -> tuple[list[Configuration], Tensor]:
    most = LISTED_VALUES // max(1, len(space.domains))
    if space.size <= min(LISTED, most):
        configurations, encodings = _listed(space)
        return configurations, ranker.predict(space.key, phi, encodings)
    rng = np.random.default_rng(request.seed)
    return evolve(
        space.sample_up_to(min(request.candidates, max(2 * request.budget, most)), rng),
        lambda some: ranker.predict(space.key, phi, encode(space, some)),
        lambda one: space.neighbours(one, rng),
        request.generations,
    )
