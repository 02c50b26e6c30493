"""The lines of the README, as they stand there, where the clone, HOME and the data have blanks and other letters in their names."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
NNICTL = """#!/bin/sh
# As README says it, but for the port, and for the patience that a machine needs which tests several things at once.
[ "$1" = create ] && set -- "$@" --port {port}
NODE_OPTIONS="$NODE_OPTIONS --require \\"{patience}\\"" exec {python} -W ignore "{nnictl}" "$@"
"""
HYPERFD = "#!{python}\nimport sys\nfrom nni_hyperfd.cli import main\nsys.exit(main())\n"


def command_lines() -> list[str]:
    """All lines in fences, without their comments; `make` installs 6 GB and runs these tests, so its lines stay out."""
    fences = re.findall(r"^```\n(.*?)^```", (ROOT / "README.md").read_text(encoding="utf-8"), re.M | re.S)
    lines = [re.sub(r"\s+# .*", "", line) for fence in fences for line in fence.splitlines()]
    return [line.removeprefix("make setup && ") for line in lines if not re.fullmatch(r"make \w+", line)]


@pytest.fixture
def clone_desk(
    desk: Any, drawn_faces: Path, tmp_path: Path, make_environment: Callable[..., Path], port: int
) -> Iterator[tuple[Any, Path]]:
    """A desk and a clone in folders whose names need quoting, with an environment where `make setup` puts it then."""
    clone, home = tmp_path / "mein Klon (größer)", tmp_path / "Heim von Zoë"
    clone.mkdir()
    for name in ("nni_hyperfd", "trial_code", "examples", "search_spaces"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, clone / name, symlinks=True, ignore=ignored)
    # Trials as short as they can be; everything else is as the README has it.
    example = clone / "examples" / "hyperfd.yml"
    example.write_text(
        example.read_text(encoding="utf-8").replace("--budget short", "--budget smoke"), encoding="utf-8"
    )
    environment = make_environment(tmp_path / "environment", [clone])
    (clone / ".venv").symlink_to(environment)
    python = environment / "bin" / "python"
    names = {"patience": HERE / "patience.cjs", "nnictl": HERE / "patient_nnictl.py", "python": python}
    for name, content in (("nnictl", NNICTL), ("hyperfd", HYPERFD)):
        script = environment / "bin" / name
        script.write_text(content.format(port=port, **names), encoding="utf-8")
        script.chmod(0o755)
    shutil.copytree(drawn_faces, home / "my_faces")
    one = type(desk)(home, home / ".local" / "share" / "hyperfd", home / "my_faces", str(python))
    one.experiments = home / "nni-experiments"
    for name in ("PYTHONPATH", "NNI_CONFIG_DIR", "HYPERFD_PLATFORM", "HYPERFD_CACHE", "NODE_OPTIONS"):
        one.environment.pop(name, None)
    one.environment["PATH"] = os.environ["PATH"]  # activating is one of the README's lines
    yield one, clone
    one.clear()


def test_every_line_works_in_folders_with_blanks(clone_desk: tuple[Any, Path], port: int) -> None:
    desk, clone = clone_desk
    lines = command_lines()
    start = next(place for place, line in enumerate(lines) if "nnictl create" in line)
    assert lines[0] == "source .venv/bin/activate"
    assert len(lines) > start + 4

    def run(commands: Sequence[str]) -> str:
        done = subprocess.run(
            ["bash", "-e", "-c", "\n".join(commands)],
            env=desk.environment,
            cwd=clone,
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    said = run(lines[: start + 1])
    assert "my_faces: 24 images" in said
    experiment = desk.latest(port)
    experiment.wait(lambda: bool(experiment.results()), "the first trial's result", limit=900)
    experiment.stop()

    placeholders = {
        "FOLDER": "~/my_faces",
        "PICTURES": "~/my_faces/images",
        "EXPERIMENT_ID": experiment.id,
        "best.safetensors": "out/best.safetensors",
    }
    rest = lines[start + 1 :]
    for word, meant in placeholders.items():
        assert any(word in line for line in rest)
        rest = [line.replace(word, meant) for line in rest]
    rest = [f"{line} --budget smoke" if "finetune.py" in line else line for line in rest]
    # The experiment was stopped in its first trial, so there is most likely nothing to report.
    rest = [f"{line} 2>&1 || true" if "hyperfd report" in line else line for line in rest]
    said = run([*lines[:2], *rest])
    assert "has no finished trial to report" in said or "Best: trial" in said
    assert (desk.home / "my_faces-hyperfd" / "hyperfd.yml").is_file()
    assert "Recommended for my_faces by platform version" in said
    assert len(list((clone / "detections").glob("*.png"))) == 24
    assert "Finished" in said, "what hyperfd finish says"
    assert experiment.id in said, "what hyperfd status says"
