"""The client's side of the wire: what it sends, when it tries again, and what it makes of each answer."""

from __future__ import annotations

import gzip
import hashlib
import json
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import trustme

from nni_hyperfd.customer import http
from nni_hyperfd.customer.http import HTTPPlatform
from nni_hyperfd.customer.ledger import Ledger
from nni_hyperfd.errors import (
    ForbiddenError,
    PlatformAwayError,
    PlatformError,
    TrustError,
    UnknownTaskError,
    UpdateLostError,
)
from nni_hyperfd.protocol.messages import BeginUpdate, FindTask, ReadExtractor, TrialRecord, UpdateWait

RECORD = TrialRecord(task_id="t", trial_key="k", parameters={"lr": 0.001}, status="ok", ap=0.5)
RECEIPT = {"task_id": "t", "trial_key": "k", "outcome": "stored"}


@dataclass
class Answer:
    """What the scripted server says."""

    status: int = 200
    content: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    cut: bool = False


class Script:
    """A server that gives prepared answers, the last one for ever, and remembers the requests."""

    def __init__(self) -> None:
        self.answers: list[Answer] = [Answer(content=RECEIPT)]
        self.requests: list[tuple[str, str, dict[str, str], bytes]] = []
        script = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                script.requests.append((self.command, self.path, dict(self.headers), body))
                answer = script.answers.pop(0) if len(script.answers) > 1 else script.answers[0]
                content = answer.content
                text = content if isinstance(content, bytes) else json.dumps(content).encode()
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text[: len(text) // 2] if answer.cut else text)

            do_GET = do_POST

            def log_message(self, *arguments: Any) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Iterator[Script]:
    monkeypatch.setattr(http, "PAUSES", (0.01, 0.01, 0.01, 0.01))
    one = Script()
    thread = threading.Thread(target=one.server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield one
    one.server.shutdown()
    thread.join()
    one.server.server_close()


@pytest.fixture
def platform(script: Script) -> HTTPPlatform:
    return HTTPPlatform(script.url, "name.secret")


def refusal(status: int, kind: str, message: str = "one sentence") -> Answer:
    return Answer(status, {"kind": kind, "message": message})


def test_a_request_is_the_message_and_the_token(script: Script, platform: HTTPPlatform) -> None:
    receipt = platform.ask(RECORD)
    assert receipt.model_dump() == RECEIPT
    method, path, headers, body = script.requests[0]
    assert (method, path) == ("POST", "/v1/record")
    assert TrialRecord.model_validate_json(body) == RECORD
    assert headers["Authorization"] == "Bearer name.secret"
    assert headers["X-HyperFD-Protocol"] == "1"
    assert headers["Content-Type"] == "application/json"


@pytest.mark.parametrize("status", [408, 429, 502, 503, 504])
def test_a_call_is_repeated_under_one_key(script: Script, platform: HTTPPlatform, status: int) -> None:
    script.answers = [refusal(status, "unavailable"), Answer(status, b"<html>"), Answer(content=RECEIPT)]
    platform.ask(RECORD)
    platform.ask(RECORD)
    keys = [headers["Idempotency-Key"] for _, _, headers, _ in script.requests]
    assert len(keys) == 4
    assert keys[0] == keys[1] == keys[2] != keys[3]
    assert len({body for _, _, _, body in script.requests}) == 1


def test_an_answer_that_is_cut_off_is_asked_for_again(script: Script, platform: HTTPPlatform) -> None:
    script.answers = [Answer(content=RECEIPT, cut=True), Answer(content=RECEIPT)]
    assert platform.ask(RECORD).outcome == "stored"
    assert len(script.requests) == 2


def test_the_pause_is_the_one_that_was_asked_for(
    script: Script, platform: HTTPPlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []
    monkeypatch.setattr(http.time, "sleep", slept.append)
    script.answers = [
        Answer(429, {}, {"Retry-After": "7"}),
        Answer(429, {}, {"Retry-After": "86400"}),
        Answer(429, {}, {"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}),
        Answer(content=RECEIPT),
    ]
    platform.ask(RECORD)
    assert slept[:2] == [7.0, http.LONGEST_PAUSE]
    assert slept[2] < 1


def test_a_platform_that_is_away_is_asked_once_a_call_until_it_is_back(
    script: Script, platform: HTTPPlatform
) -> None:
    script.answers = [refusal(503, "unavailable", "the disk is full")]
    with pytest.raises(PlatformAwayError, match="the disk is full"):
        platform.ask(RECORD)
    assert len(script.requests) == len(http.PAUSES) + 1
    with pytest.raises(PlatformAwayError):
        platform.ask(RECORD)
    assert len(script.requests) == len(http.PAUSES) + 2
    script.answers = [Answer(content=RECEIPT), refusal(503, "unavailable"), Answer(content=RECEIPT)]
    platform.ask(RECORD)
    platform.ask(RECORD)


def test_nobody_listens(script: Script) -> None:
    with pytest.raises(PlatformAwayError, match=r"is away \(Connection refused\)"):
        HTTPPlatform("http://127.0.0.1:9", "t").ask(RECORD)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (refusal(401, "unauthorized"), TrustError),
        (refusal(403, "forbidden"), ForbiddenError),
        (refusal(404, "no_task"), UnknownTaskError),
        (refusal(409, "update_lost"), UpdateLostError),
        (refusal(413, "too_large"), PlatformError),
        (refusal(422, "refused"), PlatformError),
        (refusal(500, "internal"), PlatformAwayError),
        (Answer(302, b"", {"Location": "https://elsewhere.example/"}), TrustError),
        (Answer(200, b"<html>welcome to the hotel</html>"), TrustError),
        (Answer(200, {"task_id": "t"}), TrustError),
        (Answer(404, b"not here"), TrustError),
        (Answer(200, gzip.compress(b" " * 2**28), {"Content-Encoding": "gzip"}), TrustError),
    ],
)
def test_other_answers_become_errors(
    script: Script, platform: HTTPPlatform, answer: Answer, error: type[PlatformError]
) -> None:
    script.answers = [answer]
    with pytest.raises(PlatformError) as caught:
        platform.ask(RECORD)
    assert type(caught.value) is error
    assert len(script.requests) == 1
    assert "secret" not in str(caught.value)


def test_a_refusal_cannot_forge_lines_of_a_log(script: Script, platform: HTTPPlatform) -> None:
    script.answers = [refusal(422, "refused", "wrong\nERROR all is lost" + "x" * 10_000)]
    with pytest.raises(PlatformError, match="wrong ERROR all") as caught:
        platform.ask(RECORD)
    assert len(str(caught.value)) <= 500


def test_a_task_that_is_not_there_and_an_update_that_waits(script: Script, platform: HTTPPlatform) -> None:
    script.answers = [refusal(404, "no_task")]
    assert platform.ask(FindTask(experiment_id="exp")) is None
    script.answers = [Answer(content={"kind": "wait", "seconds": 2.0})]
    assert platform.ask(BeginUpdate(task_id="t")) == UpdateWait(seconds=2.0)
    with pytest.raises(TrustError):
        platform.ask(ReadExtractor())
    assert [path for _, path, _, _ in script.requests] == [
        "/v1/tasks/exp",
        "/v1/begin_update",
        "/v1/extractor",
    ]


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("http://platform.example", "would send the token in the clear; use https://"),
        ("http://10.0.0.1:80", "in the clear"),
        ("http://localhost.evil.example", "in the clear"),
        ("https://name:word@platform.example", "must not hold a name or password"),
        ("https://", "must be like https://host:port"),
        ("https://host:port", "malformed"),
        ("https://host?x=1", "must be like"),
    ],
)
def test_addresses_that_are_refused(url: str, sentence: str) -> None:
    with pytest.raises(PlatformError, match=sentence) as caught:
        HTTPPlatform(url, "secret")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1", "http://[::1]:1", "http://localhost:1", "https://a.example"]
)
def test_addresses_that_are_taken(url: str) -> None:
    HTTPPlatform(url, "secret")


