r"""A Gaussian process over configurations *and* data sets: sets that look alike are expected to behave alike.

.. math::
    y_{sc} = o_s + g(c) + m(s, c) + h_s(c) + ε

* o: a data set's offset, of which nothing is known beforehand.
* g: what all data sets have in common.
* m: what those have in common that look alike; covariance :math:`\exp(-½ Σ_j ρ_j (z_{sj} - z_{tj})²)\,k_m(c, c')`, z a data set's place.
* h: a data set's own.

g, m and h each have a kernel over configurations: a main effect for each dimension and one joint effect of all of them. The
weights are those of the largest posterior probability given a table, under broad priors, so that a dimension that says
nothing is switched off. Task descriptors in the kernel: Bardenet et al. 2013, Swersky et al. 2013.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import cho_solve, solve_triangular
from torch import Tensor

from nni_hyperfd.recommendation.gaussian.factor import factor
from nni_hyperfd.recommendation.gaussian.observed import FloatArray, observe, typical_spread

OFFSET_VARIANCE = 4.0
"""Of o, in units of the variance within a data set."""
STEPS = 20
"""Of L-BFGS; more of them move the likelihood by less than one."""
CENTERS = {"main": -3.0, "joint": -2.0, "decay": 0.0, "reach": -0.5, "noise": -1.0}
"""Where the priors of the weights' logarithms are centered, and the search begins."""
DEVIATIONS = {"main": 3.0, "joint": 3.0, "decay": 2.0, "reach": 2.0, "noise": 3.0}
"""Deviations of these priors."""
BLOCK = 2**17
"""Distances between configurations, in one dimension each, that are in memory at once where no gradient is wanted: a megabyte, which
stays in a processor's cache while it is worked on."""


@dataclass(frozen=True, eq=False)
class KernelWeights:
    """Logarithms of a kernel's variances and inverse lengths.

    Args:
        main: ``[3, P]`` variances of the main effects in g, m and h.
        joint: ``[3]`` variances of the joint effects.
        decay: ``[P]`` inverse lengths of the joint effects.
        reach: ``[D]`` the ρ of the module's text.
        noise: ``[]`` variance of a measurement.
    """

    main: Tensor
    joint: Tensor
    decay: Tensor
    reach: Tensor
    noise: Tensor

    @classmethod
    def start(cls, dimensions: int, places: int) -> KernelWeights:
        """The priors' centers, for P and D."""
        shapes = {
            "main": (3, dimensions),
            "joint": (3,),
            "decay": (dimensions,),
            "reach": (places,),
            "noise": (),
        }
        return cls(
            **{
                name: torch.full(shape, CENTERS[name], dtype=torch.double, requires_grad=True)
                for name, shape in shapes.items()
            }
        )

    def surprise(self) -> Tensor:
        """Negative logarithm ``[]`` of the prior density, up to a constant."""
        return sum(
            (0.5 * ((value - CENTERS[name]) / DEVIATIONS[name]) ** 2).sum()
            for name, value in vars(self).items()
        )

    def kernels(self, steps: Tensor) -> Tensor:
        """``[3, U, V]`` covariances of g, m and h between configurations.

        Args:
            steps: ``[U, V, P]`` how far two configurations are apart.
        """
        effects = torch.einsum("ip,uvp->iuv", self.main.exp(), torch.exp(-steps))
        return effects + self.joint.exp()[:, None, None] * torch.exp(-(steps @ self.decay.exp()))

    def alike(self, first: Tensor, second: Tensor) -> Tensor:
        """``[S, T]`` correlations of m between data sets at places ``[S, D]`` and ``[T, D]``."""
        return torch.exp(-0.5 * ((first[:, None] - second[None]) ** 2 @ self.reach.exp()))


@dataclass(frozen=True, eq=False)
class Expected:
    """A data set without measurements, as the table lets one expect it at n configurations.

    Args:
        place: ``[D]``.
        described: ``[n, P]``.
        mean: ``[n]`` of g + m.
        explained: ``[N, n]`` for a table of N measurements; ``explained.T @ explained`` is what it takes from the prior covariance.
    """

    place: FloatArray
    described: FloatArray
    mean: FloatArray
    explained: FloatArray

    def at(self, indices: NDArray[np.intp]) -> Expected:
        """The same data set at m of the configurations, by their positions ``[m]``."""
        return Expected(self.place, self.described[indices], self.mean[indices], self.explained[:, indices])


