"""Whether an update may be published: what it did to the order of results that nobody could teach it (NDCG).

A customer can send whatever precisions, meta-features and gradients fit the messages. The guard asks only for the effect:
offline lists that no update learns from are ranked by the new version, by the one that it was built on, and by the best one
so far. The first comparison notices a blow, the second many small steps in a bad direction.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import torch

from nni_hyperfd.errors import PlatformError
from nni_hyperfd.metafeature.extractor import image_inputs
from nni_hyperfd.ranker.held_out import SHARE, held_out_ndcg, hold_out
from nni_hyperfd.ranker.offline import OfflineData
from nni_hyperfd.ranker.ranker import Ranker

_SPLIT_SEED = 0
"""The same one as the shipped version 0 was warmed up with, so that both hold out the same data sets."""


@dataclass(frozen=True)
class GuardSettings:
    """What may be published. The defaults are from ``benchmarks/guard.py``, see ``benchmarks/results/guard.md``.

    Honest updates exchange neighbors in short lists here and there, which averages out over many lists and does not over
    three; so what may be lost is a tolerance and ``noise`` / √(number of held-out lists of the space).

    Args:
        share: of the offline data sets with experience that no update learns from.
        step: tolerated loss of NDCG, in any space, against the version that an update was built on.
        total: tolerated loss of NDCG, in any space, against the best published version.
        noise: how far the NDCG of a single list may fall without meaning anything.

    Raises:
        PlatformError: a value out of range.
    """

    share: float = SHARE
    step: float = 0.02
    total: float = 0.05
    noise: float = 0.25

    def __post_init__(self) -> None:
        if not (0 < self.share < 1 and all(value >= 0 for value in (self.step, self.total, self.noise))):
            raise PlatformError(
                f"The guard's share {self.share} must be between 0 and 1, and its tolerances {self.step} and {self.total} and its "
                f"noise {self.noise} not negative."
            )

    def allowed(self, lists: int) -> tuple[float, float]:
        """Largest losses against the parent and against the best version, as means over that many lists."""
        return self.step + self.noise / math.sqrt(lists), self.total + self.noise / math.sqrt(lists)


@dataclass(frozen=True)
class GuardReport:
    """NDCG on the held-out lists, by space: of the new version, of its parent, and of the best version before it.

    ``reasons`` are the sentences that speak against publishing it; there are none where it may be published.
    """

    lists: Mapping[str, int]
    ndcg: Mapping[str, float]
    parent: Mapping[str, float]
    best: Mapping[str, float]
    reasons: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether nothing speaks against publishing the version."""
        return not self.reasons

    def to_json(self) -> str:
        """As one JSON object."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> GuardReport:
        """Inverse of :meth:`to_json`."""
        fields = json.loads(text)
        return cls(**(fields | {"reasons": tuple(fields["reasons"])}))


class Guard:
    """Judges versions of one platform.

    Args:
        offline: the server's data and experience.
        settings: see there.
        images: size of the image samples.
    """

    def __init__(self, offline: OfflineData, settings: GuardSettings, images: int) -> None:
        self._offline, self._settings, self._images = offline, settings, images
        generator = torch.Generator().manual_seed(_SPLIT_SEED)
        known = {dataset for experience in offline.experience.values() for dataset, _ in experience.lists}
        self.held_out = hold_out(offline, generator, settings.share) if len(known) > 1 else frozenset()
        """Offline data sets that updates must leave alone; none where there are too few to do without."""
        self._lists = {
            space: sum(dataset in self.held_out for dataset, _ in experience.lists)
            for space, experience in offline.experience.items()
        }

    def ndcg(self, ranker: Ranker) -> dict[str, float]:
        """NDCG by space; empty where nothing is held out."""
        if not self.held_out:
            return {}
        pool = image_inputs(self._offline.features, ranker.extractor.variant)
        return held_out_ndcg(ranker, self._offline, pool, self.held_out, self._images)

    def judge(self, new: Ranker, parent: Ranker, best: Mapping[str, float]) -> GuardReport:
        """Compare a new version with its parent, and with the best NDCG by space of all versions before."""
        found, before = self.ndcg(new), self.ndcg(parent)
        best = {space: max(value, best.get(space, value)) for space, value in before.items()}
        reasons = []
        for space, value in found.items():
            references = (("its parent", before[space]), ("the best version", best[space]))
            for (name, reference), allowed in zip(references, self._settings.allowed(self._lists[space])):
                if not reference - value <= allowed:  # also a value that is no number
                    reasons.append(
                        f"NDCG on {self._lists[space]} held-out lists of {space} fell from {reference:.3f} of {name} to {value:.3f}, "
                        f"by more than {allowed:.3f}"
                    )
        lists = {space: count for space, count in self._lists.items() if count}
        return GuardReport(lists, found, before, best, tuple(reasons))
