"""Options that several commands have."""

from __future__ import annotations

import argparse
from pathlib import Path

from nni_hyperfd.customer.settings import default_platform
from nni_hyperfd.errors import PluginError
from nni_hyperfd.location import platform_location


def named_path(text: str) -> Path:
    """A path that somebody has written; an empty one would mean the current folder.

    Raises:
        PluginError: Nothing is written.
    """
    if not text.strip():
        raise PluginError("a name is empty, as of a shell variable that is not set: name a file or a folder")
    return Path(text)


def add_state(parser: argparse.ArgumentParser) -> None:
    """``--platform``, for commands that work on the state itself and not through a server."""
    add_platform(parser, "a postgresql:// URL")


def add_customer(parser: argparse.ArgumentParser) -> None:
    """``--platform`` and ``--cache``, for commands that ask a platform as a customer does."""
    add_platform(parser, "https://host:port of a server, for which HYPERFD_TOKEN must be set")
    parser.add_argument("--cache", metavar="FOLDER", help="folder for image-level features")


def add_platform(parser: argparse.ArgumentParser, elsewhere: str) -> None:
    """``--platform``, which is a folder or ``elsewhere``."""
    parser.add_argument(
        "--platform",
        type=platform_location,
        default=default_platform(),
        metavar="LOCATION",
        help=f"folder of the platform's state, or {elsewhere} (default: %(default)s)",
    )


def add_experiments(parser: argparse.ArgumentParser, *other_names: str) -> None:
    """``--experiments``, for commands that look for an NNI experiment by its id."""
    parser.add_argument(
        "--experiments",
        *other_names,
        type=Path,
        metavar="FOLDER",
        help="NNI's experimentWorkingDirectory, if it has moved",
    )
