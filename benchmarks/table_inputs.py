"""What goes beside the lookup tables: offline data sets out of the server's images, and what all data sets look like.

    python benchmarks/table_inputs.py --server GROUPS WIDER200 --degraded DEGRADED --data CUSTOMER... --out benchmarks/tables

Writes offline_sets.json and, out of the folder that `degrade.py` made, offline_sets_degraded.json; with ``--backbone`` what features
of other networks add to either (offline_sets_networks.json, offline_sets_degraded_networks.json); and offline_sets_labels.json,
sets of the first two as other annotators might have labelled them. All are kept if they are there, because rows
name their sets. Also server_train.json, and image-level features of the server and of each customer's training
images, as float16. With these and the tables, `paper_experiments.py` needs no image.
The tables themselves come from `hyperfd table build`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from sklearn.decomposition import PCA

from nni_hyperfd.data.dataset import FaceDataset, load_dataset
from nni_hyperfd.data.merge import merge
from nni_hyperfd.data.pixels import open_pixels
from nni_hyperfd.detection.network.weights import BASES, base_detector
from nni_hyperfd.evidence.backbones import backbone_features, checkpoint
from nni_hyperfd.evidence.conventions import dealt
from nni_hyperfd.evidence.offline_sets import (
    FloatArray,
    OfflineReport,
    OfflineSets,
    label_statistics,
    make_offline_sets,
)
from nni_hyperfd.evidence.table import SERVER
from nni_hyperfd.metafeature.features import FROZEN_CHANNELS, ImageFeatures
from nni_hyperfd.metafeature.profile import PROFILE_SIZE, profile_dataset, profile_images

SETS = "offline_sets{}.json"
RELABELLED = 60
"""Sets of each file, plain and degraded, that are labelled anew: ten by each convention."""
MOBILENET = "mobilenet_v2"
"""The network whose features stand in for a ResNet's in the comparison of extractors."""
TRAIN, FEATURES = "server_train.json", "features"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--server", type=Path, nargs="+", required=True)
    parser.add_argument("--degraded", type=Path, help="what degrade.py made of the server's images")
    parser.add_argument("--data", type=Path, nargs="*", default=[])
    parser.add_argument(
        "--backbone",
        nargs="*",
        default=[],
        metavar="NETWORK",
        help="frozen networks of nni_hyperfd/evidence/backbones.py whose features are clustered, too: pip install 'nni-hyperfd[tables]'",
    )
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    weights = {name: checkpoint(name) for name in options.backbone}
    folder = options.out / FEATURES
    folder.mkdir(parents=True, exist_ok=True)
    plain = [load_dataset(each) for each in options.server]
    copies = [load_dataset(options.degraded)] if options.degraded else []
    # The copies come last, so that sets cut from the images themselves keep their members' numbers.
    server = merge(SERVER, [*plain, *copies])
    first = sum(len(part.images) for part in plain)
    store = open_pixels(server, 2 * PROFILE_SIZE)
    features = profile_images(base_detector(BASES["standard"]), store, torch.arange(len(server.images)))
    frozen = backbone_features([image.path for image in server.images], weights) if weights else {}
    train = sorted(server.splits["train"])
    parts = {"plain": [i for i in train if i < first], "degraded": [i for i in train if i >= first]}
    (options.out / TRAIN).write_text(json.dumps(parts))
    components = fitted(frozen[MOBILENET][parts["plain"]]) if MOBILENET in frozen else None
    kept(features, frozen, components).save(folder / f"{SERVER}.safetensors")
    ranges = {"": range(first)} | ({"_degraded": range(first, len(server.images))} if copies else {})
    for part, images in ranges.items():
        own = options.out / SETS.format(part)
        make_sets(server, own_matrices(server, features, images), images, own)
        if frozen:
            others = {name: matrix[images] for name, matrix in frozen.items()}
            make_sets(server, others, images, options.out / SETS.format(f"{part}_networks"), known=own)
    relabel([options.out / SETS.format(part) for part in ranges], options.out / SETS.format("_labels"))
    for each in options.data:
        dataset = load_dataset(each)
        paths = [image.path for image in dataset.split("train")]
        found = backbone_features(paths, {MOBILENET: weights[MOBILENET]}) if components else {}
        kept(profile_dataset(dataset), found, components).save(folder / f"{each.resolve().name}.safetensors")
        print(each.resolve().name, flush=True)


def make_sets(
    server: FaceDataset,
    matrices: Mapping[str, FloatArray],
    images: range,
    path: Path,
    known: Path | None = None,
) -> None:
    """The sub-data-sets that clustering these images of the server's by ``matrices`` gives, less those of the file ``known``."""
    if path.exists():
        return
    split_of = {index: name for name, members in server.splits.items() for index in members}
    counted = [int((~server.images[index].ignored).sum()) for index in images]
    splits = [split_of[index] for index in images]
    there = OfflineSets.load(known).shifted(-images.start).sets if known else ()
    sets = make_offline_sets(matrices, splits, np.array(counted), known=there).shifted(images.start)
    sets.save(path)
    print(sets.report, flush=True)


def own_matrices(server: FaceDataset, features: ImageFeatures, images: range) -> dict[str, FloatArray]:
    """What the base detector and the labels say about these images."""
    found = [server.images[index] for index in images]
    boxes = [image.boxes[~image.ignored] for image in found]
    sizes = np.array([(image.width, image.height) for image in found], dtype=np.float64)
    return {
        "gwap": features.gwap.numpy()[images],
        "mean": features.mean.numpy()[images],
        "labels": label_statistics(boxes, sizes),
    }


def relabel(files: list[Path], path: Path) -> None:
    """Some sets of each file, with other conventions of labels."""
    if path.exists():
        return
    sources = [OfflineSets.load(file) for file in files]
    sets = tuple(part for source in sources for part in dealt(source.sets, min(RELABELLED, len(source.sets))))
    candidates = sum(len(source.sets) for source in sources)
    OfflineSets(sets, OfflineReport.of_sample(sets, candidates), sources[0].settings).save(path)
    print(f"{path.name}: {len(sets)} of {candidates} sets labelled anew", flush=True)


def fitted(values: FloatArray) -> PCA:
    """The directions in which the server's training images ``[n, 1280]`` differ most: a fifth of the width is enough to keep."""
    return PCA(FROZEN_CHANNELS["mobilenet"], svd_solver="full").fit(values)


def kept(features: ImageFeatures, frozen: Mapping[str, FloatArray], components: PCA | None) -> ImageFeatures:
    """Features as float16, where a fourth digit nobody needs would double the size of the repository; and those of MobileNetV2."""
    other = torch.from_numpy(components.transform(frozen[MOBILENET])).half() if components else None
    return ImageFeatures(features.gwap.half(), features.mean.half(), features.boxes, mobilenet=other)


if __name__ == "__main__":
    main()
