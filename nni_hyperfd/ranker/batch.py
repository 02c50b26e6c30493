"""What warm-up and update share: scoring several lists at once, and the primary loss on them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from nni_hyperfd.errors import TrainingError
from nni_hyperfd.ranker.encodings import concatenate
from nni_hyperfd.ranker.losses import lambda_ndcg_loss, mse_loss, pad
from nni_hyperfd.ranker.offline import RankedList
from nni_hyperfd.ranker.ranker import Ranker
from nni_hyperfd.ranker.settings import RankerSettings


def score_lists(ranker: Ranker, phi: Tensor, lists: Sequence[RankedList]) -> list[Tensor]:
    """Scores [K_l] of each list for the meta-feature phi[l] of [L, 64]; one call of H for all lists of a space."""
    scores: dict[int, Tensor] = {}
    for space in dict.fromkeys(entry.space for entry in lists):
        own = [i for i, entry in enumerate(lists) if entry.space == space]
        embeddings = ranker.encoder(space)(concatenate([lists[i].encodings for i in own]))
        for i, part in zip(own, embeddings.split([len(lists[i].encodings) for i in own])):
            scores[i] = part @ phi[i]
    return [scores[i] for i in range(len(lists))]


def list_loss(scores: Sequence[Tensor], lists: Sequence[RankedList], settings: RankerSettings) -> Tensor:
    """The primary loss: ranking (eq. 6), or the mean squared error of the ablation."""
    padded, mask = pad(list(scores))
    aps, _ = pad([entry.aps for entry in lists])
    return (mse_loss if settings.loss == "mse" else lambda_ndcg_loss)(padded, aps, mask)


def require_finite(loss: Tensor, where: str) -> None:
    """Stops before a loss that is not a number reaches the parameters.

    Raises:
        TrainingError: it is not finite.
    """
    if not torch.isfinite(loss):
        raise TrainingError(
            f"The loss of the ranker's {where} is {loss.item()}; the state is left as it was."
        )
