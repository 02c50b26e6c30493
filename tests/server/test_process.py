"""``hyperfd serve`` as an operator runs it: TLS, logs, metrics, the description, a signal to stop; and its sentences."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests

from nni_hyperfd.cli import main
from nni_hyperfd.platform.platform import Platform
from nni_hyperfd.protocol.calls import CALLS

from .conftest import PHI, SUBJECT, Service


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """For localhost, signed by itself."""
    folder = tmp_path_factory.mktemp("tls")
    cert, key = folder / "cert.pem", folder / "key.pem"
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        *names,
    ]
    subprocess.run([*command, "-keyout", key, "-out", cert, "-days", "2"], check=True, capture_output=True)
    return cert, key


class Process:
    """A server process over TLS, with its log in a file."""

    def __init__(self, folder: Path, cert: Path, key: Path) -> None:
        self.cert, self.log = cert, folder / "server.log"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url = f"https://localhost:{port}"
        options = [
            "--platform",
            folder / "platform",
            "--port",
            str(port),
            "--tls-cert",
            cert,
            "--tls-key",
            key,
        ]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "nni_hyperfd.cli", "serve", *options],
                stderr=log,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )

    def wait(self) -> None:
        """Until it answers."""
        end = time.monotonic() + 300
        while True:
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < end
            try:
                self.get("/healthz").raise_for_status()
                return
            except requests.ConnectionError:
                time.sleep(0.2)

    def get(self, path: str, token: str = "") -> requests.Response:
        """A request."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return requests.get(self.url + path, headers=headers, verify=str(self.cert), timeout=60)


@pytest.fixture
def process(
    tmp_path: Path, open_platform: Callable[..., Platform], certificate: tuple[Path, Path]
) -> Iterator[Process]:
    open_platform().close()
    one = Process(tmp_path, *certificate)
    try:
        one.wait()
        yield one
    finally:
        one.process.kill()
        one.process.wait()


def test_an_operators_day(process: Process, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = ["--platform", str(tmp_path / "platform")]
    assert main(["customer", "add", "ada", *place]) == 0
    token = capsys.readouterr().out.strip()
    url = f"{process.url}/v1"
    message = {"experiment_id": "exp", "subject": SUBJECT}
    headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": "key-1"}
    opened = requests.post(
        f"{url}/open_task", json=message, headers=headers, verify=str(process.cert), timeout=60
    )
    assert opened.status_code == 200
    assert process.get("/v1/tasks/exp", token).json() == opened.json()
    assert process.get("/v1/tasks/exp?token=" + token, token + "x").status_code == 401
    with pytest.raises(requests.ConnectionError):  # plain text at a TLS port
        requests.get(process.url.replace("https", "http") + "/healthz", timeout=60).raise_for_status()
    metrics = process.get("/metrics").text
    for line in (
        'hyperfd_requests_total{call="open_task",status="200"} 1.0',
        'hyperfd_request_seconds_count{call="open_task"} 1.0',
        'hyperfd_tasks{status="open"} 1.0',
        'hyperfd_experience{status="ok"} 0.0',
        'hyperfd_updates{outcome="published"} 0.0',
        "hyperfd_ranker_version 0.0",
    ):
        assert line in metrics
    assert "ada" not in metrics
    assert main(["customer", "revoke", "ada", *place]) == 0
    assert process.get("/v1/tasks/exp", token).status_code == 401
    capsys.readouterr()
    assert main(["customer", "list", *place]) == 0
    assert re.search(r"^ada +1 +[-\d]+ +[-\d]+$", capsys.readouterr().out, re.MULTILINE)
    process.process.send_signal(signal.SIGTERM)
    assert process.process.wait(timeout=120) == 0
    text = process.log.read_text()
    lines = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    events = [line["event"] for line in lines]
    assert (events[0], events[-1]) == ("serving", "stopped")
    (call,) = [line for line in lines if line.get("call") == "open_task"]
    assert (call["customer"], call["status"], call["idempotency_key"]) == ("ada", 200, "key-1")
    assert call["bytes_in"] > 500
    secret = token.partition(".")[2]
    for hidden in (secret, str(PHI[7]), "choice", "Bearer"):
        assert hidden not in text


def test_the_description_has_every_message_and_refusal(service: Service) -> None:
    description = requests.get(f"{service.url}/openapi.json", timeout=60).json()
    schemas = description["components"]["schemas"]
    assert {kind.__name__ for kind in CALLS} <= set(schemas)
    assert {"ExtractorState", "RankerState", "Recommendation", "UpdateTicket", "RefusalBody"} <= set(schemas)
    for kind in CALLS:
        assert schemas[kind.__name__]["additionalProperties"] is False
    calls = {path: operations for path, operations in description["paths"].items() if path.startswith("/v1/")}
    assert len(calls) == 10
    for operations in calls.values():
        for operation in operations.values():
            assert operation["security"]
            assert {"200", "401", "403", "413", "422", "429", "503"} <= set(operation["responses"])
    for reference in re.findall(r'"\$ref": "#/components/schemas/(\w+)"', json.dumps(description)):
        assert reference in schemas
    assert "swagger" in requests.get(f"{service.url}/docs", timeout=60).text


def test_what_an_operator_gets_wrong_is_said_in_a_sentence(
    tmp_path: Path,
    certificate: tuple[Path, Path],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cert, key = map(str, certificate)
    place = ["--platform", str(tmp_path / "platform")]

    def said(*arguments: str) -> str:
        assert main([*arguments, *place]) == 1
        error = capsys.readouterr().err.strip().splitlines()
        return error[-1]

    assert "no platform state" in said("customer", "list")
    assert main(["customer", "add", "ada", *place]) == 0
    capsys.readouterr()
    assert "already" in said("customer", "add", "ada")
    assert "no customer bob" in said("customer", "revoke", "bob")
    assert "no customer local" in said("customer", "revoke", "local")
    assert "both a certificate and its key" in said("serve", "--tls-cert", cert)
    assert "no file" in said("serve", "--tls-cert", "nowhere.pem", "--tls-key", key)
    assert "cannot be used" in said("serve", "--tls-cert", key, "--tls-key", cert)
    for wrong in (["--rate", "0"], ["--max-body", "x"], ["--port", "x"]):
        with pytest.raises(SystemExit):
            main(["serve", *wrong, *place])
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    for name in list(sys.modules):
        if name.startswith("nni_hyperfd.server."):
            monkeypatch.delitem(sys.modules, name)
    assert "pip install '.[server]'" in said("serve")
