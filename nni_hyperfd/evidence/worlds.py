"""Synthetic worlds with learning curves, φ, customers and offline sets, each unkind to a method in a way of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from nni_hyperfd.evidence.curves import CurveScenario, CurveTable, portfolio_order
from nni_hyperfd.recommendation.gaussian.factor import factor


@dataclass(frozen=True)
class World:
    """Deviations of the parts of a final AP within a data set, and what else is peculiar.

    Args:
        common: Of what all data sets share.
        looks: Of what follows from what a data set looks like.
        own: Of what is a data set's own.
        unlike: Whether customers share nothing with the offline sets and look like none of them.
        levels: APs are rounded to so many levels; 0: not rounded.
        opposite: Whether trainings that end well begin badly.
    """

    common: float = 1.0
    looks: float = 0.5
    own: float = 0.5
    unlike: bool = False
    levels: int = 0
    opposite: bool = False


WORLDS: Mapping[str, World] = {
    "φ is worthless": World(looks=0.0, own=1.0),
    "φ is everything": World(common=0.0, looks=1.5, own=0.1),
    "customers unlike all": World(unlike=True),
    "APs tie": World(levels=6),
    "early is opposite": World(opposite=True),
}

SETS, CUSTOMERS, VALIDATIONS = 12, 6, 6


def make(world: World, seed: int, customers: int = CUSTOMERS) -> CurveScenario:
    """One world; the same seed gives the same one.

    Configurations are a grid of 4 × 3 × 2. Final AP is 0.5 plus a data set's level plus 0.05 times the parts, each a smooth function over the grid.
    What is still to come shrinks by half with each validation.
    """
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(np.arange(4.0), np.arange(3.0), np.arange(2.0), indexing="ij"), -1).reshape(
        -1, 3
    )
    count, sets = len(grid), SETS + customers
    root = factor(np.exp(-np.abs(grid[:, None] - grid[None]).sum(-1) / 2))

    def smooth(number: int) -> np.ndarray:
        return rng.standard_normal((number, count)) @ root.T

    looks = rng.standard_normal((sets, 2))
    common, axes, own = smooth(1), smooth(2), smooth(sets)
    parts = world.common * common + world.looks * looks @ axes / np.sqrt(2) + world.own * own
    if world.unlike:
        looks[SETS:] += 6.0
        parts[SETS:] = (world.common + world.looks + world.own) * own[SETS:]
    final = np.clip(0.5 + 0.05 * (rng.standard_normal((sets, 1)) + parts), 0.0, 1.0)
    still = 0.1 + 0.03 * (smooth(1) + 0.5 * smooth(sets))
    if world.opposite:
        still = 0.1 + 2 * (final - final.mean(axis=1, keepdims=True)) + 0.2 * (still - 0.1)
    fade = 2.0 ** -np.arange(1, VALIDATIONS + 1)
    fade[-1] = 0.0
    curves = (
        final[..., None]
        - still[..., None] * 2 * fade
        + 0.004 * rng.standard_normal((*final.shape, VALIDATIONS))
    )
    curves = np.clip(curves, 0.0, 1.0)
    if world.levels:
        curves = np.round(curves * 2 * world.levels) / (2 * world.levels)
        final = np.round(final * 2 * world.levels) / (2 * world.levels)
    # φ has more numbers than mean anything.
    phi = np.concatenate([looks, 0.3 * rng.standard_normal((sets, 4))], axis=1)
    offline = CurveTable(curves[:SETS], grid, phi[:SETS], portfolio_order(curves[:SETS, :, -1]))
    tasks = tuple(f"customer {number}" for number in range(customers))
    return CurveScenario("", offline, curves[SETS:], phi[SETS:], final[SETS:], tasks)
