"""Processes that are forks of this one, which has loaded everything already, so that many of them may die in little time."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable


def fork(work: Callable[[], object]) -> int:
    """Start ``work`` in a process of its own; its status is 0 when it ends well."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        except BaseException as error:
            os.write(2, f"process ended: {error!r}\n".encode())
        finally:
            os._exit(code)
    return child


def ended(child: int, seconds: float) -> int | None:
    """Exit status of a child, or None when it still runs after that time."""
    end = time.monotonic() + seconds
    while True:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return status
        if time.monotonic() >= end:
            return None
        time.sleep(0.002)


def kill(child: int) -> int | None:
    """``kill -9``; None, or the exit status of a process that had ended before."""
    status = ended(child, 0)
    if status is None:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    return status
