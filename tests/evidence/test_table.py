"""Tables that are interrupted, resumed, split and merged equal one built in one go."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nni_hyperfd.errors import DataError, TrainingError
from nni_hyperfd.evidence.measuring import measure_pairs, plan_pairs, shard
from nni_hyperfd.evidence.table import LookupTable, Pair, Row, TableFile, canonical, parameters_of

CONFIGURATIONS = [{"optimizer": o, "lr": lr} for o in ("sgd", "adam") for lr in (3e-4, 1e-3, 3e-3)]
PAIRS = plan_pairs("hpo", CONFIGURATIONS, ["cats", "server"], "smoke", 0)


def run_pair(data_set: str, configuration: str, budget: str, seed: int, device: str) -> SimpleNamespace:
    parameters = parameters_of(configuration)
    if parameters == {"optimizer": "adam", "lr": 3e-3} and data_set == "cats":
        raise TrainingError("loss, total, is not finite\nat step 3")
    ap = 0.3 + 100 * parameters["lr"] + 0.05 * len(data_set)
    return SimpleNamespace(val_ap=ap, test_ap=ap - 0.1, heldout_ap=ap - 0.05, seconds=1.23456, curve=())


def build_whole(folder: Path) -> LookupTable:
    measure_pairs(PAIRS, run_pair, folder / "whole.jsonl", "cpu", "1")
    return LookupTable.load(folder / "whole.jsonl")


def test_every_cut_of_the_file_resumes_to_the_same_table(tmp_path: Path) -> None:
    whole = build_whole(tmp_path)
    data = (tmp_path / "whole.jsonl").read_bytes()
    path = tmp_path / "cut.jsonl"
    for length in range(0, len(data), 97):
        path.write_bytes(data[:length])
        finished = data[:length].count(b"\n")
        assert measure_pairs(PAIRS, run_pair, path, "cpu", "1") == len(PAIRS) - finished
        assert path.read_bytes() == data
        assert LookupTable.load(path) == whole


def test_an_interrupted_run_keeps_what_it_measured(tmp_path: Path) -> None:
    calls = 0

    def stops(*arguments: str | int) -> SimpleNamespace:
        nonlocal calls
        calls += 1
        if calls == 5:
            raise KeyboardInterrupt
        return run_pair(*arguments)  # type: ignore[arg-type]

    path = tmp_path / "table.jsonl"
    with pytest.raises(KeyboardInterrupt):
        measure_pairs(PAIRS, stops, path, "cpu", "1")
    assert len(LookupTable.load(path)) == 4
    assert measure_pairs(PAIRS, run_pair, path, "cpu", "1") == len(PAIRS) - 4
    assert LookupTable.load(path) == build_whole(tmp_path)


@pytest.mark.parametrize("workers", [1, 3, 5])
def test_shards_merge_to_the_whole(tmp_path: Path, workers: int) -> None:
    assert Counter(p for i in range(workers) for p in shard(PAIRS, i, workers)) == Counter(PAIRS)
    parts = []
    for index in reversed(range(workers)):
        path = tmp_path / f"{index}.jsonl"
        measure_pairs(shard(PAIRS, index, workers), run_pair, path, "cpu", "1")
        parts.append(LookupTable.load(path))
    assert LookupTable.merge(parts) == build_whole(tmp_path)
    assert LookupTable.merge([*parts, *parts]) == build_whole(tmp_path)


def test_pairs_done_elsewhere_are_skipped(tmp_path: Path) -> None:
    done = LookupTable(list(build_whole(tmp_path))[:7])
    assert measure_pairs(PAIRS, run_pair, tmp_path / "rest.jsonl", "cpu", "1", done=done) == len(PAIRS) - 7


def test_csv_round_trip_is_exact_and_reproducible(tmp_path: Path) -> None:
    whole = build_whole(tmp_path)
    first, second = tmp_path / "a.csv.gz", tmp_path / "b.csv.gz"
    whole.save(first)
    again = LookupTable.load(first)
    LookupTable(reversed(list(again))).save(second)
    assert again == whole
    assert first.read_bytes() == second.read_bytes()


def test_a_failed_training_is_a_failure_and_no_zero(tmp_path: Path) -> None:
    whole = build_whole(tmp_path)
    failed = [row for row in whole if row.failure]
    assert len(failed) == 1
    assert math.isnan(failed[0].heldout_ap)
    dense = whole.dense()
    assert np.isnan(dense.values).sum() == 1
    retried = Row(*failed[0].pair, 0.5, 0.5, 0.5, 1.0, "cpu", "1")
    assert LookupTable.merge([whole, LookupTable([retried])])[retried.pair] == retried


def test_dense_puts_every_ap_at_its_place(tmp_path: Path) -> None:
    whole = build_whole(tmp_path)
    dense = whole.dense("test_ap", data_sets=["server", "cats"])
    assert dense.values.shape == (6, 2)
    for k, text in enumerate(dense.configurations):
        row = whole[Pair("hpo", "server", text, "smoke", 0)]
        assert dense.values[k, 0] == row.test_ap
    second = [Row(*row.pair._replace(seed=1), 0.5, 0.5, 0.5, 1.0, "cpu", "1") for row in whole]
    both = LookupTable([*whole, *second])
    with pytest.raises(DataError, match="several rows"):
        both.dense()
    assert (both.select(seed=1).dense().values == 0.5).all()


def test_damage_inside_a_file_is_reported_with_its_line(tmp_path: Path) -> None:
    build_whole(tmp_path)
    path = tmp_path / "whole.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:2], lines[2][:40] + b"\n", *lines[3:]]))
    with pytest.raises(DataError, match=r"whole\.jsonl:3"):
        LookupTable.load(path)
    with pytest.raises(DataError, match=r"whole\.jsonl:3"):
        TableFile(path)


@given(
    st.dictionaries(
        st.text(min_size=1),
        st.one_of(st.text(), st.integers(), st.booleans(), st.floats(allow_nan=False, allow_infinity=False)),
    )
)
def test_canonical_strings_ignore_order_and_come_back(parameters: dict[str, object]) -> None:
    backwards = dict(reversed(list(parameters.items())))
    text = canonical(parameters)
    assert canonical(backwards) == text
    assert parameters_of(text) == parameters
    assert canonical(parameters_of(text)) == text


def test_values_that_do_not_fit_are_refused() -> None:
    assert canonical({"negp": 2.0}) == canonical({"negp": np.int64(2)}) == '{"negp":2}'
    with pytest.raises(DataError, match="lr"):
        canonical({"lr": math.nan})
    with pytest.raises(DataError, match="not in"):
        Row(*PAIRS[0], 1.5, 0.5, 0.5, 1.0, "cpu", "1")
    with pytest.raises(DataError, match="without a failure"):
        Row(*PAIRS[0], math.nan, 0.5, 0.5, 1.0, "cpu", "1")


def test_seeds_are_averaged_where_a_data_set_was_measured_wholly() -> None:
    def row(data_set: str, configuration: str, seed: int, ap: float, failure: str = "") -> Row:
        return Row(
            "hpo", data_set, configuration, "table", seed, ap, ap / 2, ap / 4, 2.0, "cpu", "1", failure
        )

    table = LookupTable(
        [
            *(row("cats", text, seed, ap) for seed, ap in ((3, 0.2), (5, 0.4)) for text in "ab"),
            # The second seed lacks b: a mean for a alone would make it the less noisy one.
            *(row("masks", text, 0, 0.6) for text in "ab"),
            row("masks", "a", 1, 1.0),
            row("video", "a", 0, 0.5),
            row("video", "a", 1, math.nan, failure="diverged"),
        ]
    )
    found = {(each.data_set, each.configuration): each for each in table.over_seeds()}
    assert len(found) == 5
    assert found["cats", "a"].seed == 3
    assert found["cats", "a"].val_ap == pytest.approx(0.3)
    assert found["cats", "b"].test_ap == pytest.approx(0.15)
    assert found["cats", "b"].heldout_ap == pytest.approx(0.075)
    assert found["cats", "b"].seconds == 4.0
    assert found["masks", "a"].val_ap == 0.6
    assert found["video", "a"].failure == "diverged"
    assert math.isnan(found["video", "a"].val_ap)


CURVE = ((1 / 3, 0.25), (2 / 3, 0.125), (1.0, 0.5))


def test_a_curve_outlives_every_file_and_a_table_without_curves_is_as_before(tmp_path: Path) -> None:
    def with_curve(*pair: object) -> SimpleNamespace:
        return SimpleNamespace(val_ap=0.5, test_ap=0.4, heldout_ap=0.45, seconds=1.0, curve=CURVE)

    measure_pairs(PAIRS[:2], with_curve, tmp_path / "curves.jsonl", "cpu", "1")
    measured = LookupTable.load(tmp_path / "curves.jsonl")
    mixed = LookupTable.merge([measured, build_whole(tmp_path)])
    mixed.save(tmp_path / "mixed.csv.gz")
    again = LookupTable.load(tmp_path / "mixed.csv.gz")
    assert again == mixed
    assert again[PAIRS[0]].curve == CURVE
    assert again[PAIRS[3]].curve == ()
    assert "curve" not in build_whole(tmp_path / "plain").to_csv()


def test_the_curve_of_seeds_together_is_their_mean() -> None:
    rows = [
        Row(
            "hpo", "cats", "{}", "curves", seed, 0.5, 0.5, 0.5, 1.0, "cpu", "1", curve=((0.5, ap), (1.0, 0.5))
        )
        for seed, ap in enumerate((0.25, 0.75))
    ]
    assert next(iter(LookupTable(rows).over_seeds())).curve == ((0.5, 0.5), (1.0, 0.5))


@pytest.mark.parametrize("curve", [((0.5, 0.1), (0.5, 0.2)), ((1.5, 0.1),), ((0.0, 0.1),), ((0.5, 1.1),)])
def test_a_curve_that_cannot_be_is_refused(curve: tuple[tuple[float, float], ...]) -> None:
    with pytest.raises(DataError, match="its curve has AP"):
        Row("hpo", "cats", "{}", "curves", 0, 0.5, 0.5, 0.5, 1.0, "cpu", "1", curve=curve)
