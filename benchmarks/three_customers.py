"""Three customers in a row on one platform, each an example's experiment through nnictl on real images; what was tried, and what it reached.

    python benchmarks/three_customers.py --data FOLDER [--budget short] [--out benchmarks/results/three_customers]

FOLDER holds the data sets. The examples run as they are, but for the platform, a new one that only these three share. NNI's database has the
results. A minute a trial.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import torch
from fine_tuning_helps import zero_shot
from nni_pages import experiment, to_its_end
from nni_rivals import ROOT, jobs_of
from rows import Rows

from nni_hyperfd.evidence.page import markdown_table
from nni_hyperfd.files import write_file
from nni_hyperfd.platform.platform import Platform
from nni_hyperfd.spaces.standard import standard_space
from nni_hyperfd.spaces.unread import configuration_of

CUSTOMERS = (("selfies", "hyperfd"), ("masks_street", "hyperfd"), ("cartoon_d", "hyperfd_nas"))
"""Data set and example, in the order in which they come."""


def tried(folder: Path) -> list[dict[str, Any]]:
    """Configuration and AP@50 on val and test of each trial with a result, in the order of their beginnings."""
    return [
        {"configuration": configuration_of(job.parameters), "val": job.ap, "test": job.test_ap}
        for job in jobs_of(folder)
        if job.ap is not None
    ]


def table(rows: Rows) -> str:
    """A line for each trial; the best on val of each experiment in bold."""
    lines = []
    for name, row in rows.items():
        best = max(row["trials"], key=lambda trial: trial["val"])
        for number, trial in enumerate(row["trials"]):
            about = f"{name}, {row['example']} (the base alone: {row['base']:.3f})" if not number else ""
            aps = [f"{trial['val']:.3f}", f"{trial['test']:.3f}"]
            if trial is best:
                aps = [f"**{ap}**" for ap in aps]
            lines.append([about, written(trial["configuration"]), *aps])
    return markdown_table(["data set, example", "configuration", "AP@50 val", "test"], lines)


def written(configuration: Mapping[str, Any]) -> str:
    """One line: keys and values, or of a network each block's kernel and expansion, stage by stage."""
    if "optimizer" in configuration:
        keys = ("lr", "crop", "iou", "locw", "negp")
        return " ".join([configuration["optimizer"], *(f"{key}={configuration[key]}" for key in keys)])
    # A bar would end a cell of the table.
    return str(standard_space("nas").parse(configuration).architecture).replace("|", " ")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--budget", default="short")
    parser.add_argument("--at-a-time", type=int, default=1, help="trials (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8970)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "three_customers")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = Rows(options.out.with_suffix(".json"))
    rows.clear()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        for number, (name, example) in enumerate(CUSTOMERS):
            data = options.data.resolve() / name
            config = experiment(example, data, home, options.budget, options.at_a_time)
            with to_its_end(config, home, options.port + number) as over:
                rows[name] = {"example": example, "state": over.state, "trials": tried(over.folder)}
            rows[name]["base"] = zero_shot(data, options.budget)
            rows.save()
            print(name, rows[name], flush=True)
        with closing(Platform.open(home / "platform")) as platform:
            newest = platform.history()[-1].version
    about = (
        f"Made by `python benchmarks/three_customers.py`: budget `{options.budget}`, the examples through nnictl, one after the other on one "
        f"platform, whose version is {newest} at the end. AP@50; bold: best on val. The base alone: test split, without training.\n\n"
    )
    write_file(options.out.with_suffix(".md"), about + table(rows))


if __name__ == "__main__":
    main()
