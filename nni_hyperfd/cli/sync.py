"""``hyperfd sync``: what waited while a platform was away."""

from __future__ import annotations

import argparse

from nni_hyperfd.cli.options import add_experiments
from nni_hyperfd.errors import HyperFDError, PluginError
from nni_hyperfd.plugin.records import all_experiments, find_experiment


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the parser."""
    parser = commands.add_parser(
        "sync",
        help="deliver what waited while the platform was away",
        description="Delivers results that were kept on this disk because the platform was away, and lets it learn from experiments that have ended since. Nothing is counted twice, however often this is called.",
    )
    parser.add_argument(
        "experiment", metavar="EXPERIMENT_ID", nargs="?", help="by default all that something waits for"
    )
    add_experiments(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Deliver, and say for each experiment what happened.

    Raises:
        PluginError: Messages of an experiment could not be delivered.
    """
    from nni_hyperfd.customer.outbox import FILE_NAME
    from nni_hyperfd.plugin.experiment_end import deliver

    if options.experiment:
        folders = [find_experiment(options.experiment, options.experiments)]
    else:
        folders = [one for one in all_experiments(options.experiments) if (one / FILE_NAME).exists()]
        if not folders:
            print("Nothing waits to be delivered.")
    failed: list[str] = []
    for folder in folders:
        try:
            print(f"{folder.name}: {deliver(folder)}.")
        except HyperFDError as error:
            failed.append(f"{folder.name}: {error}")
    if failed:
        raise PluginError("; ".join(failed))
