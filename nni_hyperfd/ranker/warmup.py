"""Warm-up: the first ranker, learnt from the server's own experience before any customer comes (Algorithm 1)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from nni_hyperfd.errors import PlatformError
from nni_hyperfd.metafeature.extractor import image_inputs
from nni_hyperfd.ranker.batch import list_loss, require_finite, score_lists
from nni_hyperfd.ranker.losses import ndcg, pad, triplet_loss
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
        ndcg: mean NDCG on the lists of held-out data sets, before the first epoch and after each one.
        best_epoch: the epoch whose parameters were kept; 0 is the fresh ranker.
        held_out: the offline data sets that were not learnt from.
    """

    ndcg: tuple[float, ...]
    best_epoch: int
    held_out: tuple[int, ...]


def warm_up(
    ranker: Ranker, offline: OfflineData, settings: RankerSettings, seed: int, validation: float = 0.2
) -> WarmUpReport:
    """Trains ``ranker`` in place with the ranking and triplet losses and fixes its input normalization.

    Some data sets are held out with all their lists; the parameters with the best NDCG on these are kept. A batch
    holds lists of one space, as a graph network's batch normalization needs company of its own kind.

    Args:
        ranker: a fresh ranker with an encoder for every space of ``offline.experience``.
        offline: the server's data and experience.
        settings: see there; the ``warmup_`` fields, the losses, the rate.
        seed: of the split, the order, the image samples and dropout; the result depends on nothing else.
        validation: share of the data sets with lists that is held out, in (0, 1).

    Raises:
        PlatformError: no experience to learn or to validate with.
        TrainingError: the loss is not finite.
    """
    generator = torch.Generator().manual_seed(seed)
    pool = image_inputs(offline.features, ranker.extractor.variant)
    ranker.extractor.set_normalization(pool, offline.statistics)
    entries: list[_Entry] = [
        (space, dataset, rows)
        for space, experience in offline.experience.items()
        for dataset, rows in experience.lists
    ]
    known = sorted({dataset for _, dataset, _ in entries})
    if len(known) < 2:
        raise PlatformError(
            f"Warm-up needs at least two offline data sets with two different APs each, but there are {len(known)}."
        )
    shuffled = torch.randperm(len(known), generator=generator).tolist()
    count = min(max(1, round(validation * len(known))), len(known) - 1)
    held_out = {known[i] for i in shuffled[:count]}
    training = [entry for entry in entries if entry[1] not in held_out]
    checking = [entry for entry in entries if entry[1] in held_out]

    optimizer = torch.optim.Adam(ranker.parameters(), lr=settings.learning_rate)
    history = [_validate(ranker, offline, pool, checking, settings)]
    best, best_epoch = ranker.parameters_state(), 0
    with seeded(seed):
        for epoch in range(1, settings.warmup_epochs + 1):
            ranker.train()
            for batch in _batches(training, settings.warmup_lists, generator):
                loss = _loss(ranker, offline, pool, batch, settings, generator)
                require_finite(loss, "warm-up")
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            history.append(_validate(ranker, offline, pool, checking, settings))
            if history[-1] > max(history[:-1]):
                best, best_epoch = ranker.parameters_state(), epoch
            elif epoch - best_epoch >= settings.warmup_patience:
                break
    ranker.load(best)
    ranker.eval()
    return WarmUpReport(tuple(history), best_epoch, tuple(sorted(held_out)))


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
    loss = list_loss(score_lists(ranker, phi, lists), lists, settings)
    different = datasets[:, None] != datasets
    return loss + settings.triplet_weight * triplet_loss(
        phi, phi_tilde, phi, different, settings.triplet_margin
    )


@torch.no_grad()
def _validate(
    ranker: Ranker, offline: OfflineData, pool: Tensor, entries: list[_Entry], settings: RankerSettings
) -> float:
    """NDCG: mean over the lists of a space, then over spaces."""
    ranker.eval()
    datasets = sorted({dataset for _, dataset, _ in entries})
    indices = offline.reference(settings.images)[datasets]
    phi = ranker.extractor.forward_indexed(pool, indices, offline.statistics[datasets])
    place = {dataset: i for i, dataset in enumerate(datasets)}
    means = []
    for space in dict.fromkeys(space for space, _, _ in entries):
        own = [entry for entry in entries if entry[0] == space]
        lists = [offline.experience[space].ranked(space, rows) for _, _, rows in own]
        rows = score_lists(ranker, phi[[place[dataset] for _, dataset, _ in own]], lists)
        scores, mask = pad(rows)
        means.append(float(ndcg(scores, pad([entry.aps for entry in lists])[0], mask).nanmean()))
    return math.fsum(means) / len(means)
