"""Whatever the server's own description allows, and much that it does not: never a mistake, never a wrong answer."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from .conftest import PHI, SUBJECT, Caller, Service

FEW = settings(
    max_examples=6,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
def test_no_request_finds_a_mistake(service: Service, mode: GenerationMode) -> None:
    ada = service.customer("ada")
    ada.open("exp")
    schema = schemathesis.openapi.from_url(f"{service.url}/openapi.json").include(path_regex="^/v1/")
    tried = 0

    def fuzz(case: schemathesis.Case) -> None:
        nonlocal tried
        tried += 1
        case.call_and_validate(
            headers={"Authorization": f"Bearer {ada.token}"},
            checks=[
                not_a_server_error,
                status_code_conformance,
                content_type_conformance,
                response_schema_conformance,
            ],
        )

    for found in schema.get_all_operations():
        FEW(given(case=found.ok().as_strategy(generation_mode=mode))(fuzz))()
    assert tried > 30
    assert requests.get(f"{service.url}/healthz", timeout=60).status_code == 200


def places(message: Any, way: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Ways to all parts of a message, a few of each long list."""
    parts: list[Any] = []
    if isinstance(message, dict):
        parts = list(message)
    elif isinstance(message, list):
        parts = list(range(min(len(message), 3)))
    inner = [place for part in parts for place in places(message[part], (*way, part))]
    return [way, *inner] if way else inner


PLAUSIBLE = st.sampled_from([0, 1, 2, 0.5, 1.0, True, False, "a", "short"])
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([0, -1, 2**31, 2**63, 2**64, 10**30, 1e308, -1e-320]),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=80),
)
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


def test_messages_with_one_part_wrong_find_no_mistake(service: Service) -> None:
    """Closer to the mark than a description alone can come: all but one part is right."""
    ada = service.customer("ada")
    good = messages(ada)
    spots = st.sampled_from(list(good)).flatmap(
        lambda call: st.tuples(st.just(call), st.sampled_from(places(good[call])))
    )
    statuses: set[int] = set()

    @settings(FEW, max_examples=150)
    @given(spot=spots, value=PLAUSIBLE | ANYTHING)
    def fuzz(spot: tuple[str, tuple[Any, ...]], value: Any) -> None:
        call, place = spot
        message = part = copy.deepcopy(good[call])
        for step in place[:-1]:
            part = part[step]
        part[place[-1]] = value
        answer = ada.post(call, message)
        statuses.add(answer.status_code)
        assert answer.status_code in (200, 404, 409, 422), (call, place, value, answer.text)
        assert answer.status_code == 200 or set(answer.json()) == {"kind", "message"}

    fuzz()
    assert {200, 422} <= statuses, "some of it is right all the same"


def messages(caller: Caller) -> dict[str, Any]:
    """A message that is right, for every call."""
    task = caller.open("exp")
    trial = caller.trial(task)
    return {
        "open_task": {"experiment_id": "exp", "subject": SUBJECT},
        "recommend": {"subject": SUBJECT, "budget": 2, "seed": 1, "exploration": 0.5},
        "record": trial | {"test_ap": 0.5, "seconds": 1.0, "seed": 3, "budget": "short"},
        "begin_update": {"task_id": task, "seed": 1, "takeover": True},
        "send_features": {"session_id": "a", "step": 1, "phi": PHI, "phi_tilde": PHI},
        "send_gradient": {"session_id": "a", "step": 1, "tensors": "AAAA"},
        "commit": {"task_id": task, "session_id": "a", "phi": PHI},
    }
