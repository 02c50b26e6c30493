"""Version 0 of the platform from an offline table: warms the ranker up and writes the files the package ships.

python benchmarks/make_platform.py --table benchmarks/tables --out nni_hyperfd/assets/platform
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch

from nni_hyperfd.detection.network.weights import base_id
from nni_hyperfd.evidence.offline_sets import load_sets
from nni_hyperfd.evidence.table import LookupTable, Row, parameters_of
from nni_hyperfd.metafeature.features import ImageFeatures
from nni_hyperfd.platform.first import first_state, write_assets
from nni_hyperfd.ranker.encoders import EncoderShape
from nni_hyperfd.ranker.encodings import encode
from nni_hyperfd.ranker.offline import Experience, OfflineData
from nni_hyperfd.ranker.ranker import Ranker
from nni_hyperfd.ranker.settings import RankerSettings
from nni_hyperfd.ranker.warmup import warm_up
from nni_hyperfd.spaces.architecture import mobilenet_v2
from nni_hyperfd.spaces.configuration import Configuration
from nni_hyperfd.spaces.hyperparameters import DEFAULT_HYPERPARAMETERS
from nni_hyperfd.spaces.space import Space, standard_space

KINDS = ("hpo", "nas")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--table", type=Path, required=True, help="folder that table_inputs.py wrote, with offline tables"
    )
    parser.add_argument("--budget", default="table", help="of the rows that count (default: %(default)s)")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    found = ImageFeatures.load(options.table / "features" / "server.safetensors")
    # No platform needs what frozen networks of the comparison say.
    features = ImageFeatures(found.gwap, found.mean, found.boxes)
    paths = [*options.table.glob("offline*.csv.gz"), *options.table.glob("offline*.jsonl")]
    table = LookupTable.merge(LookupTable.load(path) for path in sorted(paths)).select(budget=options.budget)
    rows = [row for row in table if not row.failure]
    # What nobody was trained on says nothing: only sets with a result are shipped, and of them the training images.
    measured = {row.data_set for row in rows}
    sets = [part for part in load_sets(options.table) if part.name in measured]
    train = json.loads((options.table / "server_train.json").read_text())
    members = [torch.tensor(sorted({*part.members} & {*train["plain"], *train["degraded"]})) for part in sets]
    shipped = torch.cat(members).unique()
    members = [torch.searchsorted(shipped, images) for images in members]
    position = {part.name: index for index, part in enumerate(sets)}
    counts = {kind: sum(row.space == kind for row in rows) for kind in KINDS}
    experience = {
        standard_space(kind).key: gather(
            standard_space(kind), [row for row in rows if row.space == kind], position
        )
        for kind in KINDS
    }
    # A point of either space is a point of the joint one, with the defaults for the half it does not speak of.
    experience[standard_space("joint").key] = gather(standard_space("joint"), rows, position)
    offline = OfflineData(features.subset(shipped), members, experience)
    spaces = [standard_space(kind) for kind in (*KINDS, "joint")]
    ranker = Ranker.build({space.key: EncoderShape.of(space) for space in spaces}, options.seed)
    started = time.monotonic()
    report = warm_up(ranker, offline, RankerSettings(), options.seed)
    about = {
        "offline_sets": len(sets),
        "pairs": counts,
        "budget": options.budget,
        "ndcg_before": round(report.ndcg[0], 4),
        "ndcg_after": round(max(report.ndcg), 4),
        "best_epoch": report.best_epoch,
        "seconds": round(time.monotonic() - started, 1),
        "seed": options.seed,
    }
    write_assets(options.out, first_state(ranker, offline, base_id()), about)
    print(about)


def gather(space: Space, rows: list[Row], position: dict[str, int]) -> Experience:
    """Table rows as experience of ``space``; what a row does not say about it takes the defaults."""
    parameters = {row.configuration: parameters_of(row.configuration) for row in rows}
    points = {
        text: Configuration(
            Configuration.from_parameters(found).hyperparameters or DEFAULT_HYPERPARAMETERS,
            Configuration.from_parameters(found).architecture or mobilenet_v2(),
        )
        for text, found in parameters.items()
    }
    place = {text: index for index, text in enumerate(points)}
    return Experience(
        encode(space, list(points.values())),
        torch.tensor([position[row.data_set] for row in rows]),
        torch.tensor([place[row.configuration] for row in rows]),
        torch.tensor([row.heldout_ap for row in rows]),
    )


if __name__ == "__main__":
    main()
