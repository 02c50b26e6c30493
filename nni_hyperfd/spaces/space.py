"""A search space: read from NNI's JSON, counted, listed, sampled, checked and encoded."""

from __future__ import annotations

import copy
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from nni_hyperfd.errors import SpaceError
from nni_hyperfd.spaces.architecture import FLOPS_LIMIT, STAGES, Architecture, flops_of_codes
from nni_hyperfd.spaces.configuration import NETWORK_KEY, Configuration, Scalar, Values, flatten
from nni_hyperfd.spaces.cost import Below, PartCosts
from nni_hyperfd.spaces.domains import Domain, read_domain
from nni_hyperfd.spaces.hyperparameters import (
    ASSIGN,
    GRID,
    KEYS,
    HyperParameters,
)
from nni_hyperfd.spaces.networks import NetworkChoices, read_networks
from nni_hyperfd.spaces.trainable import STANDARD_DOMAINS, check_assignment, check_trainable, is_standard

SpaceKind = Literal["hpo", "nas", "joint", "flat"]
Rows = NDArray[np.float64]

ENUMERATION_LIMIT = 100_000
"""Spaces up to this size can be listed."""

# After so many draws in vain two limits leave (almost) nothing of a space.
_MOST_DRAWS = 20_000
_ENCODING_VERSION = 1
_NETWORK_COLUMNS = len(STAGES)


