"""Tensors on the wire: plain safetensors bytes, checked against what is expected before anything is done with them."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from nni_hyperfd.errors import PlatformError

# The receiver sums in another order than the sender that clipped.
_ROUNDING = 1e-3


def pack(tensors: Mapping[str, Tensor]) -> bytes:
    """Named tensors -> safetensors bytes without metadata."""
    return save({name: tensor.detach().contiguous() for name, tensor in tensors.items()})


def unpack(
    data: bytes, expected: Mapping[str, Tensor], what: str, norm: float | None = None
) -> dict[str, Tensor]:
    """Safetensors bytes -> tensors with exactly the names, shapes and types of ``expected``.

    Args:
        data: from outside, so possibly anything.
        expected: tensors to compare with; their values do not matter.
        what: how an error calls it.
        norm: largest Euclidean norm over all tensors together; None for no limit.

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
