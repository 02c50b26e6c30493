"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the real face data sets; tests that need it are skipped where it is absent."""
    folder = Path(os.environ.get("HYPERFD_DATA") or Path(__file__).parents[2] / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"real face data not found at {folder} (set HYPERFD_DATA to their folder)")
    return folder


@pytest.fixture(scope="session")
def drawn_faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 20 drawn scenes with faces and landmarks (11 train / 3 val / 6 test); nobody writes into it."""
    from nni_hyperfd.synthetic import generate

    return generate(tmp_path_factory.mktemp("drawn") / "masked", "masked", 20, seed=1)
