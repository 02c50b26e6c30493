"""Every example is a valid NNI 3 configuration whose parts fit each other."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
import yaml
from nni.experiment.config import ExperimentConfig

from nni_hyperfd.plugin.settings import Settings
from nni_hyperfd.spaces.space import load_space

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.yml"))


def test_the_examples_of_the_three_spaces_are_there() -> None:
    assert {"hyperfd.yml", "hyperfd_nas.yml", "hyperfd_joint.yml"} <= {path.name for path in EXAMPLES}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_nni_takes_the_example_and_its_parts_fit(path: Path) -> None:
    config = yaml.safe_load(path.read_text())
    ExperimentConfig.load(path)
    part = config.get("tuner") or config["advisor"]
    settings = Settings.from_class_args(part["classArgs"])
    space = load_space(path.parent / config["searchSpaceFile"])
    assert settings.space in (None, space.kind)
    assert f"--data {settings.data} " in config["trialCommand"] + " "
    assert config["maxTrialNumber"] >= settings.budget
    module, _, name = part["className"].rpartition(".")
    assert getattr(importlib.import_module(module), name)
    assert (path.parent / config["trialCodeDirectory"] / "finetune.py").exists()
