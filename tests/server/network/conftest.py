"""A platform behind a real network: the server in a thread of the test."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest

from nni_hyperfd.customer.http import HTTPPlatform
from nni_hyperfd.platform.platform import Platform
from nni_hyperfd.server.serve import ServerSettings, make_server
from nni_hyperfd.server.tokens import new_token

PATIENCE = 60.0
"""Seconds after which a server will not come up any more."""


class Served:
    """A platform of the test's own process, and a server for it in a thread."""

    def __init__(self, platform: Platform, url: str) -> None:
        self.platform, self.url = platform, url

    def connect(self, customer: str) -> HTTPPlatform:
        """The platform as a new customer reaches it."""
        return HTTPPlatform(self.url, new_token(self.platform._store, customer))


@contextmanager
def serving(platform: Platform) -> Iterator[Served]:
    """Serve ``platform`` for a while."""
    server = make_server(platform._store, platform, ServerSettings(port=0))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        end = time.monotonic() + PATIENCE
        while not server.started:
            assert thread.is_alive(), "the server stopped"
            assert time.monotonic() < end, "the server does not come up"
            time.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield Served(platform, f"http://127.0.0.1:{port}")
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture
def serve() -> Iterator[Callable[[Platform], Served]]:
    """Serves a platform until the test ends."""
    with ExitStack() as stack:
        yield lambda platform: stack.enter_context(serving(platform))
