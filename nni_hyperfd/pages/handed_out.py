"""The detector that a customer takes away: weights, ONNX, and a card that says what it is."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from nni_hyperfd.detection.network.export import TOLERANCE, Difference, export_onnx, onnx_difference
from nni_hyperfd.detection.network.weights import BEST, load_detector
from nni_hyperfd.detection.training.drawn_back import SHARE
from nni_hyperfd.errors import DataError, TrainingError
from nni_hyperfd.files import write_file
from nni_hyperfd.pages.report_facts import ReportFacts, TrialFolder

ONNX = "best.onnx"
CARD = "MODEL_CARD.md"


@dataclass(frozen=True)
class HandedOut:
    """What lies in ``folder``.

    Args:
        parameters: Of the network.
        onnx: One sentence on the ONNX file.
        evaluation_size: Short side in pixels at which its AP was measured.
    """

    folder: Path
    parameters: int
    onnx: str
    evaluation_size: int

    @property
    def command(self) -> str:
        """The command that uses it."""
        return f"hyperfd detect --weights {shlex.quote(str(self.folder / BEST))} --out found PICTURES"


def hand_out(facts: ReportFacts, folder: Path) -> HandedOut | None:
    """Copy the best detector into ``folder``, which exists; None where there is none.

    Raises:
        DataError: Its weights are damaged, or the disk refuses.
    """
    trial = facts.best
    if trial is None or trial.training is None:
        return None
    source = trial.training.folder / BEST
    model = load_detector(source)
    try:
        write_file(folder / BEST, source.read_bytes())
    except OSError as error:
        raise DataError(
            f"cannot write {folder / BEST} ({error.strerror or error}): name another folder with --out"
        ) from error
    size = int(trial.training.result["budget"]["evaluation_size"])
    parameters = sum(weight.numel() for weight in model.parameters())
    handed = HandedOut(folder, parameters, _export(source, folder / ONNX), size)
    write_file(folder / CARD, model_card(facts, trial.training, handed))
    return handed


def _export(weights: Path, target: Path) -> str:
    """Writes the ONNX file, and says in one sentence what came of it; one that does not agree with torch is taken away."""
    if not find_spec("onnx"):
        target.unlink(missing_ok=True)
        return "It was not exported as ONNX, since the package onnx is not installed (pip install onnx)."
    model = load_detector(weights)
    try:
        export_onnx(model, target)
    except TrainingError as error:
        target.unlink(missing_ok=True)
        return f"It was not exported as ONNX: {error}."
    what = f"{ONNX} takes any number of images, at any height and width that are multiples of 32"
    try:
        difference = onnx_difference(model, target)
    except TrainingError as error:
        return f"{what}; it was not compared with torch ({error})."
    told = f"{difference.scores:.1e} in a score and {difference.pixels:.1e} pixels in a box"
    if _differs(difference):
        target.unlink(missing_ok=True)
        return f"It is not handed out as ONNX: the exported network differed from torch by up to {told}."
    return f"{what}; on noise, one image and three at a time, it differed from torch by at most {told}."


def _differs(difference: Difference) -> bool:
    """Also where a difference is not a number."""
    return not (difference.scores <= TOLERANCE.scores and difference.pixels <= TOLERANCE.pixels)


def model_card(facts: ReportFacts, training: TrialFolder, handed: HandedOut) -> str:
    """Markdown."""
    result = training.result
    rows = [
        f"| {each.name} | {len(each.split.names)} | {each.split.faces} | {each.ap:.3f} | "
        f"{each.interval.low:.3f} to {each.interval.high:.3f} |"
        for each in facts.measured
    ]
    counted = result.get("data") or {}
    data = [f"* {split}: {each['images']} images, {each['faces']} faces" for split, each in counted.items()]
    trained = (
        "Training did not beat the shipped base on val, so these weights are the base's as they were."
        if training.kept_base
        else f"Fine-tuned for up to {result['budget']['epochs']} epochs (budget “{result['budget']['name']}”, seed "
        f"{result.get('seed', 0)}); of all validations the one that was best on val"
        + (f", and then {1 - SHARE:.0%} of the way back to the base." if training.drawn_back else ".")
    )
    name = facts.data.name if facts.data else "a customer's images"
    return f"""# Face detector for {name}

RetinaFace with {handed.parameters:,} parameters, from NNI experiment {facts.experiment_id}.

## Data

{chr(10).join(data) or "The trial did not say how many images it used."}

The pictures are the customer's own and are not part of this folder.

## Configuration

{facts.best.name if facts.best else ""}

{trained}

## How good it is

| split | images | faces that count | AP@50 | 95 % interval |
|---|---|---|---|---|
{chr(10).join(rows) or "| (the trial kept no detections) | | | | |"}

Measured with the pictures' short side at {handed.evaluation_size} pixels. Faces under 36 pixels at a short side of 720 do not count.
Intervals: percentiles of 1000 bootstrap draws over images. The weights were chosen on val, so its AP is too high by some; test was
not looked at for any choice.

## Use

In this folder, on pictures, videos or folders of them:

    hyperfd detect --weights {BEST} --out found PICTURES

{handed.onnx} Its input `images` is float32 RGB in 0..255, `[B, 3, H, W]`, upright; its outputs are `scores` `[B, A]`, `boxes`
`[B, A, 4]` (corners, in pixels) and `landmarks` `[B, A, 10]`. Overlapping boxes are left to a non-maximum suppression (IoU 0.4).

## Licence

The package and the base detector that training starts from come under the MIT licence. The base was pretrained on press photographs and on
parts of WIDER FACE, which asks for non-commercial research use, with help of detectors that were trained on WIDER FACE, too: for a product
ask for a licence of your own, or start from a base of your own (`finetune.py --base`).
"""
