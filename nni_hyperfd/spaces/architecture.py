"""The backbones that can be searched: seven stages of inverted residual blocks, their cost and their graph (HyperFD, Table 9).

Widths and strides are fixed, so a network is the choice, for each stage, of one sequence of blocks out of a short list
(at most 1 548). A network is therefore seven small numbers, its *codes*; cost and graph are sums and look-ups over
tables of those lists, which is what makes 20 000 networks a matter of milliseconds.

"FLOPs" here are multiply-adds counted as one, of convolutions, of the BACKBONE ONLY (stem and seven stages; neither
FPN, context modules nor heads). With the necks counted too, MobileNetV2's detector alone is above the paper's limit of
730M; as counted here the limit leaves out nothing, for the largest network has 679M at 640x360. A lower limit does bind.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nni_hyperfd.errors import SpaceError

KERNELS = (3, 5, 7)
EXPANDS = (4, 6)
STEM_WIDTH = 16
FLOPS_LIMIT = 730e6


class Block(NamedTuple):
    """An inverted residual block: depth-wise ``kernel`` x ``kernel`` convolution on ``expand`` times the input width."""

    kernel: int
    expand: int

    @property
    def label(self) -> str:
        """The value shown on NNI's page, such as ``k5e6``."""
        return f"k{self.kernel}e{self.expand}"


STAGE_1_BLOCK = Block(kernel=3, expand=1)
BLOCKS = tuple(Block(kernel, expand) for kernel in KERNELS for expand in EXPANDS)
"""The six operations a block of stages 2 to 7 chooses from."""
OPERATIONS = (STAGE_1_BLOCK, *BLOCKS)
"""All seven operations, in the order of the one-hot code of :func:`graph`."""


class StageShape(NamedTuple):
    """Fixed part of one stage: the depths it may have, its output width, the stride of its first block."""

    depths: tuple[int, ...]
    width: int
    stride: int
    operations: tuple[Block, ...]


STAGES = (
    StageShape((1,), 8, 1, (STAGE_1_BLOCK,)),
    StageShape((1, 2, 3), 12, 2, BLOCKS),
    StageShape((1, 2, 3), 16, 2, BLOCKS),
    StageShape((2, 3, 4), 32, 2, BLOCKS),
    StageShape((3, 4), 48, 1, BLOCKS),
    StageShape((2, 3, 4), 80, 2, BLOCKS),
    StageShape((1,), 160, 1, BLOCKS),
)

STAGE_CHOICES: tuple[tuple[tuple[Block, ...], ...], ...] = tuple(
    tuple(blocks for depth in stage.depths for blocks in itertools.product(stage.operations, repeat=depth))
    for stage in STAGES
)
"""For each stage every block sequence it may be; the position in this list is the sequence's *code*."""

STAGE_CODES = tuple({blocks: code for code, blocks in enumerate(choices)} for choices in STAGE_CHOICES)
"""For each stage the code of every block sequence, the inverse of :data:`STAGE_CHOICES`."""

NETWORKS = math.prod(map(len, STAGE_CHOICES))
"""Size of the space before the FLOPs limit: 1 447 052 760 824 832 (the paper prints 2.44e15)."""


@dataclass(frozen=True)
class Architecture:
    """One network of the space.

    Args:
        stages: Seven non-empty sequences of blocks, as :data:`STAGES` allows.

    Raises:
        SpaceError: A stage is not one of the allowed sequences; the message says which and what is allowed.
    """

    stages: tuple[tuple[Block, ...], ...] = field(compare=False)
    codes: tuple[int, ...] = field(init=False, repr=False)
    """The seven positions in :data:`STAGE_CHOICES`; two architectures are equal when these are."""

    def __post_init__(self) -> None:
        if len(self.stages) != len(STAGES):
            raise SpaceError(f"An architecture has {len(STAGES)} stages, but {len(self.stages)} were given.")
        try:
            codes = tuple(table[blocks] for table, blocks in zip(STAGE_CODES, self.stages))
        except (KeyError, TypeError):
            raise SpaceError(_stage_fault(self.stages)) from None
        object.__setattr__(self, "codes", codes)

    @classmethod
    def from_codes(cls, codes: Iterable[int]) -> Architecture:
        """The network with these seven positions in :data:`STAGE_CHOICES`."""
        return cls(tuple(choices[code] for choices, code in zip(STAGE_CHOICES, codes)))

    @property
    def depths(self) -> tuple[int, ...]:
        """Number of blocks of each stage."""
        return tuple(map(len, self.stages))

    def __str__(self) -> str:
        """Stages 2 to 7 joined by ``|``, a block as its kernel and expansion digit: ``36.56|74|…``."""
        return "|".join(".".join(f"{b.kernel}{b.expand}" for b in blocks) for blocks in self.stages[1:])


