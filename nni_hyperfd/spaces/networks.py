"""Which architectures a search space allows: for each stage a list of block sequences, read from nested NNI choices."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nni_hyperfd.errors import SpaceError
from nni_hyperfd.spaces.architecture import (
    BLOCKS,
    STAGE_CHOICES,
    STAGE_CODES,
    STAGES,
    Architecture,
    Block,
    stage_flops,
)
from nni_hyperfd.spaces.configuration import BLOCK_BY_LABEL, block_key, depth_key, searched_stages
from nni_hyperfd.spaces.cost import Below, Codes, PartCosts, stage_costs
from nni_hyperfd.spaces.domains import read_domain


@dataclass(frozen=True, eq=False)
class NetworkChoices:
    """The architectures of one space: any combination of the allowed sequences of the seven stages.

    Args:
        allowed: For each stage the codes ``[c]`` (see ``architecture.py``) that may be chosen, ascending.
    """

    allowed: tuple[Codes, ...]

    @property
    def size(self) -> int:
        """Number of networks before any FLOPs limit."""
        return math.prod(len(codes) for codes in self.allowed)

    def draw(self, rng: np.random.Generator, n: int) -> Codes:
        """Codes ``[n, 7]``, uniform over networks, repeats included: a depth comes as often as it has networks."""
        return np.stack([codes[rng.integers(len(codes), size=n)] for codes in self.allowed], axis=1)

    def below(self, flops_limit: float, costs: PartCosts | None) -> Below:
        """Draws networks under the FLOPs limit, or under 1 of ``costs`` where fewer are; the other limit is left to the caller."""
        stem, flops = stage_flops()
        found = [Below(self.allowed, self._of_allowed(flops), flops_limit - stem)]
        if costs is not None:
            found.append(Below(self.allowed, self._of_allowed(stage_costs(costs)), 1 - costs.rest))
        return min(found, key=lambda each: each.count)

    def _of_allowed(self, tables: Sequence[NDArray[Any]]) -> list[NDArray[np.float64]]:
        return [table[codes].astype(float) for table, codes in zip(tables, self.allowed)]

    def check(self, architecture: Architecture) -> None:
        """See that a network is one of these.

        Raises:
            SpaceError: The network is not one of these; the message says at which stage.
        """
        for number, (allowed, code) in enumerate(zip(self.allowed, architecture.codes), start=1):
            if code not in allowed:
                blocks = ", ".join(block.label for block in architecture.stages[number - 1])
                raise SpaceError(
                    f"Stage {number} of the architecture is {blocks}, which this search space leaves out; choose "
                    "among the depths and blocks that it lists."
                )

    def moves(self, codes: Codes) -> list[Codes]:
        """For one network ``[7]`` and each stage: the networks ``[m, 7]`` with one block of it exchanged, dropped or added."""
        moves = []
        for stage, allowed in enumerate(self.allowed):
            edited = np.intersect1d(_edits(stage, int(codes[stage])), allowed)
            rows = np.tile(codes, (len(edited), 1))
            rows[:, stage] = edited
            moves.append(rows)
        return moves

    def cheapest_flops(self) -> int:
        """Multiply-adds of the smallest network."""
        # The cost is a sum over stages, so each stage can be made cheap by itself.
        stem, tables = stage_flops()
        return stem + sum(int(table[codes].min()) for table, codes in zip(tables, self.allowed))

    def dearest_flops(self) -> int:
        """Multiply-adds of the largest network."""
        stem, tables = stage_flops()
        return stem + sum(int(table[codes].max()) for table, codes in zip(tables, self.allowed))

    def cheapest(self, costs: PartCosts) -> float:
        """What the network costs that costs least."""
        tables = stage_costs(costs)
        return costs.rest + sum(float(table[codes].min()) for table, codes in zip(tables, self.allowed))


@cache
def _edits(stage: int, code: int) -> Codes:
    """Codes of the block sequences of a stage that are one edit away from ``code``."""
    blocks = STAGE_CHOICES[stage][code]
    operations = STAGES[stage].operations
    edited = [
        (*blocks[:position], operation, *blocks[position + 1 :])
        for position in range(len(blocks))
        for operation in operations
        if operation != blocks[position]
    ]
    edited += [blocks[:-1], *((*blocks, operation) for operation in operations)]
    table = STAGE_CODES[stage]
    return np.array([table[sequence] for sequence in edited if sequence in table], dtype=np.int64)


def standard_network_space() -> dict[str, Any]:
    """The whole NAS space as an NNI search space: nested choices for the depths, one choice a block."""
    space: dict[str, Any] = {}
    for number, stage in searched_stages():
        branches = [
            {
                block_key(number, position): {"_type": "choice", "_value": [block.label for block in BLOCKS]}
                for position in range(1, depth + 1)
            }
            for depth in stage.depths
        ]
        key = depth_key(number)
        if key is None:
            space |= branches[0]
        else:
            named = [{"_name": depth, **branch} for depth, branch in zip(stage.depths, branches)]
            space[key] = {"_type": "choice", "_value": named}
    return space


def read_networks(search_space: Mapping[str, Any]) -> NetworkChoices:
    """The architecture part of an NNI search space; it may leave out depths and blocks of the standard one.

    Args:
        search_space: Only the keys that speak of the architecture.

    Raises:
        SpaceError: A stage is missing, or has a depth or block that the network cannot have.
    """
    rest = dict(search_space)
    allowed = [np.array([0], dtype=np.int64)]
    for index, (number, stage) in enumerate(searched_stages(), start=1):
        key = depth_key(number)
        if key is None:
            depth = stage.depths[0]
            names = [block_key(number, position) for position in range(1, depth + 1)]
            branches = {depth: {name: _take(rest, name) for name in names}}
        else:
            branches = _read_depths(key, _take(rest, key), stage.depths)
        sequences = [
            sequence
            for depth, branch in branches.items()
            for sequence in itertools.product(*_read_blocks(number, depth, branch))
        ]
        allowed.append(np.sort(np.array([STAGE_CODES[index][sequence] for sequence in sequences])))
    if rest:
        raise SpaceError(
            f"{next(iter(rest))} stands outside the depth it belongs to, or its stage has no such choice; write "
            "the architecture as search_spaces/nas.json does."
        )
    return NetworkChoices(tuple(allowed))


def _take(rest: dict[str, Any], key: str) -> Any:
    if key not in rest:
        raise SpaceError(
            f"{key} is missing in the search space; an architecture needs every stage, as in search_spaces/nas.json."
        )
    return rest.pop(key)


def _read_depths(key: str, specification: Any, depths: tuple[int, ...]) -> dict[int, dict[str, Any]]:
    """Splits a nested choice into {depth: {block key: specification}}."""
    options = specification.get("_value") if isinstance(specification, dict) else None
    if not isinstance(options, list) or not options or specification.get("_type") != "choice":
        raise SpaceError(f"{key} must be a choice of depths, as in search_spaces/nas.json.")
    branches: dict[int, dict[str, Any]] = {}
    by_name = {str(depth): depth for depth in depths}
    for option in options:
        if not isinstance(option, dict) or "_name" not in option:
            raise SpaceError(
                f'{key} offers {option!r}; write each depth with its blocks, as {{"_name": {depths[0]}, …}} in '
                "search_spaces/nas.json."
            )
        depth = by_name.get(str(option["_name"]))
        if depth is None or depth in branches:
            raise SpaceError(
                f"{key} offers the depth {option['_name']!r}; list each of {', '.join(by_name)} at most once."
            )
        branches[depth] = {name: value for name, value in option.items() if name != "_name"}
    return branches


def _read_blocks(number: int, depth: int, branch: Mapping[str, Any]) -> list[list[Block]]:
    """The allowed blocks of each position of a stage with this depth."""
    names = [block_key(number, position) for position in range(1, depth + 1)]
    if set(branch) != set(names):
        raise SpaceError(
            f"Depth {depth} of stage {number} has the keys {', '.join(branch) or 'none'}; it needs "
            f"{', '.join(names)}."
        )
    positions = []
    for name in names:
        domain = read_domain(name, branch[name])
        labels = getattr(domain, "values", ())
        unknown = [label for label in labels if label not in BLOCK_BY_LABEL]
        if not labels or unknown:
            shown = repr(unknown[0]) if unknown else repr(branch[name])
            raise SpaceError(f"{name} offers {shown}; use a choice among {', '.join(BLOCK_BY_LABEL)}.")
        positions.append([BLOCK_BY_LABEL[label] for label in labels])
    return positions
