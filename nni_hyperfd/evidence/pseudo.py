"""Pseudo-customers out of offline sets, so that a variant can be chosen without looking at any customer.

Customers differ from parts of the server's data in *one* direction (they are other domains) and among themselves. So the
offline sets are ordered along a principal axis of what their images look like; one end of it becomes a few customers, the
rest, without sets that share many images with them, is the experience. Each end of each axis is one scenario.

A single offline set has a handful of results. A pseudo-customer is a cluster of similar ones: an offset for each set and an effect for
each configuration are fitted to all their results, and the effects are what its trials report.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA

from nni_hyperfd.errors import DataError
from nni_hyperfd.evidence.comparison import Scenario
from nni_hyperfd.evidence.rivals.base import FloatArray, Known, Profile
from nni_hyperfd.evidence.scenario import profile_of

AXES = 4
END = 0.4
"""Share of the offline sets at one end of an axis that become customers."""
MOST_SHARED = 0.5
"""A set that overlaps one of them by more (intersection over union) is not in the experience either."""
NEIGHBOURS = 5
"""Sets beside the first that make one of many pseudo-customers, or as many as a third of those at its end."""
LEAST = 8
"""Configurations that a pseudo-customer must have results of."""


def pseudo_scenarios(experience: Known, customers: int = 4) -> list[Scenario]:
    """Both ends of each axis.

    Args:
        experience: The offline table; the server's own row is left out, as it holds all images.
        customers: Pseudo-customers at an end.

    Raises:
        DataError: There are too few offline sets for that.
    """
    rows = [row for row in range(len(experience.data_sets)) if row != experience.server]
    if len(rows) < 5 * customers:
        raise DataError(
            f"{len(rows)} offline sets are too few for {customers} pseudo-customers and an experience; measure more."
        )
    places = _places(experience, rows)
    found = []
    for axis in range(AXES):
        for side in (1, -1):
            order = np.argsort(side * places[:, axis])
            end = order[: round(END * len(rows))]
            groups = KMeans(customers, n_init=5, random_state=0).fit_predict(places[end])
            clusters = [[rows[i] for i in end[groups == group]] for group in range(customers)]
            rest = [rows[i] for i in order[len(end) :]]
            scenario = _scenario(experience, clusters, rest, f"axis {axis} {'+' if side > 0 else '-'}")
            if scenario is not None:
                found.append(scenario)
    return found


def in_a_row(experience: Known, customers: int, seed: int, axis: int = 0) -> Scenario:
    """Many pseudo-customers of a kind that the experience has not: does the last one start better than the first?

    One end of an axis of appearance is where all customers come from. Each is a random set of that end and :data:`NEIGHBOURS` of the sets most
    like it, so that customers resemble each other more than the experience, as those of one product would. Of few sets some are drawn
    again, which is kind to whoever remembers.

    Args:
        experience: The offline table.
        customers: Of the scenario, in their order.
        seed: Of the draws.
        axis: Whose upper end it is.

    Raises:
        DataError: There are too few offline sets for that.
    """
    rows = [row for row in range(len(experience.data_sets)) if row != experience.server]
    if (beside := min(NEIGHBOURS, round(END * len(rows)) // 3)) < 2:
        raise DataError(f"{len(rows)} offline sets are too few for pseudo-customers in a row; measure more.")
    places = _places(experience, rows)
    order = np.argsort(places[:, axis])
    end, others = order[: round(END * len(rows))], order[round(END * len(rows)) :]
    rng = np.random.default_rng([seed, 4])
    clusters: list[list[int]] = []
    while len(clusters) < customers:
        near = np.argsort(((places[end] - places[rng.choice(end)]) ** 2).sum(axis=1))[: 2 * beside + 1]
        clusters.append([rows[i] for i in end[np.r_[near[0], rng.choice(near[1:], beside, replace=False)]]])
    found = _scenario(experience, clusters, [rows[i] for i in others], f"in a row {seed}")
    if found is None or len(found.tasks) < customers:
        raise DataError(f"pseudo-customers have fewer than {LEAST} results each; measure more offline pairs.")
    return found


def _places(experience: Known, rows: list[int]) -> FloatArray:
    looks = np.stack([experience.profiles[row].images.mean(axis=0) for row in rows])
    looks = (looks - looks.mean(axis=0)) / np.maximum(looks.std(axis=0), 1e-6)
    return np.asarray(PCA(AXES, random_state=0).fit_transform(looks))


def _scenario(experience: Known, clusters: list[list[int]], rest: list[int], name: str) -> Scenario | None:
    members = [frozenset(profile.members.tolist()) for profile in experience.profiles]
    taken = [row for cluster in clusters for row in cluster]
    rest = [row for row in rest if all(_overlap(members[row], members[t]) <= MOST_SHARED for t in taken)]
    columns, profiles = [], []
    for cluster in clusters:
        values = effects(experience.aps[cluster])
        if (~np.isnan(values)).sum() >= LEAST:
            columns.append(values)
            profiles.append(_union([experience.profiles[row] for row in cluster]))
    if len(rest) < 2 or not columns:
        return None
    known = replace(
        experience,
        candidates=len(experience.configurations),
        data_sets=tuple(experience.data_sets[row] for row in rest),
        profiles=tuple(experience.profiles[row] for row in rest),
        aps=experience.aps[rest],
        server=None,
    )
    table = np.stack(columns, axis=1)
    names = tuple(f"cluster {index}" for index in range(len(columns)))
    return Scenario(name, known, names, tuple(profiles), table, table)


def effects(aps: FloatArray) -> FloatArray:
    """``[U]`` effects of configurations over similar sets, NaN where none was measured; on the sets' mean level.

    Args:
        aps: ``[S, U]``, NaN where not measured. An effect that rests on few results is pulled to the mean.
    """
    sets, configurations = np.nonzero(~np.isnan(aps))
    values = aps[sets, configurations]
    seen, place = np.unique(configurations, return_inverse=True)
    design = np.zeros((len(values), len(aps) + len(seen)))
    design[np.arange(len(values)), sets] = 1.0
    design[np.arange(len(values)), len(aps) + place] = 1.0
    doubt = np.diag(np.r_[np.full(len(aps), 1e-9), np.ones(len(seen))])
    solved = np.linalg.solve(design.T @ design + doubt, design.T @ values)
    found = np.full(aps.shape[1], np.nan)
    found[seen] = values.mean() + solved[len(aps) :]
    return found


def _union(profiles: list[Profile]) -> Profile:
    members: NDArray[np.integer] = np.unique(np.concatenate([profile.members for profile in profiles]))
    first = profiles[0]
    if first.source is None:
        raise DataError("pseudo-customers are made from image features, but the offline sets have none.")
    return profile_of(first.source, first.pool, members)


def _overlap(first: frozenset[int], second: frozenset[int]) -> float:
    return len(first & second) / len(first | second)
