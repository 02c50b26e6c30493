"""``hyperfd table``: lookup tables of what configurations reach on data sets; built, merged and summed up."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING

from nni_hyperfd.cli.table import table

if TYPE_CHECKING:
    from nni_hyperfd.evidence.table import LookupTable, Row


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the parsers of ``build``, ``merge`` and ``show``."""
    parser = commands.add_parser(
        "table",
        help="build, merge and show lookup tables for comparing methods",
        description="Lookup tables hold the AP of configurations on data sets, each measured by one training, so that ways to choose configurations can be compared without training anything again.",
    )
    actions = parser.add_subparsers(metavar="ACTION", required=True)

    build = actions.add_parser(
        "build",
        help="fine-tune pairs and append their rows to a file",
        description="Fine-tunes the detector on (configuration, data set) pairs and appends a row for each to FILE.jsonl. Stop it at any moment; the same command goes on where it stopped.",
    )
    from nni_hyperfd.evidence.job import add_arguments

    add_arguments(build)
    build.add_argument("--out", type=Path, required=True, metavar="FILE.jsonl", help="this worker's own file")
    build.add_argument(
        "--shard",
        type=_shard,
        default=(0, 1),
        metavar="I/N",
        help="every N-th pair from the I-th on, I from 0; one worker each (default: 0/1)",
    )
    build.add_argument(
        "--done", type=Path, nargs="+", default=[], metavar="FILE", help="tables whose pairs are left out"
    )
    build.add_argument("--minutes", type=float, default=math.inf, help="start no pair after this long")
    build.add_argument("--dry-run", action="store_true", help="count the pairs and train nothing")
    build.set_defaults(run=run_build)

    merge = actions.add_parser("merge", help="put the files of several workers together")
    merge.add_argument("tables", nargs="+", type=Path, metavar="FILE", help="*.jsonl or *.csv.gz")
    merge.add_argument("--out", type=Path, required=True, metavar="FILE.csv.gz")
    merge.set_defaults(run=run_merge)

    show = actions.add_parser("show", help="sum a table up, a line for each data set")
    show.add_argument("tables", nargs="+", type=Path, metavar="FILE", help="*.jsonl or *.csv.gz")
    show.set_defaults(run=run_show)


def _shard(text: str) -> tuple[int, int]:
    try:
        index, count = (int(part) for part in text.split("/"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no shard; write it like 0/4") from None
    if not 0 <= index < count:
        raise argparse.ArgumentTypeError(f"shard {index} of {count}: the index counts from 0 to {count - 1}")
    return index, count


def run_build(options: argparse.Namespace) -> None:
    """Measure this worker's pairs."""
    from nni_hyperfd.errors import DataError
    from nni_hyperfd.evidence.job import job_of, load_tables
    from nni_hyperfd.evidence.table import shard

    if options.out.suffix != ".jsonl":
        raise DataError(f"--out is {options.out}: rows are appended to a file that ends with .jsonl")
    job, done = job_of(options), load_tables(options.done)
    if options.dry_run:
        mine = shard(job.plan(), *options.shard)
        known = load_tables([options.out] if options.out.exists() else [])
        left = sum(pair not in done and pair not in known for pair in mine)
        print(f"{len(mine)} pairs in this shard, {left} of them still to be measured.")
        return
    import torch

    # A small training gains nothing from a second thread; a second worker does.
    torch.set_num_threads(1)
    index, count = options.shard
    appended, left = job.run(options.out, index, count, done, options.minutes, progress=_say)
    print(f"{options.out}: {appended} rows appended, {left} pairs left.")


def _say(row: Row) -> None:
    result = row.failure or f"val {row.val_ap:.3f}  test {row.test_ap:.3f}"
    print(f"{row.space}  {row.data_set}  {result}  {row.seconds:.1f} s", flush=True)


def run_merge(options: argparse.Namespace) -> None:
    """Write one table."""
    from nni_hyperfd.errors import DataError
    from nni_hyperfd.evidence.job import load_tables

    if not options.out.name.endswith(".csv.gz"):
        raise DataError(f"--out is {options.out}: a merged table is a file that ends with .csv.gz")
    merged = load_tables(options.tables)
    merged.save(options.out)
    print(f"{options.out}: {len(merged)} rows.")


def run_show(options: argparse.Namespace) -> None:
    """Print what a table holds."""
    from nni_hyperfd.evidence.job import load_tables

    print(summary(load_tables(options.tables)))


def summary(rows: LookupTable) -> str:
    """One line for each data set, budget and seed: how many rows, how many failed, how far their APs spread, seconds."""
    groups: dict[tuple[str, str, str, int], list[Row]] = {}
    for row in rows:
        # Offline sets are many; their names begin with the features that they were clustered by.
        name = "(offline sets)" if "." in row.data_set else row.data_set
        groups.setdefault((row.space, name, row.budget, row.seed), []).append(row)
    lines = []
    for key, members in sorted(groups.items()):
        aps = sorted(row.heldout_ap for row in members if not row.failure)
        spread = (aps[0], aps[len(aps) // 2], aps[-1]) if aps else (math.nan,) * 3
        seconds = sum(row.seconds for row in members)
        failed = sum(bool(row.failure) for row in members)
        lines.append((*key, len(members), failed, *(round(ap, 3) for ap in spread), round(seconds / 60, 1)))
    head = ("space", "data set", "budget", "seed", "rows", "failed", "worst AP", "median", "best", "minutes")
    return table(head, lines)
