"""The questions of :data:`~nni_hyperfd.protocol.calls.CALLS` as HTTP.

``POST /v1/<name>`` takes a message and gives its answer, both as the JSON of ``messages``; a few are a GET.
Whoever asks shows his token as ``Authorization: Bearer``.  Anything else than an answer is a
:class:`~nni_hyperfd.server.refusals.RefusalBody`.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated, Any, get_args

from anyio import CapacityLimiter, sleep, to_thread
from fastapi import APIRouter, Depends, FastAPI, Header, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic.json_schema import models_json_schema
from starlette.exceptions import HTTPException

from nni_hyperfd.errors import HyperFDError, PlatformAwayError
from nni_hyperfd.platform.platform import Platform
from nni_hyperfd.platform.state.store import Store
from nni_hyperfd.protocol.calls import CALLS, PROTOCOL, Call, PlatformAPI
from nni_hyperfd.protocol.messages import Question, RecommendRequest, parse, parse_words
from nni_hyperfd.server.customer_view import CustomerView
from nni_hyperfd.server.limits import Limits, Rates, UnderWay, read_body, work_of
from nni_hyperfd.server.metrics import Metrics
from nni_hyperfd.server.observer import Observer
from nni_hyperfd.server.refusals import Refusal, RefusalBody, refusal_of
from nni_hyperfd.server.tokens import customer_of

_PATIENT_THREADS = 24
_PLANNING_THREADS = 4
"""Plans of hyperfd-gp are made one after the other; those that wait for each other shall not take the threads of the others."""
_REFUSED_SECONDS = 0.5
"""How late whoever asks too often is told so: who asks again at once would keep the server busy with refusals."""
_REFUSALS: dict[int | str, dict[str, Any]] = {
    int(status): {"model": RefusalBody, "description": status.phrase}
    for status in (
        HTTPStatus.UNAUTHORIZED,
        HTTPStatus.FORBIDDEN,
        HTTPStatus.NOT_FOUND,
        HTTPStatus.REQUEST_TIMEOUT,
        HTTPStatus.CONFLICT,
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        HTTPStatus.UNPROCESSABLE_ENTITY,
        HTTPStatus.TOO_MANY_REQUESTS,
        HTTPStatus.INTERNAL_SERVER_ERROR,
        HTTPStatus.SERVICE_UNAVAILABLE,
    )
}
_BEARER = HTTPBearer(auto_error=False, description="The token that `hyperfd customer add` has shown.")
_log = logging.getLogger("hyperfd.server")


@dataclass(frozen=True)
class _Desk:
    """What all calls of one server share; it is ``app.state.desk``.

    Calls that may wait for an update have threads of their own, so that there is always one left to keep a result.
    """

    store: Store
    platform: Platform
    limits: Limits
    rates: Rates
    under_way: UnderWay
    metrics: Metrics
    patient: CapacityLimiter
    planning: CapacityLimiter


def make_app(store: Store, platform: Platform, limits: Limits | None = None) -> FastAPI:
    """The application of one server.

    Args:
        store: With the customers; the one that ``platform`` works on.
        platform: That answers.
        limits: For each customer.
    """
    limits = limits or Limits()
    threads = CapacityLimiter(_PATIENT_THREADS), CapacityLimiter(_PLANNING_THREADS)
    desk = _Desk(store, platform, limits, Rates(limits), UnderWay(limits), Metrics(store), *threads)
    app = FastAPI(title="HyperFD platform", version=PROTOCOL, redoc_url=None)
    app.state.desk = desk
    app.openapi = functools.partial(_openapi, app, app.openapi)  # type: ignore[method-assign]
    app.add_middleware(Observer, metrics=desk.metrics)
    app.include_router(_reading)
    for call in CALLS.values():
        _add_call(app, call)
    _add_refusals(app)
    return app


async def _customer(
    request: Request,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_BEARER)],
    protocol: Annotated[str, Header(alias="X-HyperFD-Protocol")] = PROTOCOL,
) -> AsyncIterator[PlatformAPI]:
    """The platform as whoever shows a good token may use it until he is answered; anybody else is refused before his body is read."""
    desk: _Desk = request.app.state.desk
    token = "" if credentials is None else credentials.credentials
    name = await to_thread.run_sync(customer_of, desk.store, token)
    if name is None:
        raise Refusal(HTTPStatus.UNAUTHORIZED, "unauthorized", "show a token that this platform knows")
    request.state.customer = name
    desk.rates.take(name)
    if protocol != PROTOCOL:
        raise Refusal(
            HTTPStatus.UNPROCESSABLE_ENTITY, "refused", f"this platform speaks protocol {PROTOCOL} only"
        )
    with desk.under_way.one_more(name):
        yield CustomerView(desk.platform, desk.store, name)


_View = Annotated[PlatformAPI, Depends(_customer)]


def _add_call(app: FastAPI, call: Call) -> None:
    """The route of one kind of question."""

    async def answer(request: Request, view: _View) -> Response:
        desk: _Desk = request.app.state.desk
        question = await _question(request, call, desk)
        plans = False
        if isinstance(question, RecommendRequest):
            desk.rates.owe(request.state.customer, work_of(question, desk.limits))
            plans = question.method != "hyperfd"
        if call.quick:
            found = await to_thread.run_sync(view.ask, question)
        else:
            async with desk.under_way.turn(request.state.customer, plans):
                threads = desk.planning if plans else desk.patient
                found = await to_thread.run_sync(view.ask, question, limiter=threads)
        if found is None:
            raise Refusal(HTTPStatus.NOT_FOUND, "no_task", "this experiment has no task at this platform")
        return Response(found.model_dump_json(), media_type="application/json")

    app.add_api_route(
        call.route,
        answer,
        methods=[call.method],
        name=call.name,
        summary=(call.question.__doc__ or "").split("\n")[0],
        response_model=get_args(call.answer)[0] if call.may_be_none else call.answer,
        responses=_REFUSALS,
        openapi_extra=_described(call),
    )


async def _question(request: Request, call: Call, desk: _Desk) -> Question[Any]:
    """What was asked: the body, or for a GET what its address says of the message's fields.

    Raises:
        PlatformError: It is no such message.
        Refusal: The body is too large, too slow, more than the customer may send now, or not what its header says.
    """
    if call.method == "POST":
        pay = functools.partial(desk.rates.pay, request.state.customer)
        return parse(call.question, await read_body(request, desk.limits, pay))
    said = {**request.query_params, **request.path_params}
    return parse_words(
        call.question, {name: said[name] for name in call.question.model_fields if name in said}
    )


def _described(call: Call) -> dict[str, Any]:
    """A question in OpenAPI's terms; FastAPI does not read it itself."""
    if call.method == "POST":
        schema = {"$ref": f"#/components/schemas/{call.question.__name__}"}
        return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}
    fields = call.question.model_json_schema()["properties"]
    return {
        "parameters": [
            {
                "name": name,
                "in": "path" if (named := f"{{{name}}}" in call.route) else "query",
                "required": named,
                "schema": schema,
            }
            for name, schema in fields.items()
        ]
    }