@dataclass(frozen=True, eq=False)
class TaskProcess:
    """The process given a table.

    Args:
        noise: Variance of a measurement, one for all or ``[m]``.
        spread: Typical deviation of AP within a data set, the unit of all values.
        surprise: Negative logarithm of the weights' posterior density, up to a constant: how badly the table is explained.
        _weights, _places, _described, _sets, _configurations, _factor, _solved: What :meth:`customer` needs of the table.
    """

    noise: float
    spread: float
    surprise: float
    _weights: KernelWeights
    _places: FloatArray
    _described: FloatArray
    _sets: NDArray[np.intp]
    _configurations: NDArray[np.intp]
    _factor: FloatArray
    _solved: FloatArray

    @classmethod
    def fit(cls, aps: FloatArray, described: FloatArray, places: FloatArray) -> TaskProcess:
        """Learns the weights from a table.

        Args:
            aps: ``[S, U]`` in [0, 1], NaN where not measured.
            described: ``[U, P]`` the configurations, see :func:`~nni_hyperfd.recommendation.gaussian.description.describe`.
            places: ``[S, D]`` of the data sets; D = 0: nothing is known of what they look like, and there is no m.
        """
        spread = typical_spread(aps)
        seen = [observe(row, spread) for row in aps]
        sets = np.concatenate([np.full(len(each.indices), row) for row, each in enumerate(seen)])
        configurations = np.concatenate([each.indices for each in seen])
        values = np.concatenate([each.values for each in seen])
        steps, where = torch.from_numpy(_steps(described, described)), torch.from_numpy(places)
        table = _Table(torch.from_numpy(sets), torch.from_numpy(configurations), steps, where)
        weights = _largest_posterior(table, torch.from_numpy(values))
        with torch.no_grad():
            kernels, alike = weights.kernels(steps), weights.alike(where, where)
            root = factor(table.covariance(kernels, alike, weights.noise.exp()).numpy())
            prior = weights.surprise().item()
        white = solve_triangular(root, values, lower=True)
        return cls(
            float(weights.noise.exp()),
            spread,
            prior + 0.5 * float(white @ white) + float(np.log(np.diag(root)).sum()),
            weights,
            places,
            described,
            sets,
            configurations,
            root,
            cho_solve((root, True), values),
        )

    def customer(self, place: FloatArray, described: FloatArray) -> Expected:
        """What is expected of a data set that is not in the table.

        Args:
            place: ``[D]``.
            described: ``[n, P]`` configurations, whether or not they are in the table.
        """
        return self.customers([place], [described])[0]

    def customers(self, places: Sequence[FloatArray], described: Sequence[FloatArray]) -> list[Expected]:
        """As :meth:`customer`, each of several in one go: the table's factor is large, and is read once."""
        sizes = [len(each) for each in described]
        common, looks, _ = self._kernels(self._described, np.concatenate(described))[:, self._configurations]
        alike = np.repeat(self._alike(self._places, np.stack(places)), sizes, axis=1)[self._sets]
        cross = common + alike * looks
        explained = solve_triangular(self._factor, cross, lower=True, check_finite=False)
        mean, ends = self._solved @ cross, np.cumsum(sizes)[:-1]
        parts = zip(places, described, np.split(mean, ends), np.split(explained, ends, axis=1))
        return [Expected(*each) for each in parts]

    def filled(self, described: FloatArray) -> FloatArray:
        """``[S, n]`` what the table's own sets are expected to bring at configurations ``[n, P]``: g + m + h given all measurements."""
        common, looks, alone = self._kernels(self._described, described)[:, self._configurations]
        alike = self._alike(self._places, self._places)[self._sets]
        own = np.arange(len(self._places)) == self._sets[:, None]
        solved = self._solved[:, None]
        return self._solved @ common + (solved * alike).T @ looks + (solved * own).T @ alone

    def telling(self, described: FloatArray, count: int, first: Sequence[int] = ()) -> NDArray[np.intp]:
        """Which of a data set's trials say most about all of them, the most telling one first.

        Each is the one of which least is known after measuring those before it: pivoted Cholesky of the prior covariance within one
        data set. What came out of the trials has no part in it, since to pick the best ones would be to pick the lucky ones.

        Args:
            described: ``[n, P]`` the configurations that were tried.
            count: At least 1.
            first: Positions that are chosen in any case.

        Returns:
            ``[min(count, n)]`` distinct positions.
        """
        prior = self._kernels(described, described).sum(0)
        left, open_ = np.diag(prior).copy(), np.ones(len(described), dtype=bool)
        columns = np.zeros((min(count, len(described)), len(described)))
        chosen = np.zeros(len(columns), dtype=np.intp)
        for step, column in enumerate(columns):
            pick = first[step] if step < len(first) else int(np.argmax(np.where(open_, left, -np.inf)))
            column[:] = prior[pick] - columns[:step, pick] @ columns[:step]
            column /= np.sqrt(max(left[pick], 0.0) + self.noise)
            left -= column**2
            open_[pick], chosen[step] = False, pick
        return chosen

    def covariance(self, customers: Sequence[Expected]) -> tuple[FloatArray, FloatArray]:
        """Covariances between all n configurations of all customers, one customer after the other.

        Returns:
            ``[n, n]`` twice: what there is in any case, and the part that is each customer's own. The second is to be multiplied by how much
            more customers differ from each other (in variance) than the table's sets, and added.
        """
        sizes = [len(each.described) for each in customers]
        described = np.concatenate([each.described for each in customers])
        places = np.stack([each.place for each in customers])
        explained = np.concatenate([each.explained for each in customers], axis=1)
        owner = np.repeat(np.arange(len(customers)), sizes)
        same = owner[:, None] == owner
        common, looks, alone = self._kernels(described, described)
        alike = self._alike(places, places)[np.ix_(owner, owner)]
        shared = common + alike * looks + OFFSET_VARIANCE * same
        return shared - explained.T @ explained, alone * same

    def _kernels(self, first: FloatArray, second: FloatArray) -> FloatArray:
        """``[3, U, V]``, a block of rows at a time: all distances at once would be P times as large as the result."""
        found = np.empty((3, len(first), len(second)))
        rows = max(1, BLOCK // max(second.size, 1))
        with torch.no_grad():
            for start in range(0, len(first), rows):
                part = slice(start, start + rows)
                steps = torch.from_numpy(_steps(first[part], second))
                found[:, part] = self._weights.kernels(steps).numpy()
        return found

    def _alike(self, first: FloatArray, second: FloatArray) -> FloatArray:
        if not first.shape[1]:
            return np.zeros((len(first), len(second)))
        with torch.no_grad():
            return self._weights.alike(torch.from_numpy(first), torch.from_numpy(second)).numpy()


def _steps(first: FloatArray, second: FloatArray) -> FloatArray:
    return np.abs(first[:, None] - second[None])


@dataclass(frozen=True, eq=False)
class _Table:
    """Where n measurements are, of S sets and U configurations.

    Args:
        sets, configurations: ``[n]`` which they are of.
        steps: ``[U, U, P]`` how far two configurations are apart.
        places: ``[S, D]``.
    """

    sets: Tensor
    configurations: Tensor
    steps: Tensor
    places: Tensor

    @cached_property
    def within(self) -> tuple[Tensor, Tensor]:
        """All pairs of measurements of one set; few, of all pairs."""
        first, second = (self.sets[:, None] == self.sets).nonzero(as_tuple=True)
        return first, second

    def covariance(self, kernels: Tensor, alike: Tensor, noise: Tensor) -> Tensor:
        """``[n, n]`` of the measurements, from ``[3, U, U]`` and ``[S, S]``."""
        common, looks, alone = kernels
        found = self._each(common, self.configurations)
        if self.places.shape[1]:
            found += self._each(alike, self.sets) * self._each(looks, self.configurations)
        found[self.within] += alone[self._within_configurations] + OFFSET_VARIANCE
        found.diagonal().add_(noise)
        return found

    def pulled_back(self, slope: Tensor, kernels: Tensor, alike: Tensor) -> tuple[Tensor, Tensor]:
        """What a derivative by the covariance is by the kernels ``[3, U, U]`` and by the likeness ``[S, S]``."""
        by_kernels, by_alike = torch.zeros_like(kernels), torch.zeros_like(alike)
        by_kernels[0] = self._sums(slope, self.configurations, len(kernels[0]))
        by_kernels[2].index_put_(self._within_configurations, slope[self.within], accumulate=True)
        if self.places.shape[1]:
            looks = slope * self._each(alike, self.sets)
            by_kernels[1] = self._sums(looks, self.configurations, len(kernels[0]))
            by_alike = self._sums(slope * self._each(kernels[1], self.configurations), self.sets, len(alike))
        return by_kernels, by_alike

    @cached_property
    def _within_configurations(self) -> tuple[Tensor, Tensor]:
        first, second = self.within
        return self.configurations[first], self.configurations[second]

    @staticmethod
    def _each(found: Tensor, at: Tensor) -> Tensor:
        return found[at[:, None], at]

    @staticmethod
    def _sums(found: Tensor, at: Tensor, count: int) -> Tensor:
        rows = found.new_zeros(count, len(at)).index_add_(0, at, found)
        return found.new_zeros(count, count).index_add_(0, at, rows.T.contiguous()).T


def _largest_posterior(table: _Table, values: Tensor) -> KernelWeights:
    r"""Weights by gradients that are written down.

    Derivatives of all measurements' covariance :math:`K` by each step of its making
    would take twice as long: :math:`∂L/∂K = ½(K^{-1} - αα^\top)`, :math:`α = K^{-1}y` (Rasmussen and Williams 2006, eq. 5.9).
    """
    weights = KernelWeights.start(table.steps.shape[2], table.places.shape[1])
    optimizer = torch.optim.LBFGS(
        list(vars(weights).values()), lr=0.5, max_iter=STEPS, line_search_fn="strong_wolfe"
    )

    def loss() -> Tensor:
        optimizer.zero_grad()
        kernels, alike, noise = (
            weights.kernels(table.steps),
            weights.alike(table.places, table.places),
            weights.noise.exp(),
        )
        with torch.no_grad():
            root = torch.from_numpy(factor(table.covariance(kernels, alike, noise).numpy()))
            solved = torch.cholesky_solve(values[:, None], root)[:, 0]
            slope = 0.5 * (torch.cholesky_inverse(root) - torch.outer(solved, solved))
            found = 0.5 * values @ solved + root.diagonal().log().sum()
            by_kernels, by_alike = table.pulled_back(slope, kernels, alike)
        surprise = weights.surprise()
        (
            (by_kernels * kernels).sum() + (by_alike * alike).sum() + slope.trace() * noise + surprise
        ).backward()
        return found + surprise.detach()

    optimizer.step(loss)
    return KernelWeights(**{name: value.detach() for name, value in vars(weights).items()})


def posterior(
    mean: FloatArray,
    covariance: FloatArray,
    at: NDArray[np.intp],
    values: FloatArray,
    noise: float | FloatArray,
    of: slice = slice(None),
) -> tuple[FloatArray, FloatArray, float]:
    """A Gaussian belief after noisy measurements (Rasmussen and Williams 2006, algorithm 2.1).

    Args:
        mean: ``[n]`` before them.
        covariance: ``[n, n]`` before them.
        at: ``[m]`` positions of what was measured.
        values: ``[m]`` measured.
        noise: Variance of a measurement, one for all or ``[m]``.
        of: The q wanted positions.

    Returns:
        Mean ``[q]`` and covariance ``[q, q]`` of the wanted part, and the log density of ``values``, up to a constant.
    """
    root = factor(covariance[np.ix_(at, at)] + np.diag(np.broadcast_to(noise, len(at))))
    white = solve_triangular(root, values - mean[at], lower=True)
    explained = solve_triangular(root, covariance[at, of], lower=True)
    density = -0.5 * white @ white - np.log(np.diag(root)).sum()
    return mean[of] + white @ explained, covariance[of, of] - explained.T @ explained, float(density)
