"""What an earlier release left on disks is read as it was written (``tests/assets/make_files.py``); its states have tests of their own."""

from __future__ import annotations

import math
from pathlib import Path

import torch

from nni_hyperfd.data.dataset import load_dataset
from nni_hyperfd.evidence.runs import Run, StoredRuns
from nni_hyperfd.evidence.table import LookupTable, Pair
from nni_hyperfd.metafeature.features import ImageFeatures
from nni_hyperfd.plugin.memo import Memo
from tests.assets.make_files import data_set

KEPT = Path(__file__).parents[1] / "assets" / "files_v1"


def test_cached_features_are_the_same_numbers() -> None:
    features = ImageFeatures.load(KEPT / "features.safetensors")
    expected = torch.arange(2 * 3 * 86).reshape(2, 3, 86).half() / 64
    assert torch.equal(features.gwap, expected)
    assert torch.equal(features.mean, expected / 2)
    assert features.boxes.tolist() == [1, 4]


def test_caches_of_a_data_set_are_found_by_the_same_name(tmp_path: Path) -> None:
    assert (
        load_dataset(data_set(tmp_path / "data")).fingerprint()
        == (KEPT / "fingerprint.txt").read_text().strip()
    )


def test_an_experiment_goes_on_with_its_notes() -> None:
    memo = Memo.read(KEPT)
    assert memo is not None
    assert memo.ranking == ({"lr": 0.003}, {"lr": 0.001})
    assert memo.search_space == {"lr": {"_type": "choice", "_value": [0.001, 0.003]}}
    assert (memo.settings.data, memo.settings.seed) == (Path("/data/faces"), 3)
    assert memo.score({"lr": 0.003}) is None  # scores were not kept then


def test_a_lookup_table_keeps_every_row_and_is_added_to(tmp_path: Path) -> None:
    for name in ("table.csv.gz", "table.jsonl"):
        table = LookupTable.load(KEPT / name)
        good = table[Pair("hpo", "faces", '{"lr":0.001}', "table", 0)]
        assert (good.val_ap, good.test_ap, good.heldout_ap, good.seconds) == (0.5, 0.6, 0.55, 30.25)
        assert (good.device, good.version, good.failure) == ("cpu", "v1", "")
        failed = table[Pair("hpo", "faces", '{"lr":0.003}', "table", 0)]
        assert math.isnan(failed.val_ap)
        assert failed.failure == "not finite"
        assert len(table) == 2
        table.save(tmp_path / "again.csv.gz")
        assert LookupTable.load(tmp_path / "again.csv.gz") == table


def test_runs_of_a_method_are_not_made_again(tmp_path: Path) -> None:
    path = tmp_path / "runs.json"
    path.write_bytes((KEPT / "runs.json").read_bytes())
    runs = StoredRuns(path, "0123456789abcdef")
    assert runs.get(4, 0) == Run([12.5, 3.0], [0.5, 0.75], 1.5, ndcg=0.9)
    assert StoredRuns(path, "of another scenario").get(4, 0) is None


def test_a_copy_of_the_trial_finds_what_it_is_made_of() -> None:
    # The line as it stands in copies that `hyperfd init` has made; nobody renews those.
    exec("from nni_hyperfd.trial import Trial, as_script, run_trial", {})
