"""``hyperfd customer``: who may use a platform over the network."""

from __future__ import annotations

import argparse
from contextlib import AbstractContextManager, closing
from typing import TYPE_CHECKING

from nni_hyperfd.cli.options import add_state
from nni_hyperfd.cli.table import table

if TYPE_CHECKING:
    from nni_hyperfd.platform.state.store import Store


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the parsers."""
    parser = commands.add_parser(
        "customer",
        help="say who may use a platform over the network",
        description="Lets customers in, shows them, and turns them away. A running server takes notice at once.",
    )
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    for name, run, text in (
        ("add", add, "let a customer in and print the token, which is shown only now"),
        ("list", show, "list all customers"),
        ("revoke", revoke, "turn a customer away; adding it again gives it a new token"),
    ):
        action = actions.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        if run is not show:
            action.add_argument("name", metavar="NAME")
        add_state(action)
        action.set_defaults(run=run)


def add(options: argparse.Namespace) -> None:
    """Print the new token, and nothing else, so that it can be piped to where it is kept."""
    from nni_hyperfd.server.tokens import new_token

    with _store(options.platform, make=True) as store:
        print(new_token(store, options.name))


def show(options: argparse.Namespace) -> None:
    """Print a table."""
    with _store(options.platform) as store:
        rows = [
            (
                each.name,
                each.tasks,
                f"{each.created:%Y-%m-%d}",
                f"{each.revoked:%Y-%m-%d}" if each.revoked else "",
            )
            for each in store.customers()
        ]
    print(table(("customer", "experiments", "since", "revoked"), rows))


def revoke(options: argparse.Namespace) -> None:
    """Turn a customer away."""
    with _store(options.platform) as store:
        store.revoke_customer(options.name)
    print(f"{options.name} is turned away from now on; what the platform has learnt stays.")


def _store(location: str, make: bool = False) -> AbstractContextManager[Store]:
    from nni_hyperfd.platform.state.store import Store

    if not make:
        return closing(Store(location))
    from nni_hyperfd.platform.first import read_assets

    # Customers may be let in before the first server runs.
    return closing(Store(location, read_assets))
