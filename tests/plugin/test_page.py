"""What the tuner asks of NNI's REST interface; the real one is asked in ``tests/end_to_end``."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from nni_hyperfd.plugin.experiment import complain
from nni_hyperfd.plugin.page import Page


@pytest.fixture
def manager() -> Iterator[HTTPServer]:
    """Answers as NNI's manager does to reading and writing the experiment's profile, under a URL prefix."""
    profile = {"id": "exp1", "params": {"maxTrialNumber": 100, "trialConcurrency": 2}}
    status = {"status": "RUNNING", "errors": []}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = {"experiment": profile, "check-status": status}
            self.answer(found.get(self.path.removeprefix("/prefix/api/v1/nni/")))

        def do_PUT(self) -> None:
            profile.update(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            duration = profile["params"].get("maxExperimentDuration", "1h")
            if not re.fullmatch("[0-9]+[dhms]", duration):
                status.update(status="ERROR", errors=[f'Job management error: Bad unit in "{duration}"'])
            self.answer("" if "experiment?update_type=MAX_" in self.path else None)

        def answer(self, content: object) -> None:
            self.send_response(404 if content is None else 200)
            self.end_headers()
            self.wfile.write(b"" if content == "" else json.dumps(content).encode())

        def log_message(self, format: str, *values: object) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Handler)
    server.profile, server.status = profile, status  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()


def test_an_experiment_is_done_when_no_more_trials_are_allowed_than_were_started(manager: HTTPServer) -> None:
    Page(f"ws://127.0.0.1:{manager.server_port}/prefix/tuner").finish(5)
    expected = {"id": "exp1", "params": {"maxTrialNumber": 5, "trialConcurrency": 2}}
    assert manager.profile == expected  # type: ignore[attr-defined]


@pytest.mark.parametrize("duration", [None, "2h"])
def test_a_sentence_is_shown_and_the_duration_put_back(manager: HTTPServer, duration: str | None) -> None:
    page = Page(f"ws://127.0.0.1:{manager.server_port}/prefix/tuner")
    before = {"maxTrialNumber": 100, **({} if duration is None else {"maxExperimentDuration": duration})}
    manager.profile["params"] = dict(before)  # type: ignore[attr-defined]
    page.show("HyperFD: no such folder as /data/faces")
    assert manager.status["errors"] == [  # type: ignore[attr-defined]
        'Job management error: Bad unit in "HyperFD: no such folder as /data/faces."'
    ]
    assert manager.profile["params"] == before  # type: ignore[attr-defined]
    page.show("HyperFD: another error")
    assert len(manager.status["errors"]) == 1, "the first one is what is shown"  # type: ignore[attr-defined]


def test_what_a_tuner_complains_of_is_shown(manager: HTTPServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NNI_TUNER_COMMAND_CHANNEL", f"ws://127.0.0.1:{manager.server_port}/prefix/tuner")
    complain(None, "no such folder as /data/faces")
    assert "HyperFD: no such folder as /data/faces." in manager.status["errors"][0]  # type: ignore[attr-defined]


def test_a_manager_that_is_gone_is_an_os_error() -> None:
    with pytest.raises(OSError, match="refused"):
        Page("ws://127.0.0.1:9/tuner").finish(5)
    with pytest.raises(OSError, match="refused"):
        Page("ws://127.0.0.1:9/tuner").show("HyperFD: an error.")
