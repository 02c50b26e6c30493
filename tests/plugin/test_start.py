"""NNI ends an experiment whose tuner has not connected in ten seconds, so that what is slow to import comes later."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SLOW = {"torch", "torch_geometric", "torchvision", "sqlalchemy", "PIL", "pydantic", "fastapi", "sklearn"}


def imported(statements: str, cwd: Path) -> set[str]:
    """Packages that a process of its own has imported after these statements."""
    code = f"{statements}\nimport sys\nprint(*{{name.split('.')[0] for name in sys.modules}})"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=cwd)
    return set(run.stdout.split())


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("HyperFDTuner", "data='faces', budget=4"),
        ("HyperFDAdvisor", None),  # it connects when it is made
        ("DYCORSTuner", "budget=4"),
    ],
)
def test_a_tuner_is_made_before_anything_slow_is_imported(
    name: str, arguments: str | None, tmp_path: Path
) -> None:
    made = "" if arguments is None else f"\ntuner = {name}({arguments})"
    found = imported(f"import nni.__main__\nfrom nni_hyperfd import {name}{made}", tmp_path)
    assert "nni_hyperfd" in found
    assert not found & SLOW


def test_a_space_without_graphs_does_not_wait_for_graph_networks(tmp_path: Path) -> None:
    statements = """
import nni_hyperfd.customer.customer, nni_hyperfd.plugin.opening
from nni_hyperfd.ranker.encoders import EncoderShape
EncoderShape("mlp", 4).build()
"""
    found = imported(statements, tmp_path)
    assert "torch" in found
    assert "torch_geometric" not in found
