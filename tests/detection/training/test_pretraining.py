"""Pretraining: its schedule, and that an interrupted run goes on as if nothing had happened."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch

from nni_hyperfd.data.dataset import load_dataset
from nni_hyperfd.data.pixels import PixelStore, open_pixels
from nni_hyperfd.detection.network.retinaface import RetinaFace
from nni_hyperfd.detection.training.accelerator import CUDAEngine, Residents
from nni_hyperfd.detection.training.budgets import Budget
from nni_hyperfd.detection.training.fine_tuning import CPUEngine, Engine, NonFiniteLoss
from nni_hyperfd.detection.training.pretraining import SETTINGS, Schedule, pretrain
from nni_hyperfd.spaces.architecture import mobilenet_v2

BUDGET = Budget("tiny", 32, 96, 1, 4, 1, 1, 1, batch_size=4)
SHORT = Schedule(rounds=5, steps_per_round=1, sizes=((0.5, 32), (1.0, 64)), warm_up_rounds=2)
Made = tuple[Engine, torch.optim.Optimizer]


@pytest.fixture(scope="module")
def store(drawn_faces: Path, tmp_path_factory: pytest.TempPathFactory) -> PixelStore:
    return open_pixels(load_dataset(drawn_faces), 128, tmp_path_factory.mktemp("cache"))


def plain(store: PixelStore, seed: int) -> Made:
    model = RetinaFace(mobilenet_v2())
    model.reset_parameters(torch.Generator().manual_seed(seed))
    engine = CPUEngine(model, store, SETTINGS, BUDGET)
    return engine, engine.optimizer


def accelerated(store: PixelStore, seed: int) -> Made:
    model = RetinaFace(mobilenet_v2())
    model.reset_parameters(torch.Generator().manual_seed(seed))
    cpu = torch.device("cpu")
    engine = CUDAEngine(model, BUDGET, cpu, torch.float32)
    engine.begin(Residents.load(store, BUDGET, cpu), SETTINGS, (64,))
    return engine, engine.optimizers[SETTINGS.optimizer]


def run(
    made: Made, store: PixelStore, checkpoint: Path, stop_at: int | None = None, schedule: Schedule = SHORT
) -> list[int]:
    rounds = []

    def on_round(index: int, loss: float) -> None:
        rounds.append(index)
        if index == stop_at:
            raise KeyboardInterrupt

    pretrain(*made, store, schedule, 4, 7, checkpoint, on_round)
    return rounds


@dataclass(frozen=True)
class Story:
    """A whole run, and the checkpoint that an interrupted one left behind."""

    make: Callable[[PixelStore, int], Made]
    whole: dict[str, torch.Tensor]
    checkpoint: bytes


@pytest.fixture(scope="module", params=[plain, accelerated], ids=["plain", "accelerated"])
def story(
    request: pytest.FixtureRequest, store: PixelStore, tmp_path_factory: pytest.TempPathFactory
) -> Story:
    folder, make = tmp_path_factory.mktemp("story"), request.param
    whole = make(store, 0)
    assert run(whole, store, folder / "whole") == list(range(5))
    with pytest.raises(KeyboardInterrupt):
        run(make(store, 0), store, folder / "parts", stop_at=3)
    return Story(make, whole[0].state(), (folder / "parts").read_bytes())


def test_going_on_equals_never_having_stopped(story: Story, store: PixelStore, tmp_path: Path) -> None:
    (tmp_path / "parts").write_bytes(story.checkpoint)
    resumed = story.make(store, 99)  # other start weights: the checkpoint's are the ones that count
    assert run(resumed, store, tmp_path / "parts") == [4]
    for name, value in story.whole.items():
        assert torch.equal(value, resumed[0].state()[name]), name
    assert run(story.make(store, 3), store, tmp_path / "parts") == []


def test_an_engine_that_has_already_trained_goes_on_as_well(
    story: Story, store: PixelStore, tmp_path: Path
) -> None:
    """A captured graph knows the optimizer's tensors by address, so they are filled and not exchanged."""
    (tmp_path / "parts").write_bytes(story.checkpoint)
    used = story.make(store, 5)
    run(used, store, tmp_path / "other", schedule=replace(SHORT, rounds=1))
    addresses = [value["exp_avg"].data_ptr() for value in used[1].state.values()]
    assert run(used, store, tmp_path / "parts") == [4]
    assert [value["exp_avg"].data_ptr() for value in used[1].state.values()] == addresses
    for name, value in story.whole.items():
        assert torch.equal(value, used[0].state()[name]), name


def test_a_loss_that_is_not_finite_stops_it_and_keeps_the_last_checkpoint(
    story: Story, store: PixelStore, tmp_path: Path
) -> None:
    (tmp_path / "spoilt").write_bytes(story.checkpoint)
    saved = torch.load(tmp_path / "spoilt", weights_only=True)
    saved["model"]["heads.0.bias"].fill_(torch.nan)
    torch.save(saved, tmp_path / "spoilt")
    before = (tmp_path / "spoilt").read_bytes()
    with pytest.raises(NonFiniteLoss):
        run(story.make(store, 0), store, tmp_path / "spoilt")
    assert (tmp_path / "spoilt").read_bytes() == before


def test_sizes_grow_and_the_rate_warms_up_and_falls() -> None:
    schedule = Schedule(
        rounds=20, sizes=((0.5, 96), (0.9, 128), (1.0, 160)), warm_up_rounds=4, peak_rate=1e-2
    )
    assert [schedule.size(index) for index in range(20)] == [96] * 10 + [128] * 8 + [160] * 2
    rates = [schedule.rate(index) for index in range(20)]
    assert rates[:4] == pytest.approx([0.25e-2, 0.5e-2, 0.75e-2, 1e-2])
    assert rates[4] == pytest.approx(1e-2)
    assert rates[4:] == sorted(rates[4:], reverse=True)
    assert 1e-4 < rates[-1] < 1e-3
