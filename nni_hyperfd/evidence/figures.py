"""The figures of the results page, with matplotlib (the extra ``bench``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.stats import spearmanr
from sklearn.manifold import TSNE

from nni_hyperfd.evidence.comparison import (
    Outcome,
    Scenario,
    expected_rank_at_random,
    mean_and_errors,
    over_customers,
)

MARKERS = "osv^D<>p"
Panels = Mapping[str, Sequence[Outcome]]


def budgets(panels: Panels, chance: Mapping[str, Sequence[float]], path: Path) -> None:
    """Figure 3: mean normalized rank against the budget, one panel a space, bands of one standard error over seeds.

    Args:
        panels: Space -> one outcome a method.
        chance: Space -> expected rank of random search at budgets 2, 3, ...
        path: PNG.
    """
    figure, axes = plt.subplots(
        1, len(panels), figsize=(5.5 * len(panels), 4.2), squeeze=False, sharey=True, layout="constrained"
    )
    for axis, (space, outcomes) in zip(axes[0], panels.items()):
        axis.plot(range(2, 2 + len(chance[space])), chance[space], "k--", linewidth=1, label="random (exact)")
        for outcome in outcomes:
            found = [mean_and_errors(rank) for rank in outcome.rank]
            mean, error = np.array([each[0] for each in found]), np.array([each[1] for each in found])
            ours = outcome.method.startswith("hyperfd")
            (line,) = axis.plot(
                outcome.budgets,
                mean,
                marker="o",
                markersize=3,
                linewidth=2.2 if ours else 1,
                label=outcome.method,
            )
            axis.fill_between(
                outcome.budgets, mean - error, mean + error, alpha=0.15, color=line.get_color(), linewidth=0
            )
        axis.set(title=space.upper(), xlabel="trials per data set", ylim=(0, None))
        axis.grid(alpha=0.3)
    axes[0, 0].set_ylabel("normalized rank of the best found, %")
    axes[0, -1].legend(fontsize=7)
    _save(figure, path)


def prices(panels: Panels, path: Path) -> None:
    """Mean normalized rank against price, one panel a space, bands of the 95 % interval over customers around ours."""
    figure, axes = plt.subplots(
        1, len(panels), figsize=(6.5 * len(panels), 5), squeeze=False, layout="constrained"
    )
    for axis, (space, outcomes) in zip(axes[0], panels.items()):
        for number, outcome in enumerate(outcomes):
            ours = outcome.method.startswith("hyperfd")
            (line,) = axis.plot(
                outcome.budgets,
                outcome.rank.mean(axis=(1, 2)),
                marker=MARKERS[number % len(MARKERS)],
                markersize=4,
                linewidth=2.2 if ours else 1,
                linestyle="-" if number < 10 else "--",
                label=outcome.method,
            )
            if ours:
                found = [over_customers(outcome, price)[0] for price in outcome.budgets]
                low, high = [each.low for each in found], [each.high for each in found]
                axis.fill_between(outcome.budgets, low, high, alpha=0.12, color=line.get_color(), linewidth=0)
        top = max((np.sort(each.rank.mean(axis=(1, 2)))[-2:].min() for each in outcomes), default=50.0)
        axis.set(title=space.upper(), xlabel="price, in full trainings", ylim=(0, min(top, 60.0)))
        axis.grid(alpha=0.3)
    axes[0, 0].set_ylabel("normalized rank of what is in hand, %")
    figure.legend(*axes[0, -1].get_legend_handles_labels(), fontsize=7, loc="outside right upper")
    _save(figure, path)


def orders(panels: Panels, scenarios: Mapping[str, Scenario], path: Path) -> None:
    """Figure 4: distribution of the mean normalized rank over orders of tasks, one row a method and space."""
    rows = [(space, outcome) for space, outcomes in panels.items() for outcome in outcomes]
    figure, axis = plt.subplots(figsize=(7, 0.8 + 0.6 * len(rows)), layout="constrained")
    rng = np.random.default_rng(0)
    for place, (space, outcome) in enumerate(rows):
        means = outcome.rank[0].mean(axis=1)
        axis.boxplot(means, positions=[place], orientation="horizontal", widths=0.5, showfliers=False)
        axis.plot(means, place + rng.uniform(-0.15, 0.15, len(means)), ".", markersize=4, alpha=0.6)
        chance = expected_rank_at_random(scenarios[space], outcome.budgets[0])
        axis.plot(
            [chance, chance], [place - 0.35, place + 0.35], "r-", label=None if place else "random, expected"
        )
    labels = [f"{space.upper()}, {each.method} ({each.rank.shape[1]} orders)" for space, each in rows]
    axis.set_yticks(range(len(rows)), labels)
    axis.set_xlabel("normalized rank, mean over data sets, %")
    axis.legend(fontsize=8)
    _save(figure, path)


def meta_features(panels: Mapping[str, Mapping[str, NDArray[np.floating]]], path: Path) -> None:
    """Figure 5: t-SNE of meta-features.

    Args:
        panels: Space -> data set -> ``[samples, 64]``.
        path: PNG.
    """
    figure, axes = plt.subplots(
        1, len(panels), figsize=(6 * len(panels), 5), squeeze=False, layout="constrained"
    )
    for axis, (space, sets) in zip(axes[0], panels.items()):
        everything = np.concatenate(list(sets.values()))
        flat = TSNE(perplexity=min(30, len(everything) // 4), random_state=0).fit_transform(everything)
        start = 0
        for number, (name, rows) in enumerate(sets.items()):
            part = flat[start : start + len(rows)]
            axis.plot(part[:, 0], part[:, 1], ".", color=plt.get_cmap("tab20")(number % 20), label=name)
            start += len(rows)
        axis.set(title=f"warmed up on {space.upper()}", xticks=[], yticks=[])
    axes[0, -1].legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    _save(figure, path)


def correlations(scenarios: Mapping[str, Scenario], path: Path) -> dict[str, NDArray[np.float64]]:
    """Figure 9 of the paper's appendix: rank correlation of configurations between data sets.

    Returns:
        Space -> ``[sets, sets]`` Spearman correlations, the server's own row last where it is complete.
    """
    figure, axes = plt.subplots(
        1, len(scenarios), figsize=(6.5 * len(scenarios), 5.6), squeeze=False, layout="constrained"
    )
    found = {}
    for axis, (space, scenario) in zip(axes[0], scenarios.items()):
        values, names = columns(scenario)
        matrix = np.atleast_2d(spearmanr(values, nan_policy="omit").statistic)
        found[space] = matrix
        image = axis.imshow(matrix, vmin=-1, vmax=1, cmap="RdBu_r")
        axis.set_xticks(range(len(names)), names, rotation=90, fontsize=8)
        axis.set_yticks(range(len(names)), names, fontsize=8)
        for (i, j), value in np.ndenumerate(matrix):
            told = "–" if np.isnan(value) else f"{value:.1f}"  # of what ties throughout there is no ranking
            axis.text(j, i, told, ha="center", va="center", fontsize=6)
        axis.set_title(space.upper())
    figure.colorbar(image, ax=axes[0].tolist(), shrink=0.7)
    _save(figure, path)
    return found


def columns(scenario: Scenario) -> tuple[NDArray[np.float64], list[str]]:
    """``[K, sets]`` judged APs of the customers and, where it has no gap, the server."""
    values, names = scenario.judge, list(scenario.tasks)
    experience = scenario.experience
    if experience.server is not None:
        own = experience.aps[experience.server, : experience.candidates]
        if not np.isnan(own).any():
            values, names = np.column_stack([values, own]), [*names, "server"]
    return values, names


def _save(figure: Figure, path: Path) -> None:
    # No date and no version in the file: the same figures give the same bytes.
    figure.savefig(path, dpi=110, metadata={"Software": None})
    plt.close(figure)
