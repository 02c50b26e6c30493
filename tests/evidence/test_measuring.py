"""A plan for offline sets is even; that its parts make the whole is shown in ``test_table.py``."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from nni_hyperfd.evidence.measuring import plan_offline_pairs
from nni_hyperfd.evidence.table import canonical

CONFIGURATIONS = [{"optimizer": o, "lr": lr} for o in ("sgd", "adam") for lr in (3e-4, 1e-3, 3e-3)]


@given(sets=st.integers(1, 9), per_set=st.integers(1, 6), share=st.floats(0.05, 1.0), seed=st.integers(0, 99))
def test_offline_plans_are_distinct_and_even(sets: int, per_set: int, share: float, seed: int) -> None:
    names = [f"s{i}" for i in range(sets)]
    wanted = max(1, int(share * 6 * sets))
    plan = plan_offline_pairs("hpo", CONFIGURATIONS, names, wanted, per_set, "smoke", seed)
    assert len(plan) == len(set(plan)) == wanted
    hands = Counter(pair.data_set for pair in plan)
    assert max(hands.values()) <= 6
    if wanted <= sets * per_set:
        assert max(hands.values()) <= per_set
        assert sum(count == per_set for count in hands.values()) >= wanted // per_set
    uses = Counter(pair.configuration for pair in plan)
    if wanted * 2 <= 6 * sets:
        assert max(uses.values()) - min(uses.get(canonical(c), 0) for c in CONFIGURATIONS) <= 2
    assert plan == plan_offline_pairs("hpo", CONFIGURATIONS, names, wanted, per_set, "smoke", seed)
