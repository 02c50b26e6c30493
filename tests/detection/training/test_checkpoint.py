"""A training that stopped and went on from a checkpoint is the training that never stopped."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from nni_hyperfd.data.dataset import load_dataset
from nni_hyperfd.data.pixels import PixelStore, open_pixels
from nni_hyperfd.detection.network.weights import base_detector
from nni_hyperfd.detection.training.accelerator import CUDAEngine, Residents
from nni_hyperfd.detection.training.budgets import Budget
from nni_hyperfd.detection.training.checkpoint import Checkpoints, Stopped, name_of
from nni_hyperfd.detection.training.fine_tuning import CPUEngine, Engine, Leg, fine_tune
from nni_hyperfd.errors import DataError
from nni_hyperfd.spaces.architecture import mobilenet_v2
from nni_hyperfd.spaces.hyperparameters import HyperParameters
from nni_hyperfd.spaces.stages import Stage

SIX = Budget("six", 64, 96, 6, 16, 1, 1, 6, batch_size=8, anneal=True)
"""The rate falls by plan over the second half, and tenfold after each validation without gain: both have to go on."""


@pytest.fixture(scope="module")
def store(drawn_faces: Path, tmp_path_factory: pytest.TempPathFactory) -> PixelStore:
    return open_pixels(load_dataset(drawn_faces), 192, tmp_path_factory.mktemp("cache"))


def engine_for(kind: str, store: PixelStore, hyperparameters: HyperParameters) -> Engine:
    model = base_detector(mobilenet_v2())
    if kind == "plain":
        return CPUEngine(model, store, hyperparameters, SIX)
    engine = CUDAEngine(model, SIX, torch.device("cpu"), torch.float32)
    engine.begin(Residents.load(store, SIX, engine.device), hyperparameters)
    return engine


@pytest.mark.parametrize("kind", ["plain", "as on an accelerator"])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_two_epochs_and_four_are_six(store: PixelStore, tmp_path: Path, optimizer: str, kind: str) -> None:
    hyperparameters = HyperParameters(optimizer=optimizer, learning_rate=3e-3)
    path, name = tmp_path / "new" / "a.safetensors", name_of(optimizer=optimizer)
    ended: list[Stopped] = []
    whole = fine_tune(
        engine_for(kind, store, hyperparameters),
        store,
        hyperparameters,
        SIX,
        5,
        leg=Leg(on_stop=ended.append),
    )

    first = fine_tune(
        engine_for(kind, store, hyperparameters),
        store,
        hyperparameters,
        SIX,
        5,
        leg=Leg(stop=2, on_stop=lambda stopped: stopped.save(path, name)),
    )
    assert [point.epoch for point in first.curve] == [1, 2]
    rest: list[Stopped] = []
    seen: list[int] = []
    again = fine_tune(
        engine_for(kind, store, hyperparameters),
        store,
        hyperparameters,
        SIX,
        5,
        lambda point, engine: seen.append(point.epoch),
        leg=Leg(Stopped.load(path, name), on_stop=rest.append),
    )
    assert seen == [3, 4, 5, 6], "only what is new is validated"
    assert again.curve == whole.curve
    assert (again.val_ap, again.test_ap, again.heldout_ap) == (whole.val_ap, whole.test_ap, whole.heldout_ap)
    for group in ("weights", "kept", "optimizer"):
        one, other = getattr(ended[0], group), getattr(rest[0], group)
        assert one.keys() == other.keys()
        for key, value in one.items():
            assert torch.equal(value, other[key]), (group, key)
    assert replace(ended[0], weights={}, kept={}, optimizer={}) == replace(
        rest[0], weights={}, kept={}, optimizer={}
    )


def test_what_is_no_checkpoint_of_this_training_is_refused(store: PixelStore, tmp_path: Path) -> None:
    hyperparameters = HyperParameters()
    path = tmp_path / "a.safetensors"
    fine_tune(
        engine_for("plain", store, hyperparameters),
        store,
        hyperparameters,
        SIX,
        0,
        leg=Leg(stop=2, on_stop=lambda stopped: stopped.save(path, "mine")),
    )
    shutil.copy(path, tmp_path / "mine-2.safetensors")
    (tmp_path / "mine-1.safetensors").mkdir()  # cannot be removed as a file can
    found = Checkpoints(tmp_path, "mine").before(Stage(2, 3, 6))
    assert found is not None
    assert found.epoch == 2
    with pytest.raises(DataError, match="is of another training"):
        Stopped.load(path, "another")
    with pytest.raises(DataError, match="cannot be read"):
        Stopped.load(tmp_path / "none", "mine")
    save_file(load_file(path), tmp_path / "bare")
    with pytest.raises(DataError, match="is of another training"):
        Stopped.load(tmp_path / "bare", "mine")
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(DataError, match="cannot be read"):
        Stopped.load(path, "mine")
