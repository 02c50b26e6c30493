"""A server process: the platform, its application, and uvicorn around them."""

from __future__ import annotations

import logging
import signal
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path

import uvicorn

from nni_hyperfd.errors import PlatformError
from nni_hyperfd.platform.first import read_assets
from nni_hyperfd.platform.platform import Platform
from nni_hyperfd.platform.state.store import Store
from nni_hyperfd.server.app import make_app
from nni_hyperfd.server.connection import WatchedProtocol
from nni_hyperfd.server.limits import Limits

CONNECTIONS = 512
"""More connections than this at once are turned away with status 503."""
KEEP_ALIVE_SECONDS = 20
STOP_SECONDS = 30
"""How long requests under way may take after the server was told to stop."""

_log = logging.getLogger("hyperfd.server")


@dataclass(frozen=True)
class ServerSettings:
    """Where and how a server listens.

    Args:
        host, port: Of the socket.
        tls_cert, tls_key: PEM files, both or none; without them tokens travel in the clear.
        limits: For each customer.

    Raises:
        PlatformError: One of the TLS files is not given, or not there.
    """

    host: str = "127.0.0.1"
    port: int = 8600
    tls_cert: Path | None = None
    tls_key: Path | None = None
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise PlatformError("TLS needs both a certificate and its key")
        for path in (self.tls_cert, self.tls_key):
            if path is not None and not path.is_file():
                raise PlatformError(f"there is no file {path} for TLS")


def serve(location: str | Path, settings: ServerSettings) -> None:
    """Serve the platform in a folder or at a database URL until a signal comes.

    Raises:
        PlatformError: The state or the TLS files cannot be used.
    """
    store = Store(location, read_assets)
    platform = Platform(store)
    try:
        server = make_server(store, platform, settings)
        if settings.tls_cert is None and not _is_loopback(settings.host):
            _log.warning("tokens travel in the clear: give TLS files, or keep a proxy with TLS in front")
        _log.info("serving", extra={"fields": {"platform": store.location}})
        for number in (signal.SIGINT, signal.SIGTERM):
            # uvicorn ends, and then sends itself the signal once more, which would end the process before the turn to
            # update is given back.
            signal.signal(number, lambda *_: None)
        server.run()
    finally:
        platform.close()
    _log.info("stopped")


def make_server(store: Store, platform: Platform, settings: ServerSettings) -> uvicorn.Server:
    """A server that is not running yet.

    Raises:
        PlatformError: The TLS files cannot be used.
    """
    config = uvicorn.Config(
        make_app(store, platform, settings.limits),
        host=settings.host,
        port=settings.port,
        http=WatchedProtocol,
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=CONNECTIONS,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=STOP_SECONDS,
        ssl_certfile=settings.tls_cert,
        ssl_keyfile=settings.tls_key,
    )
    try:
        config.load()
    except OSError as error:  # ssl.SSLError is one
        raise PlatformError(f"the certificate or the key for TLS cannot be used: {error}") from None
    return uvicorn.Server(config)


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
