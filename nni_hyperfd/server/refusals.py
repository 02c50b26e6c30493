"""What a customer gets in place of an answer: a status, a kind for his program and one sentence for himself."""

from __future__ import annotations

from http import HTTPStatus
from typing import Literal

from pydantic import BaseModel
from starlette.responses import Response

from nni_hyperfd.errors import (
    ForbiddenError,
    HyperFDError,
    PlatformAwayError,
    UnknownTaskError,
    UpdateLostError,
)

RefusalKind = Literal[
    "unauthorized",
    "forbidden",
    "no_task",
    "refused",
    "update_lost",
    "too_slow",
    "too_large",
    "too_many",
    "unavailable",
    "internal",
]


class RefusalBody(BaseModel):
    """The JSON of a refusal."""

    kind: RefusalKind
    message: str


class Refusal(HyperFDError):
    """A request that gets no answer of its kind.

    Args:
        status: Of the HTTP response.
        kind: For programs.
        message: One sentence.
        retry_after: Seconds after which the same request may be taken.
    """

    def __init__(
        self, status: HTTPStatus, kind: RefusalKind, message: str, retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.kind, self.message, self.retry_after = status, kind, message, retry_after

    def response(self) -> Response:
        """As HTTP has it."""
        headers = {} if self.retry_after is None else {"Retry-After": str(max(1, round(self.retry_after)))}
        if self.status == HTTPStatus.UNAUTHORIZED:
            headers["WWW-Authenticate"] = "Bearer"
        body = RefusalBody(kind=self.kind, message=self.message)
        return Response(body.model_dump_json(), int(self.status), headers, media_type="application/json")


def refusal_of(error: HyperFDError) -> Refusal:
    """An error of the platform as a customer may see it."""
    message = str(error)
    if isinstance(error, ForbiddenError):
        return Refusal(HTTPStatus.FORBIDDEN, "forbidden", message)
    if isinstance(error, UnknownTaskError):
        return Refusal(HTTPStatus.NOT_FOUND, "no_task", message)
    if isinstance(error, UpdateLostError):
        return Refusal(HTTPStatus.CONFLICT, "update_lost", message)
    if isinstance(error, PlatformAwayError):  # its sentence names places on the server
        return Refusal(
            HTTPStatus.SERVICE_UNAVAILABLE,
            "unavailable",
            "the platform's state cannot be read or written for now; nothing was changed, try again later",
            retry_after=5.0,
        )
    return Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, "refused", message)
