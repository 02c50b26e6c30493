"""What a kernel sees of a configuration: a point whose coordinates are counted in steps."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from nni_hyperfd.ranker.encodings import Encodings, GraphBatch, JointBatch
from nni_hyperfd.recommendation.gaussian.observed import FloatArray
from nni_hyperfd.spaces.architecture import EXPANDS, STAGE_CHOICES, Block, codes_of_graphs, flops_of_codes
from nni_hyperfd.spaces.space import Space

_STEP = EXPANDS[1] - EXPANDS[0]
_MEAN = float(np.mean(EXPANDS)) / _STEP


def describe(space: Space, encodings: Encodings) -> FloatArray:
    """``[K, P]``: coordinates of K configurations, where 1 is a step in a dimension.

    A hyper-parameter is the position of its value among those of the space. A network is described by what it costs (a step is a
    quarter of a doubling of its multiply-adds), its mean kernel size and expansion, and for each stage the expansion of its first block
    and the mean one of the others. The first one has no residual path, so what is narrow there is lost.
    """
    if isinstance(encodings, JointBatch):
        return np.column_stack([describe(space, encodings.graphs), describe(space, encodings.rows)])
    if isinstance(encodings, GraphBatch):
        return _network_columns(codes_of_graphs(encodings.nodes.numpy(), encodings.sizes.numpy()))
    return space.steps(encodings.numpy())


def _network_columns(codes: NDArray[np.int64]) -> FloatArray:
    stages = np.stack([table[codes[:, number]] for number, table in enumerate(_stage_tables())], axis=1)
    blocks, kernels, expands = stages[:, :, :3].sum(axis=1).T
    first, others = stages[:, 1:, 3], stages[:, 1:-1, 4]
    cost = np.log2(flops_of_codes(codes))
    return np.column_stack([4 * cost, kernels / blocks, expands / blocks, first, others])


@lru_cache(maxsize=1)
def _stage_tables() -> tuple[FloatArray, ...]:
    """What a stage is described by, for every sequence of its blocks.

    Their number, the sums of their kernel sizes and expansions, and in steps the expansion of the first one and the mean one of the
    others, ``[choices, 5]``.
    """
    return tuple(np.array([_of_blocks(blocks) for blocks in choices]) for choices in STAGE_CHOICES)


def _of_blocks(blocks: tuple[Block, ...]) -> list[float]:
    expands = [block.expand for block in blocks]
    others = np.mean(expands[1:]) / _STEP if expands[1:] else _MEAN
    return [
        len(blocks),
        sum(block.kernel for block in blocks),
        sum(expands),
        expands[0] / _STEP,
        float(others),
    ]
