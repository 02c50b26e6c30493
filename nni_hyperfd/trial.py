"""One trial from a configuration to files and reports: what ``trial_code/finetune.py`` runs, inside NNI or by hand."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor
from tqdm import tqdm

from nni_hyperfd.data.dataset import FaceDataset, load_dataset, without
from nni_hyperfd.data.pixels import PixelStore, open_pixels
from nni_hyperfd.data.reading import Reading
from nni_hyperfd.detection.evaluation import held_out
from nni_hyperfd.detection.evaluation.detections import scaled_sizes
from nni_hyperfd.detection.evaluation.foreign import SCALES, ForeignDetector, reached
from nni_hyperfd.detection.evaluation.picture import draw_detections
from nni_hyperfd.detection.network.export import export_onnx
from nni_hyperfd.detection.network.retinaface import RetinaFace
from nni_hyperfd.detection.network.weights import BEST, base_detector, load_detector, save_detector
from nni_hyperfd.detection.training.budgets import Budget, get_budget, shortened, stage_of
from nni_hyperfd.detection.training.checkpoint import Checkpoints, name_of
from nni_hyperfd.detection.training.drawn_back import draw_back
from nni_hyperfd.detection.training.fine_tuning import (
    WHOLE,
    Candidate,
    CPUEngine,
    Engine,
    Leg,
    TrialOutcome,
    Validation,
    better,
    fine_tune,
    heldout_truth,
    measured,
)
from nni_hyperfd.errors import TrainingError
from nni_hyperfd.files import write_file
from nni_hyperfd.scalars import ScalarLog, show_on_page
from nni_hyperfd.script import Reporter, as_script, writing_into
from nni_hyperfd.spaces.architecture import mobilenet_v2
from nni_hyperfd.spaces.configuration import Configuration
from nni_hyperfd.spaces.hyperparameters import DEFAULT_HYPERPARAMETERS, HyperParameters
from nni_hyperfd.spaces.stages import TRIAL_CHECKPOINTS, Stage
from nni_hyperfd.spaces.unread import TRIAL_BUDGET, configuration_of, refuse_unread

# Copies of finetune.py that an earlier release made (`hyperfd init`) look for `as_script` here, too.
__all__ = ["Trial", "as_script", "run_trial"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Trial:
    """Everything a trial is told. ``config`` None: take the one NNI hands over (the first choice outside NNI).

    ``compare``: an ONNX detector that is measured on the same images (:mod:`evaluation.foreign`).
    """

    data: Path
    budget: str = "short"
    config: Mapping[str, Any] | None = None
    reading: Reading = field(default_factory=Reading)
    seed: int = 0
    threads: int = 1
    device: str | None = None
    base: Path | None = None
    out: Path | None = None
    cache: Path | None = None
    compare: Path | None = None


def run_trial(trial: Trial) -> TrialOutcome:
    """Runs one trial; raises an error of this package with one clear sentence when it cannot go on.

    The weights that are best so far are on disk since the validation that found them, whatever ends the trial. The first of
    them are those of the base: training that does not beat them on val changes nothing. At the end they are drawn back a little
    towards the base (:mod:`~nni_hyperfd.detection.training.drawn_back`). What is *reported*, to NNI and as
    ``val_ap``, is what training with this configuration reached, since configurations are compared by it; what the base and
    the detector that is handed out reach stands beside it. It is no point of NNI's curve, whose points multi-fidelity advisors count as epochs.

    Raises:
        HyperFDError: It cannot go on; one sentence says why.
    """
    reporter = Reporter()
    out = trial.out or reporter.output_folder()
    with writing_into(out):
        return _run(trial, reporter, out)


@dataclass(frozen=True)
class Asked:
    """What NNI, or whoever starts a trial by hand, asks of it."""

    parameters: Mapping[str, Any]
    """As they were handed over, but for the length."""
    budget: Budget
    stage: Stage | None
    configuration: Configuration

    @classmethod
    def of(cls, trial: Trial, reporter: Reporter) -> Asked:
        """Read out of the parameters.

        Raises:
            SpaceError: They are no configuration, or hold keys that no trial reads.
            TrainingError: The budget is not known, or cannot be cut as the parameters say.
        """
        parameters = dict(reporter.parameters() if trial.config is None else trial.config)
        budget = get_budget(trial.budget)
        if TRIAL_BUDGET in parameters:
            budget = shortened(budget, parameters.pop(TRIAL_BUDGET))
        stage = stage_of(parameters, budget)
        configuration = Configuration.from_parameters(configuration_of(parameters))
        refuse_unread(
            configuration.values,
            "--config" if trial.config is not None else "the parameters that NNI handed over",
        )
        return cls(parameters, budget, stage, configuration)

    @property
    def hyperparameters(self) -> HyperParameters:
        """Those of the configuration, or what is trained with where only the architecture is searched."""
        return self.configuration.hyperparameters or DEFAULT_HYPERPARAMETERS


@dataclass(frozen=True)
class Trained:
    """What became of a training: the base that it started from, what it reached, and what is handed out."""

    start: Candidate
    outcome: TrialOutcome
    chosen: Candidate
    begun: int
    """Epochs that earlier trials had trained."""
    faces_without: int
    """Faces in crops that had no candidate for dynamic assignment."""

    @property
    def kept(self) -> str:
        """Which weights are handed out, in words."""
        if self.chosen is self.start:
            return "base"
        return "trained" if self.chosen is self.outcome else "drawn back"


def _run(trial: Trial, reporter: Reporter, out: Path) -> TrialOutcome:
    torch.set_num_threads(trial.threads)
    asked = Asked.of(trial, reporter)
    budget = asked.budget
    rival = ForeignDetector.read(trial.compare) if trial.compare else None
    dataset = load_dataset(trial.data, **trial.reading.arguments())
    store = open_pixels(dataset, 2 * max(budget.image_size, budget.evaluation_size), trial.cache)
    # Only now is known which images are broken inside; one summary speaks of them and of everything else.
    logger.info("%s", without(dataset, store.undecodable).report)
    trained = _train(trial, asked, dataset, store, reporter, out)
    if find_spec("onnx"):
        try:
            export_onnx(load_detector(out / BEST), (out / BEST).with_suffix(".onnx"))
        except TrainingError as error:
            logger.warning("%s", error)  # the weights and their AP are there all the same
    result = _result(trial, asked, trained, store)
    if rival:
        # Decoded anew at a size that does not blur the largest images which the rival may ask for.
        sharp = open_pixels(dataset, round(2 * SCALES[-1] * budget.evaluation_size), trial.cache)
        result["compared"] = {"detector": rival.name, **vars(reached(rival, sharp, budget.evaluation_size))}
    # Before the result: whoever finds that finds these, too.
    found = what_was_found(trained.chosen, dataset, store, budget)
    held_out.save_held_out(out / held_out.FILE_NAME, found)
    write_file(out / held_out.RESULT, json.dumps(result, indent=1))
    logger.info("%s", summary(result))
    truth = heldout_truth(store, budget)["test"]
    detections = trained.chosen.test_detections
    draw_detections(out / "detections.png", store, "test", detections, truth, budget.evaluation_size)
    reporter.final(result)
    return trained.outcome


def _train(
    trial: Trial, asked: Asked, dataset: FaceDataset, store: PixelStore, reporter: Reporter, out: Path
) -> Trained:
    """Trains; the weights that are best so far are on disk at any moment, and at the end those that are handed out."""
    budget, stage = asked.budget, asked.stage
    model = base_detector(asked.configuration.architecture or mobilenet_v2(), trial.base)
    with ScalarLog(out / "tensorboard") as board, progress_bar(budget, store, reporter) as bar:
        show_on_page(out / "tensorboard")
        engine = make_engine(model, store, asked.hyperparameters, budget, trial.device, bar)
        start = measured(engine, store, budget)
        leg = WHOLE if stage is None else leg_of(stage, checkpoints_of(trial, asked, dataset))
        begun = leg.begun

        def keep(state: dict[str, Tensor], ap: float) -> None:
            notes = {"val_ap": f"{ap:.4f}", "evaluation_size": str(budget.evaluation_size)}
            save_detector(out / BEST, engine.model, state, half=False, **notes, budget=budget.name)

        if begun is not None and begun.best > start.val_ap:
            keep(dict(begun.kept), begun.best)
        else:
            keep(start.state, start.val_ap)
        board.add({"val/ap50": start.val_ap}, 0)

        def on_validation(point: Validation, engine: Engine) -> None:
            if point.best and point.ap > start.val_ap:
                # First of all: NNI may stop a trial as soon as it hears of its result.
                keep(engine.state(), point.ap)
            reporter.intermediate(point.ap)
            losses = {f"loss/{part}": float(value) for part, value in point.losses._asdict().items()}
            board.add({"val/ap50": point.ap, **losses}, point.epoch)
            bar.set_postfix(ap50=f"{point.ap:.3f}", refresh=False)
            bar.update(point.epoch * budget.steps_per_epoch(len(store.splits["train"])) - bar.n)

        outcome = fine_tune(engine, store, asked.hyperparameters, budget, trial.seed, on_validation, leg)
        chosen = better(start, draw_back(engine, start.state, outcome, store, budget))
    keep(chosen.state, chosen.val_ap)
    return Trained(start, outcome, chosen, begun.epoch if begun else 0, engine.faces_without)


def leg_of(stage: Stage, checkpoints: Checkpoints) -> Leg:
    """From where the trial before stopped; the last of them leaves nothing behind."""
    leave = checkpoints.leave if stage.stop < stage.full else None
    return Leg(checkpoints.before(stage), stage.stop, leave)


def checkpoints_of(trial: Trial, asked: Asked, dataset: FaceDataset) -> Checkpoints:
    """Those of the training that a trial is a part of."""
    folder = asked.parameters.get(TRIAL_CHECKPOINTS)
    images = [(str(image.path.relative_to(dataset.root)), len(image.boxes)) for image in dataset.images]
    training = name_of(
        configuration=configuration_of(asked.parameters),
        seed=trial.seed,
        budget=asked.budget,
        base=str(trial.base or ""),
        images=images,
        splits={name: list(rows) for name, rows in dataset.splits.items()},
    )
    return Checkpoints(Path(folder) if folder else None, training)


def _result(trial: Trial, asked: Asked, trained: Trained, store: PixelStore) -> dict[str, Any]:
    """What ``result.json`` says."""
    start, outcome, chosen = trained.start, trained.outcome, trained.chosen
    result: dict[str, Any] = {
        "val_ap": outcome.val_ap,
        "test_ap": outcome.test_ap,
        "heldout_ap": outcome.heldout_ap,
        "base": {"val_ap": start.val_ap, "test_ap": start.test_ap},
        "kept": trained.kept,
        "handed_out": {"val_ap": chosen.val_ap, "test_ap": chosen.test_ap},
        "seconds": round(outcome.seconds, 2),
        "budget": dataclasses.asdict(asked.budget),
        "seed": trial.seed,
        "parameters": dict(asked.parameters),
        "curve": [[point.epoch, point.ap] for point in outcome.curve],
        "data": counted(store),
    }
    if asked.stage is not None:
        result["epochs"] = {"before": trained.begun, "of": asked.budget.epochs}
    if asked.hyperparameters.counts is not None:
        result["faces_without_candidates"] = trained.faces_without
    return result


def what_was_found(
    candidate: Candidate, dataset: FaceDataset, store: PixelStore, budget: Budget
) -> dict[str, held_out.HeldOut]:
    """Detections of ``candidate`` on val and test with what they are to be compared to, for :mod:`held_out`."""
    truth = heldout_truth(store, budget)
    found = {"val": candidate.val_detections, "test": candidate.test_detections}
    splits = {}
    for split in held_out.SPLITS:
        rows = store.splits[split]
        names = tuple(os.path.relpath(dataset.images[row].path, dataset.root) for row in rows.tolist())
        size = scaled_sizes(store, rows, budget.evaluation_size).numpy()
        splits[split] = held_out.HeldOut(names, size, found[split], truth[split])
    return splits


def counted(store: PixelStore) -> dict[str, dict[str, int]]:
    """Images and faces (those that are not annotated as ignored) of every split."""
    return {
        split: {
            "images": len(rows),
            "faces": int((store.faces.valid & ~store.faces.ignored)[rows].sum()),
        }
        for split, rows in store.splits.items()
    }


def summary(result: Mapping[str, Any]) -> str:
    """What training brought, for a person to read: AP@50 on val and test beside the base and the rival."""
    parts = [f"AP@50 on val / test: {_pair(result)} trained", f"{_pair(result['base'])} the base alone"]
    if "compared" in result:
        rival = result["compared"]
        parts.append(f"{_pair(rival)} {rival['detector']} (at {rival['size']} pixels)")
    if result["kept"] == "drawn back":
        parts.append(
            f"{_pair(result['handed_out'])} in {BEST}: trained, and drawn back a little towards the base"
        )
    if result["kept"] == "base":
        parts.append(f"training did not beat the base on val, so {BEST} is the base as it was")
    if result["val_ap"] == 1.0:
        parts.append(
            "val was found without an error, so it tells no better training apart: put more images into it"
        )
    return "; ".join(parts)


def _pair(aps: Mapping[str, float]) -> str:
    return f"{aps['val_ap']:.3f} / {aps['test_ap']:.3f}"


def make_engine(
    model: RetinaFace,
    store: PixelStore,
    hyperparameters: HyperParameters,
    budget: Budget,
    device: str | None,
    bar: tqdm[NoReturn],
) -> Engine:
    """The engine for ``device``: CUDA where there is one, unless another is named.

    Raises:
        TrainingError: This machine has no such device.
    """
    name = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cpu":
        return CPUEngine(model, store, hyperparameters, budget, on_step=bar.update)
    if name not in ("cuda", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))):
        raise TrainingError(f"there is no device {name!r} on this machine: name cpu, cuda or cuda:0")
    if not torch.cuda.is_available():
        raise TrainingError("torch sees no CUDA device on this machine: name --device cpu")
    from nni_hyperfd.detection.training.accelerator import CUDAEngine, Residents

    engine = CUDAEngine(model, budget, torch.device(name))
    engine.begin(Residents.load(store, budget, engine.device), hyperparameters)
    return engine


def progress_bar(budget: Budget, store: PixelStore, reporter: Reporter) -> tqdm[NoReturn]:
    """A bar over the optimizer steps, shown when a person watches."""
    steps = budget.epochs * budget.steps_per_epoch(len(store.splits["train"]))
    return tqdm(total=steps, unit="step", disable=True if reporter.inside else None)
