"""How far AP patterns spread, against what the figures are made from."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.spread import from_customers, noise, own_spread, patterns, report
from nni_hyperfd.evidence.table import LookupTable, Row


def table(aps: dict[str, list[float]], seed: int = 0) -> LookupTable:
    return LookupTable(
        Row("hpo", name, f'{{"lr":{k}}}', "table", seed, ap / 100, ap / 100, ap / 100, 1.0, "cpu", "v")
        for name, column in aps.items()
        for k, ap in enumerate(column)
        if not np.isnan(ap)
    )


def test_of_a_complete_table_it_is_the_deviation_of_patterns_over_sets() -> None:
    """Against the definition, not by least squares: variance over sets of AP less the set's mean, averaged over configurations."""
    rng = np.random.default_rng(0)
    aps = 50 + 8 * rng.standard_normal((6, 5))
    sets = patterns(table({f"s{d}": column.tolist() for d, column in enumerate(aps)}))
    pattern = aps - aps.mean(axis=1, keepdims=True)
    # Five values about their own mean have four degrees of freedom.
    expected = np.sqrt(pattern.var(axis=0, ddof=1).mean() * 5 / 4)
    spread, left = own_spread(sets)
    assert spread == pytest.approx(expected)
    assert left == 20


def test_sets_that_differ_by_a_constant_have_one_pattern() -> None:
    hole = float("nan")
    sets = patterns(table({"a": [10, 20, 40], "b": [20, 30, 50], "c": [5, hole, 35]}))
    assert own_spread(sets) == (pytest.approx(0, abs=1e-9), 3)
    assert from_customers({"c": sets["c"]}, {"a": sets["a"], "b": sets["b"]}) == pytest.approx(0, abs=1e-9)


def test_distance_from_customers_by_hand() -> None:
    """Customers' mean pattern is (20, 30); less it the set has (20, 0), whose variance is 200; a customer is apart from the others."""
    sets = patterns(table({"a": [10, 20], "b": [30, 40], "far": [40, 30]}))
    customers = {name: sets[name] for name in ("a", "b")}
    assert from_customers({"far": sets["far"]}, customers) == pytest.approx(np.sqrt(200))
    assert from_customers(customers, customers) == pytest.approx(0, abs=1e-9)
    assert np.isnan(from_customers({"a": sets["a"]}, {"a": sets["a"]}))


def test_noise_from_two_seeds_and_the_page() -> None:
    """Differences (-4, 4) have the variance 32, half of which is that of one training."""
    rows = LookupTable.merge([table({"a": [10, 20]}), table({"a": [14, 16]}, seed=1)])
    assert noise(rows) == pytest.approx(4)
    assert np.isnan(noise(table({"a": [10, 20]})))
    other = table({"b": [30, 50], "loose~x": [60, 50]})
    page = report(LookupTable.merge([rows, other]), {"loose~x": "labels: loose"}, "hpo")
    assert "| customers | 2 | 4 |" in page
    assert "| labels: loose | 1 | 2 | – | 0 |" in page
    assert "Noise of one training: 4.00." in page