@dataclass(frozen=True, eq=False)
class Space:
    """All configurations that may be tried.

    Inside, a configuration is a row of numbers: one coordinate for each key, then the seven stage codes of the
    architecture. Build it with :meth:`from_search_space`, :func:`load_space` or :func:`standard_space`.

    Args:
        kind: ``hpo`` (the standard training hyper-parameters or some of their values), ``nas`` (architectures),
            ``joint`` (both) or ``flat`` (a user's own keys; those named as ours still drive the training).
        domains: The keys other than those of the architecture.
        networks: The architectures, ``None`` if they are not searched.
        flops_limit: Sampling, listing and neighbours keep to networks whose backbone has fewer multiply-adds than
            this at 640x360; :meth:`parse` does not refuse larger ones, because they can be trained.
        search_space: The NNI search space it was read from.
        costs: Further costs of networks, in units of a limit that is kept to in the same way.

    Example:
        >>> space = Space.from_search_space(
        ...     {
        ...         "optimizer": {"_type": "choice", "_value": ["sgd", "adam"]},
        ...         "lr": {"_type": "choice", "_value": [0.0003, 0.001, 0.003]},
        ...     }
        ... )
        >>> space.kind, space.size
        ('hpo', 6)
        >>> space.parameters(space.enumerate()[0])
        {'optimizer': 'sgd', 'lr': 0.0003}
        >>> space.parse({"optimizer": "sgd", "lr": 0.01})
        Traceback (most recent call last):
        nni_hyperfd.errors.SpaceError: ...
    """

    kind: SpaceKind
    domains: tuple[Domain, ...]
    networks: NetworkChoices | None
    flops_limit: float
    search_space: Mapping[str, Any]
    costs: PartCosts | None = None

    @classmethod
    def from_search_space(
        cls,
        search_space: Mapping[str, Any],
        flops_limit: float = FLOPS_LIMIT,
        costs: PartCosts | None = None,
    ) -> Space:
        """Reads an NNI search space and recognizes its kind.

        A space that lists only some of the standard values is still of the kind ``hpo``, ``nas`` or ``joint``, and
        what the platform has learned about that kind applies. A hyper-parameter that it leaves out takes its default.

        Raises:
            SpaceError: An entry is malformed, of an unknown type, or out of the range of its hyper-parameter; or no
                network is under the FLOPs limit, or under that of ``costs``; or there are ``costs`` and no networks.
        """
        if not isinstance(search_space, Mapping) or not search_space:
            raise SpaceError("The search space is empty or not a mapping; list at least one parameter.")
        network_part = {k: v for k, v in search_space.items() if NETWORK_KEY.fullmatch(k)}
        domains = tuple(read_domain(k, v) for k, v in search_space.items() if k not in network_part)
        for domain in domains:
            check_trainable(domain)
        check_assignment(domains)
        standard = all(map(is_standard, domains))
        if not network_part:
            if costs is not None:
                raise SpaceError(
                    "Networks shall keep to a limit, and the search space has none; search nas or joint."
                )
            kind: SpaceKind = "hpo" if standard else "flat"
            return cls(kind, domains, None, flops_limit, copy.deepcopy(dict(search_space)))
        if not standard:
            key = next(domain.key for domain in domains if not is_standard(domain))
            mend = f"choices among {', '.join(map(str, GRID[key]))}" if key in GRID else ", ".join(GRID)
            raise SpaceError(
                f"{key} is {search_space[key]!r}, which cannot be searched together with architectures; use {mend}, "
                "as search_spaces/joint.json does."
            )
        networks = read_networks(network_part)
        if networks.cheapest_flops() >= flops_limit:
            raise SpaceError(
                f"No architecture of the search space is under {flops_limit / 1e6:g}M FLOPs, the smallest has "
                f"{networks.cheapest_flops() / 1e6:g}M; raise the limit or allow smaller blocks."
            )
        if costs is not None and networks.cheapest(costs) >= 1:
            raise SpaceError(
                f"No architecture of the search space is under the limit, the cheapest costs {networks.cheapest(costs):.4g} times as "
                "much; raise the limit or allow smaller blocks."
            )
        kind = "joint" if domains else "nas"
        return cls(kind, domains, networks, flops_limit, copy.deepcopy(dict(search_space)), costs)

    @cached_property
    def key(self) -> str:
        """Names what the configurations mean to the ranker, such as ``hpo-3f0c…``: one encoder for each key.

        It does not depend on the FLOPs limit, nor, for ``hpo``, ``nas`` and ``joint``, on how much of the standard
        space is listed: what was learned about the whole holds for the part.
        """
        meaning = {
            "version": _ENCODING_VERSION,
            "keys": {domain.key: domain.specification() for domain in self._encoded_domains},
            "stages": None if self.networks is None else STAGES,
        }
        digest = hashlib.sha256(json.dumps(meaning, sort_keys=True).encode()).hexdigest()
        return f"{self.kind}-{digest[:16]}"

    @property
    def size(self) -> int | float:
        """Number of configurations before the FLOPs limit; ``math.inf`` with a continuous key."""
        networks = 1 if self.networks is None else self.networks.size
        return networks * math.prod(domain.size for domain in self.domains)

    def enumerate(self) -> list[Configuration]:
        """Every configuration under the FLOPs limit, in a fixed order.

        Raises:
            SpaceError: There are more than :data:`ENUMERATION_LIMIT`.
        """
        return self._configurations(self._all_rows())

    def sample(self, n: int, rng: np.random.Generator) -> list[Configuration]:
        """``n`` distinct configurations under the FLOPs limit, in random order.

        Uniform over configurations where the space can be listed, and over networks always (so a depth comes in
        proportion to the networks that have it); the keys of a larger space follow NNI's distributions.

        Raises:
            SpaceError: The space has fewer than ``n`` configurations under the limit.
        """
        rows, drawn = self._some_rows(n, rng)
        if len(rows) < n:
            if self.size <= ENUMERATION_LIMIT:
                raise SpaceError(
                    f"{n} distinct configurations were asked for, but the space has {len(rows)} under the FLOPs "
                    "limit; ask for fewer."
                )
            raise SpaceError(
                f"Only {len(rows)} of {n} distinct configurations under {self.flops_limit / 1e6:g}M FLOPs were "
                f"found in {drawn} draws; ask for fewer, raise the limit or widen the space."
            )
        return self._configurations(rows)

    def sample_up_to(self, n: int, rng: np.random.Generator) -> list[Configuration]:
        """As :meth:`sample`, or as many as there are where limits leave fewer.

        Raises:
            SpaceError: There is none under the limits, or the limits leave so few that drawing does not find them.
        """
        return self._configurations(self._some_rows(n, rng)[0])

    def admits(self, configuration: Configuration) -> bool:
        """Whether its network is under all limits; one that is not can still be trained."""
        if self.networks is None or configuration.architecture is None:
            return True
        return (
            len(self._admitted(np.array([[*[0] * len(self.domains), *configuration.architecture.codes]]))) > 0
        )

    def _some_rows(self, n: int, rng: np.random.Generator) -> tuple[Rows, int]:
        """Up to n distinct rows in random order, and how many were drawn for that."""
        if self.size <= ENUMERATION_LIMIT:
            if (
                self.networks is None
            ):  # no limit leaves out anything, so those that are not chosen need not be written out
                return self._rows_at(rng.permutation(int(self.size))[:n]), 0
            rows = self._all_rows()
            return rows[rng.permutation(len(rows))[:n]], 0
        # Nothing is turned away but networks over the second of two limits, so only a space that is smaller than it looks repeats itself.
        most = 20 * n + (1000 if self.costs is None else _MOST_DRAWS)
        rows = np.empty((0, len(self.domains) + _NETWORK_COLUMNS))
        drawn = 0
        while len(rows) < n and drawn <= most:
            batch = min(max(n - len(rows), 64, drawn), ENUMERATION_LIMIT)
            drawn += batch
            rows = np.concatenate([rows, self._admitted(self._draw_rows(rng, batch))])
            _, first = np.unique(rows, axis=0, return_index=True)
            rows = rows[np.sort(first)]
        return rows[:n], drawn

    def parse(self, parameters: Mapping[str, Any]) -> Configuration:
        """Reads the parameters of one trial, flat or in NNI's nested form.

        Raises:
            SpaceError: A key is missing or unknown, or a value is not one of the space.
        """
        flat = flatten(parameters)
        known = {domain.key for domain in self.domains}
        for domain in self.domains:
            if domain.key not in flat:
                raise SpaceError(f"{domain.key} is missing; this space has the keys {self._key_list()}.")
            domain.coordinate(flat[domain.key])
        for key in flat:
            if key not in known and not (self.networks and NETWORK_KEY.fullmatch(key)):
                raise SpaceError(
                    f"{key} is not a key of this space, which has {self._key_list()}; leave it out."
                )
        configuration = Configuration.from_parameters(flat)
        if self.networks is not None:
            if configuration.architecture is None:
                raise SpaceError(f"The architecture is missing; this space has the keys {self._key_list()}.")
            self.networks.check(configuration.architecture)
        return configuration

    def parameters(self, configuration: Configuration) -> dict[str, Scalar]:
        """Flat short keys for NNI, such as ``{"lr": 0.001, …}`` or ``{"s2_depth": 2, "s2_b1": "k5e6", …}``.

        Raises:
            SpaceError: The configuration is not one of this space.
        """
        self._rows([configuration])
        known = {domain.key for domain in self.domains}
        flat = {ASSIGN: "iou", **configuration.parameters()}
        return {key: value for key, value in flat.items() if key in known or NETWORK_KEY.fullmatch(key)}

    def neighbours(
        self, configuration: Configuration, rng: np.random.Generator, count: int = 8
    ) -> list[Configuration]:
        """Up to ``count`` distinct configurations under the FLOPs limit that are one change away.

        A change gives one key another value, or exchanges, drops or appends one block of one stage. Every key and
        every searched stage is equally likely to be the changed one.

        Raises:
            SpaceError: The configuration is not one of this space.
        """
        row = self._rows([configuration])[0]
        groups = []
        for column, domain in enumerate(self.domains):
            coordinates = domain.moves(row[column], rng)
            changed = np.tile(row, (len(coordinates), 1))
            changed[:, column] = coordinates
            groups.append(changed)
        if self.networks is not None:
            for codes in self.networks.moves(row[len(self.domains) :].astype(np.int64)):
                changed = np.tile(row, (len(codes), 1))
                changed[:, len(self.domains) :] = codes
                groups.append(changed)
        groups = [group for group in map(self._admitted, groups) if len(group)]
        if not groups:
            return []
        rows = np.concatenate(groups)
        chance = np.concatenate([np.full(len(group), 1 / len(group)) for group in groups]) / len(groups)
        chosen = rng.choice(len(rows), size=min(count, len(rows)), replace=False, p=chance)
        return self._configurations(rows[chosen])

    def encode(self, configurations: Sequence[Configuration]) -> NDArray[np.float32]:
        """Features ``[n, encoding_width]`` of the keys (METHOD: one-hot for each key, and its scaled value).

        For a ``joint`` space these are the hyper-parameters only; the architectures are graphs, see
        ``architecture.graphs``. Configurations of any space with the same :attr:`key` are welcome.

        Raises:
            SpaceError: The space has only architectures, or a value is not one of the space.
        """
        if not self._encoded_domains:
            raise SpaceError("A space of architectures has no key features; encode its graphs instead.")
        return np.concatenate(
            [d.encode(_column(d, configurations)) for d in self._encoded_domains], axis=1, dtype=np.float32
        )

    def steps(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """What :meth:`encode` gave ``[n, encoding_width]`` as positions ``[n, D]`` in each of D keys, neighbouring values about 1 apart."""
        widths = [domain.encode(np.empty(0)).shape[1] for domain in self._encoded_domains]
        parts = np.split(features, np.cumsum(widths)[:-1], axis=1)
        return np.stack([d.steps(part) for d, part in zip(self._encoded_domains, parts)], axis=1)

    @cached_property
    def encoding_width(self) -> int:
        """Length of a feature vector of :meth:`encode`; 0 for a space of architectures."""
        return sum(domain.encode(np.empty(0)).shape[1] for domain in self._encoded_domains)

    @cached_property
    def _encoded_domains(self) -> tuple[Domain, ...]:
        """The keys of :meth:`encode`: all six standard ones however few of them are listed, else the user's own.

        A user's keys are sorted, so that the order in which the file lists them means nothing.
        """
        if self.kind == "nas":
            return ()
        if self.kind == "flat":
            return tuple(sorted(self.domains, key=lambda domain: domain.key))
        return STANDARD_DOMAINS

    def _key_list(self) -> str:
        return ", ".join(self.search_space)

    def _rows(self, configurations: Sequence[Configuration]) -> Rows:
        rows = np.zeros((len(configurations), len(self.domains) + _NETWORK_COLUMNS))
        for column, domain in enumerate(self.domains):
            rows[:, column] = _column(domain, configurations)
        if self.networks is not None:
            for row, configuration in zip(rows, configurations):
                if configuration.architecture is None:
                    raise SpaceError(f"The configuration ({configuration}) has no architecture; add one.")
                self.networks.check(configuration.architecture)
                row[len(self.domains) :] = configuration.architecture.codes
        return rows

    def _configurations(self, rows: Rows) -> list[Configuration]:
        columns = [[domain.value(x) for x in rows[:, i]] for i, domain in enumerate(self.domains)]
        names = [domain.key for domain in self.domains]
        ours = any(name in KEYS for name in names)
        codes = rows[:, len(self.domains) :].astype(np.int64).tolist()
        result = []
        for index, network in enumerate(codes):
            flat = {name: column[index] for name, column in zip(names, columns)}
            result.append(
                Configuration(
                    HyperParameters.from_parameters(flat) if ours else None,
                    None if self.networks is None else Architecture.from_codes(network),
                    Values({name: value for name, value in flat.items() if name not in KEYS}),
                )
            )
        return result

    def _draw_rows(self, rng: np.random.Generator, n: int) -> Rows:
        columns = [domain.draw(rng, n)[:, None] for domain in self.domains]
        return np.concatenate([*columns, self._draw_networks(rng, n)], axis=1)

    def _draw_networks(self, rng: np.random.Generator, n: int) -> NDArray[Any]:
        if self.networks is None:
            return np.zeros((n, _NETWORK_COLUMNS))
        return self.networks.draw(rng, n) if self._below is None else self._below.draw(rng, n)

    @cached_property
    def _below(self) -> Below | None:
        """None where no limit leaves out anything."""
        if self.networks is None or (self.costs is None and self.networks.dearest_flops() < self.flops_limit):
            return None
        return self.networks.below(self.flops_limit, self.costs)

    def _all_rows(self) -> Rows:
        if self.size > ENUMERATION_LIMIT:
            raise SpaceError(
                f"The space has {self.size:.4g} configurations and can be listed up to {ENUMERATION_LIMIT}; sample it."
            )
        return self._admitted(self._rows_at(np.arange(int(self.size))))

    def _rows_at(self, places: NDArray[np.int64]) -> Rows:
        """Those at places in the fixed order, in which the last column turns fastest; limits are not looked at."""
        axes: list[NDArray[Any]] = [domain.all() for domain in self.domains]
        axes += [np.zeros(1)] * _NETWORK_COLUMNS if self.networks is None else self.networks.allowed
        rows = np.empty((len(places), len(axes)))
        # By division: NumPy's grids and unravelled indices end at 32 or 64 dimensions, and a space may have more keys.
        for column in range(len(axes) - 1, -1, -1):
            places, turn = np.divmod(places, len(axes[column]))
            rows[:, column] = axes[column][turn]
        return rows

    def _admitted(self, rows: Rows) -> Rows:
        """Those under the limits."""
        if self.networks is None:
            return rows
        codes = rows[:, len(self.domains) :].astype(np.int64)
        under = flops_of_codes(codes) < self.flops_limit
        return rows[under if self.costs is None else under & (self.costs.of_codes(codes) < 1)]


def _column(domain: Domain, configurations: Sequence[Configuration]) -> NDArray[np.float64]:
    """Coordinates ``[n]`` of one key, checked against its domain."""
    if domain.key in KEYS:
        values = [
            None if c.hyperparameters is None else c.hyperparameters.parameter(domain.key)
            for c in configurations
        ]
    else:
        values = [c.values.get(domain.key) for c in configurations]
    return np.array([domain.coordinate(value) for value in values], dtype=float)