_reading = APIRouter()


@_reading.get("/healthz", name="health", responses={503: _REFUSALS[503]})
async def _health(request: Request) -> dict[str, str | int]:
    """Whether the platform can read its state."""
    newest = await to_thread.run_sync(request.app.state.desk.store.newest)
    return {"status": "ok", "version": newest.number}


@_reading.get("/metrics", name="metrics", response_class=Response, responses={503: _REFUSALS[503]})
async def _metrics(request: Request) -> Response:
    """Figures for Prometheus."""
    text = await to_thread.run_sync(request.app.state.desk.metrics.text)
    return Response(text, media_type="text/plain; version=0.0.4")


def _add_refusals(app: FastAPI) -> None:
    @app.exception_handler(Refusal)
    async def refused(_: Request, refusal: Refusal) -> Response:
        if refusal.status == HTTPStatus.TOO_MANY_REQUESTS:
            await sleep(_REFUSED_SECONDS)
        return refusal.response()

    @app.exception_handler(HyperFDError)
    async def failed(_: Request, error: HyperFDError) -> Response:
        if isinstance(error, PlatformAwayError):
            _log.error("the state cannot be used", extra={"fields": {"cause": str(error)}})
        return refusal_of(error).response()

    @app.exception_handler(RequestValidationError)
    async def malformed(_: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"][1:]))
        message = f"{where} was refused: {first['msg']}"
        return Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, "refused", message).response()

    @app.exception_handler(HTTPException)
    async def no_such_call(_: Request, error: HTTPException) -> Response:
        refusal = Refusal(HTTPStatus(error.status_code), "refused", f"this is no call: {error.detail}")
        answer = refusal.response()
        answer.headers.update(error.headers or {})
        return answer


def _openapi(app: FastAPI, plain: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """FastAPI's description and the messages that it does not read itself."""
    if app.openapi_schema is None:
        schema = plain()
        _, messages = models_json_schema(
            [(kind, "validation") for kind in CALLS], ref_template="#/components/schemas/{model}"
        )
        schema["components"]["schemas"] |= messages["$defs"]
        app.openapi_schema = schema
    return app.openapi_schema
