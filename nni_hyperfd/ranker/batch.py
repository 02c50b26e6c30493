"""What warm-up and update share: scoring several lists at once, and the primary loss on them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from nni_hyperfd.errors import TrainingError
from nni_hyperfd.ranker.encodings import concatenate
from nni_hyperfd.ranker.losses import Stakes, lambda_ndcg_loss, mse_loss, pad, stakes
from nni_hyperfd.ranker.offline import RankedList
from nni_hyperfd.ranker.ranker import Ranker
from nni_hyperfd.ranker.settings import RankerSettings

LONGEST = 128
"""Configurations of one list that take part in a loss: it compares them pair by pair."""


def score_lists(ranker: Ranker, phi: Tensor, lists: Sequence[RankedList]) -> list[Tensor]:
    """Scores ``[K_l]`` of each list for the meta-feature phi[l] of ``[L, 64]`` (eq. 1); one call of H for all lists of a space."""
    scores: dict[int, Tensor] = {}
    for space in dict.fromkeys(entry.space for entry in lists):
        own = [i for i, entry in enumerate(lists) if entry.space == space]
        embeddings = ranker.encoder(space)(concatenate([lists[i].encodings for i in own]))
        for i, part in zip(own, embeddings.split([len(lists[i].encodings) for i in own])):
            scores[i] = part @ phi[i]
    return [scores[i] for i in range(len(lists))]


def list_loss(
    ranker: Ranker,
    phi: Tensor,
    lists: Sequence[RankedList],
    settings: RankerSettings,
    generator: torch.Generator,
) -> Tensor:
    """The primary loss ``[]`` of a batch: ranking (eq. 6), or the mean squared error of the ablation.

    Of a list that is longer than :data:`LONGEST`, that many configurations are drawn. In expectation the loss is that of the whole
    list, with the ranks that its configurations have without dropout.

    Args:
        ranker: Scores the lists.
        phi: ``[L, 64]`` meta-feature of each list's data set.
        lists: Of any length.
        settings: Which loss.
        generator: Of the draw; where all lists are short it is not touched.
    """
    drawn = [
        torch.randperm(len(entry.aps), generator=generator)[:LONGEST] if len(entry.aps) > LONGEST else None
        for entry in lists
    ]
    short = [entry if at is None else entry.at(at) for entry, at in zip(lists, drawn)]
    scores, mask = pad(score_lists(ranker, phi, short))
    aps, _ = pad([entry.aps for entry in short])
    if settings.loss == "mse":
        return mse_loss(scores, aps, mask)
    return lambda_ndcg_loss(scores, aps, mask, _stakes(ranker, phi, lists, drawn, scores, aps, mask))


def _stakes(
    ranker: Ranker,
    phi: Tensor,
    lists: Sequence[RankedList],
    drawn: Sequence[Tensor | None],
    scores: Tensor,
    aps: Tensor,
    mask: Tensor,
) -> Stakes:
    """Of all lists, those that are only drawn from among them as they are in the whole list."""
    found = stakes(scores.detach(), aps, mask)
    for row, (entry, at) in enumerate(zip(lists, drawn)):
        if at is not None:
            everything = ranker.predict(entry.space, phi[row].detach(), entry.encodings)[None]
            whole = stakes(everything, entry.aps[None], torch.ones_like(everything, dtype=torch.bool))
            for column, part in zip(found, whole.sample(at)):
                column[row, ...] = part[0]
    return found


def require_finite(loss: Tensor, where: str) -> None:
    """Stops before a loss ``[]`` that is not a number reaches the parameters.

    Raises:
        TrainingError: It is not finite.
    """
    if not torch.isfinite(loss):
        raise TrainingError(
            f"The loss of the ranker's {where} is {loss.item()}; the state is left as it was."
        )
