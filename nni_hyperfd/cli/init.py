"""``hyperfd init``: an experiment beside a folder of images, from the installed package alone."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from nni_hyperfd.cli.options import named_path
from nni_hyperfd.data.reading import Reading, add_reading_options
from nni_hyperfd.errors import PluginError

SPACES = ("hpo", "nas", "joint")
CONFIG = "hyperfd.yml"
SPACE = "search_space.json"
COPIED = ("finetune.py", "loopback_only.cjs")
"""Files of the package's ``assets/experiment``, which are links to those of the repository."""


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the parser."""
    parser = commands.add_parser(
        "init",
        help="write an experiment for a folder of annotated images",
        description="Writes an NNI experiment (configuration, search space, trial script) for a folder of annotated images, and says how to start it. The images are read once, so that what is wrong with them is told now; they are not changed.",
    )
    parser.add_argument("data", type=named_path, metavar="FOLDER", help="annotated face images")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FOLDER",
        help="folder of the experiment (default: FOLDER-hyperfd beside it)",
    )
    parser.add_argument(
        "--space", choices=SPACES, default="hpo", help="what is searched (default: %(default)s)"
    )
    parser.add_argument(
        "--budget",
        default="short",
        help="how long a trial trains: smoke, short or paper (default: %(default)s)",
    )
    parser.add_argument(
        "--trials", type=int, default=4, help="results that are wanted (default: %(default)s)"
    )
    add_reading_options(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Write the files and say what to do next.

    Raises:
        PluginError: An option is out of range, the folder is there already or cannot be written, or NNI could not start this Python.
    """
    from nni_hyperfd.data.dataset import load_dataset
    from nni_hyperfd.detection.training.budgets import get_budget
    from nni_hyperfd.files import write_file
    from nni_hyperfd.spaces.standard import standard_search_space

    if any(letter.isspace() for letter in sys.executable):
        raise PluginError(
            f"NNI cannot start a Python whose path holds a blank ({sys.executable}): make an environment in a folder without one, and install this package there"
        )
    get_budget(options.budget)
    if not 1 <= options.trials <= 1000:
        raise PluginError(f"--trials is {options.trials}: give a whole number from 1 to 1000")
    reading = Reading.of(options)
    dataset = load_dataset(options.data, **reading.arguments())
    print(f"{dataset.report}\n")
    data = dataset.root.resolve()
    out = (options.out or data.with_name(f"{data.name}-hyperfd")).expanduser().resolve()
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise PluginError(f"{out} is there already: name another folder with --out, or move it away")
    config = configuration(data, out, options.space, options.budget, options.trials, reading)
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_file(out / CONFIG, written(config))
        write_file(out / SPACE, json.dumps(standard_search_space(options.space), indent=1) + "\n")
        for name in COPIED:
            write_file(out / name, (files("nni_hyperfd") / "assets" / "experiment" / name).read_bytes())
    except OSError as error:
        raise PluginError(
            f"cannot write {out} ({error.strerror or error}): name another folder with --out"
        ) from error
    loopback = f'--require "{out / "loopback_only.cjs"}"'
    print(f"The experiment is in {out}. Start it, and watch it at http://127.0.0.1:8080:\n")
    print(f"  export NODE_OPTIONS={shlex.quote(loopback)}   # keeps NNI's page on this machine")
    print(f"  nnictl create --config {shlex.quote(str(out / CONFIG))}\n")
    print("When the page says DONE: hyperfd report EXPERIMENT_ID, and nnictl stop closes the page.")


def configuration(
    data: Path, out: Path, space: str, budget: str, trials: int, reading: Reading
) -> dict[str, Any]:
    """NNI's experiment configuration, with absolute paths, so that it can be started from anywhere."""
    chosen = {key: value for key, value in reading.arguments().items() if value is not None}
    # NNI hands the command to a shell, and may be started where `python` is another one.
    command = [
        sys.executable,
        "finetune.py",
        "--data",
        str(data),
        "--budget",
        budget,
        *reading.command_line(),
    ]
    return {
        "experimentName": f"HyperFD, {data.name}",
        "searchSpaceFile": str(out / SPACE),
        "trialCommand": shlex.join(command),
        "trialCodeDirectory": str(out),
        "trialConcurrency": 1,
        "tuner": {
            "className": "nni_hyperfd.HyperFDTuner",
            "codeDirectory": str(out),  # NNI asks for one, though the package is installed
            "classArgs": {
                "data": str(data),
                "budget": trials,
                **{key: list(value) if isinstance(value, tuple) else value for key, value in chosen.items()},
            },
        },
        "trainingService": {"platform": "local"},
    }


def written(config: Mapping[str, Any]) -> str:
    """The configuration as YAML, with the lines that people change explained."""
    import yaml

    text = yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True, width=1000)
    return (
        "# An experiment of HyperFD: `nnictl create --config` with the path of this file starts it.\n"
        "# trialCommand: --budget smoke (a try), short (minutes) or paper (as long as it takes to be best).\n"
        "# trialConcurrency: a trial runs on one core; with GPUs, set trialGpuNumber: 1 and one trial for each.\n"
        "# classArgs: budget is how many results are wanted; the experiment ends by itself after them.\n"
        + text
    )
