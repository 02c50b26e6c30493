"""Randomness that leaves no trace: torch's own generator is seeded for a block and put back afterwards.

``torch.manual_seed`` would seed the generators of all accelerators too, and ``fork_rng`` would have to wake them all up to put them
back; whatever draws here draws on the CPU.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Initialization and dropout inside the block depend on ``seed`` alone, and nothing outside notices."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield
