"""What a kernel sees of a configuration: a point whose coordinates are counted in steps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nni_hyperfd.process.observed import FloatArray
from nni_hyperfd.ranker.encodings import Encodings, GraphBatch, JointBatch
from nni_hyperfd.spaces.architecture import STAGES, Architecture, codes_of, flops_of_codes, networks_of
from nni_hyperfd.spaces.space import Space


def describe(space: Space, encodings: Encodings) -> FloatArray:
    """``[K, P]``: coordinates of K configurations, where 1 is a step in a dimension.

    A hyper-parameter is the position of its value among those of the space. A network is described by what it costs (a
    step is a quarter of a doubling of its multiply-adds), its depth in each stage that has a choice of it, and its mean kernel size
    and expansion.
    """
    if isinstance(encodings, JointBatch):
        return np.column_stack([describe(space, encodings.graphs), describe(space, encodings.rows)])
    if isinstance(encodings, GraphBatch):
        return _network_columns(networks_of(encodings.nodes.numpy(), encodings.sizes.numpy()))
    return space.steps(encodings.numpy())


def _network_columns(networks: Sequence[Architecture]) -> FloatArray:
    cost = np.log2(flops_of_codes(codes_of(networks)))
    searched = [len(stage.depths) > 1 for stage in STAGES]
    depths = np.array([each.depths for each in networks], dtype=np.float64)[:, searched]
    blocks = [[block for stage in each.stages for block in stage] for each in networks]
    kernel = [np.mean([block.kernel for block in each]) for each in blocks]
    expand = [np.mean([block.expand for block in each]) for each in blocks]
    return np.column_stack([4 * cost, depths, kernel, expand])
