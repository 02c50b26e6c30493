"""A network that holds all others of the NAS space: the largest one, of which gates leave open what a choice has.

What a choice leaves out is multiplied by 0: the outer rings of a kernel, the channels past the first ones, the residual
branch of a block past the depth. Those are remapping's rules (``network/remap.py``), so that one set of gates computes
what a remapped network computes. A gate has a gradient although it is 0, which is what the search lives from; where that gradient
is not asked for, :func:`sub_network` computes the same at the price of the small network.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nni_hyperfd.detection.network.backbone import FEATURE_STAGES, InvertedResidual
from nni_hyperfd.detection.network.depthwise import depthwise
from nni_hyperfd.detection.network.remap import cut
from nni_hyperfd.detection.network.retinaface import Predictions, RetinaFace
from nni_hyperfd.errors import SpaceError
from nni_hyperfd.spaces.architecture import (
    BLOCKS,
    EXPANDS,
    KERNELS,
    STAGE_1_BLOCK,
    STAGES,
    Architecture,
    Block,
    largest,
)


class StageGates(NamedTuple):
    """What one stage is: ``depth`` ``[number of depths]`` and, for each block of the deepest, ``blocks`` ``[6]``.

    One-hot, in the order of the stage's depths and of ``BLOCKS``.
    """

    depth: Tensor
    blocks: tuple[Tensor, ...]


Gates = tuple[StageGates, ...]
"""Of stages 2 to 7."""


def gates_of(architecture: Architecture, dtype: torch.dtype = torch.float32) -> Gates:
    """The gates that leave open exactly ``architecture``; blocks past its depth get the first operation."""
    found = []
    for stage, blocks in zip(STAGES[1:], architecture.stages[1:]):
        padded = [*blocks, *[BLOCKS[0]] * (max(stage.depths) - len(blocks))]
        found.append(
            StageGates(
                one_hot(stage.depths.index(len(blocks)), len(stage.depths), dtype),
                tuple(one_hot(BLOCKS.index(block), len(BLOCKS), dtype) for block in padded),
            )
        )
    return tuple(found)


def one_hot(position: int, length: int, dtype: torch.dtype) -> Tensor:
    """``[length]`` with a 1 at ``position``."""
    return F.one_hot(torch.tensor(position), length).to(dtype)


def architecture_of(gates: Gates) -> Architecture:
    """The network at the largest gate of each choice."""
    stages: list[tuple[Block, ...]] = [(STAGE_1_BLOCK,)]
    for stage, (depth, blocks) in zip(STAGES[1:], gates):
        deep = stage.depths[int(depth.argmax())]
        stages.append(tuple(BLOCKS[int(block.argmax())] for block in blocks[:deep]))
    return Architecture(tuple(stages))


def sub_network(
    shared: Mapping[str, Tensor], architecture: Architecture
) -> tuple[RetinaFace, dict[str, Tensor]]:
    """A network of the space, and the part of the shared tensors that is its own, for ``torch.func.functional_call``.

    Args:
        shared: Parameters and buffers of the largest network by name.
        architecture: Of the space.

    Returns:
        A detector of ``architecture`` without values of its own, and views of ``shared`` as remapping cuts them: what is
        computed from them has its gradient in the shared tensors, 0 where the network has nothing.
    """
    with torch.device("meta"):
        alone = RetinaFace(architecture)
    return alone, {name: cut(shared[name], wanted.shape) for name, wanted in alone.state_dict().items()}


class Supernet(nn.Module):
    """The shared weights and the way through them.

    Args:
        detector: Of the largest architecture; its tensors are used, not copied.

    Raises:
        SpaceError: The detector has another architecture.
    """

    def __init__(self, detector: RetinaFace) -> None:
        super().__init__()
        if detector.architecture != largest():
            raise SpaceError(
                f"a supernet needs the largest architecture, but the detector is {detector.architecture}: load the base "
                "`largest`"
            )
        self.detector = detector

    def forward(self, images: Tensor, gates: Gates) -> Predictions:
        """As :class:`~nni_hyperfd.detection.network.retinaface.RetinaFace`, of the network that ``gates`` leave open."""
        detector, backbone = self.detector, self.detector.backbone
        x = backbone.stem(detector.normalized(images))
        maps = []
        for number, stage in enumerate(backbone.stages, start=1):
            blocks = [cast(InvertedResidual, block) for block in cast(nn.ModuleList, stage)]
            if number == 1:
                x = blocks[0](x)
            else:
                for block, opened, operation in _gated(number, blocks, gates[number - 2]):
                    x = gated_block(block, x, opened, operation)
            if number in FEATURE_STAGES:
                maps.append(x)
        pyramid = detector.pyramid(maps)
        return detector.predict([module(level) for module, level in zip(detector.contexts, pyramid)])


def _gated(
    number: int, blocks: list[InvertedResidual], gates: StageGates
) -> Iterator[tuple[InvertedResidual, Tensor | None, Tensor]]:
    """Blocks with their depth's gate (None where every depth has the block) and their operation's."""
    depths = STAGES[number - 1].depths
    for position, (block, operation) in enumerate(zip(blocks, gates.blocks)):
        deeper = torch.tensor([depth > position for depth in depths])
        yield block, None if deeper.all() else gates.depth[deeper].sum(), operation


def gated_block(block: InvertedResidual, x: Tensor, opened: Tensor | None, operation: Tensor) -> Tensor:
    """What ``block``, of the largest kernel and expansion, gives under one-hot gates.

    Args:
        block: Of the shared network.
        x: ``[B, C, H, W]``.
        opened: ``[]`` 1 runs the block, 0 skips it; None: it always runs.
        operation: ``[6]``, in the order of ``BLOCKS``.

    Returns:
        ``[B, outputs, H', W']`` as :class:`~nni_hyperfd.detection.network.backbone.InvertedResidual` has it.
    """
    hidden = block.expand(x)
    conv, norm = block.depthwise.conv, block.depthwise.norm
    hidden = depthwise(hidden, conv.weight * kernel_mask(operation), conv.stride, conv.padding)
    hidden = block.depthwise[2](norm(hidden))
    # Batch normalization is channel by channel: closing channels behind it changes nothing for those that stay.
    hidden = hidden * width_mask(operation, x.shape[1]).to(hidden.dtype).view(1, -1, 1, 1)
    out = block.project.norm(block.project.conv(hidden))
    if opened is not None:
        out = out * opened.to(out.dtype)
    return x + out if block.skip else out


def kernel_mask(operation: Tensor) -> Tensor:
    """``[7, 7]``: each ring of the largest kernel times the sum of the gates ``[6]`` whose kernels have it."""
    side = max(KERNELS)
    masks = torch.zeros(len(BLOCKS), side, side, dtype=operation.dtype)
    for row, block in enumerate(BLOCKS):
        rim = (side - block.kernel) // 2
        masks[row, rim : side - rim, rim : side - rim] = 1
    return torch.einsum("o,oij->ij", operation, masks)


def width_mask(operation: Tensor, inputs: int) -> Tensor:
    """``[inputs * 6]``: each hidden channel times the sum of the gates ``[6]`` whose expansions have it."""
    channel = torch.arange(inputs * max(EXPANDS))
    masks = torch.stack([(channel < inputs * block.expand).to(operation.dtype) for block in BLOCKS])
    return operation @ masks
