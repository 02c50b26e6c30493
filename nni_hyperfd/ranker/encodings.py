"""Configurations as tensors: what an encoder H takes. Rows for flat spaces, a batch of graphs for architectures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias, cast

import torch
from torch import Tensor

from nni_hyperfd.errors import SpaceError
from nni_hyperfd.spaces import architecture
from nni_hyperfd.spaces.configuration import Configuration
from nni_hyperfd.spaces.space import Space


@dataclass(frozen=True)
class GraphBatch:
    """K architectures as one large graph of separate parts.

    Args:
        nodes: ``[N, 16]`` float node features, graph after graph.
        edges: ``[2, E]`` integer node numbers of the large graph, graph after graph; row 0 the source, row 1 the target.
        sizes: ``[K]`` integer number of nodes of each graph.

    Raises:
        SpaceError: Sizes that do not add up to N, or edges out of order or between two graphs.
    """

    nodes: Tensor
    edges: Tensor
    sizes: Tensor

    def __post_init__(self) -> None:
        if int(self.sizes.sum()) != len(self.nodes):
            raise SpaceError(
                f"Graphs of {int(self.sizes.sum())} nodes in all, but {len(self.nodes)} nodes given."
            )
        if self.edges.numel() and not 0 <= int(self.edges.min()) <= int(self.edges.max()) < len(self.nodes):
            raise SpaceError("An edge leads to a node that does not exist.")
        source, target = self.graph[self.edges]
        if not torch.equal(source, target) or (source[1:] < source[:-1]).any():
            raise SpaceError("Edges must stay within one graph and be listed graph after graph.")

    def __len__(self) -> int:
        return self.sizes.shape[0]

    @cached_property
    def graph(self) -> Tensor:
        """``[N]`` the graph each node belongs to."""
        return torch.repeat_interleave(torch.arange(len(self)), self.sizes)

    @cached_property
    def edge_sizes(self) -> Tensor:
        """``[K]`` number of edges of each graph."""
        return torch.bincount(self.graph[self.edges[0]], minlength=len(self))

    def __getitem__(self, index: Tensor | slice) -> GraphBatch:
        """The graphs at ``index`` (``[n]`` integers, in that order and with repetitions, or a slice)."""
        if isinstance(index, slice):
            index = torch.arange(len(self))[index]
        sizes, edge_sizes = self.sizes[index], self.edge_sizes[index]
        starts = (self.sizes.cumsum(0) - self.sizes)[index]
        edge_starts = (self.edge_sizes.cumsum(0) - self.edge_sizes)[index]
        moved_by = (sizes.cumsum(0) - sizes) - starts
        edges = self.edges[:, _ranges(edge_starts, edge_sizes)] + torch.repeat_interleave(
            moved_by, edge_sizes
        )
        return GraphBatch(self.nodes[_ranges(starts, sizes)], edges, sizes)


@dataclass(frozen=True)
class JointBatch:
    """K configurations of the joint space: hyper-parameters ``[K, D]`` and architectures, row by row.

    Raises:
        SpaceError: The two parts differ in length.
    """

    rows: Tensor
    graphs: GraphBatch

    def __post_init__(self) -> None:
        if len(self.rows) != len(self.graphs):
            raise SpaceError(
                f"Joint encodings: {len(self.rows)} hyper-parameter rows but {len(self.graphs)} architectures."
            )

    def __len__(self) -> int:
        return len(self.graphs)

    def __getitem__(self, index: Tensor | slice) -> JointBatch:
        return JointBatch(self.rows[index], self.graphs[index])


Encodings: TypeAlias = Tensor | GraphBatch | JointBatch
"""K configurations of one space: ``[K, D]`` float (hpo, flat), graphs (nas) or both (joint). All three have ``len`` and
are indexed by a tensor of integers or a slice."""


def _ranges(starts: Tensor, lengths: Tensor) -> Tensor:
    """start, start + 1, … (length numbers) for each pair, concatenated."""
    ends = lengths.cumsum(0)
    return torch.arange(int(lengths.sum())) + torch.repeat_interleave(starts - (ends - lengths), lengths)


def encode(space: Space, configurations: Sequence[Configuration]) -> Encodings:
    """Configurations of ``space``, ready for its encoder.

    Raises:
        SpaceError: One has no architecture, and the space is one of networks.
    """
    if space.kind == "nas":
        return _graphs(configurations)
    rows = torch.from_numpy(space.encode(configurations)).float()
    if space.kind == "joint":
        return JointBatch(rows, _graphs(configurations))
    return rows


def _graphs(configurations: Sequence[Configuration]) -> GraphBatch:
    networks = [c.architecture for c in configurations if c.architecture is not None]
    if len(networks) != len(configurations):
        raise SpaceError("A configuration without an architecture cannot be encoded as a graph.")
    nodes, edges, graph = map(torch.from_numpy, architecture.graphs(networks))
    return GraphBatch(nodes.float(), edges.long(), torch.bincount(graph, minlength=len(networks)))


def concatenate(parts: Sequence[Encodings]) -> Encodings:
    """One batch out of several of the same space, in order."""
    if isinstance(parts[0], JointBatch):
        joint = cast("Sequence[JointBatch]", parts)
        return JointBatch(torch.cat([p.rows for p in joint]), _side_by_side([p.graphs for p in joint]))
    if isinstance(parts[0], GraphBatch):
        return _side_by_side(cast("Sequence[GraphBatch]", parts))
    return torch.cat(list(cast("Sequence[Tensor]", parts)))


def _side_by_side(parts: Sequence[GraphBatch]) -> GraphBatch:
    counts = torch.tensor([len(p.nodes) for p in parts])
    offsets = (counts.cumsum(0) - counts).tolist()
    return GraphBatch(
        torch.cat([p.nodes for p in parts]),
        torch.cat([p.edges + offset for p, offset in zip(parts, offsets)], dim=1),
        torch.cat([p.sizes for p in parts]),
    )


def to_tensors(encodings: Encodings) -> dict[str, Tensor]:
    """Named tensors to write down; inverse of :func:`from_tensors`."""
    if isinstance(encodings, JointBatch):
        return {"rows": encodings.rows} | to_tensors(encodings.graphs)
    if isinstance(encodings, GraphBatch):
        return {"nodes": encodings.nodes, "edges": encodings.edges, "sizes": encodings.sizes}
    return {"rows": encodings}


def from_tensors(tensors: Mapping[str, Tensor]) -> Encodings:
    """Inverse of :func:`to_tensors`.

    Raises:
        SpaceError: The names are not those of any kind of encoding.
    """
    match sorted(tensors):
        case ["rows"]:
            return tensors["rows"]
        case ["edges", "nodes", "sizes"]:
            return GraphBatch(**tensors)
        case ["edges", "nodes", "rows", "sizes"]:
            return JointBatch(
                tensors["rows"], GraphBatch(tensors["nodes"], tensors["edges"], tensors["sizes"])
            )
    raise SpaceError(f"Configuration encodings have unknown parts {sorted(tensors)}.")
