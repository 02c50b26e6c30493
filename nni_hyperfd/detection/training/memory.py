"""Memory of large tensors is kept for the next step instead of going back to the operating system."""

from __future__ import annotations

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Parameters of glibc's ``mallopt`` (malloc.h)."""
LARGEST_KEPT = 2**30
"""Bytes; no tensor of a trial is larger."""


def keep_freed_memory() -> bool:
    """Tells glibc to reuse the memory of freed tensors, for the whole process; returns whether it does.

    By default glibc maps every block over 32 MiB anew and unmaps it when it is freed, so that each training step
    faults in all of its activations, page by page: a quarter of the processor time of a step at 256 pixels
    (docs/throughput.md). Numbers do not change. Elsewhere than on Linux with glibc nothing happens.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(M_MMAP_THRESHOLD, LARGEST_KEPT)) and bool(
        mallopt(M_TRIM_THRESHOLD, 2 * LARGEST_KEPT - 1)
    )
