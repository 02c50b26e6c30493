"""The server's own data: images always at hand, sub-sets of them as data sets, and tuning experience on those."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from nni_hyperfd.errors import RankerError
from nni_hyperfd.metafeature.extractor import (
    MetaFeatureExtractor,
    dataset_statistics,
    image_inputs,
    sample_indices,
)
from nni_hyperfd.metafeature.features import ImageFeatures
from nni_hyperfd.protocol.tensors import from_blob, to_blob
from nni_hyperfd.ranker.encodings import Encodings, from_tensors, to_tensors

REFERENCE_SEED = 0
"""Seed of the fixed image sample that every extractor version describes the offline data sets with."""


@dataclass(frozen=True)
class RankedList:
    """Configurations of one space with their results on one data set: what the ranking loss works on.

    Args:
        space: Key of the search space.
        encodings: K configurations.
        aps: ``[K]`` AP@50 in [0, 1].
    """

    space: str
    encodings: Encodings
    aps: Tensor

    def at(self, positions: Tensor) -> RankedList:
        """Some of it, by their positions ``[M]``."""
        return RankedList(self.space, self.encodings[positions], self.aps[positions])


@dataclass(frozen=True)
class Experience:
    """Results of one space on the offline data sets: P rows (data set, configuration, AP@50).

    Args:
        encodings: The M configurations that occur.
        sets: ``[P]`` integer offline data set of each row.
        configurations: ``[P]`` integer position in ``encodings`` of each row.
        aps: ``[P]`` AP@50 in [0, 1].
        curves: ``[P, T]`` AP@50 on val after each of T equally distant validations, the last at the end; NaN where a row has none. T = 0:
            no row has.

    Raises:
        RankerError: The columns differ in length, name a configuration that is not there, or an AP is not in [0, 1].
    """

    encodings: Encodings
    sets: Tensor
    configurations: Tensor
    aps: Tensor
    curves: Tensor = field(default_factory=lambda: torch.zeros(0, 0))

    def __post_init__(self) -> None:
        if not len(self.sets) == len(self.configurations) == len(self.aps):
            raise RankerError(
                f"Offline experience: {len(self.sets)} data sets, {len(self.configurations)} configurations and "
                f"{len(self.aps)} APs; they must be equally many."
            )
        if len(self.sets) and not 0 <= int(self.configurations.min()) <= int(self.configurations.max()) < len(
            self.encodings
        ):
            raise RankerError("Offline experience: a row names a configuration that is not there.")
        if not ((self.aps >= 0) & (self.aps <= 1)).all():
            raise RankerError("Offline experience: an AP is outside [0, 1].")
        if self.curves.shape[1:].numel() and len(self.curves) != len(self.sets):
            raise RankerError(
                f"Offline experience: {len(self.sets)} rows and {len(self.curves)} curves; they must be equally many."
            )
        if not ((self.curves >= 0) & (self.curves <= 1) | self.curves.isnan()).all():
            raise RankerError("Offline experience: an AP of a curve is outside [0, 1].")

    @cached_property
    def lists(self) -> tuple[tuple[int, Tensor], ...]:
        """(offline data set, its rows ``[K]``) for every data set with at least two different APs; others rank nothing."""
        order = self.sets.argsort(stable=True)
        names, counts = torch.unique_consecutive(self.sets[order], return_counts=True)
        groups = zip(names.tolist(), order.split(counts.tolist()))
        return tuple((name, rows) for name, rows in groups if len(self.aps[rows].unique()) > 1)

    def ranked(self, space: str, rows: Tensor) -> RankedList:
        """The rows ``[K]`` of one data set as a list."""
        return RankedList(space, self.encodings[self.configurations[rows]], self.aps[rows].float())


@dataclass(frozen=True)
class OfflineData:
    """D_offline and S_offline.

    Args:
        features: Image-level features of all N images of the server.
        members: For each of the S offline data sets the positions ``[n]`` of its images, integers below N; sets may overlap.
        experience: For each space, by its key, the results on these data sets.

    Raises:
        RankerError: An empty data set, or a position or data set that does not exist.
    """

    features: ImageFeatures
    members: Sequence[Tensor]
    experience: Mapping[str, Experience]

    def __post_init__(self) -> None:
        if not self.members or any(len(member) == 0 for member in self.members):
            raise RankerError("Offline data: there must be data sets, each with at least one image.")
        images = torch.cat(list(self.members))
        if not 0 <= int(images.min()) <= int(images.max()) < len(self.features):
            raise RankerError(
                f"Offline data: a data set names image {int(images.max())}, but there are {len(self.features)}."
            )
        for key, experience in self.experience.items():
            sets = experience.sets
            if len(sets) and not 0 <= int(sets.min()) <= int(sets.max()) < len(self.members):
                raise RankerError(
                    f"Offline data: experience in space {key} names data set {int(sets.max())}, "
                    f"but there are {len(self.members)}."
                )

    def __len__(self) -> int:
        return len(self.members)

    @cached_property
    def statistics(self) -> Tensor:
        """``[S, 2]`` statistics of the data sets, as G takes them."""
        return torch.stack([dataset_statistics(self.features.boxes[member]) for member in self.members])

    def reference(self, images: int) -> Tensor:
        """``[S, images]`` a sample of each data set that never changes.

        Two versions of G are compared on the same images, so that their transformation has no sampling noise to fit.
        """
        generator = torch.Generator().manual_seed(REFERENCE_SEED)
        return torch.stack([self.sample(s, images, generator) for s in range(len(self))])

    @torch.no_grad()
    def meta_features(self, extractor: MetaFeatureExtractor, images: int) -> Tensor:
        """``[S, 64]`` G(D_offline): φ of every data set, each from its :meth:`reference` of ``images``; puts G into evaluation mode."""
        inputs = image_inputs(self.features, extractor.variant)
        return extractor.eval().forward_indexed(inputs, self.reference(images), self.statistics)

    def sample(self, dataset: int, images: int, generator: torch.Generator) -> Tensor:
        """``[images]`` positions of a random sample of one data set's images."""
        return self.members[dataset][sample_indices(len(self.members[dataset]), images, generator)]

    def to_bytes(self) -> bytes:
        """Everything as one safetensors blob."""
        tensors = {f"features/{name}": tensor for name, tensor in self.features.tensors().items()}
        tensors["members"] = torch.cat(list(self.members))
        tensors["sizes"] = torch.tensor([len(member) for member in self.members])
        for key, experience in self.experience.items():
            columns = {
                "sets": experience.sets,
                "configurations": experience.configurations,
                "aps": experience.aps,
            }
            # Without curves the bytes are those of before there were any.
            columns |= {"curves": experience.curves} if experience.curves.numel() else {}
            columns |= {f"encodings/{name}": t for name, t in to_tensors(experience.encodings).items()}
            tensors |= {f"experience/{key}/{name}": tensor for name, tensor in columns.items()}
        return to_blob("set of offline data", tensors, {"spaces": list(self.experience)})

    @classmethod
    def from_bytes(cls, data: bytes) -> OfflineData:
        """Inverse of :meth:`to_bytes`.

        Raises:
            RankerError: The bytes are damaged or of another kind.
        """
        tensors, information = from_blob("set of offline data", data)
        try:
            experience = {}
            for key in information["spaces"]:
                part = _under(tensors, f"experience/{key}/")
                experience[key] = Experience(
                    from_tensors(_under(part, "encodings/")),
                    part["sets"],
                    part["configurations"],
                    part["aps"],
                    part.get("curves", torch.zeros(0, 0)),
                )
            features = ImageFeatures.from_tensors(_under(tensors, "features/"))
            return cls(features, tensors["members"].split(tensors["sizes"].tolist()), experience)
        except KeyError as error:
            raise RankerError(
                f"A stored set of offline data lacks {error}; restore it from a copy."
            ) from None


def _under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
