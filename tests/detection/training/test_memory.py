"""Freed memory stays with the process."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import sys, psutil, torch
from nni_hyperfd.detection.training.memory import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
for _ in range(16):  # the heap needs a few rounds until a freed block fits
    torch.ones(10 * 2**20)
tensor = torch.ones(10 * 2**20)
held = psutil.Process().memory_info().rss
del tensor
print(held - psutil.Process().memory_info().rss)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt belongs to glibc")
def test_a_freed_tensor_of_40_mib_stays_with_the_process() -> None:
    def given_back(mode: str) -> int:
        return int(subprocess.check_output([sys.executable, "-c", PROGRAM, mode], text=True))

    assert given_back("keep") < 20 * 2**20 < given_back("let go")
