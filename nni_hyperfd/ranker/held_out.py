"""Offline data sets that are not learnt from, and how well a ranker orders their results."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor

from nni_hyperfd.errors import RankerError
from nni_hyperfd.ranker.batch import score_lists
from nni_hyperfd.ranker.losses import ndcg, pad
from nni_hyperfd.ranker.offline import OfflineData
from nni_hyperfd.ranker.ranker import Ranker

SHARE = 0.2
"""Share of the offline data sets with experience that is held out."""


def hold_out(offline: OfflineData, generator: torch.Generator, share: float = SHARE) -> frozenset[int]:
    """A random choice among the offline data sets that have a list; a data set goes with its lists of all spaces.

    At least one is held out and at least one is left.

    Raises:
        RankerError: Fewer than two data sets have a list.
    """
    known = sorted({dataset for experience in offline.experience.values() for dataset, _ in experience.lists})
    if len(known) < 2:
        raise RankerError(
            "To hold some out, at least two offline data sets must have two different APs each, "
            f"but there are {len(known)}."
        )
    count = min(max(1, round(share * len(known))), len(known) - 1)
    shuffled = torch.randperm(len(known), generator=generator).tolist()
    return frozenset(known[i] for i in shuffled[:count])


@torch.no_grad()
def held_out_ndcg(
    ranker: Ranker, offline: OfflineData, pool: Tensor, held_out: Collection[int], images: int
) -> dict[str, Tensor]:
    """NDCG ``[L]`` of each list of ``held_out`` data sets, by space; a space without such a list is left out.

    It is measured on the data sets' fixed image samples, so that two rankers differ by nothing but themselves.

    Args:
        ranker: Put into evaluation mode.
        offline: The server's data and experience.
        pool: ``[N, F]`` what the ranker's extractor takes of the server's images.
        held_out: Offline data sets, by their numbers.
        images: Size of the image samples.
    """
    ranker.eval()
    datasets = sorted(held_out)
    indices = offline.reference(images)[datasets]
    phi = ranker.extractor.forward_indexed(pool, indices, offline.statistics[datasets])
    place = {dataset: i for i, dataset in enumerate(datasets)}
    found = {}
    for space, experience in offline.experience.items():
        own = [(dataset, rows) for dataset, rows in experience.lists if dataset in place]
        if own:
            lists = [experience.ranked(space, rows) for _, rows in own]
            scores, mask = pad(score_lists(ranker, phi[[place[dataset] for dataset, _ in own]], lists))
            aps, _ = pad([entry.aps for entry in lists])
            found[space] = ndcg(scores, aps, mask)
    return found
