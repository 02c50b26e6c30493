"""What a kernel sees of a configuration: a point whose coordinates are counted in steps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nni_hyperfd.ranker.encodings import Encodings, GraphBatch, JointBatch
from nni_hyperfd.recommendation.gaussian.observed import FloatArray
from nni_hyperfd.spaces.architecture import EXPANDS, Architecture, codes_of, flops_of_codes, networks_of
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
        return _network_columns(networks_of(encodings.nodes.numpy(), encodings.sizes.numpy()))
    return space.steps(encodings.numpy())


def _network_columns(networks: Sequence[Architecture]) -> FloatArray:
    cost = np.log2(flops_of_codes(codes_of(networks)))
    blocks = [[block for stage in each.stages for block in stage] for each in networks]
    kernel = [sum(block.kernel for block in each) / len(each) for each in blocks]
    expand = [sum(block.expand for block in each) / len(each) for each in blocks]
    stages = [_expansions(each) for each in networks]
    return np.column_stack([4 * cost, kernel, expand, stages])


def _expansions(network: Architecture) -> list[float]:
    """Of the first block of stages 2 to 7, then the means of the others in stages 2 to 6, in steps."""
    found = [stage[0].expand / _STEP for stage in network.stages[1:]]
    for stage in network.stages[1:-1]:
        others = [block.expand / _STEP for block in stage[1:]]
        found.append(sum(others) / len(others) if others else _MEAN)
    return found
