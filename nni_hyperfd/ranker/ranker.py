"""F: the performance ranker. One extractor G for all spaces, one encoder H a space (HyperFD eq. 1)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from nni_hyperfd.errors import RankerError, SpaceError
from nni_hyperfd.metafeature.extractor import MetaFeatureExtractor, Variant
from nni_hyperfd.protocol.tensors import from_blob, to_blob
from nni_hyperfd.ranker.encoders import EncoderShape
from nni_hyperfd.ranker.encodings import Encodings
from nni_hyperfd.ranker.seeding import seeded
from nni_hyperfd.spaces.space import Space

CHUNK = 1024
"""Configurations embedded at once: few enough that the graphs of a chunk stay in the processor's cache."""


class Ranker(nn.Module):
    r"""Scores :math:`F(c, d) = \langle G(d), H(c) \rangle`; a higher score promises a higher AP@50.

    The extractor is shared, so that experience from one search space improves the meta-features of all of them.

    Args:
        extractor: G.
        shapes: For each space, by its key, the shape of its encoder H; encoders are initialized at once.

    Example:
        >>> import torch
        >>> from nni_hyperfd.ranker.encodings import encode
        >>> from nni_hyperfd.spaces.standard import standard_space
        >>> space = standard_space("hpo")
        >>> ranker = Ranker.build({space.key: EncoderShape.of(space)}, seed=0).eval()
        >>> phi = torch.zeros(64)  # of a data set, by ranker.extractor
        >>> ranker.predict(space.key, phi, encode(space, space.enumerate()[:3])).shape
        torch.Size([3])
    """

    def __init__(self, extractor: MetaFeatureExtractor, shapes: Mapping[str, EncoderShape]) -> None:
        super().__init__()
        self.extractor = extractor
        self.shapes = dict(shapes)
        self.encoders = nn.ModuleDict({key: shape.build() for key, shape in self.shapes.items()})

    @classmethod
    def build(cls, shapes: Mapping[str, EncoderShape], seed: int, variant: Variant = "full") -> Ranker:
        """A fresh ranker whose parameters depend on ``seed`` alone."""
        with seeded(seed):
            return cls(MetaFeatureExtractor(variant), shapes)

    def add_space(self, space: Space, seed: int) -> None:
        """Gives a space that is not known yet a fresh encoder; a known one keeps its own."""
        if space.key not in self.shapes:
            shape = EncoderShape.of(space)
            with seeded(seed):
                self.encoders[space.key] = shape.build()
            self.shapes[space.key] = shape

    def add_encoder(self, key: str, shape: EncoderShape, state: Mapping[str, Tensor]) -> None:
        """Gives a space the encoder of that shape with these parameters and buffers.

        Raises:
            RankerError: They do not fit the shape.
        """
        with seeded(0):
            encoder = shape.build()
        load_checked(encoder, state, f"encoder of {key}")
        self.encoders[key] = encoder.train(self.training)
        self.shapes[key] = shape

    @staticmethod
    def prefix(key: str) -> str:
        """What the names of a space's encoder begin with in :meth:`parameters_state`."""
        return f"encoders.{key}."

    def remove_space(self, key: str) -> None:
        """Forgets the encoder of a space."""
        del self.encoders[key], self.shapes[key]

    def encoder(self, key: str) -> nn.Module:
        """H of the space with this key.

        Raises:
            SpaceError: The ranker has no encoder for it.
        """
        if key not in self.shapes:
            raise SpaceError(f"The ranker knows no search space {key}; add it first.")
        return self.encoders[key]

    @torch.no_grad()
    def embed(self, key: str, encodings: Encodings) -> Tensor:
        """H(c) of K configurations of space ``key`` -> ``[K, 64]``, as used for scoring (no dropout, no gradient)."""
        encoder = self.encoder(key)
        self.shapes[key].check(encodings)
        training = encoder.training
        encoder.eval()
        parts = [
            encoder(encodings[start : start + CHUNK]) for start in range(0, max(len(encodings), 1), CHUNK)
        ]
        encoder.train(training)
        return torch.cat(parts)

    @staticmethod
    def scores(phi: Tensor, embeddings: Tensor) -> Tensor:
        """Inner products: phi ``[T, 64]`` and H(c) ``[K, 64]`` -> ``[T, K]``."""
        return phi @ embeddings.T

    def predict(self, key: str, phi: Tensor, encodings: Encodings) -> Tensor:
        """Scores ``[K]`` of K configurations of space ``key`` for one meta-feature φ ``[64]``."""
        return self.scores(phi[None], self.embed(key, encodings))[0]

    def parameters_state(self) -> dict[str, Tensor]:
        """A copy of all parameters and buffers, by name."""
        return {name: tensor.detach().clone() for name, tensor in self.state_dict().items()}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Takes over parameters and buffers from :meth:`parameters_state`.

        Raises:
            RankerError: Names are missing or unexpected, or shapes differ; all of them are listed.
        """
        load_checked(self, state, "ranker")

    def description(self) -> dict[str, Any]:
        """Plain JSON from which :meth:`from_description` builds a ranker of the same shape."""
        return {
            "variant": self.extractor.variant,
            "encoders": {key: shape.to_json() for key, shape in self.shapes.items()},
        }

    @classmethod
    def from_description(cls, description: Mapping[str, Any], state: Mapping[str, Tensor]) -> Ranker:
        """Inverse of :meth:`description` and :meth:`parameters_state`."""
        shapes = {key: EncoderShape(**shape) for key, shape in description["encoders"].items()}
        ranker = cls.build(shapes, 0, description["variant"])
        ranker.load(state)
        return ranker

    def to_bytes(self, leaving_out: Collection[str] = ()) -> bytes:
        """Shape and parameters as one safetensors blob; without the encoders of the spaces ``leaving_out``, by their keys."""
        description = self.description()
        for key in leaving_out:
            del description["encoders"][key]
        names = tuple(map(self.prefix, leaving_out))
        state = {name: t for name, t in self.state_dict().items() if not name.startswith(names)}
        return to_blob("ranker", state, description)

    @classmethod
    def from_bytes(cls, data: bytes) -> Ranker:
        """Inverse of :meth:`to_bytes`."""
        state, description = from_blob("ranker", data)
        return cls.from_description(description, state)


def load_checked(module: nn.Module, state: Mapping[str, Tensor], what: str) -> None:
    """Loads ``state`` into ``module`` or leaves it untouched.

    Raises:
        RankerError: Names are missing or unexpected, shapes differ, or values are not finite; every fault is listed.
    """
    own = module.state_dict()
    faults = [f"missing {name}" for name in own.keys() - state.keys()]
    faults += [f"unexpected {name}" for name in state.keys() - own.keys()]
    for name in own.keys() & state.keys():
        if own[name].shape != state[name].shape:
            faults.append(f"{name} is {list(state[name].shape)} instead of {list(own[name].shape)}")
        elif not torch.isfinite(state[name]).all():
            faults.append(f"{name} is not finite")
    if faults:
        raise RankerError(f"The state of the {what} does not fit: {'; '.join(sorted(faults))}.")
    module.load_state_dict(dict(state))
