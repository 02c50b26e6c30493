"""Version 0 from lookup tables: which rows become experience of which space."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.make_platform import offline_data
from nni_hyperfd.evidence.table import Row, TableFile, canonical
from nni_hyperfd.metafeature.extractor import image_inputs
from nni_hyperfd.platform.first import first_state
from nni_hyperfd.ranker.encoders import EncoderShape
from nni_hyperfd.ranker.guard import Guard, GuardSettings
from nni_hyperfd.ranker.ranker import Ranker
from nni_hyperfd.spaces.standard import standard_space

TABLES = Path(__file__).parents[2] / "benchmarks" / "tables"
IMAGES = 4


def test_measured_counts_are_experience_of_their_own_space_and_the_guard_watches_it(tmp_path: Path) -> None:
    before, about = offline_data(TABLES, "table", IMAGES)
    for path in TABLES.iterdir():
        (tmp_path / path.name).symlink_to(path)
    counts, joint = standard_space("assignment"), standard_space("joint")
    points = counts.sample(3, np.random.default_rng(0))
    with TableFile(tmp_path / "counts.jsonl") as file:
        for domain in about["domains"]:
            for number, point in enumerate(points):
                text, ap = canonical(counts.parameters(point)), 0.2 + 0.1 * number
                file.append(Row("assignment", domain, text, "table", 0, ap, ap, ap, 1.0, "cpu", "made up"))
    after, told = offline_data(tmp_path, "table", IMAGES)
    known = about["pairs"].get("assignment", 0)
    assert told["pairs"] == about["pairs"] | {"assignment": known + 3 * len(about["domains"])}
    assert len(after.experience[joint.key].aps) == len(before.experience[joint.key].aps)
    assert len(after.experience[counts.key].aps) == told["pairs"]["assignment"]

    spaces = [standard_space(kind) for kind in (*told["pairs"], "joint")]
    ranker = Ranker.build({space.key: EncoderShape.of(space) for space in spaces}, 0).eval()
    ranker.extractor.set_normalization(image_inputs(after.features), after.statistics)
    assert first_state(ranker, after, "base0")
    watched = Guard(after, GuardSettings(), IMAGES).ndcg(ranker)
    assert counts.key in watched
