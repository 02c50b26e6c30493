"""``hyperfd prune``: let go of old ranker versions and give their room back."""

from __future__ import annotations

import argparse
from contextlib import closing

from nni_hyperfd.cli.options import add_state


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the parser."""
    parser = commands.add_parser(
        "prune",
        help="let go of a platform's old ranker versions",
        description="Empties what need not be kept: ranker versions but the newest ones, those that experiments under way were begun with, and the newest of those that may still be published; what carries the oldest tasks over; and encoders of customers' own spaces of long ago. Results and history stay. Every update does so too, little by little; this does all of it, and gives the room in a SQLite file back to the disk.",
    )
    add_state(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Prune and say what went."""
    # Not through the platform itself, which would load torch.
    from nni_hyperfd.platform.state.pruning import prune
    from nni_hyperfd.platform.state.store import Store

    with closing(Store(options.platform)) as store:
        gone = prune(store)
        store.compact()
    print(
        f"{gone.versions} old rankers, what carried {gone.tasks} old tasks over, and {gone.encoders} encoders of customers' own spaces are gone."
    )
