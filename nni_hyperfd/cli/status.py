"""``hyperfd status``: what a platform knows."""

from __future__ import annotations

import argparse
import dataclasses
import json
from contextlib import closing
from typing import TYPE_CHECKING

from nni_hyperfd.cli.options import add_platform
from nni_hyperfd.cli.table import table
from nni_hyperfd.customer.http import HTTPPlatform, is_url
from nni_hyperfd.customer.settings import default_token
from nni_hyperfd.errors import PluginError
from nni_hyperfd.protocol.messages import ReadExtractor

if TYPE_CHECKING:
    from nni_hyperfd.platform.state.records import Turn


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the parser."""
    parser = commands.add_parser(
        "status",
        help="show a platform's versions, tasks and experience",
        description="Shows what a platform knows.",
    )
    add_platform(parser, "https://host:port of a server, which tells its version")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Print the status; a place without a platform is left as it is.

    Raises:
        PluginError: A platform on a server is asked for, and no token is set.
    """
    if is_url(options.platform):
        _ask(options)
        return
    # Not through the platform itself, which would load torch.
    from nni_hyperfd.platform.state.store import Store
    from nni_hyperfd.platform.status import history_of, status_of

    with closing(Store(options.platform)) as store:
        status, history = status_of(store), history_of(store)
    if options.json:
        content = dataclasses.asdict(status) | {"versions": [dataclasses.asdict(entry) for entry in history]}
        print(json.dumps(content, indent=1, default=str))
        return
    counts = status.counts
    print(f"Platform    {status.location}")
    print(f"Version     {status.version}")
    print(
        f"Tasks       {counts.done_tasks} finished, {counts.open_tasks} open, {counts.closed_tasks} without a result"
    )
    print(f"Experience  {counts.usable_trials} results, {counts.failed_trials} failed trials")
    print(f"Update      {_turn(status.turn)}")
    print(f"Base        {status.base_id} (schema {status.schema_version})\n")
    rows = [
        (
            entry.version,
            entry.experiment_id or "(warm-up on the offline data)",
            entry.space_key or "",
            entry.trials_used,
            entry.trials_failed,
            "" if entry.best_ap is None else f"{entry.best_ap:.4f}",
            entry.created.astimezone().strftime("%Y-%m-%d %H:%M"),
            "" if entry.published else "kept back",
        )
        for entry in history
    ]
    print(table(("version", "experiment", "space", "results", "failed", "best AP@50", "made", ""), rows))
    for entry in history:
        if not entry.published:
            print(f"\nVersion {entry.version} is kept back: {'; '.join(entry.objections)}.")
            if entry.parent != status.version:
                print(
                    f"The platform has gone on without it to version {status.version}; its results are kept."
                )
            elif entry.kept:
                print(
                    f"Nobody gets it; `hyperfd publish {entry.version}` lets them, and updates build on it."
                )
            else:
                print("Only newer held-back versions are kept; its results are.")


def _turn(turn: Turn) -> str:
    """Whose turn it is to update the platform, and who waits."""
    if turn.experiment_id is None and not turn.waiting:
        return "none under way"
    now = f"{turn.experiment_id or 'nobody'}" + (f" for {turn.seconds:.0f} s" if turn.experiment_id else "")
    waiting = f", the first for {turn.waiting[0]:.0f} s" if turn.waiting else ""
    return f"{now}; {len(turn.waiting)} waiting{waiting}"


def _ask(options: argparse.Namespace) -> None:
    """What a server tells a customer; what others have taught it is its operator's to see."""
    token = default_token()
    if token is None:
        raise PluginError("set HYPERFD_TOKEN to the token that the platform's operator gave you")
    state = HTTPPlatform(options.platform, token).ask(ReadExtractor())
    if options.json:
        print(json.dumps({"location": options.platform, "version": state.version}))
        return
    print(f"Platform    {options.platform}")
    print(f"Version     {state.version}")
