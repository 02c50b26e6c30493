"""What a lookup table is to hold: its pairs from folders, a space and numbers, the same on every machine that is told the same.

Shared by ``hyperfd table build`` and by the trials of an NNI experiment that spreads the work (``trial_code/table_shard.py``).
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nni_hyperfd.errors import DataError
from nni_hyperfd.evidence.measuring import measure_pairs, plan_offline_pairs, plan_pairs, shard
from nni_hyperfd.evidence.table import SERVER, LookupTable, Pair, Row
from nni_hyperfd.spaces.standard import standard_space

if TYPE_CHECKING:
    from nni_hyperfd.evidence.runner import PairRunner

SPACES = ("hpo", "nas", "assignment")
SAMPLED = 200
"""Points of a space that is too large to be measured whole, as many as the paper has architectures; a smaller number takes the
first of these, so that tables nest."""

_ORDER_SEEDS = {"hpo": 0, "nas": 1, "assignment": 2}


@dataclass(frozen=True)
class TableJob:
    """A table to be built.

    Args:
        space: ``hpo`` (all 216 points), or ``nas`` or ``assignment`` (a sample).
        data: Folders of customers' data sets, each called by its folder's name.
        server: Folders that together are the server's images.
        offline: File of offline sets; its pairs are measured instead of the server as a whole.
        pairs: Offline pairs.
        per_set: Configurations on each offline set that is drawn.
        configurations: How many of them; all 216, or a sample of 200, by default.
        budget: Named training budget.
        seed: Of the trainings.

    Raises:
        DataError: No folder at all, two of one name, or offline sets without the server's images.
    """

    space: str
    data: tuple[Path, ...] = ()
    server: tuple[Path, ...] = ()
    offline: Path | None = None
    pairs: int = 1000
    per_set: int = 6
    configurations: int | None = None
    budget: str = "table"
    seed: int = 0

    def __post_init__(self) -> None:
        names = [folder.resolve().name for folder in self.data]
        if not self.data and not self.server:
            raise DataError("there is nothing to measure: name folders with --data or --server")
        if self.offline and not self.server:
            raise DataError("offline sets are parts of the server's images: name their folders with --server")
        twice = sorted({name for name in names if names.count(name) > 1} | ({SERVER} & set(names)))
        if twice:
            raise DataError(
                f"rows are kept by folder name, and {twice[0]!r} would stand for two: rename one folder"
            )

    def plan(self) -> list[Pair]:
        """All pairs in a fixed order: the customers', the server's, then the offline sets'.

        Raises:
            DataError: More configurations or pairs than there are.
        """
        points = self._points()
        names = [folder.resolve().name for folder in self.data]
        if self.server and not self.offline:
            names.append(SERVER)
        planned = plan_pairs(self.space, points, names, self.budget, self.seed)
        if self.offline:
            from nni_hyperfd.evidence.offline_sets import OfflineSets

            sets = [part.name for part in OfflineSets.load(self.offline).sets]
            # The order belongs to the plan: a second training seed measures the same pairs again.
            dealt = plan_offline_pairs(
                self.space, points, sets, self.pairs, self.per_set, self.budget, _ORDER_SEEDS[self.space]
            )
            planned += [pair._replace(seed=self.seed) for pair in dealt]
        return planned

    def _points(self) -> list[dict[str, Any]]:
        space = standard_space(self.space)  # type: ignore[arg-type]
        rng = np.random.default_rng(_ORDER_SEEDS[self.space])
        if self.space == "hpo":
            everything = space.enumerate()
            points = [everything[i] for i in rng.permutation(len(everything))]
        else:
            points = space.sample(max(SAMPLED, self.configurations or 0), rng)
        wanted = len(points) if self.configurations is None else self.configurations
        if not 0 < wanted <= len(points):
            raise DataError(
                f"--configurations is {wanted}: the space {self.space} has 1 to {len(points)} of them"
            )
        return [dict(space.parameters(point)) for point in points[:wanted]]

    def runner(self) -> PairRunner:
        """What trains the pairs; loads no image yet."""
        from nni_hyperfd.data.dataset import load_dataset
        from nni_hyperfd.data.merge import merge
        from nni_hyperfd.evidence.offline_sets import OfflineSets
        from nni_hyperfd.evidence.runner import PairRunner

        server = merge(SERVER, [load_dataset(folder) for folder in self.server]) if self.server else None
        sets = OfflineSets.load(self.offline) if self.offline else None
        return PairRunner({folder.resolve().name: folder for folder in self.data}, server, sets)

    def run(
        self,
        path: Path,
        index: int = 0,
        count: int = 1,
        done: LookupTable | None = None,
        minutes: float = math.inf,
        progress: Callable[[Row], None] | None = None,
    ) -> tuple[int, int]:
        """Measures one shard, and goes on where the file ends if it was interrupted.

        Args:
            path: The worker's own ``*.jsonl`` file.
            index: Of the shard, from 0.
            count: Shards.
            done: Rows that other files have already.
            minutes: No pair is started later than this.
            progress: Called with each new row.

        Returns:
            Rows appended and pairs of the shard that are still missing.
        """
        from nni_hyperfd.detection.network.weights import base_id
        from nni_hyperfd.detection.training.budgets import get_budget

        get_budget(self.budget)
        known = LookupTable(()) if done is None else done
        mine = shard(self.plan(), index, count)
        missing = [pair for pair in mine if pair not in known]
        end = time.monotonic() + 60 * minutes
        rest = iter(missing)
        due = iter(lambda: next(rest, None) if time.monotonic() < end else None, None)
        appended = measure_pairs(due, self.runner(), path, "cpu", f"base-{base_id()}", known, progress)
        table = LookupTable.load(path)
        return appended, sum(pair not in table for pair in missing)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that :func:`job_of` reads."""
    parser.add_argument("--space", choices=SPACES, required=True)
    parser.add_argument(
        "--data", type=Path, nargs="+", default=[], metavar="FOLDER", help="customers' data sets"
    )
    parser.add_argument(
        "--server",
        type=Path,
        nargs="+",
        default=[],
        metavar="FOLDER",
        help="the server's images, measured together as 'server' unless --offline names parts of them",
    )
    parser.add_argument("--offline", type=Path, metavar="SETS.json", help="file of offline sets")
    parser.add_argument("--pairs", type=int, default=1000, help="offline pairs (default: %(default)s)")
    parser.add_argument(
        "--per-set", type=int, default=6, help="configurations on one offline set (default: %(default)s)"
    )
    parser.add_argument(
        "--configurations",
        type=int,
        metavar="N",
        help="of the space (default: all 216 of hpo, a sample of 200 of the others)",
    )
    parser.add_argument("--budget", default="table", help="training budget (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the trainings (default: %(default)s)")


def job_of(options: argparse.Namespace) -> TableJob:
    """The job that the command line describes."""
    return TableJob(
        options.space,
        tuple(options.data),
        tuple(options.server),
        options.offline,
        options.pairs,
        options.per_set,
        options.configurations,
        options.budget,
        options.seed,
    )


def load_tables(paths: Sequence[Path]) -> LookupTable:
    """All rows of several files, ``*.jsonl`` or ``*.csv.gz``.

    Raises:
        DataError: A file is missing or damaged.
    """
    missing = [path for path in paths if not path.is_file()]
    if missing:
        raise DataError(f"there is no table {missing[0]}: check the path")
    return LookupTable.merge(LookupTable.load(path) for path in paths)
