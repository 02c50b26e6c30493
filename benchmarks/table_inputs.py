"""What goes beside the lookup tables: offline data sets out of the server's images, and what all data sets look like.

    python benchmarks/table_inputs.py --server GROUPS WIDER200 --degraded DEGRADED --data CUSTOMER... --out benchmarks/tables

Writes offline_sets.json and, out of the folder that `degrade.py` made, offline_sets_degraded.json, and out of both
offline_sets_labels.json, whose sets other annotators might have labelled (all three are kept if they are there, because rows
name their sets), server_train.json, and image-level features of the server and of each customer's training
images, as float16. With these and the tables, `paper_experiments.py` needs no image.
The tables themselves come from `hyperfd table build`.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch

from nni_hyperfd.data.dataset import FaceDataset, load_dataset
from nni_hyperfd.data.merge import merge
from nni_hyperfd.data.pixels import open_pixels
from nni_hyperfd.detection.network.weights import BASES, base_detector
from nni_hyperfd.evidence.conventions import dealt
from nni_hyperfd.evidence.offline_sets import OfflineReport, OfflineSets, label_statistics, make_offline_sets
from nni_hyperfd.evidence.table import SERVER
from nni_hyperfd.metafeature.features import ImageFeatures
from nni_hyperfd.metafeature.profile import PROFILE_SIZE, profile_dataset, profile_images

SETS, DEGRADED, LABELS = "offline_sets.json", "offline_sets_degraded.json", "offline_sets_labels.json"
RELABELLED = 60
"""Sets of each file, plain and degraded, that are labelled anew: ten by each convention."""
TRAIN, FEATURES = "server_train.json", "features"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--server", type=Path, nargs="+", required=True)
    parser.add_argument("--degraded", type=Path, help="what degrade.py made of the server's images")
    parser.add_argument("--data", type=Path, nargs="*", default=[])
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    folder = options.out / FEATURES
    folder.mkdir(parents=True, exist_ok=True)
    plain = [load_dataset(each) for each in options.server]
    copies = [load_dataset(options.degraded)] if options.degraded else []
    # The copies come last, so that sets cut from the images themselves keep their members' numbers.
    server = merge(SERVER, [*plain, *copies])
    first = sum(len(part.images) for part in plain)
    store = open_pixels(server, 2 * PROFILE_SIZE)
    features = profile_images(base_detector(BASES["standard"]), store, torch.arange(len(server.images)))
    half(features).save(folder / f"{SERVER}.safetensors")
    train = sorted(server.splits["train"])
    parts = {"plain": [i for i in train if i < first], "degraded": [i for i in train if i >= first]}
    (options.out / TRAIN).write_text(json.dumps(parts))
    make_sets(server, features, range(first), options.out / SETS)
    if copies:
        make_sets(server, features, range(first, len(server.images)), options.out / DEGRADED)
    relabel([options.out / name for name in (SETS, DEGRADED)], options.out / LABELS)
    for each in options.data:
        half(profile_dataset(load_dataset(each))).save(folder / f"{each.resolve().name}.safetensors")
        print(each.resolve().name, flush=True)


def make_sets(server: FaceDataset, features: ImageFeatures, images: range, path: Path) -> None:
    """The sub-data-sets that clustering these images of the server's gives."""
    if path.exists():
        return
    split_of = {index: name for name, members in server.splits.items() for index in members}
    found = [server.images[index] for index in images]
    boxes = [image.boxes[~image.ignored] for image in found]
    sizes = np.array([(image.width, image.height) for image in found], dtype=np.float64)
    matrices = {
        "gwap": features.gwap.numpy()[images],
        "mean": features.mean.numpy()[images],
        "labels": label_statistics(boxes, sizes),
    }
    splits = [split_of[index] for index in images]
    sets = make_offline_sets(matrices, splits, features.boxes.numpy()[images]).shifted(images.start)
    sets.save(path)
    print(sets.report, flush=True)


def relabel(files: list[Path], path: Path) -> None:
    """Some sets of each file, with other conventions of labels."""
    if path.exists():
        return
    sources = [OfflineSets.load(file) for file in files if file.exists()]
    sets = tuple(part for source in sources for part in dealt(source.sets, min(RELABELLED, len(source.sets))))
    candidates = sum(len(source.sets) for source in sources)
    OfflineSets(sets, OfflineReport.of_sample(sets, candidates), sources[0].settings).save(path)
    print(f"{path.name}: {len(sets)} of {candidates} sets labelled anew", flush=True)


def half(features: ImageFeatures) -> ImageFeatures:
    """Features as float16: a fourth digit nobody needs would double the size of the repository."""
    return ImageFeatures(features.gwap.half(), features.mean.half(), features.boxes)


if __name__ == "__main__":
    main()
