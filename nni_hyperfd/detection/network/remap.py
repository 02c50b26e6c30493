"""Parameter remapping (Fang et al., FNA, ICLR 2020): a smaller or larger network starts from a trained one."""

from __future__ import annotations

import torch
from torch import Tensor

from nni_hyperfd.detection.network.retinaface import RetinaFace
from nni_hyperfd.spaces.architecture import Architecture


def fit(source: Tensor, shape: torch.Size) -> Tensor:
    """``source`` cut or zero-padded to ``shape``: the first channels, and the center of kernels."""
    out = torch.zeros(shape, dtype=source.dtype)
    into, outof = [], []
    for axis, (have, want) in enumerate(zip(source.shape, shape)):
        shared = min(have, want)
        centered = axis >= 2
        outof.append(slice((have - shared) // 2 * centered, (have - shared) // 2 * centered + shared))
        into.append(slice((want - shared) // 2 * centered, (want - shared) // 2 * centered + shared))
    out[tuple(into)] = source[tuple(outof)]
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
