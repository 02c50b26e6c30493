"""Which pairs of a lookup table are to be measured, by which worker, and the measuring of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from nni_hyperfd.errors import DataError, HyperFDError
from nni_hyperfd.evidence.table import LookupTable, Pair, Row, TableFile, canonical


class Measured(Protocol):
    """What running a pair returns: APs, seconds, and the curve of :class:`Row`."""

    @property
    def val_ap(self) -> float: ...
    @property
    def test_ap(self) -> float: ...
    @property
    def heldout_ap(self) -> float: ...
    @property
    def seconds(self) -> float: ...
    @property
    def curve(self) -> Sequence[tuple[float, float]]: ...


RunPair = Callable[[str, str, str, int, str], Measured]
"""``run_pair(data_set, configuration, budget, seed, device)``, configuration as :func:`canonical` string."""


def measure_pairs(
    pairs: Iterable[Pair],
    run_pair: RunPair,
    path: Path,
    device: str,
    version: str,
    done: Collection[Pair] | LookupTable = (),
    progress: Callable[[Row], None] | None = None,
) -> int:
    """Runs the pairs that are not in the file yet and appends their rows; stop and start again at will.

    A training that fails with an error of this package becomes a failed row, never an AP of 0; other errors are bugs and end the run.

    Args:
        pairs: What to run, in this order; see :func:`shard`.
        run_pair: Fine-tunes one pair.
        path: The worker's own ``*.jsonl`` file.
        device: Name of the device, handed on and noted in the rows.
        version: Noted in the rows.
        done: Pairs that other files have already.
        progress: Called with each new row.

    Returns:
        Number of rows appended.
    """
    appended = 0
    with TableFile(path) as file:
        for pair in pairs:
            if pair in file or pair in done:
                continue
            try:
                found = run_pair(pair.data_set, pair.configuration, pair.budget, pair.seed, device)
            except HyperFDError as error:
                row = Row(
                    *pair, math.nan, math.nan, math.nan, 0.0, device, version, failure=str(error) or "failed"
                )
            else:
                aps = (float(found.val_ap), float(found.test_ap), float(found.heldout_ap))
                row = Row(
                    *pair, *aps, round(float(found.seconds), 3), device, version, curve=tuple(found.curve)
                )
            file.append(row)
            appended += 1
            if progress is not None:
                progress(row)
    return appended


def plan_pairs(
    space: str, configurations: Sequence[Mapping[str, Any]], data_sets: Sequence[str], budget: str, seed: int
) -> list[Pair]:
    """Every configuration on every data set, one data set after the other (a data set is loaded once).

    For the full grid: ``[space.parameters(c) for c in space.enumerate()]``; for NAS: the same of ``space.sample(200, rng)``.
    """
    texts = [canonical(each) for each in configurations]
    return [Pair(space, name, text, budget, seed) for name in data_sets for text in texts]


def plan_offline_pairs(
    space: str,
    configurations: Sequence[Mapping[str, Any]],
    data_sets: Sequence[str],
    pairs: int,
    per_set: int,
    budget: str,
    seed: int,
) -> list[Pair]:
    """Sampled pairs for the warm-up: ``pairs / per_set`` random data sets with ``per_set`` distinct configurations each.

    A ranking loss learns from pairs *within* a data set, so few long lists carry more than many short ones. Configurations
    are dealt like cards, so that all of them are seen about equally often. With more lists than data sets a set gets several hands.

    Raises:
        DataError: More pairs than there are cells, or a list longer than the configurations.
    """
    texts = [canonical(each) for each in configurations]
    if per_set > len(texts) or pairs > len(texts) * len(data_sets):
        raise DataError(
            f"cannot plan {pairs} pairs, {per_set} a set, from {len(texts)} configurations x {len(data_sets)} sets."
        )
    rng = np.random.default_rng(seed)
    taken: dict[str, set[str]] = {name: set() for name in data_sets}
    deck: list[str] = []
    planned: list[Pair] = []
    order: list[str] = []
    while len(planned) < pairs:
        if not order:
            order = [data_sets[i] for i in rng.permutation(len(data_sets))]
        name = order.pop()
        for _ in range(min(per_set, pairs - len(planned), len(texts) - len(taken[name]))):
            text = _deal(deck, texts, taken[name], rng)
            taken[name].add(text)
            planned.append(Pair(space, name, text, budget, seed))
    return planned


def _deal(deck: list[str], texts: Sequence[str], taken: set[str], rng: np.random.Generator) -> str:
    """Takes the deck's last card that is not in ``taken``; a new shuffled deck goes below when there is none."""
    while True:
        for index in range(len(deck) - 1, -1, -1):
            if deck[index] not in taken:
                return deck.pop(index)
        deck[:0] = [texts[i] for i in rng.permutation(len(texts))]


def shard(pairs: Sequence[Pair], index: int, count: int) -> list[Pair]:
    """Worker ``index`` of ``count`` (0-based): every ``count``-th pair, so that all workers get the same mixture.

    Raises:
        DataError: There is no such worker.
    """
    if not 0 <= index < count:
        raise DataError(f"shard {index} of {count}: the index counts from 0 to {count - 1}.")
    return list(pairs[index::count])
