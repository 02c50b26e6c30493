"""``hyperfd publish``: an operator's decision about a version that the guard kept back."""

from __future__ import annotations

import argparse
from contextlib import closing

from nni_hyperfd.cli.options import add_state


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the parser."""
    parser = commands.add_parser(
        "publish",
        help="publish a version that the platform's guard kept back",
        description="Lets customers use a version that the guard kept back, and updates build on it. `hyperfd status` says what the guard found; without this, the platform goes on as if the update had not been made.",
    )
    parser.add_argument("version", type=int, metavar="VERSION")
    add_state(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Publish and say so."""
    # Not through the platform itself, which would load torch.
    from nni_hyperfd.platform.state.store import Store

    with closing(Store(options.platform)) as store:
        store.publish(options.version)
        print(f"The platform's newest version is {store.newest().number}.")
