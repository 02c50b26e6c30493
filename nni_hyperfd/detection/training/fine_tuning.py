"""Fine-tuning of a detector: one loop for CPU and GPU, whose steps an engine carries out."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from nni_hyperfd.data.pixels import PixelStore
from nni_hyperfd.detection.evaluation.detections import (
    IGNORED_SIDE,
    REFERENCE_SIDE,
    Detections,
    GroundTruth,
    ap50,
    detect,
    evaluation_batches,
    ground_truth,
    pooled_ap50,
)
from nni_hyperfd.detection.network.precision import cpu_autocast
from nni_hyperfd.detection.network.retinaface import RetinaFace
from nni_hyperfd.detection.training.augment import CropPlan, crop_faces, crop_pixels, plan_crops, recolor
from nni_hyperfd.detection.training.budgets import Budget
from nni_hyperfd.detection.training.checkpoint import Stopped, draws_of, optimizer_tensors, restore_optimizer
from nni_hyperfd.detection.training.losses import Losses, detection_losses
from nni_hyperfd.detection.training.memory import keep_freed_memory
from nni_hyperfd.detection.training.targets import make_targets
from nni_hyperfd.errors import DataError, TrainingError
from nni_hyperfd.spaces.hyperparameters import HyperParameters

MOMENTUM = 0.9
WEIGHT_DECAY = 5e-4
RATE_DECAY = 0.1


@dataclass(frozen=True)
class Validation:
    """One point of the learning curve.

    It says epochs trained, AP@50 on the val split, whether it is the best so far (of equally good ones the newest), and the mean
    training losses since the last point.
    """

    epoch: int
    ap: float
    best: bool
    losses: Losses


@dataclass(frozen=True)
class Candidate:
    """Weights that a trial may hand out, with their AP@50 (0..1) on val, on test and on both pooled."""

    val_ap: float
    test_ap: float
    heldout_ap: float
    state: dict[str, Tensor] = field(repr=False)
    val_detections: Detections = field(repr=False)
    test_detections: Detections = field(repr=False)


@dataclass(frozen=True)
class TrialOutcome(Candidate):
    """What a fine-tuning gives: of all weights on its way those that are best on val, the newest of equals; the curve; wall-clock seconds."""

    curve: tuple[Validation, ...]
    seconds: float


class Engine(Protocol):
    """A detector with its optimizer on some device.

    ``image_size`` is the side of its training crops, ``faces_without`` how many faces in its crops dynamic assignment found no
    anchor for.
    """

    model: RetinaFace
    image_size: int
    faces_without: int

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        """Of the weights, as the next step finds it."""

    def train(self, plan: CropPlan, rate: float) -> Losses:
        """Takes one optimizer step per batch of ``plan``; returns the mean losses, which may be non-finite.

        Raises:
            NonFiniteLoss: One step's loss is not a number, where the engine looks at each.
        """

    def detect(self, split: str) -> Detections:
        """Detections on a whole split at evaluation scale."""

    def state(self) -> dict[str, Tensor]:
        """A copy of the weights."""


def make_optimizer(model: RetinaFace, hyperparameters: HyperParameters) -> torch.optim.Optimizer:
    """SGD with momentum 0.9 and weight decay 5e-4, or Adam; on a CPU, each as one operation over all weights."""
    rate = hyperparameters.learning_rate
    if hyperparameters.optimizer == "adam":
        return torch.optim.Adam(model.parameters(), lr=rate, fused=True)
    return torch.optim.SGD(
        model.parameters(), lr=rate, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY, fused=True
    )


class CPUEngine:
    """Plain eager training on the CPU: channels_last, bfloat16 where the CPU multiplies it in hardware.

    ``on_step`` is called after every optimizer step, for a progress bar.
    """

    def __init__(
        self,
        model: RetinaFace,
        store: PixelStore,
        hyperparameters: HyperParameters,
        budget: Budget,
        on_step: Callable[[], object] | None = None,
    ) -> None:
        keep_freed_memory()
        self.model = model.to(memory_format=torch.channels_last).train()
        self.store, self.hyperparameters, self.budget = store, hyperparameters, budget
        self.image_size, self.on_step, self.faces_without = budget.image_size, on_step, 0
        self._optimizer = make_optimizer(self.model, hyperparameters)

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        return self._optimizer

    def train(self, plan: CropPlan, rate: float) -> Losses:
        """See `Engine.train`; looks at the loss of each step."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        batch = self.budget.batch_size
        steps = [self._step(plan[start : start + batch]) for start in range(0, len(plan.image), batch)]
        return Losses(*(torch.stack(part).mean() for part in zip(*steps)))

    def _step(self, plan: CropPlan) -> Losses:
        size = self.image_size
        pixels = recolor(crop_pixels(self.store, plan, size), plan.color)
        faces = crop_faces(self.store.faces, plan, size)
        with cpu_autocast():
            predictions = self.model(pixels)
        targets = make_targets(faces, size, self.hyperparameters, predictions)
        self.faces_without += targets.faces_without
        losses = detection_losses(predictions, targets, self.hyperparameters.negative_ratio)
        total = losses.total(self.hyperparameters.location_weight)
        if not torch.isfinite(total):
            raise NonFiniteLoss(losses)
        self.optimizer.zero_grad()
        total.backward()
        self.optimizer.step()
        if self.on_step:
            self.on_step()
        return Losses(*(part.detach() for part in losses))

    def detect(self, split: str) -> Detections:
        batches = evaluation_batches(self.store, self.store.splits[split], self.budget.evaluation_size)
        with cpu_autocast():
            return detect(self.model, batches)

    def state(self) -> dict[str, Tensor]:
        return {name: value.clone() for name, value in self.model.state_dict().items()}


