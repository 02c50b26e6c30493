"""Platforms behind a real network: the server in a thread of the test, or in a process that can be killed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest
import requests

from nni_hyperfd.platform.http import HTTPPlatform
from nni_hyperfd.platform.platform import Platform
from nni_hyperfd.platform.server.serve import ServerSettings, make_server
from nni_hyperfd.platform.server.tokens import new_token
from nni_hyperfd.platform.store import Store

PATIENCE = 60.0
"""Seconds after which a server will not come up any more."""


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


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


class ServerProcess:
    """``hyperfd serve`` over a folder, at the same port however often it is started."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def token(self, customer: str) -> str:
        """Let a customer in."""
        with closing(Store(self.folder)) as store:
            return new_token(store, customer)

    def start(self) -> None:
        """Start, and wait until it answers."""
        command = [sys.executable, "-W", "ignore", "-m", "nni_hyperfd.cli", "serve"]
        with open(self.folder / "server.log", "ab") as log:
            self._process = subprocess.Popen(
                [*command, "--platform", str(self.folder), "--port", str(self.port)],
                stderr=log,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )
        end = time.monotonic() + PATIENCE
        while True:
            try:
                requests.get(f"{self.url}/healthz", timeout=5).raise_for_status()
                return
            except requests.RequestException:
                assert self._process.poll() is None, (self.folder / "server.log").read_text()
                assert time.monotonic() < end, "the server does not come up"
                time.sleep(0.05)

    def kill(self) -> None:
        """``kill -9``."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process = None


@pytest.fixture
def server(tmp_path: Path, make_platform: Callable[[Path], None]) -> Iterator[ServerProcess]:
    """A small platform for a server process, which is not running yet."""
    make_platform(tmp_path / "platform")
    one = ServerProcess(tmp_path / "platform")
    yield one
    one.kill()
