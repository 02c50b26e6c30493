"""``hyperfd backup`` and ``hyperfd restore``."""

from __future__ import annotations

import argparse
from contextlib import closing
from pathlib import Path

from nni_hyperfd.cli.options import add_state


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add both parsers."""
    saving = commands.add_parser(
        "backup",
        help="write a platform's state to a file",
        description="Writes the whole state of a platform to a new file, and its checksum to FILE.sha256. The platform may be at work meanwhile, and may live in SQLite or PostgreSQL.",
    )
    saving.set_defaults(run=run_backup)
    restoring = commands.add_parser(
        "restore",
        help="make a platform from such a file",
        description="Makes a platform from a backup, in a folder or at a database URL; so a backup is also the way from SQLite to PostgreSQL. Stop the processes that use the platform before.",
    )
    restoring.add_argument("--force", action="store_true", help="replace the platform that is there")
    restoring.set_defaults(run=run_restore)
    for parser in (saving, restoring):
        parser.add_argument("file", type=Path, metavar="FILE")
        add_state(parser)


def run_backup(options: argparse.Namespace) -> None:
    """Write the backup and say what is in it."""
    from nni_hyperfd.platform.state.backup import backup

    backup(options.platform, options.file)
    print(f"Wrote {options.file} ({options.file.stat().st_size / 2**20:.1f} MB) and its checksum.")


def run_restore(options: argparse.Namespace) -> None:
    """Restore and say where the platform stands."""
    from nni_hyperfd.platform.state import backup
    from nni_hyperfd.platform.state.store import Store

    backup.restore(options.file, options.platform, options.force)
    with closing(Store(options.platform)) as store:
        version, counts = store.newest().number, store.counts()
    print(
        f"The platform is at version {version}, with {counts.done_tasks + counts.open_tasks + counts.closed_tasks} "
        f"tasks and {counts.usable_trials} results."
    )
