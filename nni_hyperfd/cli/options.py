"""Options that several commands have."""

from __future__ import annotations

import argparse

from nni_hyperfd.customer.settings import default_platform
from nni_hyperfd.location import platform_location


def add_state(parser: argparse.ArgumentParser) -> None:
    """``--platform``, for commands that work on the state itself and not through a server."""
    parser.add_argument(
        "--platform",
        type=platform_location,
        default=default_platform(),
        metavar="LOCATION",
        help="folder of the platform's state, or a postgresql:// URL (default: %(default)s)",
    )


def add_customer(parser: argparse.ArgumentParser) -> None:
    """``--platform`` and ``--cache``, for commands that ask a platform as a customer does."""
    parser.add_argument(
        "--platform",
        type=platform_location,
        default=default_platform(),
        help="folder of the platform's state, or https://host:port of a server, for which HYPERFD_TOKEN must be set (default: %(default)s)",
    )
    parser.add_argument("--cache", metavar="FOLDER", help="folder for image-level features")
