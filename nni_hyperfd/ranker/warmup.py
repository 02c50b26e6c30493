"""Warm-up: the first ranker, learnt from the server's own experience before any customer comes (Algorithm 1)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from nni_hyperfd.metafeature.extractor import image_inputs
from nni_hyperfd.ranker.batch import list_loss, require_finite
from nni_hyperfd.ranker.held_out import SHARE, held_out_ndcg, hold_out
from nni_hyperfd.ranker.losses import triplet_loss
from nni_hyperfd.ranker.offline import OfflineData
from nni_hyperfd.ranker.ranker import Ranker
from nni_hyperfd.ranker.seeding import seeded
from nni_hyperfd.ranker.settings import RankerSettings

_Entry = tuple[str, int, Tensor]
"""Space, offline data set, rows of the space's experience."""


@dataclass(frozen=True)
class WarmUpReport:
    """How the warm-up went.

    Args:
        ndcg: Mean NDCG on the lists of held-out data sets, before the first epoch and after the last one.
        held_out: The offline data sets that were not learnt from.
    """

    ndcg: tuple[float, float]
    held_out: tuple[int, ...]


def warm_up(
    ranker: Ranker, offline: OfflineData, settings: RankerSettings, seed: int, validation: float = SHARE
) -> WarmUpReport:
    """Trains ``ranker`` in place with the ranking and triplet losses and fixes its input normalization.

    Some data sets are held out with all their lists, to say how well unseen ones are ranked; nothing is chosen by them. A batch
    holds lists of one space, as a graph network's batch normalization needs company of its own kind.

    Args:
        ranker: A fresh ranker with an encoder for every space of ``offline.experience``.
        offline: The server's data and experience.
        settings: See there; the ``warmup_`` fields, the losses, the rate.
        seed: Of the split, the order, the image samples and dropout; the result depends on nothing else.
        validation: Share of the data sets with lists that is held out, in (0, 1).

    Raises:
        RankerError: No experience to learn or to validate with.
        TrainingError: The loss is not finite.
    """
    generator = torch.Generator().manual_seed(seed)
    pool = image_inputs(offline.features, ranker.extractor.variant)
    ranker.extractor.set_normalization(pool, offline.statistics)
    entries: list[_Entry] = [
        (space, dataset, rows)
        for space, experience in offline.experience.items()
        for dataset, rows in experience.lists
    ]
    held_out = hold_out(offline, generator, validation)
    training = [entry for entry in entries if entry[1] not in held_out]

    def validate() -> float:
        found = held_out_ndcg(ranker, offline, pool, held_out, settings.images)
        return math.fsum(float(values.mean()) for values in found.values()) / len(found)

    optimizer = torch.optim.Adam(ranker.parameters(), lr=settings.warmup_rate)
    before = validate()
    ranker.train()
    with seeded(seed):
        for _ in range(settings.warmup_epochs):
            for batch in _batches(training, settings.warmup_lists, generator):
                loss = _loss(ranker, offline, pool, batch, settings, generator)
                require_finite(loss, "warm-up")
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
    ranker.eval()
    return WarmUpReport((before, validate()), tuple(sorted(held_out)))


def _batches(entries: list[_Entry], size: int, generator: torch.Generator) -> list[list[_Entry]]:
    """All entries once, in random order, each batch of one space."""
    order = [entries[i] for i in torch.randperm(len(entries), generator=generator).tolist()]
    batches = []
    for space in dict.fromkeys(space for space, _, _ in order):
        own = [entry for entry in order if entry[0] == space]
        batches += [own[start : start + size] for start in range(0, len(own), size)]
    return [batches[i] for i in torch.randperm(len(batches), generator=generator).tolist()]


def _loss(
    ranker: Ranker,
    offline: OfflineData,
    pool: Tensor,
    batch: list[_Entry],
    settings: RankerSettings,
    generator: torch.Generator,
) -> Tensor:
    datasets = torch.tensor([dataset for _, dataset, _ in batch])
    # One call of G for both samples: first φ of all data sets, then φ̃.
    twice = torch.cat([datasets, datasets])
    indices = torch.stack([offline.sample(d, settings.images, generator) for d in twice.tolist()])
    phi, phi_tilde = ranker.extractor(pool[indices], offline.statistics[twice]).chunk(2)
    lists = [offline.experience[space].ranked(space, rows) for space, _, rows in batch]
    loss = list_loss(ranker, phi, lists, settings, generator)
    different = datasets[:, None] != datasets
    return loss + settings.triplet_weight * triplet_loss(
        phi, phi_tilde, phi, different, settings.triplet_margin
    )
