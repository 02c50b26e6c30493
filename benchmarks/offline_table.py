"""Offline data sets out of the server's images, and a table of (configuration, offline set) pairs to warm up with.

    python benchmarks/offline_table.py sets  --server GROUPS WIDER200 --out benchmarks/tables
    python benchmarks/offline_table.py pairs --server GROUPS WIDER200 --out benchmarks/tables --shard 0/2 [--minutes 30]

`pairs` may be interrupted and started again; each shard appends to its own jsonl file. Lists of HPO and NAS are planned
in turn, so that a run cut short holds some of both.
"""

from __future__ import annotations

import argparse
import json
import time
from itertools import chain, zip_longest
from pathlib import Path

import numpy as np
import torch

from nni_hyperfd.benchmark.offline_sets import OfflineSets, label_statistics, make_offline_sets
from nni_hyperfd.benchmark.runner import PairRunner
from nni_hyperfd.benchmark.table import build, plan_offline_pairs
from nni_hyperfd.detection.dataset import FaceDataset, load_dataset
from nni_hyperfd.detection.merge import merge
from nni_hyperfd.detection.pixels import open_pixels
from nni_hyperfd.detection.weights import BASES, base_detector, base_id
from nni_hyperfd.metafeature.profile import PROFILE_SIZE, profile_images
from nni_hyperfd.spaces.space import standard_space

PAIRS = {"hpo": 3000, "nas": 3000}
PER_SET = 6
SETS, FEATURES, TRAIN = "offline_sets.json", "server_features.safetensors", "server_train.json"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=("sets", "pairs"))
    parser.add_argument("--server", type=Path, nargs="+", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--spaces", nargs="+", choices=PAIRS, default=list(PAIRS))
    parser.add_argument("--budget", default="smoke")
    parser.add_argument("--shard", default="0/1")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="start no pair after this long")
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    server = merge("server", [load_dataset(folder) for folder in options.server])
    if options.command == "sets":
        make_sets(server, options.out)
    else:
        run_pairs(server, options)


def make_sets(server: FaceDataset, out: Path) -> None:
    """Features of all server images and the sub-data-sets that clustering them gives."""
    store = open_pixels(server, 2 * PROFILE_SIZE)
    features = profile_images(base_detector(BASES["standard"]), store, torch.arange(len(server.images)))
    features.save(out / FEATURES)
    (out / TRAIN).write_text(json.dumps(sorted(server.splits["train"])))
    split_of = {index: name for name, members in server.splits.items() for index in members}
    boxes = [image.boxes[~image.ignored] for image in server.images]
    sizes = np.array([(image.width, image.height) for image in server.images], dtype=np.float64)
    matrices = {
        "gwap": features.gwap.numpy(),
        "mean": features.mean.numpy(),
        "labels": label_statistics(boxes, sizes),
    }
    splits = [split_of[index] for index in range(len(server.images))]
    found = make_offline_sets(matrices, splits, features.boxes.numpy())
    found.save(out / SETS)
    print(found.report)


def run_pairs(server: FaceDataset, options: argparse.Namespace) -> None:
    """Fine-tunes this shard's pairs until all are done or the time is up."""
    index, count = (int(part) for part in options.shard.split("/"))
    sets = OfflineSets.load(options.out / SETS)
    names = [part.name for part in sets.sets]
    plans = []
    for seed, (kind, pairs) in enumerate(PAIRS.items()):
        if kind not in options.spaces:
            continue
        space = standard_space(kind)
        rng = np.random.default_rng(seed)
        points = space.enumerate() if kind == "hpo" else space.sample(200, rng)
        parameters = [space.parameters(point) for point in points]
        plan = plan_offline_pairs(kind, parameters, names, pairs, PER_SET, options.budget, seed)
        plans.append([plan[start : start + PER_SET] for start in range(0, len(plan), PER_SET)])
    lists = [group for group in chain.from_iterable(zip_longest(*plans)) if group]
    deadline = time.monotonic() + 60 * options.minutes
    mine = (pair for group in lists[index::count] for pair in group)
    pairs = iter(lambda: next(mine, None) if time.monotonic() < deadline else None, None)
    runner = PairRunner({}, server, sets)

    def show(row) -> None:  # type: ignore[no-untyped-def]
        print(f"{row.space} {row.data_set} {row.val_ap:.3f} {row.seconds:.1f} s {row.failure}", flush=True)

    path = options.out / f"offline-{'-'.join(options.spaces)}-{index}of{count}.jsonl"
    build(pairs, runner, path, "cpu", f"base-{base_id()}", progress=show)


if __name__ == "__main__":
    main()
