"""What the tuner asks of NNI's REST interface; the real one is asked in ``tests/end_to_end``."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from nni_hyperfd.plugin.page import Page


@pytest.fixture
def manager() -> Iterator[HTTPServer]:
    """Answers as NNI's manager does to reading and writing the experiment's profile, under a URL prefix."""
    profile = {"id": "exp1", "params": {"maxTrialNumber": 100, "trialConcurrency": 2}}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.answer("/prefix/api/v1/nni/experiment", json.dumps(profile).encode())

        def do_PUT(self) -> None:
            profile.update(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.answer("/prefix/api/v1/nni/experiment?update_type=MAX_TRIAL_NUM", b"")

        def answer(self, path: str, content: bytes) -> None:
            self.send_response(200 if self.path == path else 404)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *values: object) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Handler)
    server.profile = profile  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()


def test_an_experiment_is_done_when_no_more_trials_are_allowed_than_were_started(manager: HTTPServer) -> None:
    Page(f"ws://127.0.0.1:{manager.server_port}/prefix/tuner").finish(5)
    expected = {"id": "exp1", "params": {"maxTrialNumber": 5, "trialConcurrency": 2}}
    assert manager.profile == expected  # type: ignore[attr-defined]


def test_a_manager_that_is_gone_is_an_os_error() -> None:
    with pytest.raises(OSError, match="refused"):
        Page("ws://127.0.0.1:9/tuner").finish(5)
