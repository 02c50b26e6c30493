"""Parameter remapping (Fang et al., FNA, ICLR 2020): a smaller or larger network starts from a trained one."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from nni_hyperfd.detection.network.retinaface import RetinaFace
from nni_hyperfd.spaces.architecture import Architecture


def cut(tensor: Tensor, shape: Sequence[int]) -> Tensor:
    """The part of ``tensor`` that remapping keeps, a view ``[*shape]``: the first channels, and the center of kernels."""
    for axis, (have, want) in enumerate(zip(tensor.shape, shape)):
        tensor = tensor.narrow(axis, (have - want) // 2 if axis >= 2 else 0, want)
    return tensor


def fit(source: Tensor, shape: torch.Size) -> Tensor:
    """``source`` cut or zero-padded to ``[*shape]``: the first channels, and the center of kernels."""
    shared = [min(have, want) for have, want in zip(source.shape, shape)]
    out = torch.zeros(shape, dtype=source.dtype)
    cut(out, shared).copy_(cut(source, shared))
    return out


def remap(state: dict[str, Tensor], source: Architecture, target: RetinaFace) -> dict[str, Tensor]:
    """A state for ``target`` out of ``state``, the state of a detector of architecture ``source``.

    Depth: block i takes source block min(i, last). Width: the first channels. Kernel: the center. Batch-norm
    statistics travel the same way; everything outside the stages is copied.
    """
    mapped = {}
    for name, wanted in target.state_dict().items():
        origin = name
        if name.startswith("backbone.stages."):
            _, _, stage, block, rest = name.split(".", 4)
            last = len(source.stages[int(stage)]) - 1
            origin = f"backbone.stages.{stage}.{min(int(block), last)}.{rest}"
        mapped[name] = fit(state[origin], wanted.shape) if wanted.ndim else state[origin].clone()
    return mapped
