"""A server over the small platform, and customers who speak plain HTTP to it, well or badly."""

from __future__ import annotations

import hashlib
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import requests

from nni_hyperfd.platform.platform import Platform
from nni_hyperfd.platform.state.store import FILE_NAME
from nni_hyperfd.server.limits import Limits
from nni_hyperfd.server.serve import ServerSettings, make_server
from nni_hyperfd.server.tokens import new_token
from nni_hyperfd.spaces.standard import standard_search_space

HPO = standard_search_space("hpo")
PHI = [i / 100 for i in range(64)]
SUBJECT = {"space": HPO, "phi": PHI, "extractor_version": 0, "base_id": "base0"}


class Caller:
    """A customer's raw requests."""

    def __init__(self, url: str, token: str) -> None:
        self.url, self.token = url, token
        self._session = requests.Session()

    def post(self, call: str, message: dict[str, Any] | bytes, **headers: str) -> requests.Response:
        """A call with a JSON object, or with any bytes."""
        body = {"data": message} if isinstance(message, bytes) else {"json": message}
        return self._session.post(f"{self.url}/v1/{call}", headers=self._head(headers), timeout=60, **body)

    def get(self, path: str, **headers: str) -> requests.Response:
        """A call without a body."""
        return self._session.get(f"{self.url}/v1/{path}", headers=self._head(headers), timeout=60)

    def open(self, experiment: str) -> str:
        """A new task's id."""
        answer = self.post("open_task", {"experiment_id": experiment, "subject": SUBJECT})
        assert answer.status_code == 200, answer.text
        return str(answer.json()["task_id"])

    def trial(self, task_id: str, ap: float = 0.5) -> dict[str, Any]:
        """The message that tells the result of what is recommended first."""
        answer = self.post("recommend", {"task_id": task_id, "budget": 1})
        parameters = answer.json()["configurations"][0]["parameters"]
        return {"task_id": task_id, "trial_key": "a", "parameters": parameters, "status": "ok", "ap": ap}

    def begin(self, experiment: str) -> dict[str, Any]:
        """The ticket of an update with one result."""
        task_id = self.open(experiment)
        assert self.post("record", self.trial(task_id)).status_code == 200
        ticket = self.post("begin_update", {"task_id": task_id}).json()
        assert ticket["kind"] == "ticket", ticket
        return {**ticket, "task_id": task_id}

    def _head(self, headers: dict[str, str]) -> dict[str, str]:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return {"Authorization": f"Bearer {self.token}", **named}


class Service:
    """A server in a thread of the test."""

    def __init__(self, platform: Platform, folder: Path, limits: Limits) -> None:
        self.platform, self.store, self._path = platform, platform._store, folder / FILE_NAME
        self._server = make_server(self.store, platform, ServerSettings(port=0, limits=limits))
        self.app = self._server.config.app
        self._thread = threading.Thread(target=self._server.run)
        self._thread.start()
        while not self._server.started:
            assert self._thread.is_alive()
            time.sleep(0.01)
        self.port = self._server.servers[0].sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def customer(self, name: str) -> Caller:
        """A new customer."""
        return Caller(self.url, new_token(self.store, name))

    def digest(self) -> str:
        """Of everything in the database."""
        with closing(sqlite3.connect(self._path)) as database:
            return hashlib.sha256("\n".join(database.iterdump()).encode()).hexdigest()

    def wait_until_nobody_is_connected(self) -> None:
        """Until the server has given up, or served, all who were."""
        for _ in range(6000):
            if not self._server.server_state.connections:
                return
            time.sleep(0.05)
        raise AssertionError("somebody is still connected")

    def stop(self) -> None:
        """Let requests under way end."""
        self._server.should_exit = True
        self._thread.join()


Serve = Callable[..., Service]


@pytest.fixture
def serve(open_platform: Callable[..., Platform], tmp_path: Path) -> Iterator[Serve]:
    """Serves the small platform until the test ends; arguments are fields of ``Limits``."""
    services: list[Service] = []

    def start(**limits: Any) -> Service:
        service = Service(
            open_platform(), tmp_path / "platform", Limits(**({"rate": 1000.0, "burst": 1000} | limits))
        )
        services.append(service)
        return service

    yield start
    for service in services:
        service.stop()


@pytest.fixture
def service(serve: Serve) -> Service:
    """A server that is not in a hurry."""
    return serve()
