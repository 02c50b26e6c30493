"""Pretrains a base detector on server images (any folders of annotated faces) and reports its AP@50.

    python trial_code/pretrain.py --data GROUPS WIDER200 --base standard --out bases/ [--report FOLDER ...]
    python trial_code/pretrain.py --data GROUPS WIDER200 --base largest --start bases/standard.safetensors \\
        --rounds 16 --rate 1e-3 --out bases/

Training starts from random weights, or from other weights by parameter remapping, is resumed from --out when
interrupted, and writes NAME.safetensors (convolutions as float16) with NAME.json: AP@50 on the held-out server images
and, with no fine-tuning, on every --report folder.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import torch
from tqdm import tqdm

from nni_hyperfd.data.dataset import load_dataset
from nni_hyperfd.data.merge import merge
from nni_hyperfd.data.pixels import open_pixels
from nni_hyperfd.detection.evaluation.detections import ap50, detect, evaluation_batches, ground_truth
from nni_hyperfd.detection.network.remap import remap
from nni_hyperfd.detection.network.retinaface import RetinaFace
from nni_hyperfd.detection.network.weights import BASES, load_detector, save_detector
from nni_hyperfd.detection.training.budgets import get_budget
from nni_hyperfd.detection.training.fine_tuning import CPUEngine
from nni_hyperfd.detection.training.pretraining import SETTINGS, Schedule, pretrain
from nni_hyperfd.errors import HyperFDError

MAX_SIDE = 1024


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="server folders, used together")
    parser.add_argument("--base", choices=BASES, default="standard")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--report", type=Path, nargs="*", default=[], help="folders to evaluate on without fine-tuning"
    )
    parser.add_argument("--rounds", type=int, default=Schedule.rounds)
    parser.add_argument("--rate", type=float, default=Schedule.peak_rate, help="highest learning rate")
    parser.add_argument("--start", type=Path, help="weights to start from, of any architecture of the space")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    try:
        run(options)
    except HyperFDError as error:
        print(f"pretrain.py: {error}", file=sys.stderr)
        return 1
    return 0


def run(options: argparse.Namespace) -> None:
    """Trains, evaluates and saves one base."""
    options.out.mkdir(parents=True, exist_ok=True)
    budget, schedule = get_budget("short"), Schedule(rounds=options.rounds, peak_rate=options.rate)
    store = open_pixels(merge("server", [load_dataset(folder) for folder in options.data]), MAX_SIDE)
    model = RetinaFace(BASES[options.base])
    if options.start:
        source = load_detector(options.start)
        model.load_state_dict(remap(source.state_dict(), source.architecture, model))
    else:
        model.reset_parameters(torch.Generator().manual_seed(options.seed))
    if options.device == "cuda":
        from nni_hyperfd.detection.training.accelerator import CUDAEngine, Residents

        device = torch.device("cuda")
        engine = CUDAEngine(model, budget, device)
        engine.begin(
            Residents.load(store, budget, device), SETTINGS, tuple(side for _, side in schedule.sizes)
        )
        optimizer = engine.optimizers[SETTINGS.optimizer]
    else:
        engine = CPUEngine(model, store, SETTINGS, budget)
        optimizer = engine.optimizer
    bar = tqdm(total=schedule.rounds, desc=options.base, mininterval=5)

    def progress(index: int, loss: float) -> None:
        bar.update(index + 1 - bar.n)
        bar.set_postfix(loss=f"{loss:.3f}")

    started = time.monotonic()
    checkpoint = options.out / f"{options.base}.checkpoint"
    pretrain(engine, optimizer, store, schedule, budget.batch_size, options.seed, checkpoint, progress)
    model.eval()
    report = {
        "seconds": round(time.monotonic() - started, 1),
        "rounds": schedule.rounds,
        "seed": options.seed,
    }
    trained = [folder.name for folder in options.data]
    for folder in [*options.data, *options.report]:
        pixels = open_pixels(load_dataset(folder), 2 * budget.image_size)
        report[folder.name] = {
            split: round(evaluate(model, pixels, split, budget.evaluation_size, options.device), 4)
            for split in ("val", "test")
        }
        print(
            f"{folder.name:14} AP@50 val {report[folder.name]['val']:.3f} test {report[folder.name]['test']:.3f}"
        )
    begin = f"remapped from {options.start.stem}" if options.start else "from random weights"
    images = schedule.rounds * schedule.steps_per_round * budget.batch_size
    note = f"train splits of {' + '.join(trained)}, {begin}, {images} crops"
    target = options.out / f"{options.base}.safetensors"
    save_detector(target, model, model.state_dict(), half=True, trained_on=note)
    target.with_suffix(".json").write_text(json.dumps({"trained_on": note, **report}, indent=1))


def evaluate(model: RetinaFace, store, split: str, size: int, device: str) -> float:  # type: ignore[no-untyped-def]
    """AP@50 of ``model`` on one split."""
    indices = store.splits[split]
    batches = (batch.to(device) for batch in evaluation_batches(store, indices, size))
    return ap50(detect(model, batches), ground_truth(store, indices, size))


if __name__ == "__main__":
    sys.exit(main())