class NonFiniteLoss(TrainingError):
    """A loss that is not a number; the message names its parts."""

    def __init__(self, losses: Losses) -> None:
        parts = ", ".join(f"{name} {float(value.detach()):g}" for name, value in losses._asdict().items())
        super().__init__(
            f"the training loss is not finite ({parts}): lower the learning rate of this configuration"
        )


@dataclass(frozen=True)
class Leg:
    """A part of a training that several trials do one after the other.

    Args:
        begun: Where the trial before stopped; the curve begins with its. None for the first.
        stop: The epoch to stop at, at a validation; None for the budget's end.
        on_stop: Is handed what the next trial needs to go on.
    """

    begun: Stopped | None = None
    stop: int | None = None
    on_stop: Callable[[Stopped], None] | None = None


WHOLE = Leg()


def fine_tune(
    engine: Engine,
    store: PixelStore,
    hyperparameters: HyperParameters,
    budget: Budget,
    seed: int,
    on_validation: Callable[[Validation, Engine], None] | None = None,
    leg: Leg = WHOLE,
) -> TrialOutcome:
    """Trains until the budget's end, keeps the weights that are best on val, of equally good ones the newest, and evaluates those on test.

    An equal AP is no gain. The learning rate falls tenfold after ``budget.patience`` validations without gain; training ends after
    ``budget.stop_after`` of them (HyperFD supplement B.1). The same seed on the same machine gives the same AP, whether or not the
    training stopped on its way: the plan of rates is that of the whole training.

    Args:
        engine: Holds the start weights, on the device of choice.
        store: The data set's pixels.
        hyperparameters: How to train.
        budget: How long, on which sizes.
        seed: Of the order of the images and their crops.
        on_validation: Called after every validation, while the engine holds the validated weights.
        leg: Which part of the training.

    Raises:
        DataError: The val or test split has no face that counts, so that its AP@50 would be 0 whatever is trained; or ``leg`` begins with
            another training.
        NonFiniteLoss: If a loss is not finite.
    """
    started = time.monotonic()
    begun, stop = leg.begun, leg.stop or budget.epochs
    rng = np.random.default_rng(seed)
    train, rate = store.splits["train"], hyperparameters.learning_rate
    samples = budget.steps_per_epoch(len(train)) * budget.batch_size
    truth = heldout_truth(store, budget)
    epoch, best, stale, val_detections = 0, -1.0, 0, None
    curve: list[Validation] = []
    if begun is not None:
        _take_up(engine, begun)
        rng.bit_generator.state = dict(begun.draws)
        epoch, rate, best, stale = begun.epoch, begun.rate, begun.best, begun.stale
        curve = [Validation(e, ap, up, _losses(parts)) for e, ap, up, parts in begun.curve]
    state = engine.state() if begun is None else dict(begun.kept)
    since: list[Losses] = []
    while epoch < stop and stale < budget.stop_after:
        epoch += 1
        plan = plan_crops(store, train, samples, hyperparameters.min_crop_ratio, rng)
        since.append(engine.train(plan, rate * budget.rate_factor(epoch)))
        if not all(bool(torch.isfinite(part)) for part in since[-1]):
            raise NonFiniteLoss(since[-1])
        if epoch % budget.validate_every:
            continue
        found = engine.detect("val")
        ap = ap50(found, truth["val"])
        losses = Losses(*(torch.stack(part).mean() for part in zip(*since)))
        since.clear()
        stale = 0 if ap > best else stale + 1
        curve.append(Validation(epoch, ap, ap >= best, losses))
        if ap >= best:
            # A small val split is soon at 1. What it cannot tell apart, longer training and a lower rate do.
            best, state, val_detections = ap, engine.state(), found
        if on_validation:
            on_validation(curve[-1], engine)
        if stale and stale % budget.patience == 0:
            rate *= RATE_DECAY
    if leg.on_stop:
        leg.on_stop(
            Stopped(
                epoch,
                rate,
                stale,
                best,
                tuple((each.epoch, each.ap, each.best, _numbers(each.losses)) for each in curve),
                draws_of(rng),
                engine.faces_without,
                engine.state(),
                state,
                optimizer_tensors(engine.optimizer),
            )
        )
    engine.model.load_state_dict(state)
    reached = _candidate(engine, store, truth, val_detections or engine.detect("val"))
    return TrialOutcome(**vars(reached), curve=tuple(curve), seconds=time.monotonic() - started)


