"""Whether an update may be published: what it did to the order of results that nobody could teach it (NDCG).

A customer can send whatever precisions, meta-features and gradients fit the messages. The guard asks only for the effect:
offline lists that no update learns from are ranked by the new version, by the one that it was built on, and by the best one
so far. The first comparison notices a blow, the second many small steps in a bad direction.

The same lists are ranked each time, so losses are compared list by list: a new version is objected to when the lower end
of the confidence interval of the mean loss (Student's t over the lists) is above a tolerance. Three short lists can
hardly prove anything, and hundreds of them show a loss of a hundredth.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import torch
from scipy.special import stdtrit

from nni_hyperfd.errors import RankerError
from nni_hyperfd.metafeature.extractor import image_inputs
from nni_hyperfd.ranker.held_out import SHARE, held_out_ndcg, hold_out
from nni_hyperfd.ranker.offline import OfflineData
from nni_hyperfd.ranker.ranker import Ranker

_SPLIT_SEED = 0
"""The same one as the shipped version 0 was warmed up with, so that both hold out the same data sets."""

Lists = Mapping[str, tuple[float, ...]]
"""NDCG of each held-out list, by space."""


@dataclass(frozen=True)
class GuardSettings:
    """What may be published. The defaults are from ``benchmarks/guard.py``, see ``benchmarks/results/guard.md``.

    Args:
        share: Of the offline data sets with experience that no update learns from.
        tolerance: Mean loss of NDCG, in any space, against the version that an update was built on or the best published
            one, that is no reason to worry.
        confidence: How sure the guard must be that a loss is larger than that.

    Raises:
        RankerError: A value out of range.
    """

    share: float = SHARE
    tolerance: float = 0.005
    confidence: float = 0.95

    def __post_init__(self) -> None:
        if not (0 < self.share < 1 and 0 < self.confidence < 1 and self.tolerance >= 0):
            raise RankerError(
                f"The guard's share {self.share} and confidence {self.confidence} must be between 0 and 1, and its tolerance "
                f"{self.tolerance} not negative."
            )


@dataclass(frozen=True)
class GuardReport:
    """NDCG of the held-out lists: with the new version, with its parent, and with the best version before it.

    ``reasons`` are the sentences that speak against publishing it; there are none where it may be published.
    """

    ndcg: Lists
    parent: Lists
    best: Lists
    reasons: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether nothing speaks against publishing the version."""
        return not self.reasons

    def to_json(self) -> str:
        """As one JSON object, four decimals of each number."""
        fields = asdict(self)
        for name in ("ndcg", "parent", "best"):
            fields[name] = {space: [round(x, 4) for x in values] for space, values in fields[name].items()}
        return json.dumps(fields)

    @classmethod
    def from_json(cls, text: str) -> GuardReport:
        """Inverse of :meth:`to_json`."""
        fields = json.loads(text)
        ndcg, parent, best = (
            {space: tuple(values) for space, values in fields[name].items()}
            for name in ("ndcg", "parent", "best")
        )
        return cls(ndcg, parent, best, tuple(fields["reasons"]))


class Guard:
    """Judges versions of one platform.

    Args:
        offline: The server's data and experience.
        settings: See there.
        images: Size of the image samples.
    """

    def __init__(self, offline: OfflineData, settings: GuardSettings, images: int) -> None:
        self._offline, self._settings, self._images = offline, settings, images
        generator = torch.Generator().manual_seed(_SPLIT_SEED)
        known = {dataset for experience in offline.experience.values() for dataset, _ in experience.lists}
        self.held_out = hold_out(offline, generator, settings.share) if len(known) > 1 else frozenset()
        """Offline data sets that updates must leave alone; none where there are too few to do without."""

    def ndcg(self, ranker: Ranker) -> Lists:
        """NDCG of each held-out list; empty where nothing is held out."""
        if not self.held_out:
            return {}
        pool = image_inputs(self._offline.features, ranker.extractor.variant)
        found = held_out_ndcg(ranker, self._offline, pool, self.held_out, self._images)
        return {space: tuple(values.tolist()) for space, values in found.items()}

    def judge(self, new: Ranker, parent: Ranker, best: Lists) -> GuardReport:
        """Compare a new version with its parent, and with the best of all versions before, space by space."""
        found, before = self.ndcg(new), self.ndcg(parent)
        best = {space: max(best.get(space, values), values, key=_mean) for space, values in before.items()}
        reasons = []
        for space, values in found.items():
            for name, reference in (("its parent", before[space]), ("the best version", best[space])):
                proven = proven_loss(reference, values, self._settings.confidence)
                if not proven <= self._settings.tolerance:  # also what is no number
                    reasons.append(
                        f"NDCG on {len(values)} held-out lists of {space} fell from {_mean(reference):.3f} of {name} to "
                        f"{_mean(values):.3f}, which is a loss of more than {proven:.3f} with a confidence of {self._settings.confidence:g}"
                    )
        return GuardReport(found, before, best, tuple(reasons))


def proven_loss(before: tuple[float, ...], after: tuple[float, ...], confidence: float) -> float:
    """Lower end of the one-sided confidence interval of the mean of ``before - after``; −∞ for fewer than two pairs."""
    losses = torch.tensor(before, dtype=torch.float64) - torch.tensor(after, dtype=torch.float64)
    count = len(losses)
    if count < 2:
        return -math.inf
    error = float(losses.std()) / math.sqrt(count)
    return float(losses.mean()) - float(stdtrit(count - 1, confidence)) * error


def _mean(values: tuple[float, ...]) -> float:
    return math.fsum(values) / len(values)
