"""``hyperfd serve``: a platform for several customers, behind HTTP."""

from __future__ import annotations

import argparse
from pathlib import Path

from nni_hyperfd.cli.options import add_state
from nni_hyperfd.errors import PluginError


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the parser."""
    parser = commands.add_parser(
        "serve",
        help="run a platform for several customers",
        description="Serves a platform to the customers whom `hyperfd customer add` has let in, until it is stopped. Logs are JSON on stderr; figures for Prometheus are at /metrics, the calls at /docs.",
    )
    add_state(parser)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8600, help="port to listen at (default: %(default)s)")
    parser.add_argument("--tls-cert", type=Path, metavar="FILE", help="certificate chain, PEM")
    parser.add_argument("--tls-key", type=Path, metavar="FILE", help="its key, PEM")
    parser.add_argument(
        "--rate",
        type=_positive,
        default=50.0,
        metavar="N",
        help="requests a second of one customer, four times as many at once (default: 50)",
    )
    parser.add_argument(
        "--max-body",
        type=_positive,
        default=4.0,
        metavar="MIB",
        help="largest message, unpacked, in MiB (default: 4)",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Serve until a signal comes.

    Raises:
        PluginError: A package that a server needs is not installed.
    """
    try:
        from nni_hyperfd.server.limits import Limits
        from nni_hyperfd.server.logs import configure
        from nni_hyperfd.server.serve import ServerSettings, serve
    except ModuleNotFoundError as error:
        raise PluginError(
            f"a server needs {error.name}, which is not installed: run pip install '.[server]' in a clone of this package"
        ) from None
    configure()
    limits = Limits(
        rate=options.rate,
        burst=max(1, round(4 * options.rate)),
        body_bytes=round(options.max_body * 2**20),
    )
    serve(
        options.platform,
        ServerSettings(options.host, options.port, options.tls_cert, options.tls_key, limits),
    )


def _positive(text: str) -> float:
    number = float(text)
    if not 0 < number < 1e6:
        raise ValueError
    return number
