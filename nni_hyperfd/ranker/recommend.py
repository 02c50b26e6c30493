"""From scores to the configurations that are tried: B of them, half by score and half from what comes next (METHOD §8)."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from nni_hyperfd.errors import RankerError

EXPLORATION = 0.5
NEXT_BEST = 0.2
"""Exploration draws uniformly from this part of the ranking behind the best; with fewer configurations in it than
must be drawn, from as many as are needed."""

Point = TypeVar("Point", bound=Hashable)


def recommend(scores: Tensor, budget: int, exploration: float, generator: torch.Generator) -> Tensor:
    """The configurations to try, and in which order.

    The first ⌈(1 − exploration) · B⌉ are the best by score. The others are drawn without replacement, uniformly, from the
    next 20 % of the ranking: good enough to be worth a trial, different enough to teach something.

    Args:
        scores: ``[M]`` of all candidates; equal scores keep their order.
        budget: B, at least 1; with fewer candidates all of them come back.
        exploration: Share of B that is drawn, in [0, 1].
        generator: Of the draw.

    Returns:
        ``[min(B, M)]`` distinct positions in ``scores``: the best first, then the drawn ones.

    Raises:
        RankerError: No candidate, or a budget or an exploration ratio out of range.
    """
    if not len(scores):
        raise RankerError("There is no configuration to recommend; widen the search space.")
    if budget < 1 or not 0 <= exploration <= 1:
        raise RankerError(
            f"Budget {budget} and exploration ratio {exploration} do not fit: at least 1, and between 0 and 1."
        )
    ranking = scores.argsort(descending=True, stable=True)
    budget = min(budget, len(scores))
    # The tolerance keeps (1 − 0.9) · 10 = 0.9999… from becoming a different number than it means.
    best = math.ceil((1 - exploration) * budget - 1e-9)
    explored = budget - best
    reach = max(explored, math.ceil(NEXT_BEST * len(scores)))
    next_best = ranking[best : best + reach]
    return torch.cat(
        [ranking[:best], next_best[torch.randperm(len(next_best), generator=generator)[:explored]]]
    )


def evolve(
    candidates: Sequence[Point],
    score: Callable[[Sequence[Point]], Tensor],
    neighbors: Callable[[Point], Sequence[Point]],
    generations: int,
    parents: int = 50,
) -> tuple[list[Point], Tensor]:
    """Looks beyond a sample of a large space: the best are changed a little, again and again.

    Args:
        candidates: The sample to start from.
        score: Scores ``[n]`` of n configurations, such as a call of the ranker.
        neighbors: Small changes of one configuration; any randomness is in here.
        generations: Rounds of change.
        parents: How many of the best are changed in each round.

    Returns:
        The N points that were scored, without repetitions, and their scores ``[N]``, in the order of discovery.
    """
    found = list(dict.fromkeys(candidates))
    scores = score(found)
    known = set(found)
    for _ in range(generations):
        best = scores.topk(min(parents, len(found))).indices.tolist()
        fresh = [
            child
            for child in dict.fromkeys(c for i in best for c in neighbors(found[i]))
            if child not in known
        ]
        if not fresh:
            break
        known.update(fresh)
        found += fresh
        scores = torch.cat([scores, score(fresh)])
    return found, scores