@pytest.mark.parametrize("token", ["", "two words", "line\nfeed", "ümlaut"])
def test_a_damaged_token_is_not_sent(token: str) -> None:
    with pytest.raises(PlatformError, match="token is empty or damaged"):
        HTTPPlatform("https://platform.example", token)


def test_neither_netrc_nor_a_proxy_takes_part(
    script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login somebody password else\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    HTTPPlatform(script.url, "name.secret").ask(RECORD)
    assert script.requests[0][2]["Authorization"] == "Bearer name.secret"


def test_the_ledger_has_what_left(script: Script, tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl")
    platform = HTTPPlatform(script.url, "name.secret", ledger)
    platform.ask(RECORD)
    script.answers = [refusal(404, "no_task")]
    platform.ask(FindTask(experiment_id="exp"))
    recorded, found = ledger.entries()
    body = script.requests[0][3]
    assert (recorded.call, recorded.bytes, recorded.sha256) == (
        "record",
        len(body),
        hashlib.sha256(body).hexdigest(),
    )
    assert recorded.fields["parameters"] == {"lr": 0.001}
    assert (found.call, found.bytes, found.fields) == ("find_task", 0, {"experiment_id": "exp"})
    assert "secret" not in (tmp_path / "ledger.jsonl").read_text()


def test_what_cannot_be_written_down_does_not_leave(
    script: Script, tmp_path: Path, disk_full_after: Callable[[int], Any]
) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl")
    platform = HTTPPlatform(script.url, "name.secret", ledger)
    platform.ask(RECORD)
    size = (tmp_path / "ledger.jsonl").stat().st_size
    with disk_full_after(size + 100), pytest.raises(PlatformError, match="nothing was sent"):
        platform.ask(RECORD)
    sent = len(script.requests)
    assert len(ledger.entries()) == sent
    platform.ask(RECORD)
    assert len(ledger.entries()) == sent + 1 == len(script.requests), (
        "the torn line does not swallow the next"
    )


def test_a_certificate_must_be_of_a_known_authority(
    script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority, another = trustme.CA(), trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    script.server.socket = context.wrap_socket(script.server.socket, server_side=True)
    url = script.url.replace("http", "https")
    another.cert_pem.write_to_path(str(tmp_path / "another.pem"))
    authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))

    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    with pytest.raises(TrustError, match=r"not trusted .* name its file in .* REQUESTS_CA_BUNDLE"):
        HTTPPlatform(url, "secret").ask(RECORD)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "another.pem"))
    with pytest.raises(TrustError):
        HTTPPlatform(url, "secret").ask(RECORD)
    assert not script.requests
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "authority.pem"))
    assert HTTPPlatform(url, "secret").ask(RECORD).outcome == "stored"
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "missing.pem"))
    with pytest.raises(TrustError, match=r"missing\.pem"):
        HTTPPlatform(url, "secret").ask(RECORD)
