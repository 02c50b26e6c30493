"""The results page: each table of the paper with our figures, their standard errors, and the paper's beside them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
from scipy.stats import spearmanr

from nni_hyperfd.evidence.comparison import (
    Outcome,
    Scenario,
    SeedNoise,
    expected_rank_at_random,
    mean_and_errors,
    normalized_ranks,
    over_customers,
    paired_difference,
    paired_over_customers,
    shared_seeds,
)
from nni_hyperfd.evidence.published import PUBLISHED

OVER = "95 % over customers"


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A markdown table."""
    body = [list(head), ["---"] * len(head), *map(list, rows)]
    return "\n".join(f"| {' | '.join(row)} |" for row in body) + "\n"


def comparison(
    space: str,
    outcomes: Mapping[str, Outcome | None],
    absent: Callable[[str], str],
    ndcg: Mapping[str, float | None] | None = None,
) -> str:
    """One line a method at its first budget.

    Args:
        space: ``hpo`` or ``nas``, for the paper's figures.
        outcomes: Method -> its outcome, None if it has none.
        absent: Why a method has none.
        ndcg: Method -> NDCG of its warm-up, as a further column.
    """
    rows, reasons = [], []
    for name, outcome in outcomes.items():
        paper = PUBLISHED[space].get(name)
        theirs = (
            ["–", "–"]
            if paper is None
            else [f"{paper[1]:.2f}", "–" if paper[0] is None else f"{paper[0]:+.2f}"]
        )
        if outcome is None:
            ours = ["–"] * 5
            reasons.append(f"`{name}` is missing: {absent(name)}")
        else:
            mean, seeds, _ = mean_and_errors(outcome.rank[0])
            gain, gain_error, _ = mean_and_errors(outcome.delta_ap()[0][:, None])
            over, gain_over = over_customers(outcome, outcome.budgets[0])
            ours = [
                f"{mean:.2f} ± {two_digits(seeds)}",
                str(over),
                f"{gain:+.2f} ± {two_digits(gain_error)}",
                str(gain_over),
                str(outcome.rank.shape[1]),
            ]
        if ndcg is not None:
            value = ndcg.get(name)
            ours.insert(0, "–" if value is None else f"{value:.3f}")
        rows.append([f"**{name}**" if name.startswith("hyperfd") else name, *ours, *theirs])
    head = ["method", "rank % ↓", OVER, "ΔAP ↑", OVER, "seeds", "paper: rank", "paper: ΔAP"]
    if ndcg is not None:
        head.insert(1, "NDCG held out ↑")
    return markdown_table(head, rows) + "".join(f"\n*{reason}*\n" for reason in reasons)


def two_digits(value: float) -> str:
    """Two digits, or a dash where there is none (the error of a single seed)."""
    return "–" if math.isnan(value) else f"{value:.2f}"


def duels(ours: Outcome, others: Iterable[Outcome], budget: int = 4) -> str:
    """How far ``ours`` is ahead of each other method, on the seeds that both have: a negative difference in rank is better.

    Two verdicts side by side: whether seeds tell them apart (their errors do not touch) and whether customers do (the paired
    interval leaves out 0).
    """
    rows = []
    for other in others:
        cut = shared_seeds(ours, other)
        mean, seeds, _ = paired_difference(cut[0], cut[1], budget)
        rank, gain = paired_over_customers(ours, other, budget)
        first, second = (mean_and_errors(o.rank[o.budgets.index(budget)]) for o in (ours, other))
        apart = abs(first[0] - second[0]) > (first[1] + second[1])
        each = [o.rank[o.budgets.index(budget)].mean(axis=0) for o in cut]
        rows.append(
            [
                other.method,
                f"{mean:+.2f} ± {two_digits(seeds)}",
                str(rank),
                f"{gain.mean:+.2f}",
                str(gain),
                f"{int((each[0] < each[1]).sum())} of {len(ours.tasks)}",
                _verdict(mean, apart),
                _verdict(rank.mean, rank.excludes_zero),
            ]
        )
    head = ["against", "difference in rank %, ± seeds", OVER, "in ΔAP", OVER, "better on", "over seeds"]
    return markdown_table([*head, "over customers"], rows)


def _verdict(difference: float, sure: bool) -> str:
    return "even" if not sure else "ahead" if difference < 0 else "behind"


def by_data_set(scenario: Scenario, outcomes: Sequence[Outcome], budget: int = 4) -> str:
    """Mean rank on each data set ± standard deviation over seeds, and AP of the best found, with one budget that all outcomes have."""
    head = ["method", *scenario.tasks, "mean"]
    ranks, aps = [], []
    for outcome in outcomes:
        at = outcome.budgets.index(budget)
        mean, spread = outcome.rank[at].mean(axis=0), outcome.rank[at].std(axis=0)
        cells = [f"{m:.1f} ± {s:.1f}" for m, s in zip(mean, spread)]
        ranks.append([outcome.method, *cells, f"{mean.mean():.2f}"])
        reached = 100 * outcome.ap[at].mean(axis=0)
        aps.append([outcome.method, *(f"{ap:.1f}" for ap in reached), f"{reached.mean():.2f}"])
    best = 100 * np.nanmax(scenario.judge, axis=0)
    aps.append(["the best there is", *(f"{ap:.1f}" for ap in best), f"{best.mean():.2f}"])
    return f"Rank %, mean ± standard deviation over seeds:\n\n{markdown_table(head, ranks)}\nAP@50 of the best found:\n\n{markdown_table(head, aps)}"


def table_facts(scenario: Scenario, other: Scenario) -> str:
    """What the lookup table looks like: spread of AP, and whether val and test agree.

    Args:
        scenario: Judged by the pooled AP.
        other: The same, chosen by val and judged by test.
    """
    rows = []
    for d, name in enumerate(scenario.tasks):
        low, middle, high = (100 * np.nanquantile(scenario.judge[:, d], q) for q in (0, 0.5, 1))
        both = ~np.isnan(other.choose[:, d])
        agree = spearmanr(other.choose[both, d], other.judge[both, d]).statistic
        oracle = normalized_ranks(other.judge)[other.choose[:, d] == np.nanmax(other.choose[:, d]), d].mean()
        rows.append([name, f"{low:.1f}", f"{middle:.1f}", f"{high:.1f}", f"{agree:.2f}", f"{oracle:.1f}"])
    return markdown_table(
        ["data set", "worst AP", "median", "best", "correlation val–test", "test rank % of the best by val"],
        rows,
    )


def noise_sentence(space: str, pooled: SeedNoise | None, across: SeedNoise | None, scenario: Scenario) -> str:
    """What a second training seed says about the table."""
    if pooled is None:
        return f"**{space.upper()}**: no pair was measured with a second seed, so the noise is not known.\n"
    chance = expected_rank_at_random(scenario, 4)
    text = (
        f"**{space.upper()}**: {pooled.pairs} pairs were trained with a second seed. One measurement of the pooled AP has a "
        f"standard deviation of {100 * pooled.deviation:.2f} AP points; within a data set the two seeds' rankings correlate with "
        f"{pooled.correlation:.2f}. A perfect oracle of the first seed, which has tried *all* of these configurations and takes the "
        f"best, ranks at {pooled.oracle_rank:.1f} % among them on the second (without noise: {pooled.floor:.1f} %; random search with four "
        f"trials on the whole table: {chance:.1f} %)"
    )
    if across is not None and not math.isnan(across.oracle_rank):
        text += (
            f"; chosen by val on the first and ranked by test on the second it is {across.oracle_rank:.1f} %"
        )
    return text + ".\n"
