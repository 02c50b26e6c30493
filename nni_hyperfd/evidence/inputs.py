"""Everything the comparison reads: tables, offline sets and image-level features, all of them small files without any image."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from nni_hyperfd.errors import DataError
from nni_hyperfd.evidence.comparison import Scenario, SeedNoise, noise
from nni_hyperfd.evidence.offline_sets import load_sets
from nni_hyperfd.evidence.scenario import Data, Measure, make_scenario
from nni_hyperfd.evidence.table import SERVER, APColumn, LookupTable, Row
from nni_hyperfd.metafeature.features import ImageFeatures

LEAST_SHARE = 0.5
"""A customer with a smaller share of the configurations than this is left out: a candidate needs a row of every customer."""


@dataclass(frozen=True, eq=False)
class Inputs:
    """Rows of one budget and the data that they are about.

    Args:
        customers: Rows of the customers and of the server.
        offline: Rows of offline sets.
        data: Sets and features.
        newcomers: Customers that are to be judged, see :mod:`~nni_hyperfd.evidence.judge`.
    """

    customers: LookupTable
    offline: LookupTable
    data: Data
    newcomers: tuple[str, ...] = ()

    @classmethod
    def load(cls, folder: Path, tables: Sequence[Path], budget: str) -> Inputs:
        """Reads what ``benchmarks/table_inputs.py`` and ``hyperfd table build`` wrote.

        Args:
            folder: With offline_sets*.json, server_train.json and features/.
            tables: Files ``*.csv.gz`` or ``*.jsonl``, in any order.
            budget: Rows of other budgets are passed over.

        Raises:
            DataError: A file is missing or damaged.
        """
        try:
            sets = load_sets(folder)
            found = json.loads((folder / "server_train.json").read_text())
            plain, degraded = np.array(found["plain"]), np.array(found["degraded"], dtype=int)
        except OSError as error:
            raise DataError(
                f"cannot read {error.filename} ({error.strerror}): make it with benchmarks/table_inputs.py"
            ) from error
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(
                f"{folder / 'server_train.json'} is damaged or of an earlier release: make it with benchmarks/table_inputs.py"
            ) from error
        features = {
            path.stem: ImageFeatures.load(path)
            for path in sorted((folder / "features").glob("*.safetensors"))
        }
        if SERVER not in features:
            raise DataError(
                f"{folder / 'features'} has no server.safetensors: see benchmarks/table_inputs.py"
            )
        rows = LookupTable.merge(LookupTable.load(path) for path in sorted(tables)).select(budget=budget)
        bases = sorted({row.version for row in rows})
        if len(bases) > 1:
            raise DataError(
                f"the tables have rows of several base detectors ({', '.join(bases)}), whose APs cannot be compared: name those of one "
                "base with --tables."
            )
        names = {part.name for part in sets}
        server = features.pop(SERVER)
        return cls(
            LookupTable(row for row in rows if row.data_set in features or row.data_set == SERVER),
            LookupTable(row for row in rows if row.data_set in names),
            Data(sets, server, np.concatenate([plain, degraded]), plain, features),
        )

    def only(self, wanted: Callable[[Row], bool]) -> Inputs:
        """With those rows alone."""
        customers, offline = (LookupTable(filter(wanted, table)) for table in (self.customers, self.offline))
        return replace(self, customers=customers, offline=offline)

    def spaces(self) -> list[str]:
        """Spaces that both customers and offline sets have rows of."""
        known = [{row.space for row in table} for table in (self.customers, self.offline)]
        return sorted(known[0] & known[1])

    def scenario(self, space: str, measure: Measure) -> Scenario:
        """The comparison in one space, with the customers whose rows are there; APs are means over seeds.

        A customer measured in part is left out, unless it is one of ``newcomers``: then the others are compared on what it has.
        """
        rows = self.customers.select(space=space).over_seeds()
        counts = {name: len(rows.select(data_sets=(name,))) for name in self.data.customers}
        most = max(counts.values(), default=0)
        there = {
            name: features
            for name, features in self.data.customers.items()
            if most and (counts[name] >= LEAST_SHARE * most or (name in self.newcomers and counts[name]))
        }
        offline = self.offline.select(space=space).over_seeds()
        return make_scenario(space, rows, offline, replace(self.data, customers=there), measure)

    def measured_twice(self, space: str) -> list[str]:
        """Customers of which all configurations were measured with a second seed."""
        rows = self.customers.select(space=space)
        measured = {
            name: [
                {row.configuration for row in rows.select(data_sets=(name,), seed=seed)} for seed in (0, 1)
            ]
            for name in self.data.customers
        }
        return [name for name, (first, second) in measured.items() if first and second >= first]

    def noise(
        self, space: str, column: APColumn = "heldout_ap", other: APColumn | None = None
    ) -> SeedNoise | None:
        """How far the first and the second training seed agree on customers' rows; None without a second seed.

        Args:
            space: Name of the search space.
            column: Of the first seed.
            other: Of the second seed, if it is another one.
        """
        tables = [self.customers.select(space=space, seed=seed) for seed in (0, 1)]
        if not len(tables[1]):
            return None
        names = sorted({row.data_set for row in tables[1]})
        dense = [table.dense(each, names) for table, each in zip(tables, (column, other or column))]
        shared = sorted(set(dense[0].configurations) & set(dense[1].configurations))
        if not shared:
            return None
        picked = []
        for each in dense:
            line = {text: index for index, text in enumerate(each.configurations)}
            picked.append(each.values[[line[text] for text in shared]])
        return noise(*picked)
