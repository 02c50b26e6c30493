"""Randomness that leaves no trace: torch's own generator is seeded for a block and put back afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Initialization and dropout inside the block depend on ``seed`` alone, and nothing outside notices."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
