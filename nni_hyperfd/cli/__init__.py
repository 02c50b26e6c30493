"""The ``hyperfd`` command: one module for each sub-command."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import warnings
from collections.abc import Sequence

from nni_hyperfd.cli import (
    backup,
    cache,
    check,
    customer,
    data,
    detect,
    finish,
    init,
    ledger,
    lookup,
    prune,
    publish,
    recommend,
    record,
    register,
    report,
    serve,
    status,
    sync,
)
from nni_hyperfd.errors import HyperFDError

COMMANDS = (
    data,
    init,
    recommend,
    record,
    finish,
    report,
    sync,
    ledger,
    status,
    register,
    detect,
    lookup,
    serve,
    customer,
    publish,
    prune,
    check,
    backup,
    cache,
)
"""Each has ``add_to(commands)``, which adds its parsers and the function that they run."""


def make_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="hyperfd", description="Recommends how to train a face detector on your own images."
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for command in COMMANDS:
        command.add_to(commands)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status: 0, or 1 after one sentence on stderr."""
    parser = make_parser()
    # Libraries announce to their own authors what will change; a customer can do nothing about it.
    warnings.simplefilter("ignore", FutureWarning)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        options = parser.parse_args(arguments)
        options.run(options)
        sys.stdout.flush()
    except HyperFDError as error:
        print(f"hyperfd: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # The reader (`| head`) has seen enough; Python would complain once more when it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0
