"""The installed wheel, without the repository: ``hyperfd init``, ``nnictl create``, DONE."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nni_hyperfd.cli import main

ROOT = Path(__file__).parents[2]
PATIENCE = f'--require "{Path(__file__).parent / "patience.cjs"}"'


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory, make_environment: Callable[..., Path]) -> str:
    """Interpreter of an environment that has this package from its wheel, and all others from the one that runs the tests."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in ("nni_hyperfd", "trial_code", "examples"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=ignored)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    options = ["--no-deps", "--no-index"]
    build = [*pip, "wheel", *options, "--no-build-isolation", "--wheel-dir", str(folder), str(source)]
    subprocess.run(build, check=True, timeout=300)
    shutil.rmtree(source)

    environment = make_environment(folder / "environment")
    (wheel,) = folder.glob("*.whl")
    interpreter = str(environment / "bin" / "python")
    subprocess.run([*pip, "--python", interpreter, "install", *options, str(wheel)], check=True, timeout=300)
    return interpreter


@pytest.fixture
def wheel_desk(desk: Any, drawn_faces: Path, tmp_path: Path, python: str) -> Iterator[Any]:
    """A desk with blanks and letters in all its folders, whose platform is the shipped one."""
    home = tmp_path / "Heim von Zoë"
    data = shutil.copytree(drawn_faces, home / "Bilder, 2. Teil" / "Gesichter (alle)")
    one = type(desk)(home, home / "platform", data, python)
    one.experiments = home / "nni-experiments"  # NNI's own choice
    for name in ("PYTHONPATH", "NNI_CONFIG_DIR", "HYPERFD_PLATFORM", "HYPERFD_CACHE"):
        one.environment.pop(name, None)
    yield one
    one.clear()


def test_an_experiment_from_the_wheel_alone(wheel_desk: Any, tmp_path: Path) -> None:
    desk = wheel_desk

    def run(*command: str) -> str:
        done = subprocess.run(
            command, env=desk.environment, cwd=tmp_path, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    origin = run(desk.python, "-c", "import nni_hyperfd; print(nni_hyperfd.__file__)").strip()
    assert Path(origin).is_relative_to(Path(desk.python).parents[1])

    hyperfd = str(Path(desk.python).parent / "hyperfd")
    said = run(hyperfd, "init", str(desk.data), "--budget", "smoke", "--trials", "2")
    made = desk.data.parent / "Gesichter (alle)-hyperfd"
    assert sorted(os.listdir(made)) == [
        "finetune.py",
        "hyperfd.yml",
        "loopback_only.cjs",
        "search_space.json",
    ]

    # What it prints is for a shell, to be pasted as it is.
    export, create = (line.strip() for line in said.split("Start it")[1].splitlines() if line[:2] == "  ")
    assert create.startswith("nnictl ")
    shown = run("sh", "-c", f"{export}\nprintenv NODE_OPTIONS\nprintf '%s|' {create}").splitlines()
    assert shown == [
        f'--require "{made / "loopback_only.cjs"}"',
        f"nnictl|create|--config|{made / 'hyperfd.yml'}|",
    ]
    desk.environment["NODE_OPTIONS"] = f"{shown[0]} {PATIENCE}"
    experiment = desk.nnictl_start("create", "--config", str(made / "hyperfd.yml"))
    experiment.wait_for_status("DONE", "ERROR", limit=900)  # two real trainings
    assert experiment.status() == "DONE", experiment.log()
    results = experiment.results()
    assert len(results) == 2
    assert all(0 <= result["default"] <= 1 for result in results)
    assert len(list(experiment.folder.rglob("best.safetensors"))) == 2
    experiment.stop()
    desk.platform = desk.home / ".local" / "share" / "hyperfd"
    # Whether the shipped version 0 takes up what two short trainings say is for its guard to judge.
    log = experiment.log()
    assert ("went from version 0 to 1" in log) == (desk.version() == 1)
    assert desk.version() == 1 or "made version 1 of them, but does not use it" in log
    assert set(desk.tried(experiment.id)) == {result["default"] for result in results}


def test_an_interpreter_that_nni_could_not_start_is_told(
    drawn_faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "executable", "/opt/my tools/bin/python")
    assert main(["init", str(drawn_faces), "--out", str(tmp_path / "made")]) == 1
    assert (
        "whose path holds a blank (/opt/my tools/bin/python): make an environment" in capsys.readouterr().err
    )
    assert not (tmp_path / "made").exists()
