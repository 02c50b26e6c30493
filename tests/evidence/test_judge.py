"""New data sets are judged among the known ones, by rows and features alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nni_hyperfd.cli import main
from nni_hyperfd.cli.lookup import _judge_by_price
from nni_hyperfd.errors import DataError
from nni_hyperfd.evidence.bootstrap import bootstrap
from nni_hyperfd.evidence.comparison import Outcome, run_rival
from nni_hyperfd.evidence.halves import only
from nni_hyperfd.evidence.inputs import Inputs
from nni_hyperfd.evidence.judge import verdict, with_newcomers
from nni_hyperfd.evidence.rivals.mean_rank import MeanRank
from nni_hyperfd.evidence.rivals.random_search import RandomSearch
from nni_hyperfd.evidence.scenario import POOLED
from nni_hyperfd.evidence.table import LookupTable

TABLES = Path(__file__).parents[2] / "benchmarks" / "tables"


@pytest.fixture(scope="module")
def known() -> Inputs:
    return Inputs.load(TABLES, [TABLES / "hpo.csv.gz", TABLES / "offline_hpo.csv.gz"], "table")


def test_a_newcomer_is_judged_among_the_known(known: Inputs) -> None:
    features = {"mine": known.data.customers["cats"]}
    rows = LookupTable(replace(row, data_set="mine") for row in known.customers.select(data_sets=("cats",)))
    scenario = with_newcomers(known, rows, features, "table").scenario("hpo", POOLED)
    assert scenario.tasks[-1] == "mine"
    assert len(scenario.tasks) == len(known.data.customers) + 1
    found = [
        only(run_rival(each, scenario, (4,), range(2)), ["mine"]) for each in (MeanRank(), RandomSearch())
    ]
    assert found[0].tasks == ("mine",)
    assert found[0].rank.shape == (1, 2, 1)
    table = verdict(found, 4).splitlines()
    best, other = sorted(found, key=lambda each: each.rank.mean())
    assert len(table) == 4
    assert table[2].startswith(f"| {best.method} | {best.rank.mean():.1f} |")
    assert table[3].startswith(f"| {other.method} |")


def test_what_cannot_be_judged_is_said(known: Inputs) -> None:
    cats = known.data.customers["cats"]
    with pytest.raises(DataError, match="--data cats has the name of a data set that the tables know"):
        with_newcomers(known, known.customers, {"cats": cats}, "table")
    with pytest.raises(DataError, match="--rows has no row of mine with budget 'table'"):
        with_newcomers(known, known.customers, {"mine": cats}, "table")


def test_an_unknown_method_is_one_sentence(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["table", "judge", "--rows", "x", "--data", "y", "--methods", "magic"]) == 1
    assert "--methods has no 'magic': there are random" in capsys.readouterr().err


def test_the_bootstrap_covers_the_mean_and_pairs_by_customer() -> None:
    rng = np.random.default_rng(0)
    samples = [rng.normal(3.0, 1.0, 12) for _ in range(200)]
    covered = np.mean([found.low < 3.0 < found.high for found in map(bootstrap, samples)])
    assert 0.85 < covered <= 0.97
    # Customers differ widely, methods by 1 on each: paired, that is sure.
    hard = np.array([[[5.0, 50.0, 90.0, 20.0]]])
    outcomes = [
        Outcome(name, "s", ("a", "b", "c", "d"), (4,), rank, rank / 100, np.zeros((1, 4)))
        for name, rank in (("worse", hard + 1), ("better", hard))
    ]
    assert "+1.0 [1.0, 1.0]" in verdict(outcomes, 4)
    assert np.isnan(bootstrap(np.array([1.0])).low)


def newcomers(folder: Path, shares: dict[str, int]) -> Inputs:
    """The made-up table and, as data sets of one's own, copies of its customers that were measured in part."""
    known = Inputs.load(folder, [folder / "made_up.csv.gz"], "table")
    mine = [
        replace(row, data_set=f"my_{name}")
        for name, count in shares.items()
        for row in list(known.customers.select(data_sets=(name,), seed=0))[:count]
    ]
    features = {f"my_{name}": known.data.customers[name] for name in shares}
    return with_newcomers(known, LookupTable(mine), features, "table")


@pytest.mark.parametrize("shares", [{"cats": 24}, {"cats": 9}, {"cats": 24, "video": 7}], ids=str)
def test_one_domain_or_several_whole_or_in_part_are_judged_by_price(
    inputs: Path, shares: dict[str, int], capsys: pytest.CaptureFixture[str]
) -> None:
    found = newcomers(inputs, shares)
    _judge_by_price(found, "hpo", ["portfolio", "hyperband", "asha"], 2, range(2))
    said = capsys.readouterr().out
    names = ", ".join(found.newcomers)
    assert (
        f"{min(shares.values())} configurations; judged: {names}, among {3 + len(shares)} customers" in said
    )
    assert {line.split(" | ")[0] for line in said.splitlines() if line.startswith("|")} == {
        "| rank % of",
        "| ---",
        "| portfolio",
        "| hyperband",
        "| asha",
    }


def test_what_cannot_be_judged_by_price_is_one_sentence(
    inputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = newcomers(inputs, {"cats": 3})
    with pytest.raises(
        DataError, match=r"only 3 configurations were measured on my_cats .* --configurations"
    ):
        _judge_by_price(few, "hpo", ["asha"], 2, range(1))
    whole = newcomers(inputs, {"cats": 24})
    flat = replace(
        whole,
        customers=LookupTable(
            replace(row, curve=()) if row.data_set == "my_cats" else row for row in whole.customers
        ),
    )
    _judge_by_price(flat, "hpo", ["asha"], 2, range(1))
    assert "Not judged by price: the rows of my_cats have no learning curves." in capsys.readouterr().out
    old = replace(next(iter(whole.customers)), data_set="theirs", version="another base")
    with pytest.raises(DataError, match="were measured from the base detector another base"):
        with_newcomers(whole, LookupTable([old]), {"theirs": whole.data.customers["cats"]}, "table")
