"""Freed memory stays with the process."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import ctypes, resource, sys, torch
ctypes.CDLL(None).prctl(41, 1, 0, 0, 0)  # huge pages off (PR_SET_THP_DISABLE): one of them is a single fault, too
from nni_hyperfd.detection.training.memory import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
for _ in range(16):  # the heap needs a few rounds until a freed block fits
    torch.ones(10 * 2**20)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(4):
    torch.ones(10 * 2**20)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt belongs to glibc")
def test_a_freed_tensor_of_40_mib_is_not_faulted_in_again() -> None:
    def faults(mode: str) -> int:
        return int(subprocess.check_output([sys.executable, "-c", PROGRAM, mode], text=True))

    assert faults("keep") < 1000 < faults("let go")
