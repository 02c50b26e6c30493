"""The training loop: repeatable, stopped and slowed as the supplement says, and giving back the best weights it saw."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nni_hyperfd.data.dataset import load_dataset
from nni_hyperfd.data.pixels import PixelStore, open_pixels
from nni_hyperfd.detection.evaluation.detections import (
    Detections,
    ap50,
    detect,
    evaluation_batches,
    ground_truth,
)
from nni_hyperfd.detection.network.precision import cpu_autocast
from nni_hyperfd.detection.network.retinaface import RetinaFace
from nni_hyperfd.detection.network.weights import base_detector
from nni_hyperfd.detection.training.augment import CropPlan, plan_crops
from nni_hyperfd.detection.training.budgets import Budget
from nni_hyperfd.detection.training.fine_tuning import (
    Candidate,
    CPUEngine,
    NonFiniteLoss,
    Validation,
    better,
    fine_tune,
    make_optimizer,
    measured,
)
from nni_hyperfd.detection.training.losses import Losses
from nni_hyperfd.errors import DataError
from nni_hyperfd.spaces.architecture import mobilenet_v2
from nni_hyperfd.spaces.hyperparameters import HyperParameters
from nni_hyperfd.spaces.space import Space
from nni_hyperfd.spaces.standard import standard_search_space

TINY = Budget("tiny", 64, 96, 2, 16, 1, 1, 2, batch_size=8)
SGD, ADAM = HyperParameters(), HyperParameters(optimizer="adam")


# --- the loop alone, on an engine that plays a script ----------------------------------------------------------------


class ScriptedEngine:
    """Detects, ``every * n`` trainings on, ``script[n]`` of the ten faces of a split; its one weight counts the trainings."""

    image_size = 64

    def __init__(
        self, boxes: np.ndarray, every: int, script: Sequence[int], losses: Sequence[float] = ()
    ) -> None:
        self.model, self.every = nn.Linear(1, 1), every
        self.boxes, self.script, self.losses = boxes, script, losses
        self.rates: list[float] = []
        self.samples: list[int] = []
        self.model.load_state_dict({"weight": torch.zeros(1, 1), "bias": torch.zeros(1)})

    def train(self, plan: CropPlan, rate: float) -> Losses:
        self.rates.append(rate)
        self.samples.append(len(plan.image))
        count = len(self.rates)
        self.model.load_state_dict({"weight": torch.full((1, 1), float(count)), "bias": torch.zeros(1)})
        loss = self.losses[count - 1] if self.losses else 1.0
        return Losses(torch.tensor(loss), torch.tensor(0.5), torch.tensor(0.25))

    def detect(self, split: str) -> Detections:
        found = self.script[int(self.model.weight.detach()) // self.every - 1]
        return Detections(np.zeros(found, int), self.boxes[:found], np.linspace(0.9, 0.5, found))

    def state(self) -> dict[str, Tensor]:
        return {name: value.clone() for name, value in self.model.state_dict().items()}


@pytest.fixture
def ten_faces(store_of: Callable[..., PixelStore]) -> PixelStore:
    """One image with ten faces, in all splits."""
    boxes = [(x, y, x + 30, y + 30, False) for y in (5, 55) for x in range(5, 205, 40)]
    return store_of([np.zeros((100, 210, 3), np.uint8)], [boxes])


def play(store: PixelStore, script: Sequence[int], budget: Budget, **options: Sequence[float]):
    engine = ScriptedEngine(store.faces.boxes[0].numpy(), budget.validate_every, script, **options)
    budget = replace(budget, evaluation_size=100)
    return engine, fine_tune(engine, store, SGD, budget, seed=0)


LONG = Budget("long", 64, 100, 60, 32, 3, 2, 4)


def test_training_runs_to_the_end_while_it_gains(ten_faces: PixelStore) -> None:
    engine, outcome = play(ten_faces, [1, 2, 3, 4, 5], replace(LONG, epochs=15))
    assert engine.rates == [1e-3] * 15
    assert [point.epoch for point in outcome.curve] == [3, 6, 9, 12, 15]
    assert [point.ap for point in outcome.curve] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5])
    assert all(point.best for point in outcome.curve)
    assert outcome.curve[0].losses == Losses(torch.tensor(1.0), torch.tensor(0.5), torch.tensor(0.25))
    assert engine.samples == [32] * 15


def test_the_rate_falls_tenfold_after_patience_and_training_stops_later(ten_faces: PixelStore) -> None:
    engine, outcome = play(ten_faces, [5, 4, 5, 3, 2, 9, 9], LONG)
    # An equal AP is no gain. After the 2nd stale validation the rate falls; after the 4th, training ends.
    assert engine.rates == pytest.approx([1e-3] * 9 + [1e-4] * 6)
    assert [point.best for point in outcome.curve] == [True, False, True, False, False]


def test_of_equally_good_weights_the_newest_are_kept(ten_faces: PixelStore) -> None:
    _, outcome = play(ten_faces, [5, 4, 5, 3], replace(LONG, epochs=12))
    assert outcome.val_ap == pytest.approx(0.5)
    assert outcome.state["weight"].item() == 9, "those of the third validation, after nine epochs"


def test_the_losses_of_a_point_are_the_mean_since_the_last_one(ten_faces: PixelStore) -> None:
    _, outcome = play(ten_faces, [1, 2], replace(LONG, epochs=6), losses=[1.0, 2.0, 6.0, 0.0, 0.0, 0.5])
    assert [float(point.losses.classification) for point in outcome.curve] == pytest.approx([3.0, 0.5 / 3])


def test_annealing_lets_the_rate_fall_over_the_second_half(ten_faces: PixelStore) -> None:
    engine, _ = play(ten_faces, [1, 2], replace(LONG, epochs=6, anneal=True))
    assert engine.rates == pytest.approx([1e-3 * x for x in (1, 1, 1, 6 / 7, 4 / 7, 2 / 7)])


def test_a_gain_starts_the_patience_anew(ten_faces: PixelStore) -> None:
    engine, _ = play(ten_faces, [5, 4, 6, 5, 4, 7, 1, 1, 1, 1], LONG)
    assert engine.rates == pytest.approx([1e-3] * 15 + [1e-4] * 9 + [1e-5] * 6)


def test_the_papers_patience_is_five_and_its_end_eight(ten_faces: PixelStore) -> None:
    paper = replace(training_budget("paper"), batch_size=1)
    engine, outcome = play(ten_faces, [5] + [1] * 20, paper)
    assert engine.rates == pytest.approx([1e-3] * 60 + [1e-4] * 30)
    assert outcome.curve[-1].epoch == 90


def training_budget(name: str) -> Budget:
    from nni_hyperfd.detection.training.budgets import get_budget

    return get_budget(name)


def test_the_best_weights_come_back_and_are_the_ones_tested(ten_faces: PixelStore) -> None:
    engine, outcome = play(ten_faces, [2, 7, 3, 1], replace(LONG, epochs=12))
    assert float(outcome.state["weight"]) == 2 * 3
    assert float(engine.model.weight.detach()) == 2 * 3
    assert outcome.val_ap == outcome.test_ap == outcome.heldout_ap == pytest.approx(0.7)
    assert len(outcome.test_detections.scores) == 7


def test_a_detector_that_never_finds_a_face_has_an_ap_of_zero(ten_faces: PixelStore) -> None:
    _, outcome = play(ten_faces, [0, 0, 0], replace(LONG, epochs=9))
    assert (outcome.val_ap, outcome.test_ap, outcome.heldout_ap) == (0, 0, 0)
    assert float(outcome.state["weight"]) == 9, "the newest"


def test_the_start_is_a_candidate_that_only_a_gain_replaces(ten_faces: PixelStore) -> None:
    budget = replace(LONG, epochs=6, evaluation_size=100)

    def candidates(script: Sequence[int]) -> tuple[Candidate, Candidate]:
        # Untrained, the engine detects the last number of its script.
        engine = ScriptedEngine(ten_faces.faces.boxes[0].numpy(), 3, script)
        start = measured(engine, ten_faces, budget)
        return start, fine_tune(engine, ten_faces, SGD, budget, seed=0)

    start, trained = candidates([4, 6, 7])
    assert start.val_ap == start.test_ap == start.heldout_ap == pytest.approx(0.7)
    assert (float(start.state["weight"]), float(trained.state["weight"])) == (0, 2 * 3)
    assert trained.val_ap == pytest.approx(0.6), "what training reached, as bad as it is"
    assert better(start, trained) is start
    start, trained = candidates([4, 6, 6])
    assert better(start, trained) is start, "an equal AP is no gain"
    start, trained = candidates([4, 8, 7])
    assert better(start, trained) is trained


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_a_non_finite_loss_ends_the_trial_and_names_its_parts(ten_faces: PixelStore, loss: float) -> None:
    with pytest.raises(NonFiniteLoss, match=rf"classification {loss:g}, boxes 0.5, landmarks 0.25"):
        play(ten_faces, [1, 2, 3], LONG, losses=[1.0, loss, 1.0])


def test_splits_without_a_face_that_counts_are_refused(store_of: Callable[..., PixelStore]) -> None:
    pictures = [np.zeros((100, 100, 3), np.uint8)] * 3
    big, small, unclear = (5, 5, 50, 50, False), (5, 5, 9, 50, False), (5, 5, 50, 50, True)
    splits = {"train": [0], "val": [1], "test": [2]}
    for faces, split in (([[big], [small], [big]], "val"), ([[big], [big], [small, unclear]], "test")):
        store = store_of(pictures, faces, splits)
        with pytest.raises(DataError, match=f"faces of the {split} split counts"):
            play(store, [1], LONG)


# --- the real engine --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def store(drawn_faces: Path, tmp_path_factory: pytest.TempPathFactory) -> PixelStore:
    return open_pixels(load_dataset(drawn_faces), 192, tmp_path_factory.mktemp("cache"))


def engine_for(store: PixelStore, hyperparameters: HyperParameters, **options) -> CPUEngine:
    return CPUEngine(base_detector(mobilenet_v2()), store, hyperparameters, TINY, **options)


def test_the_same_seed_gives_the_same_weights_and_ap(store: PixelStore) -> None:
    first, again = (fine_tune(engine_for(store, ADAM), store, ADAM, TINY, 4) for _ in range(2))
    assert [point.ap for point in first.curve] == [point.ap for point in again.curve]
    assert (first.val_ap, first.test_ap, first.heldout_ap) == (again.val_ap, again.test_ap, again.heldout_ap)
    for name, value in first.state.items():
        assert torch.equal(value, again.state[name]), name


def test_training_lowers_the_loss_and_reports_every_step(store: PixelStore) -> None:
    steps = []
    engine = engine_for(store, ADAM, on_step=lambda: steps.append(1))
    points: list[Validation] = []
    budget = replace(TINY, epochs=6, epoch_images=24, validate_every=3)

    def look(point: Validation, at: object) -> None:
        assert at is engine
        truth = ground_truth(store, store.splits["val"], TINY.evaluation_size)
        with cpu_autocast():
            batches = evaluation_batches(store, store.splits["val"], TINY.evaluation_size)
            assert ap50(detect(engine.model, batches), truth) == pytest.approx(point.ap)
        points.append(point)

    outcome = fine_tune(engine, store, ADAM, budget, 0, look)
    assert tuple(points) == outcome.curve
    assert len(steps) == 6 * 3
    first, last = points[0].losses, points[-1].losses
    assert float(last.total(2.0)) < float(first.total(2.0))
    assert outcome.seconds > 0


def test_weights_that_are_not_finite_stop_the_first_step(store: PixelStore) -> None:
    engine = engine_for(store, SGD)
    nn.init.constant_(engine.model.heads[1].weight, torch.nan)
    with pytest.raises(NonFiniteLoss, match=r"classification nan.*lower the learning rate"):
        fine_tune(engine, store, SGD, TINY, 0)


def test_the_rate_of_a_call_is_the_rate_of_its_steps(store: PixelStore) -> None:
    plan = plan_crops(store, store.splits["train"], 8, 0.5, np.random.default_rng(0))
    engine = engine_for(store, ADAM)
    before = engine.state()
    engine.train(plan, 1e-4)
    moved = max(
        float((engine.state()[name] - before[name]).abs().max())
        for name, _ in engine.model.named_parameters()
    )
    assert moved == pytest.approx(1e-4, rel=0.02)  # Adam's first step is the rate, whatever the gradient


def test_optimizers_are_the_supplements() -> None:
    model = RetinaFace(mobilenet_v2())
    sgd = make_optimizer(model, HyperParameters(optimizer="sgd", learning_rate=0.003))
    assert isinstance(sgd, torch.optim.SGD)
    group = sgd.param_groups[0]
    assert (group["lr"], group["momentum"], group["weight_decay"], group["nesterov"]) == (
        0.003,
        0.9,
        5e-4,
        False,
    )
    assert isinstance(make_optimizer(model, ADAM), torch.optim.Adam)


# --- dynamic assignment ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings", [{}, {"optimizer": "adam", "iou": 0.4, "crop": 0.55, "negp": 2, "locw": 8}]
)
def test_dynamic_assignment_trains_with_other_hyperparameters(
    drawn_faces: Path, tmp_path: Path, settings: dict[str, object]
) -> None:
    store = open_pixels(load_dataset(drawn_faces), 192, tmp_path)
    found = {}
    for name, assign in (("iou", {}), ("dynamic", {"assign": "dynamic", "s_l1_a2": 3})):
        hyperparameters = HyperParameters.from_parameters({**settings, **assign})
        engine = CPUEngine(base_detector(mobilenet_v2()), store, hyperparameters, TINY)
        found[name] = fine_tune(engine, store, hyperparameters, TINY, seed=0)
        assert all(bool(torch.isfinite(part)) for point in found[name].curve for part in point.losses)
        assert engine.faces_without >= 0
    # Other positives, so other losses.
    assert found["iou"].curve[0].losses != found["dynamic"].curve[0].losses


def test_dynamic_assignment_takes_a_step_with_every_configuration_of_the_hpo_space(
    drawn_faces: Path, tmp_path: Path
) -> None:
    store = open_pixels(load_dataset(drawn_faces), 192, tmp_path)
    space = Space.from_search_space(
        {**standard_search_space("hpo"), "assign": {"_type": "choice", "_value": ["dynamic"]}}
    )
    points = space.enumerate()
    assert len(points) == 216
    model, two = base_detector(mobilenet_v2()), replace(TINY, batch_size=2)
    for number, point in enumerate(points):
        hyperparameters = HyperParameters.from_parameters(space.parameters(point))
        assert hyperparameters.counts == (10,) * 9
        engine = CPUEngine(model, store, hyperparameters, two)
        rng = np.random.default_rng(number)
        plan = plan_crops(store, store.splits["train"], 2, hyperparameters.min_crop_ratio, rng)
        # It refuses a loss that is not finite.
        assert float(engine.train(plan, hyperparameters.learning_rate).classification) > 0
