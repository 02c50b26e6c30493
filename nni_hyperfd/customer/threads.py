"""How many cores a process takes."""

from __future__ import annotations

import torch


def leave_cores_to_trials() -> None:
    """Keeps torch to one thread: threads that wait for each other on busy cores cost more than they bring."""
    torch.set_num_threads(1)
