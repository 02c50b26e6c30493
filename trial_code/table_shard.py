"""One trial of the experiment that builds a lookup table: measures the pairs of one shard (examples/table.yml).

NNI hands it a shard, such as 3/8, and its rows go to table.jsonl in NNI's output folder; by hand:

    python trial_code/table_shard.py --shard 3/8 --space hpo --data FOLDER...

Whatever machine a trial ran on, `hyperfd table merge */table.jsonl --out FILE.csv.gz` puts the files together.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path

import torch

from nni_hyperfd.errors import DataError
from nni_hyperfd.evidence.job import add_arguments, job_of, load_tables
from nni_hyperfd.evidence.table import LookupTable, Row
from nni_hyperfd.script import Reporter, as_script

FILE = "table.jsonl"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    parser.add_argument("--shard", metavar="I/N", help="by default the one that NNI hands over")
    parser.add_argument("--out", type=Path, help="output folder; by default NNI's, or ./out by hand")
    parser.add_argument(
        "--done", type=Path, nargs="+", default=[], metavar="FILE", help="tables whose pairs are left out"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    return as_script(lambda: run(options))


def run(options: argparse.Namespace) -> None:
    """Measures the shard, reports each AP as it comes and their mean at the end."""
    reporter = Reporter()
    index, count = shard_of(options.shard or str(reporter.parameters().get("shard", "0/1")))
    path = (options.out or reporter.output_folder()) / FILE

    def show(row: Row) -> None:
        if not row.failure:
            reporter.intermediate(row.heldout_ap)

    job_of(options).run(path, index, count, load_tables(options.done), progress=show)
    rows = list(LookupTable.load(path))
    aps = [row.heldout_ap for row in rows if not row.failure]
    mean = math.fsum(aps) / len(aps) if aps else 0.0
    seconds = math.fsum(row.seconds for row in rows)
    result = {"rows": len(rows), "failed": len(rows) - len(aps), "seconds": round(seconds, 1)}
    if reporter.inside:
        import nni

        nni.report_final_result({"default": mean, **result})
    print(json.dumps({"heldout_ap": mean, **result}))


def shard_of(text: str) -> tuple[int, int]:
    """``3/8`` -> (3, 8).

    Raises:
        DataError: The text is anything else.
    """
    index, slash, count = text.partition("/")
    if not (slash and index.isdigit() and count.isdigit() and int(index) < int(count)):
        raise DataError(f"the shard is {text!r}: write it like 3/8, counted from 0/8 to 7/8")
    return int(index), int(count)


if __name__ == "__main__":
    sys.exit(main())
