"""Tensors and a little JSON in one safetensors byte string: how everything of the ranker is stored and sent."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from nni_hyperfd.errors import PlatformError

SCHEMA = 1


def pack(kind: str, tensors: Mapping[str, Tensor], information: Mapping[str, Any]) -> bytes:
    """Bytes that :func:`unpack` reads; ``kind`` names what they are, so that one thing is not taken for another."""
    metadata = {"schema": str(SCHEMA), "kind": kind, "information": json.dumps(information, sort_keys=True)}
    return save({name: tensor.detach().contiguous() for name, tensor in tensors.items()}, metadata)


def unpack(kind: str, data: bytes) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and the information of :func:`pack`.

    Raises:
        PlatformError: the bytes are damaged, of another kind, or written by a newer version.
    """
    try:
        tensors = load(data)
        # A safetensors file starts with the length of its JSON header, 8 bytes little endian.
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        metadata = header["__metadata__"]
        information = json.loads(metadata["information"])
        found, schema = metadata["kind"], int(metadata["schema"])
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise PlatformError(f"A stored {kind} is damaged ({error}); restore it from a copy.") from None
    if found != kind:
        raise PlatformError(f"A stored {found} was found where a {kind} belongs.")
    if schema > SCHEMA:
        raise PlatformError(
            f"A stored {kind} has format {schema}, newer than format {SCHEMA} of this version; update the package."
        )
    return tensors, information
