"""``hyperfd check``: whether a platform's state is whole."""

from __future__ import annotations

import argparse

from nni_hyperfd.cli.options import add_state


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the parser."""
    parser = commands.add_parser(
        "check",
        help="read a platform's whole state and say whether it is sound",
        description="Reads the whole state of a platform: the structure of its file, and every blob against its checksum. The platform may be at work meanwhile. Every backup does the same.",
    )
    add_state(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Check and say so."""
    from nni_hyperfd.platform.state.checking import check_state

    blobs = check_state(options.platform)
    print(f"The platform's state is sound: {blobs} blobs are what their checksums say.")
