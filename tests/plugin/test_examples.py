"""The examples are configs that NNI 3 accepts, for search spaces and settings that we accept."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from nni.experiment.config import ExperimentConfig

import nni_hyperfd
from nni_hyperfd.plugin.settings import Settings
from nni_hyperfd.spaces.space import Space

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.parametrize(
    ("name", "kind"),
    [("hyperfd", "hpo"), ("hyperfd_nas", "nas"), ("hyperfd_joint", "joint"), ("hyperfd_advisor", "hpo")],
)
def test_an_example_is_valid(name: str, kind: str) -> None:
    config = ExperimentConfig.load(EXAMPLES / f"{name}.yml").canonical_copy()
    assert Space.from_search_space(config.search_space).kind == kind
    package, class_name = config.tuner.class_name.rsplit(".", 1)
    assert package == "nni_hyperfd"
    assert hasattr(nni_hyperfd, class_name)
    assert (Path(config.tuner.code_directory) / package / "__init__.py").is_file()
    arguments = {key: value for key, value in config.tuner.class_args.items() if key != "eta"}
    settings = Settings.from_class_args(arguments)
    script = shlex.split(config.trial_command)
    assert (Path(config.trial_code_directory) / script[1]).is_file()
    assert script[script.index("--data") + 1] == str(settings.data)
