"""Images per second and core of a training step, ours against the widely used PyTorch RetinaFace loop (plain_loop.py).

    python benchmarks/trial_throughput.py [--data FOLDER] [--budgets short paper] [--steps 6] [--out FILE]

Both loops train the same network with the same hyper-parameters on the same images, one thread each, one step of the one
after one step of the other, in processes of their own. Times are processor time, so that other programs on the machine
disturb little; the median step counts. Without --data, drawn pictures of 1024 pixels are used.
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from PIL import Image
from plain_loop import PlainLoop

import nni_hyperfd.detection.training.fine_tuning as training
from nni_hyperfd.data.dataset import FaceDataset, FaceImage, load_dataset
from nni_hyperfd.data.pixels import PixelStore, open_pixels
from nni_hyperfd.detection.network.retinaface import RetinaFace
from nni_hyperfd.detection.training.augment import CropPlan, plan_crops
from nni_hyperfd.detection.training.budgets import Budget, get_budget
from nni_hyperfd.detection.training.fine_tuning import CPUEngine
from nni_hyperfd.spaces.architecture import mobilenet_v2
from nni_hyperfd.spaces.hyperparameters import DEFAULT_HYPERPARAMETERS
from nni_hyperfd.synthetic import draw_scenes

SETTINGS = replace(DEFAULT_HYPERPARAMETERS, optimizer="adam")
PARTS = ("decode", "augment", "match", "forward", "loss", "backward", "optimizer", "rest")


class Stopwatch:
    """Processor seconds by part; parts do not overlap."""

    def __init__(self) -> None:
        self.spent: Counter[str] = Counter()

    def wrap(self, owner: Any, name: str, part: str) -> None:
        """Times every call of ``owner.name``."""
        function: Callable[..., Any] = getattr(owner, name)

        def timed(*arguments: Any, **options: Any) -> Any:
            started = time.process_time()
            try:
                return function(*arguments, **options)
            finally:
                self.spent[part] += time.process_time() - started

        setattr(owner, name, timed)

    def step(self, work: Callable[[], Any]) -> dict[str, float]:
        """Runs one step; returns seconds by part, and as "rest" what no part has claimed."""
        self.spent.clear()
        started = time.process_time()
        work()
        total = time.process_time() - started
        return {**self.spent, "rest": total - sum(self.spent.values()), "total": total}


def drawn_dataset(folder: Path, side: int, images: int) -> FaceDataset:
    """Drawn crowds, enlarged to a long side of ``side`` pixels, as JPEG files; every image is in every split."""
    faces = []
    for number, scene in enumerate(draw_scenes("crowd", images)):
        scale = side / max(scene.picture.size)
        width, height = (round(x * scale) for x in scene.picture.size)
        path = folder / f"{number}.jpg"
        scene.picture.resize((width, height), Image.Resampling.BICUBIC).save(path, quality=92)
        faces.append(
            FaceImage(path, width, height, scene.boxes * scale, scene.landmarks * scale, scene.ignored)
        )
    members = tuple(range(images))
    parts = dict.fromkeys(("train", "val", "test"), members)
    return FaceDataset("drawn", folder, tuple(faces), parts, None)  # type: ignore[arg-type]


def ours(dataset: FaceDataset, budget: Budget, cache: Path) -> tuple[Stopwatch, Callable[[CropPlan], Any]]:
    """Our engine's step, with its parts timed."""
    watch = Stopwatch()
    engine = CPUEngine(start(), open_store(dataset, budget, cache), SETTINGS, budget)
    watch.wrap(engine.model, "forward", "forward")
    watch.wrap(engine.optimizer, "step", "optimizer")
    for name, part in (
        ("crop_pixels", "augment"),
        ("recolor", "augment"),
        ("crop_faces", "augment"),
        ("make_targets", "match"),
        ("detection_losses", "loss"),
    ):
        watch.wrap(training, name, part)
    return watch, lambda plan: engine.train(plan, SETTINGS.learning_rate)