def _stage_fault(stages: Sequence[Any]) -> str:
    for number, (stage, table, blocks) in enumerate(zip(STAGES, STAGE_CODES, stages), start=1):
        if not isinstance(blocks, tuple):
            return f"Stage {number} of an architecture is {blocks!r}; give a tuple of Block."
        for block in blocks:
            if block not in stage.operations:
                allowed = ", ".join(operation.label for operation in stage.operations)
                shown = block.label if isinstance(block, Block) else repr(block)
                return f"Stage {number} has a block {shown}; use one of {allowed}."
        if blocks not in table:
            allowed = " or ".join(map(str, stage.depths))
            return f"Stage {number} has {len(blocks)} blocks; it may have {allowed}."
    raise AssertionError("no fault found")  # pragma: no cover


def _uniform(depths: Sequence[int], block: Block) -> Architecture:
    return Architecture(((STAGE_1_BLOCK,), *((block,) * depth for depth in depths[1:])))


def mobilenet_v2() -> Architecture:
    """MobileNetV2 at half width, the backbone of the HPO experiments; itself a point of the space."""
    return _uniform((1, 2, 3, 4, 3, 3, 1), Block(kernel=3, expand=6))


def largest() -> Architecture:
    """The network with every depth, kernel and expansion at its maximum; others inherit its weights by remapping."""
    return _uniform([max(stage.depths) for stage in STAGES], Block(max(KERNELS), max(EXPANDS)))


# --- cost -----------------------------------------------------------------------------------------------------------


def backbone_flops(architecture: Architecture, height: int = 360, width: int = 640) -> int:
    """Multiply-adds (counted as one) of the backbone's convolutions for one image of ``height`` x ``width`` pixels."""
    return int(flops_of_codes(np.array([architecture.codes]), height, width)[0])


def codes_of(architectures: Sequence[Architecture]) -> NDArray[np.int64]:
    """Codes ``[n, 7]`` of many architectures."""
    return np.array([architecture.codes for architecture in architectures], dtype=np.int64).reshape(
        -1, len(STAGES)
    )


def flops_of_codes(codes: NDArray[np.int64], height: int = 360, width: int = 640) -> NDArray[np.int64]:
    """:func:`backbone_flops` of many networks at once: codes ``[n, 7]`` -> multiply-adds ``[n]``."""
    stem, tables = stage_flops(height, width)
    costs = np.stack([table[codes[:, stage]] for stage, table in enumerate(tables)])
    return stem + costs.sum(axis=0)


