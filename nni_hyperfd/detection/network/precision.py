"""Which arithmetic a CPU computes in: bfloat16 where that is quick, float32 elsewhere."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path

import torch

SWITCH = "HYPERFD_BFLOAT16"  # `off` in the environment: float32 everywhere, as on a CPU without bfloat16


def has_fast_bfloat16() -> bool:
    """Whether this CPU multiplies bfloat16 in hardware; without it, bfloat16 is slower than float32.

    The environment variable ``HYPERFD_BFLOAT16=off`` says no for it: results then are those of CPUs without.
    """
    return os.environ.get(SWITCH, "").strip().lower() != "off" and _in_hardware()


def cpu_autocast() -> torch.autocast:
    """bfloat16 for convolutions on CPUs that are quick at it; nothing on others."""
    return torch.autocast("cpu", torch.bfloat16, enabled=has_fast_bfloat16())


@lru_cache
def _in_hardware() -> bool:
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    return "amx_bf16" in flags or "avx512_bf16" in flags
