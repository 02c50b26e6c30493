"""Encoders of customers' own search spaces: each lies in its space's rows, and not in the ranker that all share.

The one ranker has an encoder for each of the standard spaces, and for those that the platform's own data sets were tried in; so it is
as large as these make it, whatever customers search. An encoder of somebody's own space is written when an update has moved it, with
the importance of its parameters beside it, and is read when that space is asked for.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager

from torch import Tensor

from nni_hyperfd.platform.state.store import Store
from nni_hyperfd.protocol.tensors import from_blob, to_blob
from nni_hyperfd.ranker.encoders import EncoderShape
from nni_hyperfd.ranker.ranker import Ranker
from nni_hyperfd.recommendation.ranking import add_space
from nni_hyperfd.spaces.space import Space

ENCODER = "encoder of a search space"
"""Kind of the blob that holds H and its Ω."""


class OwnSpaces:
    """The encoders of customers' own spaces.

    Args:
        store: Where they are kept.
        shared: Keys of the spaces that the platform's own data sets were tried in.
    """

    def __init__(self, store: Store, shared: Collection[str]) -> None:
        self._store, self._shared = store, frozenset(shared)

    def owns(self, key: str) -> bool:
        """Whether a space is somebody's own."""
        return key.startswith("flat-") and key not in self._shared

    def give(self, ranker: Ranker, version: int, space: Space) -> Mapping[str, Tensor]:
        """Give ``ranker`` the encoder of a space that it lacks: as ``version`` knows it, or a fresh one.

        Returns:
            Ω of the encoder's parameters by their names in the ranker; nothing for a fresh one.
        """
        if space.key in ranker.shapes:
            return {}
        blob = self._store.own_encoder(space.key, version) if self.owns(space.key) else None
        if blob is None:
            add_space(ranker, space)
            return {}
        tensors, shape = from_blob(ENCODER, blob)
        ranker.add_encoder(space.key, EncoderShape(**shape), _under(tensors, "state."))
        return {f"{ranker.prefix(space.key)}{name}": t for name, t in _under(tensors, "importance.").items()}

    @contextmanager
    def lent(self, ranker: Ranker, version: int, space: Space) -> Iterator[Ranker]:
        """``ranker`` with the encoder of a space for as long as it is needed, so that one that is kept in memory does not grow."""
        known = space.key in ranker.shapes
        self.give(ranker, version, space)
        try:
            yield ranker
        finally:
            if not known:
                ranker.remove_space(space.key)

    def parted(
        self, ranker: Ranker, importance: Mapping[str, Tensor]
    ) -> tuple[bytes, dict[str, Tensor], dict[str, bytes]]:
        """A ranker and its Ω, and what of both belongs to somebody's own space.

        Returns:
            The one ranker's bytes, its Ω by name, and the blobs for :meth:`give` by the key of their space.
        """
        own = [key for key in ranker.shapes if self.owns(key)]
        blobs = {}
        rest = dict(importance)
        for key in own:
            prefix = ranker.prefix(key)
            tensors = {f"state.{name}": t for name, t in ranker.encoder(key).state_dict().items()}
            for name in [name for name in rest if name.startswith(prefix)]:
                tensors[f"importance.{name.removeprefix(prefix)}"] = rest.pop(name)
            blobs[key] = to_blob(ENCODER, tensors, ranker.shapes[key].to_json())
        return ranker.to_bytes(leaving_out=own), rest, blobs


def _under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
