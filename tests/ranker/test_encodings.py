"""Configurations as tensors: picking and joining graphs changes nothing about any one of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nni_hyperfd.errors import SpaceError
from nni_hyperfd.ranker.encodings import (
    GraphBatch,
    JointBatch,
    concatenate,
    encode,
    from_tensors,
    to_tensors,
)
from nni_hyperfd.spaces import architecture
from nni_hyperfd.spaces.space import Space
from nni_hyperfd.spaces.standard import standard_space

NAS, JOINT = standard_space("nas"), standard_space("joint")
ARCHITECTURES = NAS.sample(12, np.random.default_rng(0))


def same(one: GraphBatch, other: GraphBatch) -> bool:
    return all(torch.equal(a, b) for a, b in zip(to_tensors(one).values(), to_tensors(other).values()))


def test_graphs_are_those_of_the_space() -> None:
    batch = encode(NAS, ARCHITECTURES)
    for i, configuration in enumerate(ARCHITECTURES):
        nodes, edges = architecture.graph(configuration.architecture)
        own = batch[torch.tensor([i])]
        assert np.array_equal(own.nodes.numpy(), nodes)
        assert np.array_equal(own.edges.numpy(), edges)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 11), max_size=20))
def test_picking_is_the_same_as_encoding_the_picked(index: list[int]) -> None:
    batch = encode(NAS, ARCHITECTURES)
    assert same(batch[torch.tensor(index, dtype=torch.long)], encode(NAS, [ARCHITECTURES[i] for i in index]))


def test_a_batch_is_what_torch_geometric_makes_of_the_same_graphs() -> None:
    from torch_geometric.data import Batch, Data

    picked = [7, 0, 7, 11, 3]
    graphs = [map(torch.from_numpy, architecture.graph(ARCHITECTURES[i].architecture)) for i in picked]
    other = Batch.from_data_list([Data(x=nodes, edge_index=edges) for nodes, edges in graphs])
    own = encode(NAS, ARCHITECTURES)[torch.tensor(picked)]
    assert torch.equal(own.nodes, other.x)
    assert torch.equal(own.edges, other.edge_index)
    assert torch.equal(own.graph, other.batch)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 12), st.integers(0, 12))
def test_cutting_and_joining_gives_the_whole(first: int, second: int) -> None:
    batch = encode(NAS, ARCHITECTURES)
    low, high = sorted((first, second))
    assert same(concatenate([batch[:low], batch[low:high], batch[high:]]), batch)


def test_joint_keeps_rows_and_graphs_together() -> None:
    configurations = JOINT.sample(5, np.random.default_rng(1))
    batch = encode(JOINT, configurations)
    assert isinstance(batch, JointBatch)
    part = concatenate([batch[torch.tensor([4, 1])], batch[:1]])
    expected = encode(JOINT, [configurations[i] for i in (4, 1, 0)])
    assert torch.equal(part.rows, expected.rows)
    assert same(part.graphs, expected.graphs)
    with pytest.raises(SpaceError, match="3 hyper-parameter rows but 5 architectures"):
        JointBatch(part.rows, batch.graphs)


def test_a_users_own_space_becomes_rows() -> None:
    space = Space.from_search_space(
        {
            "depth": {"_type": "choice", "_value": [1, 2, 3]},
            "rate": {"_type": "loguniform", "_value": [1e-4, 1]},
        }
    )
    rows = encode(space, space.sample(7, np.random.default_rng(2)))
    assert rows.shape == (7, space.encoding_width)
    assert rows.dtype == torch.float32


@pytest.mark.parametrize("space", [NAS, JOINT, standard_space("hpo")])
def test_written_and_read_back(space: Space) -> None:
    batch = encode(space, space.sample(4, np.random.default_rng(3)))
    again = from_tensors(to_tensors(batch))
    assert type(again) is type(batch)
    assert all(torch.equal(a, b) for a, b in zip(to_tensors(batch).values(), to_tensors(again).values()))


def test_unknown_parts_and_broken_graphs_are_refused() -> None:
    with pytest.raises(SpaceError, match="unknown parts"):
        from_tensors({"pictures": torch.zeros(1)})
    nodes, sizes = torch.zeros(4, 16), torch.tensor([2, 2])
    with pytest.raises(SpaceError, match="stay within one graph"):
        GraphBatch(nodes, torch.tensor([[1], [2]]), sizes)
    with pytest.raises(SpaceError, match="does not exist"):
        GraphBatch(nodes, torch.tensor([[3], [4]]), sizes)
    with pytest.raises(SpaceError, match="Graphs of 4 nodes in all, but 3"):
        GraphBatch(nodes[:3], torch.zeros(2, 0, dtype=torch.long), sizes)
