"""``hyperfd record``: one training's result as experience, once."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from nni_hyperfd.cli import main
from nni_hyperfd.spaces.architecture import mobilenet_v2
from nni_hyperfd.spaces.configuration import Configuration
from nni_hyperfd.spaces.hyperparameters import DEFAULT_HYPERPARAMETERS


def test_a_file_counts_once(
    drawn_faces: Path,
    make_platform: Callable[[Path], None],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    make_platform(tmp_path / "platform")
    parameters = Configuration(DEFAULT_HYPERPARAMETERS, mobilenet_v2()).parameters()
    content = {
        "parameters": parameters,
        "val_ap": 0.5,
        "test_ap": 0.4,
        "budget": {"name": "smoke"},
        "seed": 0,
    }
    file = tmp_path / "result.json"
    file.write_text(json.dumps(content))
    places = ["--data", str(drawn_faces), "--platform", str(tmp_path / "platform"), "--cache", str(tmp_path)]
    said = []
    for _ in range(2):
        assert main(["record", str(file), *places]) == 0
        said.append(capsys.readouterr().out)
    assert "1 result" in said[0]
    assert said[0] == said[1]


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"parameters": {}, "budget": 3, "seed": 0, "val_ap": 0.5}']
)
def test_no_result_is_named(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "result.json"
    file.write_text(text)
    assert main(["record", str(file), "--data", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert str(file) in error
    assert error.count("\n") == 1
