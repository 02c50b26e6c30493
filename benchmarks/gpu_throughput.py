"""Images per second of the `short` training step on one CUDA device, by precision and number of worker threads.

    python benchmarks/gpu_throughput.py --data FOLDER [--seconds 4]

Prints one line per variant; a variant that fails prints its error and the next one runs.
"""

from __future__ import annotations

import argparse
import threading
import time
from pathlib import Path

import numpy as np
import torch

from nni_hyperfd.data.dataset import load_dataset
from nni_hyperfd.data.pixels import open_pixels
from nni_hyperfd.detection.network.retinaface import RetinaFace
from nni_hyperfd.detection.training.accelerator import CUDAEngine, Residents
from nni_hyperfd.detection.training.augment import plan_crops
from nni_hyperfd.detection.training.budgets import get_budget
from nni_hyperfd.spaces.architecture import mobilenet_v2
from nni_hyperfd.spaces.hyperparameters import DEFAULT_HYPERPARAMETERS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--precisions", nargs="+", default=["bfloat16", "float32"])
    options = parser.parse_args()
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    device, budget = torch.device("cuda"), get_budget("short")
    store = open_pixels(load_dataset(options.data), 2 * budget.image_size)
    residents = Residents.load(store, budget, device)
    for precision in options.precisions:
        for threads in options.threads:
            try:
                rate, capture = measure(store, residents, getattr(torch, precision), threads, options.seconds)
                print(
                    f"{precision:9} threads {threads}: {rate:8.0f} images/s, capture {capture:.2f} s",
                    flush=True,
                )
            except Exception as error:
                print(f"{precision:9} threads {threads}: failed: {error!r}", flush=True)


def measure(store, residents, precision, threads, seconds):  # type: ignore[no-untyped-def]
    device, budget = torch.device("cuda"), get_budget("short")
    engines = []
    started = time.monotonic()
    for seed in range(threads):
        model = RetinaFace(mobilenet_v2())
        model.reset_parameters(torch.Generator().manual_seed(seed))
        engine = CUDAEngine(model, budget, device, precision)
        engine.begin(residents, DEFAULT_HYPERPARAMETERS)
        engines.append(engine)
    capture = (time.monotonic() - started) / threads
    plan = plan_crops(store, store.splits["train"], 1024, 0.3, np.random.default_rng(0))
    for engine in engines:
        engine.train(plan, 1e-4)
    counts = [0] * threads
    deadline = time.monotonic() + seconds

    def work(index: int) -> None:
        while time.monotonic() < deadline:
            engines[index].train(plan, 1e-4)
            counts[index] += len(plan.image)

    started = time.monotonic()
    workers = [threading.Thread(target=work, args=(index,)) for index in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return sum(counts) / (time.monotonic() - started), capture


if __name__ == "__main__":
    main()
