r"""Pretrains a base detector on server images (any folders of annotated faces) and reports its AP@50.

    python trial_code/pretrain.py --data GROUPS WIDER200 WIDER2 --teachers --base standard --out bases/
    python trial_code/pretrain.py --data GROUPS WIDER200 WIDER2 --teachers --base largest \
        --start bases/standard.safetensors --steps 800 --rate 1e-3 --features 1 --out bases/

With --teachers (pip install 'nni-hyperfd[pretrain]') the standard base begins with half of CenterFace's backbone and the
neck of RetinaFace-mnet0.25, and learns from the latter's outputs beside the annotations. Without, it begins with random
weights. Either may begin with other weights by parameter remapping (--start). An interrupted run goes on from --out. Writes
NAME.safetensors (averaged weights, convolutions as float16) and NAME.json: AP@50 on the held-out server images.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from nni_hyperfd.data.dataset import load_dataset
from nni_hyperfd.data.merge import merge
from nni_hyperfd.data.pixels import PixelStore, open_pixels
from nni_hyperfd.detection.evaluation.detections import ap50, detect, evaluation_batches, ground_truth
from nni_hyperfd.detection.network.precision import cpu_autocast
from nni_hyperfd.detection.network.remap import remap
from nni_hyperfd.detection.network.retinaface import RetinaFace
from nni_hyperfd.detection.network.weights import BASES, load_detector, save_detector
from nni_hyperfd.detection.training.budgets import get_budget
from nni_hyperfd.detection.training.inheritance import inherit_backbone, inherit_neck
from nni_hyperfd.detection.training.pretraining import Layout, Pretraining, Schedule, make_batch
from nni_hyperfd.errors import TrainingError
from nni_hyperfd.files import write_file
from nni_hyperfd.script import as_script

MAX_SIDE = 1024
FIRST_LOOK = Layout(192, 64, False, 1.0)
"""The pictures whose statistics an inherited network begins with."""


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="server folders, used together")
    parser.add_argument("--base", choices=BASES, default="standard")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--teachers", action="store_true", help="begin with, and learn from, free detectors")
    parser.add_argument("--start", type=Path, help="weights to start from, of any architecture of the space")
    parser.add_argument("--steps", type=int, default=Schedule.steps)
    parser.add_argument("--rate", type=float, default=Schedule.peak_rate, help="highest learning rate")
    parser.add_argument(
        "--features", type=float, default=Schedule.feature_weight, help="weight of the teacher's features"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    return as_script(lambda: run(options))


def run(options: argparse.Namespace) -> None:
    """Trains, evaluates and saves one base."""
    options.out.mkdir(parents=True, exist_ok=True)
    store = open_pixels(merge("server", [load_dataset(folder) for folder in options.data]), MAX_SIDE)
    teacher = None
    if options.teachers:
        from teachers import MobileNetTeacher  # beside this script; its packages are an extra

        teacher = MobileNetTeacher()
    model = RetinaFace(BASES[options.base])
    begin = start(model, store, teacher, options)
    schedule = Schedule(steps=options.steps, peak_rate=options.rate, feature_weight=options.features)
    training = Pretraining(model.to(options.device), store, schedule, teacher, options.seed)
    target = options.out / f"{options.base}.safetensors"
    images = sum(layout.images * layout.share for layout in schedule.layouts)
    images /= sum(layout.share for layout in schedule.layouts)
    note = (
        f"train splits of {' + '.join(folder.name for folder in options.data)}, {begin}, "
        f"{'taught by RetinaFace-mnet0.25, ' if teacher else ''}{round(schedule.steps * images)} crops and mosaics"
    )
    bar = tqdm(total=schedule.steps, desc=options.base, mininterval=5)

    def on_step(done: int, losses: dict[str, float]) -> None:
        bar.update(done - bar.n)
        bar.set_postfix({name: f"{value:.3f}" for name, value in losses.items()})

    started = time.monotonic()
    state = training.run(options.out / f"{options.base}.checkpoint", on_step)
    save_detector(target, model, state, half=True, trained_on=note)
    report = {"trained_on": note, "seconds": round(time.monotonic() - started, 1), "steps": schedule.steps}
    model.load_state_dict(state)
    for folder in options.data:
        pixels = open_pixels(load_dataset(folder), MAX_SIDE)
        report[folder.name] = {
            split: round(evaluate(model, pixels, split, options.device), 4) for split in ("val", "test")
        }
        print(f"{folder.name:14} AP@50 {report[folder.name]}")
    write_file(target.with_suffix(".json"), json.dumps(report, indent=1))


def start(model: RetinaFace, store: PixelStore, teacher, options: argparse.Namespace) -> str:  # type: ignore[no-untyped-def]
    """Fills ``model`` with what it begins with; returns that in words.

    Raises:
        TrainingError: The base has no teacher of its kind.
    """
    if options.start:
        source = load_detector(options.start)
        model.load_state_dict(remap(source.state_dict(), source.architecture, model))
        return f"remapped from {options.start.stem}"
    model.reset_parameters(torch.Generator().manual_seed(options.seed))
    if teacher is None:
        return "from random weights"
    if options.base != "standard":
        raise TrainingError(f"{options.base} has no teacher of its kind: name the standard base with --start")
    from teachers import centerface_backbone

    pixels, _ = make_batch(store, FIRST_LOOK, np.random.default_rng([options.seed, 2**32]))
    model.eval()
    inherit_backbone(model, centerface_backbone(), pixels)
    inherit_neck(model, teacher.neck(), teacher(pixels).laterals, pixels)
    return "from half of CenterFace's backbone and RetinaFace-mnet0.25's neck"


def evaluate(model: RetinaFace, store: PixelStore, split: str, device: str) -> float:
    """AP@50 of ``model`` on one split, at the size of the `short` budget."""
    indices, size = store.splits[split], get_budget("short").evaluation_size
    batches = (batch.to(device) for batch in evaluation_batches(store, indices, size))
    with cpu_autocast():
        found = detect(model, batches)
    return ap50(found, ground_truth(store, indices, size))


if __name__ == "__main__":
    sys.exit(main())
