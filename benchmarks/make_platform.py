"""Version 0 of the platform from the lookup tables: warms the ranker up and writes the files the package ships.

It knows the results on parts of the server's images and on all real domains that were measured, as one that has served them would.
The evidence never uses it: there the real domains are the customers, and a warm-up of its own knows none of them.

python benchmarks/make_platform.py --table benchmarks/tables --out nni_hyperfd/assets/platform
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch

from nni_hyperfd.detection.network.weights import base_id
from nni_hyperfd.evidence.offline_sets import load_sets
from nni_hyperfd.evidence.table import SERVER, LookupTable, Row, parameters_of
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
from nni_hyperfd.spaces.space import Space
from nni_hyperfd.spaces.standard import standard_space

KINDS = ("hpo", "nas")
"""Spaces whose points are points of the joint one, too."""
COUNTS = "assignment"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--table", type=Path, required=True, help="folder that table_inputs.py wrote, with the tables"
    )
    parser.add_argument("--budget", default="table", help="of the rows that count (default: %(default)s)")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--images", type=int, default=120, help="that stand for a real domain (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    offline, about = offline_data(options.table, options.budget, options.images)
    spaces = [standard_space(kind) for kind in (*about["pairs"], "joint")]
    ranker = Ranker.build({space.key: EncoderShape.of(space) for space in spaces}, options.seed)
    started = time.monotonic()
    report = warm_up(ranker, offline, RankerSettings(), options.seed)
    about |= {
        "budget": options.budget,
        "ndcg_before": round(report.ndcg[0], 4),
        "ndcg_after": round(report.ndcg[1], 4),
        "seconds": round(time.monotonic() - started, 1),
        "seed": options.seed,
    }
    write_assets(options.out, first_state(ranker, offline, base_id()), about)
    print(about)


def offline_data(
    folder: Path, budget: str, images: int, without: Collection[str] = ()
) -> tuple[OfflineData, dict[str, Any]]:
    """What a new platform knows: results on parts of the server's images, and on the real domains that were measured.

    Args:
        folder: Tables, offline sets and features.
        budget: Of the rows that count.
        images: Training images that stand for a real domain, at most, evenly over them.
        without: Real domains to leave out.

    Returns:
        The data, and how many sets, domains and pairs they hold.
    """
    paths = [path for path in folder.iterdir() if path.name.endswith((".csv.gz", ".jsonl"))]
    table = LookupTable.merge(LookupTable.load(path) for path in sorted(paths)).select(budget=budget)
    rows = [row for row in table.over_seeds() if not row.failure]
    # What nobody was trained on says nothing: only sets with a result are shipped, and of them the training images.
    measured = {row.data_set for row in rows}
    sets = [part for part in load_sets(folder) if part.name in measured]
    server = ImageFeatures.load(folder / "features" / f"{SERVER}.safetensors")
    train = json.loads((folder / "server_train.json").read_text())
    members = [torch.tensor(sorted({*part.members} & {*train["plain"], *train["degraded"]})) for part in sets]
    shipped = torch.cat(members).unique()
    members = [torch.searchsorted(shipped, own) for own in members]
    features = [server.subset(shipped)]
    names = [part.name for part in sets]
    for path in sorted((folder / "features").glob("*.safetensors")):
        if path.stem == SERVER or path.stem not in measured or path.stem in without:
            continue
        found = ImageFeatures.load(path)
        chosen = torch.linspace(0, len(found) - 1, min(images, len(found))).long()
        members.append(sum(map(len, features)) + torch.arange(len(chosen)))
        features.append(found.subset(chosen))
        names.append(path.stem)
    position = {name: index for index, name in enumerate(names)}
    rows = [row for row in rows if row.data_set in position]
    # A space that nobody measured has no encoder in the ranker: its customers' encoders lie in rows of their own.
    known = {kind: [row for row in rows if row.space == kind] for kind in (*KINDS, COUNTS)}
    experience = {
        standard_space(kind).key: gather(standard_space(kind), own, position)
        for kind, own in known.items()
        if own
    }
    # A point of either space is a point of the joint one, with the defaults for the half it does not speak of.
    both = [row for row in rows if row.space in KINDS]
    experience[standard_space("joint").key] = gather(standard_space("joint"), both, position)
    # No platform needs what frozen networks of the comparison say.
    pooled = ImageFeatures.from_tensors(
        {name: torch.cat([each.tensors()[name] for each in features]) for name in ("gwap", "mean", "boxes")}
    )
    about = {
        "offline_sets": len(sets),
        "domains": names[len(sets) :],
        "pairs": {kind: len(own) for kind, own in known.items() if own},
    }
    return OfflineData(pooled, members, experience), about


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
        curves(rows),
    )


def curves(rows: list[Row]) -> torch.Tensor:
    """``[P, T]`` learning curves of the rows as they have them; T is that of the longest, and NaN where a row has none of that length."""
    longest = max((len(row.curve) for row in rows), default=0)
    if not longest:
        return torch.zeros(0, 0)
    whole = [
        [ap for _, ap in row.curve] if len(row.curve) == longest else [torch.nan] * longest for row in rows
    ]
    return torch.tensor(whole, dtype=torch.float32)


if __name__ == "__main__":
    main()
