"""Whether torch_geometric's Batch and VirtualNode would do for architectures what the ranker's own graph batch does.

    python benchmarks/graph_batches.py [--architectures 20000] [--repeat 3] [--threads 1]

All sides run the very same network (the weights of one ``GINEncoder``, GINConv included) and must agree on its answers.
Three calls of the product are timed: encoding the configurations that a recommendation ranks, embedding them, and a step of
the warm-up on lists drawn from a table. One side batches with ``Batch`` and leaves the virtual nodes to our encoder, another
has them in the graph by ``VirtualNode``, one transform an architecture, as torch_geometric's users do. Each side has a process
of its own, so that its memory can be told apart.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from nni_hyperfd.ranker.batch import LONGEST
from nni_hyperfd.ranker.encoders import GINEncoder
from nni_hyperfd.ranker.encodings import GraphBatch, concatenate, encode
from nni_hyperfd.ranker.ranker import CHUNK
from nni_hyperfd.ranker.seeding import seeded
from nni_hyperfd.ranker.settings import RankerSettings
from nni_hyperfd.spaces import architecture
from nni_hyperfd.spaces.configuration import Configuration
from nni_hyperfd.spaces.standard import standard_space

T = TypeVar("T")
TABLE = 822
"""Architectures of the table that the step learns from, as many as the largest one that the package was measured with."""


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--architectures", type=int, default=20_000)
    parser.add_argument("--repeat", type=int, default=3, help="the fastest of so many counts")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--side", choices=tuple(SIDES), help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.side:
        print(json.dumps(measure(options.side, options.architectures, options.repeat)))
        return 0
    answers = agreement()
    assert all(torch.allclose(answers[0], other, rtol=1e-4, atol=1e-4) for other in answers[1:])
    found = {side: in_a_process(side, sys.argv[1:]) for side in SIDES}
    print(f"{'':<32}" + "".join(f"{side:>20}" for side in found))
    for what, own in found["own"].items():
        print(
            f"{what:<32}"
            + "".join(f"{side[what]:>13.3f} {side[what] / own:5.1f}x" for side in found.values())
        )
    return 0


def in_a_process(side: str, arguments: Sequence[str]) -> dict[str, float]:
    command = [sys.executable, __file__, *arguments, "--side", side]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def measure(side: str, count: int, repeat: int) -> dict[str, float]:
    """Seconds of each call, the fastest of ``repeat``, and MB that the process grew by, most of them at once."""
    space = standard_space("nas")
    configurations = space.sample(count, np.random.default_rng(0))
    # The encoder's own layer brings torch_geometric to every side before memory is counted.
    encoder = network().eval()
    make, take, run = SIDES[side](encoder)
    make(configurations[:2])
    before = peak()
    found: dict[str, float] = {}
    graphs, found[f"encode {count} architectures, s"] = fastest(lambda: make(configurations), repeat)

    @torch.no_grad()
    def embed() -> Tensor:
        parts = [slice(start, start + CHUNK) for start in range(0, count, CHUNK)]
        return torch.cat([run(take(graphs, [part])) for part in parts])

    _, found[f"embed {count} architectures, s"] = fastest(embed, repeat)
    found["memory of both, MB"] = peak() - before

    table = make(configurations[:TABLE])
    lists = RankerSettings().warmup_lists
    drawn = list(torch.randint(TABLE, (lists, LONGEST), generator=torch.Generator().manual_seed(0)))
    encoder.train()

    def step() -> None:
        encoder.zero_grad()
        run(take(table, drawn)).sum().backward()

    _, found[f"a step on {lists} lists of {LONGEST}, s"] = fastest(step, repeat)
    return found


Side = tuple[
    Callable[[Sequence[Configuration]], Any],
    Callable[[Any, Sequence[Tensor | slice]], Any],
    Callable[[Any], Tensor],
]
"""How configurations become graphs, how parts of these are put side by side, and the network on them."""


def own(encoder: GINEncoder) -> Side:
    space = standard_space("nas")

    def take(graphs: GraphBatch, parts: Sequence[Tensor | slice]) -> GraphBatch:
        return concatenate([graphs[part] for part in parts])  # type: ignore[return-value]

    return lambda configurations: encode(space, configurations), take, encoder


def batch_alone(encoder: GINEncoder) -> Side:
    make, take = with_batch(lambda graph: graph)
    return make, take, lambda batch: encoder(GraphBatch(batch.x, batch.edge_index, batch.ptr.diff()))


def batch_and_virtual_node(encoder: GINEncoder) -> Side:
    from torch_geometric.transforms import VirtualNode

    make, take = with_batch(VirtualNode())
    return make, take, lambda batch: through_edges(encoder, batch)


def with_batch(transform: Callable[[Any], Any]) -> tuple[Any, Any]:
    from torch_geometric.data import Batch, Data

    def make(configurations: Sequence[Configuration]) -> list[Any]:
        found = []
        for configuration in configurations:
            assert configuration.architecture is not None
            nodes, edges = architecture.graph(configuration.architecture)
            found.append(
                transform(Data(x=torch.from_numpy(nodes).float(), edge_index=torch.from_numpy(edges)))
            )
        return found

    def take(graphs: list[Any], parts: Sequence[Tensor | slice]) -> Any:
        chosen = [graphs[part] if isinstance(part, slice) else pick(graphs, part) for part in parts]
        return Batch.from_data_list([graph for part in chosen for graph in part])

    return make, take


def pick(graphs: list[Any], positions: Tensor) -> list[Any]:
    return [graphs[i] for i in positions.tolist()]


def through_edges(encoder: GINEncoder, batch: Any) -> Tensor:
    """The equations of ``GINEncoder`` where the virtual nodes stand in the graph, the last node of each.

    Both virtual nodes share the place and its edges: two transforms would join the second to the first, which is another network.
    """
    places = batch.ptr[1:] - 1
    real = torch.ones(batch.num_nodes, dtype=torch.bool)
    real[places] = False
    chain, inwards, outwards = (batch.edge_index[:, batch.edge_type == kind] for kind in (0, 1, 2))
    nodes = encoder.embed(batch.x)
    virtual = [node.expand(len(places), -1) for node in encoder.virtual]
    for convolution, updates in zip(encoder.convolutions, encoder.virtual_updates):
        there = torch.zeros_like(nodes).index_put((places,), sum(virtual))
        nodes = nodes.index_add(0, outwards[1], there[outwards[0]])
        # Batch normalization within the layer must not see the virtual nodes.
        layer = encoder.dropout(convolution(nodes[real], renumbered(chain, real)))
        nodes = torch.zeros_like(nodes).index_put((real.nonzero()[:, 0],), layer)
        total = torch.zeros_like(nodes).index_add(0, inwards[1], nodes[inwards[0]])[places]
        virtual = [node + encoder.dropout(update(node + total)) for node, update in zip(virtual, updates)]
    return encoder.read_out(torch.cat(virtual, dim=1))


def renumbered(edges: Tensor, real: Tensor) -> Tensor:
    return (real.cumsum(0) - 1)[edges]


SIDES: dict[str, Callable[[GINEncoder], Side]] = {
    "own": own,
    "Batch": batch_alone,
    "Batch + VirtualNode": batch_and_virtual_node,
}


def network() -> GINEncoder:
    with seeded(0):
        return GINEncoder()


def agreement() -> list[Tensor]:
    """The embeddings ``[64, 64]`` of the same architectures by each side."""
    encoder = network().eval()
    configurations = standard_space("nas").sample(64, np.random.default_rng(1))
    found = []
    for side in SIDES.values():
        make, take, run = side(encoder)
        with torch.no_grad():
            found.append(run(take(make(configurations), [slice(None)])))
    return found


def fastest(run: Callable[[], T], repeat: int) -> tuple[T, float]:
    """The last result and the processor seconds of the fastest run, which other programs disturb least."""
    seconds = []
    for _ in range(repeat):
        start = time.process_time()
        result = run()
        seconds.append(time.process_time() - start)
    return result, min(seconds)


def peak() -> float:
    """MB that the process has held at most, so far."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


if __name__ == "__main__":
    sys.exit(main())
