"""The lookup table: what a configuration reached on a data set, measured once and read by every experiment.

While it is built a table is an append-only file of JSON lines, one per worker, so that a job can be interrupted at any
moment and resumed. The finished tables are merged and kept as sorted, compressed csv, which is equal byte for byte for equal rows.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import logging
import math
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nni_hyperfd.errors import DataError
from nni_hyperfd.files import replacing

_log = logging.getLogger(__name__)

APColumn = Literal["val_ap", "test_ap", "heldout_ap"]
_AP_COLUMNS: tuple[APColumn, ...] = ("val_ap", "test_ap", "heldout_ap")
SERVER = "server"
"""Name of the server's own images as one data set."""


def canonical(parameters: Mapping[str, Any]) -> str:
    """The one compact string of a flat configuration (what ``Space.parameters`` returns).

    Keys are sorted and whole floats written as integers, so that ``{"a": 2.0}`` and ``{"a": 2}`` are the same configuration.

    Raises:
        DataError: A value that is neither a string, a number nor a boolean.
    """
    plain: dict[str, Any] = {}
    for key in sorted(parameters):
        value = parameters[key]
        value = value.item() if isinstance(value, np.generic) else value
        if not isinstance(value, (str, int, float)) or (
            isinstance(value, float) and not math.isfinite(value)
        ):
            raise DataError(
                f"configuration key {key!r} has the value {value!r}; only strings and finite numbers fit a table."
            )
        plain[key] = int(value) if isinstance(value, float) and value.is_integer() else value
    return json.dumps(plain, separators=(",", ":"))


def parameters_of(configuration: str) -> dict[str, Any]:
    """Inverse of :func:`canonical`: the flat parameters, ready for ``Space.parse``."""
    return dict(json.loads(configuration))


class Pair(NamedTuple):
    """One fine-tuning to be run; also the key of its row.

    Args:
        space: Kind of the search space: ``hpo``, ``nas``, ``joint`` or a user's own name.
        data_set: Name of a customer set, of an offline set, or ``server``.
        configuration: :func:`canonical` string.
        budget: Named training budget.
        seed: Seed of the training.
    """

    space: str
    data_set: str
    configuration: str
    budget: str
    seed: int


@dataclass(frozen=True)
class Row:
    """One measured pair. APs are at IoU 0.5, in [0, 1], NaN if the training failed (``failure`` then says why).

    ``heldout_ap`` is the AP over the val and test splits pooled; ``version`` names code and base weights. ``curve`` is the AP on
    val after each validation: pairs (share of a full training's epochs, AP), shares rising in (0, 1]; empty in rows
    that were measured without it.

    Raises:
        DataError: An AP is no share, or is missing without a failure, or the curve does not rise in its shares.
    """

    space: str
    data_set: str
    configuration: str
    budget: str
    seed: int
    val_ap: float
    test_ap: float
    heldout_ap: float
    seconds: float
    device: str
    version: str
    failure: str = ""
    curve: tuple[tuple[float, float], ...] = ()

    def __post_init__(self) -> None:
        for name in ("val_ap", "test_ap", "heldout_ap"):
            value = getattr(self, name)
            if math.isnan(value) if not self.failure else False:
                raise DataError(f"row {self.pair}: {name} is NaN without a failure text.")
            if not math.isnan(value) and not 0.0 <= value <= 1.0:
                raise DataError(f"row {self.pair}: {name} is {value}, not in [0, 1].")
        last = 0.0
        for share, ap in self.curve:
            if not last < share <= 1.0 or not 0.0 <= ap <= 1.0:
                raise DataError(
                    f"row {self.pair}: its curve has AP {ap} at {share} of a training; shares rise in (0, 1], APs are in [0, 1]."
                )
            last = share

    @property
    def pair(self) -> Pair:
        """The row's key."""
        return Pair(self.space, self.data_set, self.configuration, self.budget, self.seed)


@dataclass(frozen=True)
class DenseTable:
    """One AP a cell: ``values`` ``[K, D]`` of K configurations on D data sets; NaN where missing or failed."""

    configurations: tuple[str, ...]
    data_sets: tuple[str, ...]
    values: NDArray[np.float64]


