"""``hyperfd ledger``: everything that has left this machine for an experiment."""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

from nni_hyperfd.cli.table import table
from nni_hyperfd.customer.ledger import FILE_NAME, LedgerEntry, read_ledger
from nni_hyperfd.plugin.records import find_experiment


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the parser."""
    parser = commands.add_parser(
        "ledger",
        help="show everything that left this machine for an experiment",
        description="Shows every message that an experiment sent to a platform on a server: when, which, how long, its SHA-256, and what it said. A message is written down before it leaves. `hyperfd recommend --dry-run` shows beforehand what would leave.",
    )
    parser.add_argument(
        "experiment",
        metavar="EXPERIMENT_ID",
        nargs="?",
        help="by default what `hyperfd recommend` has sent, which belongs to no experiment",
    )
    parser.add_argument(
        "--experiments", type=Path, metavar="FOLDER", help="NNI's experimentWorkingDirectory, if it has moved"
    )
    parser.add_argument("--cache", type=Path, metavar="FOLDER", help="as for `hyperfd recommend`")
    parser.add_argument("--json", action="store_true", help="print JSON, one message a line")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Print the ledger."""
    from nni_hyperfd.data.pixels import default_cache_dir

    if options.experiment:
        folder = find_experiment(options.experiment, options.experiments)
    else:
        folder = options.cache or default_cache_dir()
    entries = read_ledger(folder / FILE_NAME)
    if options.json:
        for entry in entries:
            print(json.dumps(dataclasses.asdict(entry)))
        return
    if not entries:
        print("No message has left this machine: there was none, or the platform is on this machine itself.")
        return
    print(listing(entries))
    total = sum(entry.bytes for entry in entries)
    print(f"\n{len(entries)} messages, {total / 1e6:.2f} MB. With each go the token and an idempotency key.")


def listing(entries: Sequence[LedgerEntry]) -> str:
    """A table of messages."""
    return table(
        ("left at (UTC)", "call", "bytes", "SHA-256", "what it says"),
        [
            (
                entry.time[:19].replace("T", " "),
                entry.call,
                entry.bytes,
                entry.sha256[:16],
                said(entry.fields),
            )
            for entry in entries
        ],
    )


def said(fields: dict[str, object]) -> str:
    """Fields of a message in one line, without those that are empty."""
    parts = []
    for name, value in fields.items():
        if isinstance(value, dict) and value:
            parts.append(f"{name}=({said(value)})")
        elif value is not None:
            parts.append(f"{name}={value}")
    return " ".join(parts)
