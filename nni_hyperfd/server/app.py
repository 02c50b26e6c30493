"""The calls of :class:`~nni_hyperfd.protocol.messages.PlatformAPI` as HTTP.

``POST /v1/<call>`` takes a message and gives its answer, both as the JSON of ``messages``; what only reads is a GET.
Whoever asks shows his token as ``Authorization: Bearer``.  Anything else than an answer is a
:class:`~nni_hyperfd.server.refusals.RefusalBody`.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated, Any

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, Depends, FastAPI, Header, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic.json_schema import models_json_schema
from starlette.exceptions import HTTPException

from nni_hyperfd.errors import HyperFDError, PlatformAwayError
from nni_hyperfd.platform.platform import Platform
from nni_hyperfd.platform.state.store import Store
from nni_hyperfd.protocol.messages import (
    FROM_CUSTOMER,
    BeginUpdate,
    CommitUpdate,
    Count,
    ExtractorState,
    FeatureGradient,
    FeatureStep,
    GradientStep,
    Identifier,
    Message,
    OpenTask,
    PlatformAPI,
    RankerState,
    Recommendation,
    RecommendRequest,
    RecordReceipt,
    Task,
    TrialRecord,
    UpdateReceipt,
    UpdateTicket,
    UpdateWait,
    parse,
)
from nni_hyperfd.server.limits import Limits, Rates, check_work, read_body
from nni_hyperfd.server.metrics import Metrics
from nni_hyperfd.server.observer import Observer
from nni_hyperfd.server.refusals import Refusal, RefusalBody, refusal_of
from nni_hyperfd.server.tokens import customer_of

PROTOCOL = "1"
"""What ``X-HyperFD-Protocol`` must say, where it says anything."""

_CALLS: tuple[tuple[str, type[Message], Any], ...] = (
    ("open_task", OpenTask, Task),
    ("recommend", RecommendRequest, Recommendation),
    ("record", TrialRecord, RecordReceipt),
    ("begin_update", BeginUpdate, UpdateTicket | UpdateWait | UpdateReceipt),
    ("send_features", FeatureStep, FeatureGradient),
    ("send_gradient", GradientStep, UpdateTicket),
    ("commit", CommitUpdate, UpdateReceipt),
)
_QUICK = frozenset(("open_task", "record"))
"""Calls that only touch the store."""
_PATIENT_THREADS = 24
_PLANNING_THREADS = 4
"""Plans of hyperfd-gp are made one after the other; those that wait for each other shall not take the threads of the others."""
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
    metrics: Metrics
    patient: CapacityLimiter
    planning: CapacityLimiter


def make_app(store: Store, platform: Platform, limits: Limits | None = None) -> FastAPI:
    """The application of one server.

    Args:
        store: with the customers; the one that ``platform`` works on.
        platform: that answers.
        limits: for each customer.
    """
    limits = limits or Limits()
    threads = CapacityLimiter(_PATIENT_THREADS), CapacityLimiter(_PLANNING_THREADS)
    desk = _Desk(store, platform, limits, Rates(limits), Metrics(store), *threads)
    app = FastAPI(title="HyperFD platform", version=PROTOCOL, redoc_url=None)
    app.state.desk = desk
    app.openapi = functools.partial(_openapi, app, app.openapi)  # type: ignore[method-assign]
    app.add_middleware(Observer, metrics=desk.metrics)
    app.include_router(_reading)
    for name, kind, answer in _CALLS:
        _add_call(app, name, kind, answer)
    _add_refusals(app)
    return app


async def _customer(
    request: Request,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_BEARER)],
    protocol: Annotated[str, Header(alias="X-HyperFD-Protocol")] = PROTOCOL,
) -> PlatformAPI:
    """The platform as whoever shows a good token may use it; anybody else is refused before his body is read."""
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
    return desk.platform.for_customer(name)


_View = Annotated[PlatformAPI, Depends(_customer)]


def _add_call(app: FastAPI, name: str, kind: type[Message], answer: Any) -> None:
    async def call(request: Request, view: _View) -> Response:
        desk: _Desk = request.app.state.desk
        message = parse(kind, await read_body(request, desk.limits))
        if isinstance(message, RecommendRequest):
            check_work(message, desk.limits)
        threads = None if name in _QUICK else desk.patient
        if isinstance(message, RecommendRequest) and message.method == "hyperfd-gp":
            threads = desk.planning
        return _json(await to_thread.run_sync(getattr(view, name), message, limiter=threads))

    schema = {"$ref": f"#/components/schemas/{kind.__name__}"}
    app.add_api_route(
        f"/v1/{name}",
        call,
        methods=["POST"],
        name=name,
        summary=(kind.__doc__ or "").split("\n")[0],
        response_model=answer,
        responses=_REFUSALS,
        openapi_extra={
            "requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}
        },
    )


_reading = APIRouter()


@_reading.get("/v1/extractor", name="extractor", response_model=ExtractorState, responses=_REFUSALS)
async def _extractor(request: Request, view: _View, version: Count | None = None) -> Response:
    """The extractor of a ranker version, by default of the newest."""
    threads = request.app.state.desk.patient
    return _json(await to_thread.run_sync(view.extractor, version, limiter=threads))


@_reading.get("/v1/ranker", name="ranker", response_model=RankerState, responses=_REFUSALS)
async def _ranker(view: _View, version: Count | None = None) -> Response:
    """A whole ranker version, by default the newest."""
    return _json(await to_thread.run_sync(view.ranker_state, version))


@_reading.get("/v1/tasks/{experiment_id}", name="find_task", response_model=Task, responses=_REFUSALS)
async def _find_task(view: _View, experiment_id: Identifier) -> Response:
    """The task of one of the customer's experiments."""
    task = await to_thread.run_sync(view.find_task, experiment_id)
    if task is None:
        raise Refusal(
            HTTPStatus.NOT_FOUND, "no_task", f"experiment {experiment_id} has no task at this platform"
        )
    return _json(task)


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


def _json(answer: Message) -> Response:
    return Response(answer.model_dump_json(), media_type="application/json")


def _add_refusals(app: FastAPI) -> None:
    @app.exception_handler(Refusal)
    async def refused(_: Request, refusal: Refusal) -> Response:
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
            [(kind, "validation") for kind in FROM_CUSTOMER], ref_template="#/components/schemas/{model}"
        )
        schema["components"]["schemas"] |= messages["$defs"]
        app.openapi_schema = schema
    return app.openapi_schema
