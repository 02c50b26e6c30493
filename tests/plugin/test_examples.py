"""The examples are configs that NNI 3 accepts, for search spaces and settings that we accept."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

import pytest
import yaml
from nni.experiment.config import ExperimentConfig
from nni.experiment.config.utils import set_base_path, unset_base_path

import nni_hyperfd
from nni_hyperfd.cli.record import add_to
from nni_hyperfd.customer.settings import Settings
from nni_hyperfd.plugin.advisor import OWN_KEYS
from nni_hyperfd.plugin.dycors import DYCORSTuner
from nni_hyperfd.spaces.hyperparameters import HyperParameters
from nni_hyperfd.spaces.space import Space
from nni_hyperfd.spaces.standard import standard_search_space
from nni_hyperfd.spaces.unread import refuse_unread_space

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("hyperfd", "hpo"),
        ("hyperfd_nas", "nas"),
        ("hyperfd_joint", "joint"),
        ("hyperfd_advisor", "hpo"),
        ("hyperfd_mf", "hpo"),
        ("hyperfd_service", "hpo"),
    ],
)
def test_an_example_is_valid(name: str, kind: str) -> None:
    config = ExperimentConfig.load(EXAMPLES / f"{name}.yml").canonical_copy()
    assert Space.from_search_space(config.search_space).kind == kind
    package, class_name = config.tuner.class_name.rsplit(".", 1)
    assert package == "nni_hyperfd"
    assert hasattr(nni_hyperfd, class_name)
    assert (Path(config.tuner.code_directory) / package / "__init__.py").is_file()
    arguments = {key: value for key, value in config.tuner.class_args.items() if key not in OWN_KEYS}
    assert "token" not in arguments
    settings = Settings.from_class_args(arguments)
    script = shlex.split(config.trial_command)
    assert (Path(config.trial_code_directory) / script[1]).is_file()
    assert script[script.index("--data") + 1] == str(settings.data)


def test_the_counts_of_dynamic_assignment_are_searched_by_dycors() -> None:
    config = ExperimentConfig.load(EXAMPLES / "hps_det.yml").canonical_copy()
    assert config.search_space == standard_search_space("assignment")
    refuse_unread_space(config.search_space, config.trial_command, None)
    assert config.tuner.class_name == f"nni_hyperfd.{nni_hyperfd.DYCORSTuner.__name__}"
    assert (Path(config.trial_code_directory) / shlex.split(config.trial_command)[1]).is_file()
    assert config.max_trial_number == config.tuner.class_args["budget"]
    tuner = DYCORSTuner(**config.tuner.class_args)
    tuner.update_search_space(config.search_space)
    for number in range(12):
        parameters = tuner.generate_parameters(number)
        assert HyperParameters.from_parameters(parameters).counts == tuple(parameters.values())


def test_autohas_searches_within_its_one_trial() -> None:
    config = ExperimentConfig.load(EXAMPLES / "autohas.yml").canonical_copy()
    config.validate()
    trial, record = (shlex.split(part) for part in config.trial_command.split("&&"))
    assert (Path(config.trial_code_directory) / trial[1]).is_file()
    assert config.max_trial_number == 1
    parser = argparse.ArgumentParser()
    add_to(parser.add_subparsers())
    assert record[0] == "hyperfd"
    assert parser.parse_args(record[1:]).data == trial[trial.index("--data") + 1] == "$FACES"


def test_trials_on_other_machines(tmp_path: Path) -> None:
    """What NNI checks before it goes to the machines; tests/end_to_end goes there."""
    text = (EXAMPLES / "hyperfd_remote.yml").read_text()
    (tmp_path / "key").write_text("not looked into")
    with pytest.raises(ValueError, match="valid SSH key file"):
        loaded(text, EXAMPLES).validate()
    config = loaded(text.replace("~/.ssh/id_ed25519", str(tmp_path / "key")), EXAMPLES).canonical_copy()
    assert config.training_service.platform == "remote"
    assert [machine.port for machine in config.training_service.machine_list] == [22, 22]
    assert Settings.from_class_args(config.tuner.class_args).budget == 4


def test_trials_on_kubernetes() -> None:
    folder = EXAMPLES / "kubernetes"
    text = (folder / "hyperfd.yml").read_text()
    config = loaded(text, folder).canonical_copy()
    (role,) = config.training_service.task_roles
    assert (Path(config.trial_code_directory) / shlex.split(role.command)[1]).is_file()
    assert config.training_service.storage.storage_type == "nfs"
    assert Space.from_search_space(config.search_space).kind == "hpo"
    assert Settings.from_class_args(config.tuner.class_args).budget == 4
    with pytest.raises(ValueError, match="storage_type"):
        loaded(text.replace("storageType: nfs", "storageType: floppy"), folder).validate()
    with pytest.raises((TypeError, ValueError, AttributeError)):
        loaded(text.replace("memorySize", "memory"), folder).validate()


def loaded(text: str, folder: Path) -> ExperimentConfig:
    """A changed example, as if it lay in ``folder``."""
    set_base_path(folder)
    try:
        return ExperimentConfig(**yaml.safe_load(text))
    finally:
        unset_base_path()
