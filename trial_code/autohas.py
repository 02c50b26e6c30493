"""One trial that searches network, learning rate and location weight by gradient, then trains what it found (AutoHAS).

NNI starts it (examples/autohas.yml); by hand:

    python trial_code/autohas.py --data FOLDER --budget smoke

While it searches, NNI's page shows the loss on val (`default`), that on train, and the entropies of the encodings; then, as
for every trial, AP@50 of the training. Into the output folder go search.json, with what was found before it was rounded to
the joint space, and all that finetune.py writes. `hyperfd record` hands the result to a platform.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path

import torch

from nni_hyperfd.data.dataset import load_dataset
from nni_hyperfd.data.pixels import open_pixels
from nni_hyperfd.data.reading import Reading, add_reading_options
from nni_hyperfd.detection.autohas.search import Search, SearchState
from nni_hyperfd.detection.network.weights import base_detector
from nni_hyperfd.detection.training.budgets import get_budget
from nni_hyperfd.files import write_file
from nni_hyperfd.script import Reporter, as_script, writing_into
from nni_hyperfd.spaces.architecture import largest
from nni_hyperfd.trial import Trial, run_trial

REPORTS = 20
"""Points of the search on NNI's page."""


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of annotated face images")
    parser.add_argument("--budget", default="short", help="paper, short, smoke or table")
    add_reading_options(parser)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="output folder; by default NNI's, or ./out by hand")
    options = parser.parse_args()
    torch.set_num_threads(1)
    return as_script(lambda: run(options))


def run(options: argparse.Namespace) -> None:
    """Searches, then trains.

    Raises:
        DataError: The data cannot be used, or the output folder cannot be written.
    """
    reporter, reading, budget = Reporter(), Reading.of(options), get_budget(options.budget)
    reporter.parameters()  # NNI counts a trial as begun when it has asked; there is nothing in it for us
    out = options.out or reporter.output_folder()
    dataset = load_dataset(options.data, **reading.arguments())
    store = open_pixels(dataset, 2 * max(budget.image_size, budget.evaluation_size))
    search = Search(base_detector(largest()), store, budget, options.seed)
    started, every = time.monotonic(), max(1, search.steps // REPORTS)
    curve = []
    for number in range(1, search.steps + 1):
        progress = search.step()
        if number % every == 0:
            curve.append(asdict(progress))
            show(reporter, number, progress)
    configuration, found = search.derive()
    record = {
        "steps": search.steps,
        "seconds": round(time.monotonic() - started, 2),
        "found": found,
        "configuration": configuration.parameters(),
        "curve": curve,
    }
    with writing_into(out):
        write_file(out / "search.json", json.dumps(record, indent=1))
    run_trial(
        Trial(
            options.data, options.budget, configuration.parameters(), reading, options.seed, out=options.out
        )
    )


def show(reporter: Reporter, number: int, progress: SearchState) -> None:
    """One point on NNI's page, and one line of the log."""
    values = asdict(progress)
    print(json.dumps({"step": number, **{key: round(value, 4) for key, value in values.items()}}), flush=True)
    if reporter.inside:
        import nni

        nni.report_intermediate_result({"default": progress.val_loss, **values})


if __name__ == "__main__":
    sys.exit(main())
