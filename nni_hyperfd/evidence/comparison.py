"""The paper's protocol on a lookup table (METHOD.md §10): tasks in random order, B trials each, many seeds.

Normalized rank is position / K in percent, positions counted from 1: for random search it is (K + 1) / (K (B + 1)) on average, which
for 200 configurations and four trials is 20.10 %, the paper's own figure for random search. The paper's figure therefore
chooses and ranks by one and the same AP; with separate APs (choose by val, rank by test) even random search comes out higher.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln
from scipy.stats import rankdata, spearmanr

from nni_hyperfd.errors import DataError
from nni_hyperfd.evidence.bootstrap import Interval, bootstrap
from nni_hyperfd.evidence.rivals.base import Known, Profile, Rival, Study
from nni_hyperfd.files import replacing

FloatArray = NDArray[np.float64]

BUDGETS = tuple(range(2, 11))
SEEDS = tuple(range(20))


@dataclass(frozen=True, eq=False)
class Scenario:
    """One search space, one way to measure, and the customers.

    Args:
        name: Such as ``hpo, val -> test``.
        experience: What all methods know beforehand.
        tasks: ``D`` names.
        profiles: ``D`` profiles.
        choose: ``[K, D]`` AP that a trial reports and by which the best one is chosen.
        judge: ``[K, D]`` AP by which the choice is ranked. A pair that is NaN in either is a failed training.

    Raises:
        DataError: The shapes do not fit each other, or all trainings of a task failed.
    """

    name: str
    experience: Known
    tasks: tuple[str, ...]
    profiles: tuple[Profile, ...]
    choose: FloatArray
    judge: FloatArray

    def __post_init__(self) -> None:
        shape = (self.experience.candidates, len(self.tasks))
        if self.choose.shape != shape or self.judge.shape != shape or len(self.profiles) != shape[1]:
            raise DataError(
                f"scenario {self.name}: APs of shape {self.choose.shape} and {self.judge.shape} and {len(self.profiles)} "
                f"profiles for {shape[0]} candidates and {shape[1]} tasks."
            )
        failed = np.isnan(self.choose) | np.isnan(self.judge)
        if failed.all(axis=0).any():
            raise DataError(f"scenario {self.name}: a task has no successful training at all.")
        object.__setattr__(self, "choose", np.where(failed, np.nan, self.choose))
        object.__setattr__(self, "judge", np.where(failed, np.nan, self.judge))


def normalized_ranks(aps: FloatArray) -> FloatArray:
    """Position of each AP among all, in percent: the best of K distinct ones has 100/K, the worst 100, ties their mean.

    Args:
        aps: ``[K, ...]``; NaN (failed) is not counted and stays NaN.
    """
    ranks = rankdata(-aps, method="average", axis=0, nan_policy="omit")
    return 100.0 * ranks / (~np.isnan(aps)).sum(axis=0)


def expected_at_random(choose: FloatArray, values: FloatArray, budget: int) -> float:
    """Exact mean of ``values`` at the best of ``budget`` random configurations, drawn without replacement.

    Args:
        choose: ``[K]`` by which the best is chosen; NaN is never drawn.
        values: ``[K]`` what is averaged; among tied best ones their mean counts.
        budget: Trials, at least 1.
    """
    valid = ~np.isnan(choose)
    choose, values = choose[valid], values[valid]
    budget = min(budget, len(choose))
    levels, group, sizes = np.unique(-choose, return_inverse=True, return_counts=True)
    # All draws at or below a level: C(left, B) of C(K, B).
    left = len(choose) - np.concatenate([[0], np.cumsum(sizes)])
    none_better = np.exp(_log_binomial(left, budget) - _log_binomial(np.array([len(choose)]), budget))
    probability = none_better[:-1] - none_better[1:]
    means = np.bincount(group, weights=values, minlength=len(levels)) / sizes
    return float(probability @ means)


def _log_binomial(n: NDArray[np.integer], k: int) -> FloatArray:
    with np.errstate(invalid="ignore"):
        value = gammaln(n + 1) - gammaln(k + 1) - gammaln(np.maximum(n - k, 0) + 1)
    return np.where(n >= k, value, -np.inf)


@dataclass(frozen=True, eq=False)
class Outcome:
    """What one method reached.

    Args:
        method: Its name.
        scenario: Name of the scenario.
        tasks: ``D`` names.
        budgets: ``N`` budgets.
        rank: ``[N, seeds, D]`` normalized rank in percent, lower is better.
        ap: ``[N, seeds, D]`` judged AP of the best found, in [0, 1].
        random_ap: ``[N, D]`` the same for random search, exactly.
    """

    method: str
    scenario: str
    tasks: tuple[str, ...]
    budgets: tuple[int, ...]
    rank: FloatArray
    ap: FloatArray
    random_ap: FloatArray

    def delta_ap(self) -> FloatArray:
        """``[N, seeds]`` ΔAP in AP points (0–100): gain over random search, summed over tasks."""
        return 100.0 * (self.ap - self.random_ap[:, None]).sum(axis=2)


def mean_and_errors(values: FloatArray) -> tuple[float, float, float]:
    """Mean of ``[seeds, tasks]``, its standard error over seeds and its standard error over tasks.

    The first says how well the mean *on these tasks* is known, and is 0 for a method without randomness; the second how much
    it would move with other tasks of the kind.
    """
    over = [values.mean(axis=axis) for axis in (1, 0)]
    errors = [each.std(ddof=1) / math.sqrt(len(each)) if len(each) > 1 else math.nan for each in over]
    return float(values.mean()), float(errors[0]), float(errors[1])


def paired_difference(first: Outcome, second: Outcome, budget: int) -> tuple[float, float, float]:
    """Mean of first − second in normalized rank, with its standard errors over seeds and over tasks.

    Pairs are tight: equal seeds see the tasks in equal order.
    """
    differences = first.rank[first.budgets.index(budget)] - second.rank[second.budgets.index(budget)]
    return mean_and_errors(differences)


def shared_seeds(*outcomes: Outcome) -> list[Outcome]:
    """Outcomes cut to the seeds that all have, so that pairs see the tasks in equal orders."""
    count = min(each.rank.shape[1] for each in outcomes)
    return [replace(each, rank=each.rank[:, :count], ap=each.ap[:, :count]) for each in outcomes]


def over_customers(outcome: Outcome, budget: int) -> tuple[Interval, Interval]:
    """Normalized rank and ΔAP (in AP points, summed over tasks) with their intervals over customers."""
    at = outcome.budgets.index(budget)
    gain = 100.0 * (outcome.ap[at] - outcome.random_ap[at]).mean(axis=0)
    return bootstrap(outcome.rank[at].mean(axis=0)), bootstrap(gain).scaled(len(gain))


def paired_over_customers(first: Outcome, second: Outcome, budget: int) -> tuple[Interval, Interval]:
    """First − second in normalized rank and in ΔAP, with the intervals of the bootstrap that draws customers, paired.

    A draw takes both methods' results of the customers drawn: what makes a customer hard for all is in neither interval. Within a customer,
    the seeds that both have are averaged.
    """
    one, two = shared_seeds(first, second)
    a, b = one.budgets.index(budget), two.budgets.index(budget)
    gain = 100.0 * (one.ap[a] - two.ap[b]).mean(axis=0)
    return bootstrap((one.rank[a] - two.rank[b]).mean(axis=0)), bootstrap(gain).scaled(len(gain))


def run_rival(
    rival: Rival,
    scenario: Scenario,
    budgets: Sequence[int] = BUDGETS,
    seeds: Sequence[int] = SEEDS,
    progress: Callable[[int, int], None] | None = None,
) -> Outcome:
    """Runs one method: for each budget and seed all tasks in a random order that depends on the seed alone.

    Args:
        rival: Begins each budget and seed anew.
        scenario: Its tasks, and what is known before them.
        budgets: Numbers of trials.
        seeds: Of the order of the tasks and of the rival.
        progress: Called with (budget, seed) when a run is finished.

    Raises:
        DataError: The method left trials unused.
    """
    shape = (len(budgets), len(seeds), len(scenario.tasks))
    ranks = normalized_ranks(scenario.judge)
    rank, ap = np.full(shape, np.nan), np.full(shape, np.nan)
    for s, seed in enumerate(seeds):
        for b, budget in enumerate(budgets):
            rival.reset(scenario.experience, seed)
            for d in task_order(len(scenario.tasks), seed):
                study = Study(scenario.profiles[d], budget, scenario.choose[:, d])
                rival.search(study)
                if study.left:
                    raise DataError(
                        f"{rival.name} left {study.left} of {budget} trials unused on {scenario.tasks[d]}."
                    )
                best = best_found(study)
                rank[b, s, d] = ranks[best, d].mean()
                ap[b, s, d] = scenario.judge[best, d].mean()
            if progress is not None:
                progress(budget, seed)
    random_ap = [
        [expected_at_random(scenario.choose[:, d], scenario.judge[:, d], budget) for d in range(shape[2])]
        for budget in budgets
    ]
    return Outcome(rival.name, scenario.name, scenario.tasks, tuple(budgets), rank, ap, np.array(random_ap))


def task_order(tasks: int, seed: int) -> list[int]:
    """The order in which the customers come; the same for all methods."""
    return [int(d) for d in np.random.default_rng([seed, 1]).permutation(tasks)]


def best_found(study: Study) -> list[int]:
    """Indices of the best trial, several if they tie."""
    top = np.nanmax([trial.ap for trial in study.trials])
    return [trial.index for trial in study.trials if trial.ap == top]


def expected_rank_at_random(scenario: Scenario, budget: int) -> float:
    """Mean normalized rank of random search over the tasks, exactly."""
    ranks = normalized_ranks(scenario.judge)
    tasks = range(len(scenario.tasks))
    return float(np.mean([expected_at_random(scenario.choose[:, d], ranks[:, d], budget) for d in tasks]))


@dataclass(frozen=True)
class SeedNoise:
    """How far two training seeds agree: the floor for every method.

    Attributes:
        pairs: Pairs measured with both seeds.
        deviation: Standard deviation of one measurement's noise (of the difference, divided by √2), AP in [0, 1].
        correlation: Mean Spearman correlation within data sets that have at least six such pairs.
        oracle_rank: Mean normalized rank, among these pairs by the second seed, of the best configuration by the first.
        floor: What that would be without noise: 100 / pairs of a data set, in the mean.
    """

    pairs: int
    deviation: float
    correlation: float
    oracle_rank: float
    floor: float


def noise(first: FloatArray, second: FloatArray) -> SeedNoise:
    """Compares two measurements ``[K, D]`` of one table; NaN where a pair was not measured.

    Raises:
        DataError: No pair was measured twice.
    """
    both = ~np.isnan(first) & ~np.isnan(second)
    if not both.any():
        raise DataError("noise: no pair was measured with both seeds.")
    differences = (first - second)[both]
    correlations, oracles, floors = [], [], []
    for d in np.flatnonzero(both.sum(axis=0) >= 6):
        a, b = first[both[:, d], d], second[both[:, d], d]
        if np.ptp(a) and np.ptp(b):  # one AP for all has no order
            correlations.append(spearmanr(a, b).statistic)
        oracles.append(normalized_ranks(b)[a == a.max()].mean())
        floors.append(100.0 / len(b))
    mean = [float(np.mean(each)) if each else math.nan for each in (correlations, oracles, floors)]
    return SeedNoise(int(both.sum()), float(np.sqrt((differences**2).mean() / 2)), *mean)


def markdown(
    outcomes: Iterable[Outcome], budget: int, paper: Mapping[str, tuple[float, float]] | None = None
) -> str:
    """A table of normalized rank and ΔAP at one budget.

    Args:
        outcomes: One a method.
        budget: Which budget.
        paper: Method -> (ΔAP, rank) as published, shown beside ours.
    """
    lines = [
        "| method | rank % ↓ | ± seeds | ± tasks | ΔAP ↑ | ± seeds |"
        + (" paper rank | paper ΔAP |" if paper else ""),
        "|---|---|---|---|---|---|" + ("---|---|" if paper else ""),
    ]
    for outcome in outcomes:
        at = outcome.budgets.index(budget)
        mean, seeds, tasks = mean_and_errors(outcome.rank[at])
        gain, gain_error, _ = mean_and_errors(outcome.delta_ap()[at][:, None])
        line = (
            f"| {outcome.method} | {mean:.2f} | {seeds:.2f} | {tasks:.2f} | {gain:+.2f} | {gain_error:.2f} |"
        )
        if paper:
            published = paper.get(outcome.method)
            line += f" {published[1]:.2f} | {published[0]:+.2f} |" if published else " – | – |"
        lines.append(line)
    return "\n".join(lines) + "\n"


def save(outcomes: Iterable[Outcome], path: Path) -> None:
    """Writes every single result as csv: scenario, method, budget, seed position, task, rank, ap, random_ap."""
    with replacing(path) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["scenario", "method", "budget", "seed", "task", "rank", "ap", "random_ap"])
        for outcome in outcomes:
            for (b, s, d), rank in np.ndenumerate(outcome.rank):
                where = [outcome.scenario, outcome.method, outcome.budgets[b], s, outcome.tasks[d]]
                writer.writerow(
                    [*where, f"{rank:.4f}", f"{outcome.ap[b, s, d]:.5f}", f"{outcome.random_ap[b, d]:.5f}"]
                )