def plain(dataset: FaceDataset, budget: Budget, cache: Path) -> tuple[Stopwatch, Callable[[CropPlan], Any]]:
    """The rival's step on the images of a plan (it draws its own crops), with its parts timed."""
    watch = Stopwatch()
    loop = PlainLoop(start(), dataset, SETTINGS, budget.image_size)
    for name in ("decode", "augment", "match", "forward", "loss"):
        watch.wrap(loop, name, name)
    watch.wrap(loop.optimizer, "step", "optimizer")
    return watch, lambda plan: loop.step(plan.image.tolist())


def start() -> RetinaFace:
    """The same random network for both."""
    model = RetinaFace(mobilenet_v2())
    model.reset_parameters(torch.Generator().manual_seed(0))
    return model


def open_store(dataset: FaceDataset, budget: Budget, cache: Path) -> PixelStore:
    """Decoded images as a trial keeps them."""
    return open_pixels(dataset, 2 * max(budget.image_size, budget.evaluation_size), cache)


def serve(connection: Connection, make: Callable[..., Any], *arguments: Any) -> None:
    """One loop in a process of its own: its memory settings and its timers touch nobody else."""
    torch.set_num_threads(1)
    watch, work = make(*arguments)
    watch.wrap(torch.Tensor, "backward", "backward")
    while (plan := connection.recv()) is not None:
        connection.send(watch.step(lambda plan=plan: work(plan)))


def compare(dataset: FaceDataset, budget: Budget, steps: int, cache: Path) -> list[str]:
    """Lets both loops step in turn; returns the lines of a table of milliseconds per image."""
    rng, store = np.random.default_rng(0), open_store(dataset, budget, cache)
    context = multiprocessing.get_context("spawn")
    rows: dict[str, list[dict[str, float]]] = {"plain": [], "ours": []}
    loops = []
    for name, make in (("plain", plain), ("ours", ours)):
        here, there = context.Pipe()
        process = context.Process(target=serve, args=(there, make, dataset, budget, cache), daemon=True)
        process.start()
        there.close()
        loops.append((name, here, process))
    for step in range(steps + 2):
        plan = plan_crops(store, store.splits["train"], budget.batch_size, SETTINGS.min_crop_ratio, rng)
        for name, connection, _ in loops:
            connection.send(plan)
            times = connection.recv()
            if step >= 2:  # the first ones warm up
                rows[name].append(times)
    for _, connection, process in loops:
        connection.send(None)
        process.join()
    return table(rows, budget, dataset)


def table(rows: dict[str, list[dict[str, float]]], budget: Budget, dataset: FaceDataset) -> list[str]:
    """Milliseconds per image by part, and images per second and core."""

    def cost(name: str, part: str) -> float:
        return median(row.get(part, 0.0) for row in rows[name]) / budget.batch_size * 1000

    sides = [max(image.width, image.height) for image in dataset.images]
    lines = [
        f"### `{budget.name}`: crops of {budget.image_size} px, batches of {budget.batch_size}, "
        f"images of {median(sides):.0f} px (long side)",
        "",
        "| ms per image | " + " | ".join(PARTS) + " | **all** | images/s/core |",
        "|---" * (len(PARTS) + 3) + "|",
    ]
    for name, title in (("plain", "the usual loop"), ("ours", "ours")):
        total = cost(name, "total")
        cells = [f"{cost(name, part):.1f}" for part in PARTS]
        lines.append(f"| {title} | " + " | ".join(cells) + f" | **{total:.1f}** | {1000 / total:.1f} |")
    ratio = cost("plain", "total") / cost("ours", "total")
    return [*lines, "", f"Ratio: **{ratio:.2f}×**", ""]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="folder of annotated face images; by default, drawn ones")
    parser.add_argument("--side", type=int, default=1024, help="long side of drawn images, in pixels")
    parser.add_argument("--budgets", nargs="+", default=["short", "paper"])
    parser.add_argument("--steps", type=int, default=6, help="measured steps of each loop")
    parser.add_argument("--out", type=Path, help="file to append the tables to")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        dataset = load_dataset(options.data) if options.data else drawn_dataset(root, options.side, 40)
        for name in options.budgets:
            lines = compare(dataset, get_budget(name), options.steps, root)
            print("\n".join(lines), flush=True)
            if options.out:
                with options.out.open("a") as file:
                    file.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
