"""From lookup tables and image features to the scenario that methods are compared on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nni_hyperfd.errors import DataError
from nni_hyperfd.evidence.comparison import Scenario
from nni_hyperfd.evidence.offline_sets import OfflineSet
from nni_hyperfd.evidence.rivals.base import Known, Profile
from nni_hyperfd.evidence.table import SERVER, APColumn, LookupTable
from nni_hyperfd.metafeature.features import CONTEXT_CHANNELS, ImageFeatures


@dataclass(frozen=True)
class Measure:
    """By which AP a trial is chosen and by which the choice is ranked (METHOD.md §10)."""

    choose: APColumn
    judge: APColumn

    @property
    def name(self) -> str:
        """Such as ``val_ap -> test_ap``."""
        return f"{self.choose} -> {self.judge}"


PAPER = Measure("val_ap", "test_ap")
POOLED = Measure("heldout_ap", "heldout_ap")


@dataclass(frozen=True, eq=False)
class Data:
    """Everything but APs.

    Args:
        sets: The offline sets.
        server: Image features of all server images.
        train: ``[n]`` positions of the training images; a set is described by its training images alone.
        whole: ``[m]`` those of them that the server's own rows were trained on: no degraded copies.
        customers: Name -> image features of the customer's training images, in the order of the results.
    """

    sets: tuple[OfflineSet, ...]
    server: ImageFeatures
    train: NDArray[np.integer]
    whole: NDArray[np.integer]
    customers: Mapping[str, ImageFeatures]


def make_scenario(
    space: str,
    customers: LookupTable,
    offline: LookupTable,
    data: Data,
    measure: Measure,
    offline_measure: APColumn = "heldout_ap",
) -> Scenario:
    """Puts one search space's rows into place.

    Args:
        space: Kind, such as ``hpo``.
        customers: Rows of the customers and of ``server``, one budget and one seed. A configuration is a candidate if
            every customer has a row for it, failed or not.
        offline: Rows of offline sets, one budget and one seed.
        data: Sets and features.
        measure: How trials are chosen and ranked.
        offline_measure: The AP that experience consists of; the pooled one is the least noisy.

    Raises:
        DataError: No configuration is known for all customers.
    """
    names = tuple(data.customers)
    rows = customers.select(space=space)
    shared = [{row.configuration for row in rows.select(data_sets=(name,))} for name in names]
    candidates = sorted(set.intersection(*shared)) if shared else []
    if not candidates:
        raise DataError(f"{space}: no configuration is in the table for every one of {', '.join(names)}.")
    known = offline.select(space=space)
    extra = sorted({row.configuration for row in known} - set(candidates))
    configurations = (*candidates, *extra)
    with_rows = {row.data_set for row in known}
    parts = [part for part in data.sets if part.name in with_rows]
    set_names = [part.name for part in parts]
    aps = _place(known, offline_measure, configurations, set_names)
    members = [np.intersect1d(part.members, data.train) for part in parts]

    # The server as a whole is the largest offline set. Methods that need it complete must find it so.
    whole = _place(rows, offline_measure, configurations, [SERVER])
    server = None
    if not np.isnan(whole).all():
        aps = np.concatenate([aps, whole])
        members.append(np.sort(data.whole))
        set_names.append(SERVER)
        server = len(set_names) - 1
    if not set_names:
        raise DataError(f"{space}: there is neither an offline row nor one of {SERVER!r} to learn from.")
    pool = _pool(data.server)
    profiles = tuple(profile_of(data.server, pool, each) for each in members)
    experience = Known(configurations, len(candidates), tuple(set_names), profiles, aps, server)
    tasks = [profile_of(each, _pool(each), np.arange(len(each))) for each in data.customers.values()]
    chosen, judged = (_place(rows, column, candidates, names).T for column in (measure.choose, measure.judge))
    return Scenario(f"{space}, {measure.name}", experience, names, tuple(tasks), chosen, judged)


def _place(
    table: LookupTable,
    column: APColumn,
    configurations: tuple[str, ...] | list[str],
    data_sets: tuple[str, ...] | list[str],
) -> NDArray[np.float64]:
    """``[data sets, configurations]``, NaN where the table has no row or a failed one."""
    dense = table.dense(column, data_sets)
    line = {text: index for index, text in enumerate(dense.configurations)}
    found = np.full((len(data_sets), len(configurations)), np.nan)
    for index, text in enumerate(configurations):
        if text in line:
            found[:, index] = dense.values[line[text]]
    return found


def _pool(features: ImageFeatures) -> NDArray[np.float32]:
    return features.gwap.flatten(1).float().numpy()


def profile_of(features: ImageFeatures, pool: NDArray[np.float32], members: NDArray[np.integer]) -> Profile:
    """The set of the images ``members`` ``[n]`` in ``pool`` ``[N, F]``, with its statistics.

    These are log images, log boxes, mean and deviation of faces an image, share of matched anchors and mean IoU a level.
    The last six say which sizes the faces have: a level's anchors match faces of its own size.
    """
    boxes = features.boxes.numpy()[members].astype(np.float64)
    matched = (
        features.mean[:, :, CONTEXT_CHANNELS : CONTEXT_CHANNELS + 2].double().numpy()[members].mean(axis=0)
    )
    counts = [np.log(len(members)), np.log1p(boxes.sum()), boxes.mean(), boxes.std()]
    return Profile(pool, members, np.concatenate([counts, matched.ravel()]), features)
