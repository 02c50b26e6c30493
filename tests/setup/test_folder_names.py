"""`make setup` in folders that a shell would read as something else, and what the demo says where NNI could not start."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("name", "cache", "moved"),
    [("plain-1.0", "cache", False), ("my clone", "cache", True), ("größe (2)", "a cache", True)],
)
def test_the_environment_has_a_path_that_nni_can_start(
    tmp_path: Path, name: str, cache: str, moved: bool
) -> None:
    clone, home = tmp_path / name, tmp_path / cache
    clone.mkdir()
    (clone / "Makefile").write_bytes((ROOT / "Makefile").read_bytes())
    (clone / "setup.py").write_text("")
    # Nothing can be installed from here: what counts is where the environment lies.
    (clone / "constraints.txt").write_text("no such line\n")
    environment = os.environ | {"XDG_CACHE_HOME": str(home), "PIP_NO_INDEX": "1"}
    made = subprocess.run(
        ["make", "setup", f"PYTHON={sys.executable}"],
        cwd=clone,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert made.returncode
    assert not (clone / ".venv/.setup-done").exists()
    link = clone / ".venv"
    assert link.is_symlink() is moved, made.stderr
    python = link.resolve() / "bin" / "python"
    assert not set(" ()") & set(str(python))
    assert moved is False or (home in python.parents) is (cache == "cache")
    told = subprocess.run(
        f"{python} -c 'import sys; print(sys.prefix)'", shell=True, capture_output=True, text=True
    )
    assert told.stdout.strip() == str(link.resolve())
    subprocess.run(["make", "distclean"], cwd=clone, env=environment, check=True, capture_output=True)
    assert not link.exists()
    assert not python.parent.exists()


def test_the_demo_ends_with_the_reason(tmp_path: Path) -> None:
    reason = runpy.run_path(str(ROOT / "examples" / "demo.py"))["reason"]
    logs, trial = tmp_path / "log", tmp_path / "environments/local-env/trials/abc"
    logs.mkdir()
    assert str(logs) in reason(tmp_path)
    (logs / "nnictl_stderr.log").write_text("/bin/sh: 1: /home/my: not found\nError: Tuner did not connect\n")
    assert reason(tmp_path).startswith("/bin/sh: 1: /home/my: not found")
    trial.mkdir(parents=True)
    (trial / "trial.stderr").write_text("Traceback\n  File\nModuleNotFoundError: No module named 'torch'\n")
    assert reason(tmp_path).startswith("ModuleNotFoundError: No module named 'torch'")
    (trial / "trial.stderr").write_text("finetune.py: no images in faces: name a folder of images\n")
    assert reason(tmp_path).startswith("no images in faces: name a folder of images")
    (logs / "dispatcher.log").write_text("[2026] ERROR HyperFD: the folder has two splits called test\n")
    assert reason(tmp_path).startswith("the folder has two splits called test")
