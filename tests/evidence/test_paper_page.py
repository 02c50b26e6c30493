"""The results page from a small made-up table: runs are made once, kept, and put into the paper's tables."""

from __future__ import annotations

import re
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from nni_hyperfd.errors import DataError
from nni_hyperfd.evidence.comparison import Outcome
from nni_hyperfd.evidence.inputs import Inputs
from nni_hyperfd.evidence.methods import methods, server_alone
from nni_hyperfd.evidence.page import duels, noise_sentence
from nni_hyperfd.evidence.published import PUBLISHED
from nni_hyperfd.evidence.runs import ByTrials, Laboratory
from nni_hyperfd.evidence.scenario import PAPER, POOLED
from nni_hyperfd.evidence.table import LookupTable
from nni_hyperfd.spaces.standard import standard_space
from tests.fixtures import scripts

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def script() -> ModuleType:
    """benchmarks/paper_experiments.py as a module."""
    return scripts.script("benchmarks/paper_experiments.py")


def test_a_page_is_made_and_made_again_without_running_anything(
    inputs: Path, script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = ["table", "table1", "table6", "variant", "price", "figure4", "figure5"]
    command = ["paper_experiments.py", "--quick", "--inputs", str(inputs), "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", [*command, "--only", *wanted])
    script.main()
    text = (tmp_path / "quick.md").read_text()
    assert "3 customers × 24 configurations; 32 pairs on 8 offline sets" in text
    assert "36 pairs were trained with a second seed" in text
    assert "means over both seeds on" not in text
    for frozen in ("resnet", "mobilenet"):
        assert f"`hyperfd ({frozen})` is missing: The {frozen} variant" in text
    ours = re.search(
        r"\| \*\*hyperfd\*\* \| ([\d.]+) ± – \| \[[\d., ]+\] \| [^|]+ \| \[[\d., -]+\] \| 1 \| 13.16 \| \+1.67 \|",
        text,
    )
    assert ours, "our rank, one seed without an error, and the paper's figures"
    links = re.findall(r"\((quick/\w+\.png)\)", text)
    assert len(links) == 4
    at_four = re.search(r"\| hyperband \| [\d.]+ \| [\d.]+ \| ([\d.]+) \| – \| \[[\d., ]+\]", text)
    by_set = re.search(r"\| hyperband \|(?: [\d.]+ ± [\d.]+ \|){3} ([\d.]+) \|", text)
    assert at_four
    assert by_set
    assert float(by_set[1]) == pytest.approx(float(at_four[1]), abs=0.06), "the same runs, set by set"
    assert "| ΔAP of | price 1 | price 2 | price 4 |" in text
    assert "untouched (2), price 4" in text
    assert all((tmp_path / link).stat().st_size > 10_000 for link in links)
    # Nothing is trained now, and the page is the same.
    monkeypatch.setattr(sys, "argv", [*command, "--show", "--only", *wanted])
    script.main()
    assert (tmp_path / "quick.md").read_text() == text


def test_every_experiment_has_methods_that_exist_and_the_papers_figures(script: ModuleType) -> None:
    known = methods()
    named = {*script.RIVALS, *script.VARIANTS, *script.CURVES, *script.OURS, *script.STEPS}
    named |= {name for _, names in script.ABLATIONS.values() for name in names}
    assert named == set(known)
    for space in ("hpo", "nas"):
        assert set(PUBLISHED[space]) <= named


def test_runs_are_kept_and_belong_to_their_table(inputs: Path, tmp_path: Path) -> None:
    loaded = Inputs.load(inputs, [inputs / "made_up.csv.gz"], "table")
    space, method = standard_space("hpo"), methods()["mean-rank"]

    def laboratory(measure: bool = True) -> Laboratory:
        return Laboratory(ByTrials(loaded.scenario("hpo", POOLED)), space, tmp_path, "hpo-pooled", measure)

    assert laboratory(measure=False).outcome(method, (4,), 2) is None
    first = laboratory().outcome(method, (2, 4), 2)
    assert first is not None
    assert first.rank.shape == (2, 2, 3)
    again = laboratory(measure=False).outcome(method, (2, 4), 3)
    assert again is not None
    np.testing.assert_allclose(again.rank, first.rank, atol=1e-3)
    # Another measure is another scenario: its runs are not these.
    other = Laboratory(ByTrials(loaded.scenario("hpo", PAPER)), space, tmp_path, "hpo-pooled", measure=False)
    assert other.outcome(method, (4,), 2) is None
    late = Laboratory(ByTrials(loaded.scenario("hpo", POOLED)), space, tmp_path / "late", "x", deadline=0.0)
    assert late.outcome(method) is None
    (path,) = tmp_path.glob("*.json")
    path.write_text(path.read_text()[:-20])
    with pytest.raises(DataError, match="delete it"):
        laboratory().outcome(method, (4,), 2)


def test_a_customer_without_rows_is_left_out_and_other_budgets_are(inputs: Path) -> None:
    table = LookupTable.load(inputs / "made_up.csv.gz")
    loaded = Inputs.load(inputs, [inputs / "made_up.csv.gz"], "table")
    few = LookupTable(row for row in table if row.data_set != "cats")
    assert Inputs(few, loaded.offline, loaded.data).scenario("hpo", POOLED).tasks == ("masks", "video")
    assert loaded.scenario("hpo", POOLED).experience.server == 8
    assert not Inputs.load(inputs, [inputs / "made_up.csv.gz"], "smoke").spaces()
    with pytest.raises(DataError, match="table_inputs"):
        Inputs.load(inputs / "features", [], "table")


def test_without_augmentation_only_the_server_is_known(inputs: Path) -> None:
    loaded = Inputs.load(inputs, [inputs / "made_up.csv.gz"], "table")
    experience = loaded.scenario("hpo", POOLED).experience
    alone = server_alone(experience)
    assert (~np.isnan(alone.aps)).sum(1).tolist() == [12, 12]
    np.testing.assert_array_equal(np.nansum(alone.aps, axis=0), experience.aps[experience.server])


def test_a_duel_is_paired_and_says_when_it_is_even() -> None:
    rank = np.array([[[5.0, 10.0], [6.0, 12.0], [4.0, 11.0]]])
    ours = Outcome("hyperfd", "s", ("a", "b"), (4,), rank, rank / 100, np.zeros((1, 2)))
    worse = Outcome("worse", "s", ("a", "b"), (4,), rank + 3, rank / 100, np.zeros((1, 2)))
    near = Outcome("near", "s", ("a", "b"), (4,), rank[:, :2] - 0.1, rank[:, :2] / 100, np.zeros((1, 2)))
    table = duels(ours, [worse, near]).splitlines()
    assert table[2] == "| worse | -3.00 ± 0.00 | [-3.0, -3.0] | +0.00 | [0.0, 0.0] | 2 of 2 | ahead | ahead |"
    assert table[3].endswith("| even | behind |")


def test_noise_is_only_stated_where_it_was_measured(inputs: Path) -> None:
    loaded = Inputs.load(inputs, [inputs / "made_up.csv.gz"], "table")
    scenario = loaded.scenario("hpo", POOLED)
    found = loaded.noise("hpo")
    assert found is not None
    assert found.deviation == pytest.approx(0.01, rel=0.4)
    assert "one measurement" in noise_sentence("hpo", found, None, scenario).lower()
    assert "not known" in noise_sentence("hpo", None, None, scenario)


def test_customers_measured_twice_are_named(inputs: Path) -> None:
    loaded = Inputs.load(inputs, [inputs / "made_up.csv.gz"], "table")
    assert loaded.measured_twice("hpo") == []
    again = [
        replace(row, seed=1, heldout_ap=0.0) for row in loaded.customers.select(seed=0, data_sets=("cats",))
    ]
    both = Inputs(LookupTable.merge([LookupTable(again), loaded.customers]), loaded.offline, loaded.data)
    assert both.measured_twice("hpo") == ["cats"]
    halved, whole = both.scenario("hpo", POOLED), loaded.scenario("hpo", POOLED)
    cats = whole.tasks.index("cats")
    np.testing.assert_allclose(halved.choose[:, cats], whole.choose[:, cats] / 2)
    others = [d for d in range(len(whole.tasks)) if d != cats]
    np.testing.assert_array_equal(halved.choose[:, others], whole.choose[:, others])


def test_damaged_inputs_are_refused_in_one_sentence(inputs: Path, tmp_path: Path) -> None:
    folder = tmp_path / "inputs"
    shutil.copytree(inputs, folder)
    for text in ("[0, 1]", '{"plain": [0]}', "{"):
        (folder / "server_train.json").write_text(text)
        with pytest.raises(DataError, match="table_inputs"):
            Inputs.load(folder, sorted(folder.glob("*.jsonl")), "table")
