"""What a network costs as a sum over its parts, and networks drawn below limits on such sums."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nni_hyperfd.errors import SpaceError
from nni_hyperfd.spaces.architecture import STAGE_CHOICES, STAGES, Architecture, Block

Codes = NDArray[np.int64]
FloatArray = NDArray[np.float64]

BINS = 4096
"""Steps in which costs are counted where networks are drawn; what a step blurs is drawn in vain and turned away."""
ROWS_AT_ONCE = 1024


class Part(NamedTuple):
    """A block where it may stand: in ``stage`` (from 1), as its first, which strides and widens, or later."""

    stage: int
    first: bool
    block: Block

    @property
    def label(self) -> str:
        """Such as ``s2 first k3e4``."""
        return f"s{self.stage} {'first' if self.first else 'later'} {self.block.label}"


PARTS = tuple(
    Part(number, first, block)
    for number, stage in enumerate(STAGES, start=1)
    for first in ((True, False) if max(stage.depths) > 1 else (True,))
    for block in stage.operations
)
"""Every block that a network may have; all networks share the rest."""

_ROW_LENGTHS = [sum(part.stage == number for part in PARTS) for number in range(1, len(STAGES) + 1)]
_INDEX = {part: index for index, part in enumerate(PARTS)}


@dataclass(frozen=True)
class PartCosts:
    """Costs of a network's parts in some unit, such as milliseconds; a network costs the sum.

    Args:
        rest: Of what all networks have in common.
        parts: Of each of :data:`PARTS`.

    Raises:
        SpaceError: Another number of parts, or a cost that is negative or not finite.
    """

    rest: float
    parts: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.parts) != len(PARTS):
            raise SpaceError(
                f"Costs of {len(self.parts)} parts are given; a network is made of {len(PARTS)}."
            )
        if not all(np.isfinite(cost) and cost >= 0 for cost in (self.rest, *self.parts)):
            raise SpaceError(
                "A part of a network has a cost that is negative or not a number; measure it anew."
            )

    @classmethod
    def from_rows(cls, rows: Sequence[Sequence[float]]) -> PartCosts:
        """Inverse of :meth:`rows`.

        Raises:
            SpaceError: The rows have other lengths.
        """
        if [len(row) for row in rows] != [1, *_ROW_LENGTHS]:
            raise SpaceError(
                f"Costs of parts come in rows of 1, {', '.join(map(str, _ROW_LENGTHS))} numbers."
            )
        return cls(rows[0][0], tuple(cost for row in rows[1:] for cost in row))

    def rows(self) -> tuple[tuple[float, ...], ...]:
        """What all networks have in common, alone in a row, and a row for each stage."""
        rest = iter(self.parts)
        return ((self.rest,), *(tuple(next(rest) for _ in range(length)) for length in _ROW_LENGTHS))

    def of(self, architecture: Architecture) -> float:
        """Of one network."""
        return self.rest + sum(
            self.parts[_INDEX[Part(number, place == 0, block)]]
            for number, blocks in enumerate(architecture.stages, start=1)
            for place, block in enumerate(blocks)
        )

    def of_codes(self, codes: Codes) -> FloatArray:
        """Of many networks at once: codes ``[n, 7]`` -> ``[n]``."""
        tables = stage_costs(self)
        return self.rest + np.stack([table[codes[:, i]] for i, table in enumerate(tables)]).sum(axis=0)

    def divided(self, unit: float) -> PartCosts:
        """The same costs, counted in ``unit``."""
        return PartCosts(self.rest / unit, tuple(cost / unit for cost in self.parts))


@lru_cache(maxsize=32)
def stage_costs(costs: PartCosts) -> tuple[FloatArray, ...]:
    """For each stage the costs ``[c]`` of its c entries of ``STAGE_CHOICES``."""
    return tuple(
        np.array(
            [
                sum(
                    costs.parts[_INDEX[Part(number, place == 0, block)]] for place, block in enumerate(blocks)
                )
                for blocks in choices
            ]
        )
        for number, choices in enumerate(STAGE_CHOICES, start=1)
    )


class Below:
    """Networks below a limit, drawn uniformly over all that are, however few.

    Completions of a beginning are counted from the last stage to the first, by what is left to spend in :data:`BINS` steps, and a stage is
    drawn in proportion to the completions that it leaves. Rounding is in favour of a network, so a few that are drawn are not below the
    limit: whoever draws turns them away.

    Args:
        allowed: For each stage the codes ``[c]`` that may be chosen.
        costs: For each stage what these codes cost, ``[c]``.
        most: That the stages may cost together.
    """

    def __init__(self, allowed: Sequence[Codes], costs: Sequence[FloatArray], most: float) -> None:
        self._allowed = allowed
        # Counted from the cheapest network, so that a limit just above it is resolved as well as any.
        spent = [each - each.min() for each in costs]
        room = max(most - sum(float(each.min()) for each in costs), 1e-300)
        self._bins = [np.minimum(each / room * BINS, BINS + 1).astype(int) for each in spent]
        ways = np.ones(BINS + 1)
        self._ways: list[FloatArray] = []
        for bins in reversed(self._bins):
            self._ways.insert(0, ways)
            counts = np.bincount(bins[bins <= BINS], minlength=BINS + 1)
            ways = np.convolve(counts, ways)[: BINS + 1]
        self.count = float(ways[BINS])
        """How many there are, and those that are drawn in vain."""

    def draw(self, rng: np.random.Generator, n: int) -> Codes:
        """Codes ``[n, 7]``, repeats included."""
        rows = [self._draw(rng, min(ROWS_AT_ONCE, n - done)) for done in range(0, n, ROWS_AT_ONCE)]
        return np.concatenate([np.empty((0, len(self._allowed)), np.int64), *rows])

    def _draw(self, rng: np.random.Generator, n: int) -> Codes:
        left = np.full(n, BINS)
        columns = []
        for codes, bins, ways in zip(self._allowed, self._bins, self._ways):
            after = left[:, None] - bins
            weights = np.where(after >= 0, ways[np.maximum(after, 0)], 0.0).cumsum(axis=1)
            chosen = (weights <= rng.random((n, 1)) * weights[:, -1:]).sum(axis=1)
            left = after[np.arange(n), chosen]
            columns.append(codes[chosen])
        return np.stack(columns, axis=1)
