"""``hyperfd finish``: the update of an experiment whose tuner could not make it."""

from __future__ import annotations

import argparse

from nni_hyperfd.cli.options import add_experiments
from nni_hyperfd.plugin.records import find_experiment


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the parser."""
    parser = commands.add_parser(
        "finish",
        help="let the platform learn from an experiment whose tuner could not",
        description="Reads NNI's own records of an experiment, hands all results to the platform and updates it. An experiment updates the platform once, however often this is called.",
    )
    parser.add_argument("experiment", metavar="EXPERIMENT_ID")
    add_experiments(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Apply the update and say what happened."""
    from nni_hyperfd.plugin.experiment_end import finish_experiment, in_words

    receipt, again = finish_experiment(find_experiment(options.experiment, options.experiments))
    print(f"{'Finished before' if again else 'Finished'}: {in_words(receipt)}.")