@lru_cache(maxsize=8)
def stage_flops(height: int = 360, width: int = 640) -> tuple[int, tuple[NDArray[np.int64], ...]]:
    """Multiply-adds of the stem, and for each stage those of its c entries of :data:`STAGE_CHOICES`, ``[c]``."""
    # Padding is "same": an output side is the input side over the stride, rounded up.
    height, width = -(-height // 2), -(-width // 2)
    stem = height * width * STEM_WIDTH * 3 * 3 * 3
    tables = []
    channels = STEM_WIDTH
    for stage, choices in zip(STAGES, STAGE_CHOICES):
        inner = (-(-height // stage.stride), -(-width // stage.stride))
        first = {b: _block_flops(b, (height, width), inner, channels, stage.width) for b in stage.operations}
        later = {b: _block_flops(b, inner, inner, stage.width, stage.width) for b in stage.operations}
        tables.append(
            np.array([first[b[0]] + sum(later[block] for block in b[1:]) for b in choices], dtype=np.int64)
        )
        (height, width), channels = inner, stage.width
    return stem, tuple(tables)


def _block_flops(
    block: Block, size_in: tuple[int, int], size_out: tuple[int, int], width_in: int, width_out: int
) -> int:
    hidden = width_in * block.expand
    expand = math.prod(size_in) * width_in * hidden if block.expand != 1 else 0
    depthwise = math.prod(size_out) * hidden * block.kernel**2
    project = math.prod(size_out) * hidden * width_out
    return expand + depthwise + project


# --- graph ----------------------------------------------------------------------------------------------------------

GRAPH_FEATURES = len(OPERATIONS) + len(STAGES) + 2
"""Length of a node's feature vector: operation one-hot (7), stage one-hot (7), stride, width."""


def graph(architecture: Architecture) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The network as a graph, one node a block, edges along the data flow.

    Returns:
        Node features ``[blocks, 16]``: one-hot of the operation in :data:`OPERATIONS`, one-hot of the stage, 1 where the
        block has stride 2, and log2(width / 8) / log2(20), which runs from 0 at stage 1 to 1 at stage 7; and the edge
        index ``[2, blocks − 1]`` (row 0 the source, row 1 the target, as torch-geometric has it).
    """
    features, edges, _ = graphs([architecture])
    return features, edges


def graphs(
    architectures: Sequence[Architecture],
) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]:
    """:func:`graph` of many networks, concatenated as one large graph of separate chains.

    Returns:
        Node features ``[total blocks, 16]``; edge index ``[2, total blocks − n]`` with node numbers of the large graph; and the
        graph index ``[total blocks]``, the position in ``architectures`` that a node belongs to, in ascending order.
    """
    codes = codes_of(architectures)
    tables = _node_tables()
    slots = np.concatenate([features[codes[:, s]] for s, (features, _) in enumerate(tables)], axis=1)
    used = np.concatenate([mask[codes[:, s]] for s, (_, mask) in enumerate(tables)], axis=1)
    graph_index = np.nonzero(used)[0]
    source = np.nonzero(graph_index[1:] == graph_index[:-1])[0]
    return slots[used], np.stack([source, source + 1]), graph_index


def codes_of_graphs(nodes: NDArray[np.float32], sizes: NDArray[np.integer]) -> NDArray[np.int64]:
    """Inverse of :func:`graphs`: the codes ``[n, 7]`` of networks that the space has.

    Args:
        nodes: Node features ``[total blocks, 16]``, network after network.
        sizes: ``[n]`` number of nodes of each network.
    """
    operation = nodes[:, : len(OPERATIONS)].argmax(axis=1)
    number = nodes[:, len(OPERATIONS) : len(OPERATIONS) + len(STAGES)].argmax(axis=1)
    slot = np.repeat(np.arange(len(sizes)) * len(STAGES), sizes) + number
    depths = np.bincount(slot, minlength=len(sizes) * len(STAGES))
    # Choices are listed by depth, and those of one depth as numbers whose digits are the operations.
    later = np.cumsum(depths)[slot] - 1 - np.arange(len(slot))
    digits = np.where(number == 0, 0, (operation - 1) * len(BLOCKS) ** later)
    flat = np.zeros(len(depths), dtype=np.int64)
    np.add.at(flat, slot, digits)
    codes = flat.reshape(-1, len(STAGES))
    for code, depth, stage in zip(codes.T, depths.reshape(-1, len(STAGES)).T, STAGES):
        for less in stage.depths:
            code += (depth > less) * len(stage.operations) ** less
    return codes


@lru_cache(maxsize=1)
def _node_tables() -> tuple[tuple[NDArray[np.float32], NDArray[np.bool_]], ...]:
    """For each stage the node features ``[choices, deepest, 16]`` of every block sequence, and which of them are real."""
    tables = []
    for number, (stage, choices) in enumerate(zip(STAGES, STAGE_CHOICES)):
        features = np.zeros((len(choices), max(stage.depths), GRAPH_FEATURES), dtype=np.float32)
        used = np.zeros(features.shape[:2], dtype=bool)
        features[:, :, len(OPERATIONS) + number] = 1
        features[:, 0, -2] = stage.stride == 2
        features[:, :, -1] = math.log2(stage.width / STAGES[0].width) / math.log2(
            STAGES[-1].width / STAGES[0].width
        )
        for code, blocks in enumerate(choices):
            used[code, : len(blocks)] = True
            for position, block in enumerate(blocks):
                features[code, position, OPERATIONS.index(block)] = 1
        tables.append((features, used))
    return tuple(tables)
