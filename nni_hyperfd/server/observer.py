"""Looks on while requests are answered: one line in the log and one count in the metrics for each, mistakes too."""

from __future__ import annotations

import re
import time
from http import HTTPStatus

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nni_hyperfd.server.logs import REQUESTS
from nni_hyperfd.server.metrics import Metrics
from nni_hyperfd.server.refusals import Refusal

_KEY = re.compile(rb"[A-Za-z0-9_:.-]{1,128}")
_LOST = 499
"""What is counted where the client went away before there was an answer."""
_MISTAKE = Refusal(
    HTTPStatus.INTERNAL_SERVER_ERROR, "internal", "the platform made a mistake; tell its operator"
)


class Observer:
    """An ASGI application around another one."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start, status, sent, received = time.monotonic(), None, 0, 0

        async def watched_receive() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            return message

        async def watched_send(message: Message) -> None:
            nonlocal status, sent
            if message["type"] == "http.response.start":
                status = message["status"]
            sent += len(message.get("body", b""))
            await send(message)

        try:
            await self._app(scope, watched_receive, watched_send)
        except Exception:
            REQUESTS.exception("mistake")
            if status is not None:
                raise
            await _MISTAKE.response()(scope, receive, watched_send)
        finally:
            seconds = time.monotonic() - start
            call = getattr(scope.get("route"), "name", "other")
            self._metrics.count(call, status or _LOST, seconds)
            fields = {
                "call": call,
                "status": status or _LOST,
                "customer": scope.get("state", {}).get("customer"),
                "milliseconds": round(seconds * 1000, 1),
                "bytes_in": received,
                "bytes_out": sent,
                "idempotency_key": _idempotency_key(scope),
            }
            REQUESTS.info("request", extra={"fields": fields})


def _idempotency_key(scope: Scope) -> str | None:
    for name, value in scope["headers"]:
        if name == b"idempotency-key":
            return value.decode() if _KEY.fullmatch(value) else None
    return None