def _take_up(engine: Engine, begun: Stopped) -> None:
    try:
        engine.model.load_state_dict(dict(begun.weights))
    except RuntimeError as error:
        raise DataError(f"a checkpoint's weights do not fit this network ({error})") from error
    restore_optimizer(engine.optimizer, begun.optimizer)
    engine.faces_without = begun.faces_without


def _losses(parts: Sequence[float]) -> Losses:
    return Losses(*map(torch.tensor, parts))


def _numbers(losses: Losses) -> tuple[float, ...]:
    return tuple(float(part) for part in losses)


def measured(engine: Engine, store: PixelStore, budget: Budget) -> Candidate:
    """The weights that ``engine`` holds, such as those before the first epoch: what a customer has without training.

    It costs one pass over the val and the test split.

    Raises:
        DataError: As :func:`fine_tune`.
    """
    return _candidate(engine, store, heldout_truth(store, budget), engine.detect("val"))


def better(start: Candidate, trained: Candidate) -> Candidate:
    """Which of the two a customer gets: the start, unless training beats it on val."""
    return trained if trained.val_ap > start.val_ap else start


def heldout_truth(store: PixelStore, budget: Budget) -> dict[str, GroundTruth]:
    """Faces of the val and the test split.

    Raises:
        DataError: One of them has no face that counts, so that its AP@50 would be 0 whatever is trained.
    """
    truth = {
        split: ground_truth(store, store.splits[split], budget.evaluation_size) for split in ("val", "test")
    }
    for split, faces in truth.items():
        if faces.ignored.all():
            raise DataError(
                f"none of the {len(faces.ignored)} faces of the {split} split counts in AP@50 (marked as ignored, or under "
                f"{IGNORED_SIDE} pixels where the short side is {REFERENCE_SIDE}): put images with larger faces into it"
            )
    return truth


def _candidate(
    engine: Engine, store: PixelStore, truth: dict[str, GroundTruth], val_detections: Detections
) -> Candidate:
    """The weights that ``engine`` holds, measured."""
    test_detections = engine.detect("test")
    found = {"val": val_detections, "test": test_detections}
    parts = [(found[split], truth[split], len(store.splits[split])) for split in found]
    return Candidate(
        ap50(val_detections, truth["val"]),
        ap50(test_detections, truth["test"]),
        pooled_ap50(parts),
        engine.state(),
        val_detections,
        test_detections,
    )
