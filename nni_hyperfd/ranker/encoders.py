r"""H: configuration -> 64-vector (HyperFD §3.2.2, METHOD §5).

An MLP for hyper-parameters and for a user's own flat space, a graph isomorphism network for architectures, and a
linear map over both for the joint space.
"""

from __future__ import annotations

import warnings
from dataclasses import asdict, dataclass
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from nni_hyperfd.errors import SpaceError
from nni_hyperfd.metafeature.extractor import WIDTH
from nni_hyperfd.ranker.encodings import Encodings, GraphBatch, JointBatch
from nni_hyperfd.spaces.architecture import GRAPH_FEATURES
from nni_hyperfd.spaces.space import Space

LAYERS = 2
DROPOUT = 0.2
VIRTUAL_NODES = 2


class MLPEncoder(nn.Module):
    """Rows ``[K, D]`` -> ``[K, 64]``; two hidden layers of 64."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(inputs, WIDTH),
            nn.ReLU(),
            nn.Linear(WIDTH, WIDTH),
            nn.ReLU(),
            nn.Linear(WIDTH, WIDTH),
        )

    def forward(self, rows: Tensor) -> Tensor:
        return self.layers(rows)


def _perceptron() -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(WIDTH, 2 * WIDTH), nn.BatchNorm1d(2 * WIDTH), nn.ReLU(), nn.Linear(2 * WIDTH, WIDTH)
    )


def _isomorphism_layer() -> nn.Module:
    # Imported when a graph network is made: it takes seconds, which a space without graphs need not wait for.
    with warnings.catch_warnings():
        # torch_geometric marks layers for a compiler that newer torch calls deprecated, once for everyone who imports it.
        warnings.simplefilter("ignore", FutureWarning)
        from torch_geometric.nn import GINConv
    return GINConv(_perceptron(), eps=0.0, train_eps=True)


class GINEncoder(nn.Module):
    r"""Architectures -> ``[K, 64]``, read out from two virtual nodes.

    Each layer is a graph isomorphism layer (Xu et al., 2018, eq. 4.1) between two exchanges with the virtual nodes:

    .. math::
        x_i &\leftarrow x_i + v_1 + v_2 \\
        x_i &\leftarrow \mathrm{MLP}\big((1 + \epsilon)\, x_i + \textstyle\sum_{j \to i} x_j\big) \\
        v_k &\leftarrow v_k + \mathrm{MLP}_k\big(v_k + \textstyle\sum_i x_i\big)

    with :math:`\epsilon` learnable from 0 and sums within one graph. Adding the virtual nodes to all nodes, and summing
    all nodes into them, is what edges between them and every node would carry.
    """

    def __init__(self, node_features: int = GRAPH_FEATURES) -> None:
        super().__init__()
        self.embed = nn.Linear(node_features, WIDTH)
        self.virtual = nn.Parameter(torch.randn(VIRTUAL_NODES, WIDTH) / WIDTH**0.5)
        self.convolutions = nn.ModuleList(_isomorphism_layer() for _ in range(LAYERS))
        self.virtual_updates = nn.ModuleList(
            nn.ModuleList(_perceptron() for _ in range(VIRTUAL_NODES)) for _ in range(LAYERS)
        )
        self.dropout = nn.Dropout(DROPOUT)
        self.read_out = nn.Linear(VIRTUAL_NODES * WIDTH, WIDTH)

    def forward(self, graphs: GraphBatch) -> Tensor:
        graph = graphs.graph
        nodes = self.embed(graphs.nodes)
        virtual = [node.expand(len(graphs), -1) for node in self.virtual]
        for convolution, updates in zip(self.convolutions, self.virtual_updates):
            nodes = nodes + sum(virtual)[graph]
            nodes = self.dropout(convolution(nodes, graphs.edges))
            total = nodes.new_zeros(len(graphs), WIDTH).index_add(0, graph, nodes)
            virtual = [
                node + self.dropout(update(node + total))
                for node, update in zip(virtual, cast(nn.ModuleList, updates))
            ]
        return self.read_out(torch.cat(virtual, dim=1))


class JointEncoder(nn.Module):
    """Hyper-parameters and architecture -> ``[K, 64]``: a linear map over the two embeddings side by side."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.rows = MLPEncoder(inputs)
        self.graphs = GINEncoder()
        self.merge = nn.Linear(2 * WIDTH, WIDTH)

    def forward(self, configurations: JointBatch) -> Tensor:
        return self.merge(
            torch.cat([self.rows(configurations.rows), self.graphs(configurations.graphs)], dim=1)
        )


@dataclass(frozen=True)
class EncoderShape:
    """What it takes to build an encoder again: its kind and, where it has an MLP, the length D of a row."""

    kind: Literal["mlp", "gin", "joint"]
    inputs: int = 0

    @classmethod
    def of(cls, space: Space) -> EncoderShape:
        """The encoder that fits ``space``."""
        if space.kind == "nas":
            return cls("gin")
        return cls("joint" if space.kind == "joint" else "mlp", space.encoding_width)

    def build(self) -> nn.Module:
        """A fresh encoder, initialized from torch's current random state."""
        if self.kind == "gin":
            return GINEncoder()
        return (JointEncoder if self.kind == "joint" else MLPEncoder)(self.inputs)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def check(self, encodings: Encodings) -> None:
        """Refuses encodings made for another kind of space.

        Raises:
            SpaceError: Kind or row length differ.
        """
        kind = {GraphBatch: "gin", JointBatch: "joint"}.get(type(encodings), "mlp")
        rows = encodings.rows if isinstance(encodings, JointBatch) else encodings
        inputs = rows.shape[-1] if isinstance(rows, Tensor) else 0
        if (kind, inputs) != (self.kind, self.inputs):
            raise SpaceError(
                f"These configurations are encoded for a {kind} encoder with {inputs} inputs, "
                f"but the space's encoder is {self.kind} with {self.inputs}."
            )
