"""Tensors as safetensors bytes.

On the wire they are plain, and checked against what is expected before anything is done with them (:func:`pack`, :func:`unpack`).
A stored blob says what it is, and has a little JSON beside the tensors (:func:`to_blob`, :func:`from_blob`); a whole ranker is sent as it
is stored.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from nni_hyperfd.errors import PlatformError

SCHEMA = 1
"""Format of a stored blob."""

# The receiver sums in another order than the sender that clipped.
_ROUNDING = 1e-3


def pack(tensors: Mapping[str, Tensor]) -> bytes:
    """Named tensors -> safetensors bytes without metadata."""
    return _bytes(tensors)


def unpack(
    data: bytes, expected: Mapping[str, Tensor], what: str, norm: float | None = None
) -> dict[str, Tensor]:
    """Safetensors bytes -> tensors with exactly the names, shapes and types of ``expected``.

    Args:
        data: From outside, so possibly anything.
        expected: Tensors to compare with; their values do not matter.
        what: How an error calls it.
        norm: Largest Euclidean norm over all tensors together; None for no limit.

    Raises:
        PlatformError: It does not fit, is not finite, or is longer than ``norm``.
    """
    try:
        tensors = load(data)
    except (SafetensorError, ValueError, KeyError, TypeError, OverflowError) as error:
        raise PlatformError(f"the {what} is not a safetensors blob: {error}") from None
    if tensors.keys() != expected.keys():
        wrong = sorted(tensors.keys() ^ expected.keys())
        raise PlatformError(f"the {what} lacks or has too much: {', '.join(wrong[:4])[:200]}")
    for name, tensor in tensors.items():
        wanted = expected[name]
        if tensor.shape != wanted.shape or tensor.dtype != wanted.dtype:
            raise PlatformError(
                f"the {what} has {name} as {list(tensor.shape)} {tensor.dtype}, "
                f"expected {list(wanted.shape)} {wanted.dtype}"
            )
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise PlatformError(f"the {what} has values in {name} that are not finite")
    if norm is not None and (found := total_norm(tensors)) > norm * (1 + _ROUNDING):
        raise PlatformError(f"the {what} has norm {found:.4g}, and at most {norm:g} is taken; clip it")
    return tensors


def total_norm(tensors: Mapping[str, Tensor]) -> float:
    """Euclidean norm over all entries of all tensors."""
    return float(
        torch.stack([tensor.detach().double().square().sum() for tensor in tensors.values()]).sum().sqrt()
    )


def clip(tensors: Mapping[str, Tensor], norm: float) -> dict[str, Tensor]:
    """The tensors, scaled down together to ``norm`` where they are longer; otherwise as they are."""
    found = total_norm(tensors)
    return {name: tensor * (norm / found) if found > norm else tensor for name, tensor in tensors.items()}


def to_blob(kind: str, tensors: Mapping[str, Tensor], information: Mapping[str, Any]) -> bytes:
    """Bytes that :func:`from_blob` reads; ``kind`` names what they are, so that one thing is not taken for another."""
    metadata = {"schema": str(SCHEMA), "kind": kind, "information": json.dumps(information, sort_keys=True)}
    return _bytes(tensors, metadata)


def from_blob(kind: str, data: bytes) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and the information of :func:`to_blob`.

    Raises:
        PlatformError: The bytes are damaged, of another kind, or written by a newer version.
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


def _bytes(tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> bytes:
    return save({name: tensor.detach().contiguous() for name, tensor in tensors.items()}, metadata)
