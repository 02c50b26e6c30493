"""Features from a process of their own, and its bad ends."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from nni_hyperfd.customer.profiling import profile_apart
from nni_hyperfd.customer.settings import Settings
from nni_hyperfd.data.dataset import load_dataset
from nni_hyperfd.errors import DataError
from nni_hyperfd.metafeature.profile import profile_dataset


def test_the_features_are_those_of_this_process(drawn_faces: Path, tmp_path: Path) -> None:
    dataset = load_dataset(drawn_faces)
    apart = profile_apart(dataset, Settings(drawn_faces, cache_dir=tmp_path / "apart", format="coco"))
    here = profile_dataset(dataset, tmp_path / "here")
    for name, tensor in here.tensors().items():
        torch.testing.assert_close(apart.tensors()[name], tensor, rtol=1e-3, atol=1e-3)


def test_our_errors_come_through_as_they_are(drawn_faces: Path, tmp_path: Path) -> None:
    (tmp_path / "occupied").write_text("a file where the cache should be")
    with pytest.raises(DataError, match=r"^cannot write .*occupied"):
        profile_apart(load_dataset(drawn_faces), Settings(drawn_faces, cache_dir=tmp_path / "occupied"))


def test_a_killed_process_is_named(
    drawn_faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = subprocess.run
    monkeypatch.setattr(
        subprocess,
        "run",
        lambda command, **options: real(
            [sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"], **options
        ),
    )
    with pytest.raises(DataError, match=r"looking at the images of .* failed \(exit status -9\)"):
        profile_apart(load_dataset(drawn_faces), Settings(drawn_faces, cache_dir=tmp_path))
