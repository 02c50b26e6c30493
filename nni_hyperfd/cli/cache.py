"""``hyperfd cache``: what is kept on this disk to be quicker the next time, and what of it is to go."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from nni_hyperfd.cli.table import table


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the parser."""
    parser = commands.add_parser(
        "cache",
        help="show and prune decoded images and features on this disk",
        description="Lists decoded images and image features, which are kept to be quicker the next time and can be made again. Each new "
        "one makes those go that nobody has opened for the longest time, until all have no more than HYPERFD_CACHE_GB (20) gigabytes.",
    )
    parser.add_argument(
        "--cache", type=Path, metavar="FOLDER", help="by default HYPERFD_CACHE or ~/.cache/hyperfd"
    )
    parser.add_argument(
        "--prune", type=float, metavar="GB", help="keep no more than this many gigabytes; 0 removes all"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Prune if that is asked for, and list what there is."""
    from nni_hyperfd.data.cache import KINDS, entries, evict
    from nni_hyperfd.data.pixels import default_cache_dir

    folder = options.cache or default_cache_dir()
    if options.prune is not None:
        gone = evict(folder, max(0.0, options.prune) * 1e9)
        print(f"Removed {len(gone)} entries with {_size(sum(entry.size for entry in gone))}.")
    found = entries(folder)
    rows = [(entry.path.name, KINDS[entry.kind], _size(entry.size), _day(entry.used)) for entry in found]
    if rows:
        print(table(("data set", "what", "size", "last opened"), rows))
    print(f"{len(found)} entries with {_size(sum(entry.size for entry in found))} in {folder}.")


def _size(size: float) -> str:
    return f"{size / 1e6:.1f} MB"


def _day(moment: float) -> str:
    return time.strftime("%Y-%m-%d", time.localtime(moment))
