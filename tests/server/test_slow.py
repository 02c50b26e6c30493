"""Clients who take their time: each is given up after a while, and the others do not notice."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest

from nni_hyperfd.server import connection

from .conftest import Caller, Serve, Service


@contextmanager
def connected(service: Service) -> Iterator[socket.socket]:
    with closing(socket.create_connection(("127.0.0.1", service.port), timeout=300)) as client:
        yield client


def head(caller: Caller, call: str, *lines: str) -> bytes:
    """Of a POST, with the empty line at its end."""
    first = f"POST /v1/{call} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {caller.token}\r\n"
    return (first + "".join(f"{line}\r\n" for line in lines) + "\r\n").encode()


def is_given_up(client: socket.socket, dribble: bytes) -> bool:
    """Sends a byte now and then until the server hangs up, for five minutes at most."""
    client.settimeout(0.1)
    try:
        for i in range(3000):
            client.send(dribble[i % len(dribble) :][:1])
            try:
                if client.recv(2**16) == b"":
                    return True
            except TimeoutError:
                continue
    except ConnectionError:
        return True
    return False


def test_a_body_must_come_in_time(serve: Serve) -> None:
    service = serve(body_seconds=1.0)
    ada = service.customer("ada")
    before = service.digest()
    for length in ("Content-Length: 1000", "Transfer-Encoding: chunked"):
        with connected(service) as client:
            client.sendall(head(ada, "record", length) + b"5\r\n{    ")
            answer = b""
            while not answer.endswith(b"}"):  # head and body may come apart
                answer += client.recv(2**16)
            assert b"408" in answer.split(b"\r\n")[0]
            assert b'"too_slow"' in answer
    assert service.digest() == before


def test_a_body_that_ends_too_early_harms_nobody(service: Service) -> None:
    ada = service.customer("ada")
    before = service.digest()
    with connected(service) as client:
        client.sendall(head(ada, "record", "Content-Length: 1000") + b"{")
    assert ada.get("tasks/none").status_code == 404
    assert service.digest() == before


def test_a_head_must_come_in_time(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "HEAD_SECONDS", 1.0)
    ada = service.customer("ada")
    with connected(service) as silent, connected(service) as slow, connected(service) as second:
        assert is_given_up(slow, b"GET /healthz HTTP/1.1\r\nX: " + b"x" * 1000)
        silent.settimeout(300)
        assert silent.recv(1) == b"", "who says nothing at all is given up, too"
        second.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert ada.get("tasks/none").status_code == 404


def test_a_second_request_must_come_in_time_as_well(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "HEAD_SECONDS", 1.0)
    with connected(service) as client:
        client.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert client.recv(2**16).startswith(b"HTTP/1.1 200")
        assert is_given_up(client, b"GET /healthz HTTP/1.1\r\nX: " + b"x" * 1000)


def test_the_rest_of_a_refused_body_is_not_waited_for(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "HEAD_SECONDS", 1.0)
    ada = service.customer("ada")
    with connected(service) as client:
        client.sendall(head(ada, "record", "Content-Length: 100000000") + b"{")
        assert client.recv(2**16).startswith(b"HTTP/1.1 413")
        assert is_given_up(client, b" ")


def test_an_answer_must_be_read_in_time(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "ANSWER_SECONDS", 1.0)
    ada = service.customer("ada")
    request = head(ada, "nothing").replace(b"POST /v1/nothing", b"GET /v1/ranker")
    with connected(service) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        for _ in range(20):  # more than the buffers of both sides hold
            client.sendall(request)
        received = len(client.recv(1))
        service.wait_until_nobody_is_connected()
        try:
            while chunk := client.recv(2**16):
                received += len(chunk)
        except ConnectionError:
            pass
    assert received < 20 * len(ada.get("ranker").content)