class LookupTable:
    """An immutable collection of rows, at most one per :class:`Pair`, in order of arrival."""

    def __init__(self, rows: Iterable[Row] = ()) -> None:
        self._rows: dict[Pair, Row] = {}
        conflicts = 0
        for row in rows:
            known = self._rows.get(row.pair)
            if known is None or (known.failure and not row.failure):
                self._rows[row.pair] = row
            else:
                conflicts += not row.failure and known.heldout_ap != row.heldout_ap
        if conflicts:
            _log.warning(
                "lookup table: %d pairs were measured twice with another AP; the first one is kept.",
                conflicts,
            )

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[Row]:
        return iter(self._rows.values())

    def __contains__(self, pair: Pair) -> bool:
        return pair in self._rows

    def __eq__(self, other: object) -> bool:
        # NaN differs from itself, so rows are compared as they are written.
        return isinstance(other, LookupTable) and self.to_csv() == other.to_csv()

    __hash__ = None  # type: ignore[assignment]

    def __getitem__(self, pair: Pair) -> Row:
        return self._rows[pair]

    def select(
        self,
        space: str | None = None,
        data_sets: Collection[str] | None = None,
        budget: str | None = None,
        seed: int | None = None,
    ) -> LookupTable:
        """The rows that match every argument given."""
        return LookupTable(
            row
            for row in self
            if (space is None or row.space == space)
            and (data_sets is None or row.data_set in data_sets)
            and (budget is None or row.budget == budget)
            and (seed is None or row.seed == seed)
        )

    def dense(self, column: APColumn = "heldout_ap", data_sets: Sequence[str] | None = None) -> DenseTable:
        """A matrix of one AP column.

        Args:
            column: Which AP.
            data_sets: Columns and their order; all, sorted, by default.

        Returns:
            ``[K, D]``: configurations (sorted) by data sets.

        Raises:
            DataError: A cell has several rows (several spaces, budgets or seeds): select one first.
        """
        wanted = tuple(sorted({row.data_set for row in self}) if data_sets is None else data_sets)
        place = {name: index for index, name in enumerate(wanted)}
        rows = [row for row in self if row.data_set in place]
        configurations = tuple(sorted({row.configuration for row in rows}))
        line = {text: index for index, text in enumerate(configurations)}
        cells = {(line[row.configuration], place[row.data_set]): getattr(row, column) for row in rows}
        if len(cells) != len(rows):
            raise DataError(
                "lookup table: cells have several rows; select one space, one budget and one seed first."
            )
        values = np.full((len(configurations), len(wanted)), np.nan)
        for (k, d), ap in cells.items():
            values[k, d] = ap
        return DenseTable(configurations, wanted, values)

    def over_seeds(self) -> LookupTable:
        """One row for each pair, noted under the lowest seed: the mean AP over seeds, which is less noisy than any of them.

        A data set counts with those seeds that measured all configurations which its lowest one did, so that all its rows
        are means over equally many trainings: a noisier one would look best more often. A failed training stays a failed row.
        """
        groups: dict[tuple[str, str, str], dict[int, dict[str, Row]]] = {}
        for row in self:
            seeds = groups.setdefault((row.space, row.data_set, row.budget), {})
            seeds.setdefault(row.seed, {})[row.configuration] = row
        found = []
        for seeds in groups.values():
            first = seeds[min(seeds)]
            whole = [rows for rows in seeds.values() if rows.keys() >= first.keys()]
            for text, row in first.items():
                again = [rows[text] for rows in whole]
                means: dict[str, Any] = {
                    name: float(np.mean([getattr(each, name) for each in again])) for name in _AP_COLUMNS
                }
                failure = next((each.failure for each in again if each.failure), "")
                seconds = sum(each.seconds for each in again)
                curve = _mean_curve([each.curve for each in again])
                found.append(replace(row, **means, seconds=round(seconds, 3), failure=failure, curve=curve))
        return LookupTable(found)

    def to_csv(self) -> str:
        """All rows as csv, sorted by key; the column of curves is there where a row has one."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        curves = any(row.curve for row in self)
        writer.writerow([*_COLUMNS, "curve"] if curves else _COLUMNS)
        for row in sorted(self, key=lambda row: row.pair):
            cells = [getattr(row, name) for name in _COLUMNS]
            writer.writerow([*cells, json.dumps(row.curve, separators=(",", ":"))] if curves else cells)
        return text.getvalue()

    def save(self, path: Path) -> None:
        """Writes ``*.csv.gz`` in one step; equal tables give equal bytes."""
        with (
            replacing(path) as partial,
            partial.open("wb") as raw,
            gzip.GzipFile("", "wb", mtime=0, fileobj=raw) as packed,
        ):
            packed.write(self.to_csv().encode())

    @classmethod
    def load(cls, path: Path) -> LookupTable:
        """Reads ``*.csv.gz`` or ``*.jsonl`` (a torn last line of the latter is ignored).

        Raises:
            DataError: The file is damaged; file and line are named.
        """
        if path.suffix == ".jsonl":
            return cls(_read_lines(path)[0])
        with gzip.open(path, "rt", encoding="utf-8", newline="") as lines:
            found = csv.DictReader(lines)
            return cls(_row(record, f"{path}:{found.line_num}") for record in found)

    @classmethod
    def merge(cls, tables: Iterable[LookupTable]) -> LookupTable:
        """All rows of several tables. Of a pair measured twice the first row stays, unless it is a failure."""
        return cls(row for table in tables for row in table)


class TableFile:
    """An append-only ``*.jsonl`` file of rows. One process writes a file; several processes write several files.

    Opening cuts a last line that was torn by an interruption. Use as a context manager.

    Raises:
        DataError: The file is there and holds something else than rows.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        rows, end = _read_lines(path) if path.exists() else ([], 0)
        self._done = {row.pair for row in rows}
        self._file = path.open("ab")
        self._file.truncate(end)

    def __enter__(self) -> TableFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def __contains__(self, pair: Pair) -> bool:
        return pair in self._done

    def __len__(self) -> int:
        return len(self._done)

    def append(self, row: Row) -> None:
        """Writes one row through to the disk.

        Raises:
            DataError: The pair is in the file already.
        """
        if row.pair in self._done:
            raise DataError(f"{self.path} has a row for {row.pair} already.")
        record = {name: None if value != value else value for name, value in asdict(row).items()}
        if not row.curve:
            del record["curve"]
        self._file.write(json.dumps(record, separators=(",", ":")).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        self._done.add(row.pair)


_COLUMNS = tuple(each.name for each in fields(Row) if each.name != "curve")


def _mean_curve(curves: Sequence[tuple[tuple[float, float], ...]]) -> tuple[tuple[float, float], ...]:
    """Point by point, as far as all go; none where they were validated at different times."""
    points = list(zip(*curves))
    if any(len({share for share, _ in each}) > 1 for each in points):
        return ()
    return tuple((each[0][0], float(np.mean([ap for _, ap in each]))) for each in points)


def _read_lines(path: Path) -> tuple[list[Row], int]:
    """Rows of a ``*.jsonl`` file and the byte offset behind the last whole line."""
    data = path.read_bytes()
    end = data.rfind(b"\n") + 1
    rows = []
    for number, line in enumerate(data[:end].splitlines(), start=1):
        try:
            record = json.loads(line)
        except ValueError as error:
            raise DataError(f"{path}:{number} is not JSON ({error}); remove the line to go on.") from error
        rows.append(_row(record, f"{path}:{number}"))
    return rows, end


def _row(record: Mapping[str, Any], where: str) -> Row:
    try:
        return Row(
            space=str(record["space"]),
            data_set=str(record["data_set"]),
            configuration=str(record["configuration"]),
            budget=str(record["budget"]),
            seed=int(record["seed"]),
            val_ap=_number(record["val_ap"]),
            test_ap=_number(record["test_ap"]),
            heldout_ap=_number(record["heldout_ap"]),
            seconds=_number(record["seconds"]),
            device=str(record["device"]),
            version=str(record["version"]),
            failure=str(record["failure"]),
            curve=_curve(record.get("curve")),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{where} is not a row of a lookup table ({error!r}).") from error


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)


def _curve(value: Any) -> tuple[tuple[float, float], ...]:
    points = json.loads(value) if isinstance(value, str) else value or ()
    return tuple((float(share), float(ap)) for share, ap in points)
