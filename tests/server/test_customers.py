"""Who is let in, and that nobody sees or moves what is another's."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from nni_hyperfd.errors import PlatformError
from nni_hyperfd.platform.state.store import FILE_NAME
from nni_hyperfd.protocol.messages import FindTask
from nni_hyperfd.server.tokens import customer_of, new_token

from .conftest import PHI, SUBJECT, Caller, Service


def test_a_token_opens_for_its_customer_only_and_is_kept_as_a_hash(service: Service, tmp_path: Path) -> None:
    store = service.store
    ada, bob = new_token(store, "ada"), new_token(store, "bob")
    assert (customer_of(store, ada), customer_of(store, bob)) == ("ada", "bob")
    wrong = [
        "",
        ".",
        "ada",
        "ada.",
        "local.",
        "nobody." + "x" * 43,
        "bob." + ada.partition(".")[2],
        ada + "x",
        ada[:-1],
    ]
    assert [customer_of(store, token) for token in [*wrong, "ä." + "x" * 43, "x" * 10_000]] == [None] * 11
    with closing(sqlite3.connect(tmp_path / "platform" / FILE_NAME)) as database:
        everything = "\n".join(database.iterdump())
    for token in (ada, bob):
        assert token.partition(".")[2] not in everything
    for name in ("ada", "local", "a b", "", "x" * 65, "a.b", "../x"):
        with pytest.raises(PlatformError):
            new_token(store, name)


def test_without_a_good_token_nothing_is_answered(service: Service) -> None:
    ada = service.customer("ada")
    ada.open("exp")
    before = service.digest()
    for token in ("", "ada", "ada.x", "nobody.x", ada.token + "x"):
        stranger = Caller(service.url, token)
        for answer in (
            stranger.get("tasks/exp"),
            stranger.get("extractor"),
            stranger.get("ranker"),
            stranger.post("open_task", {"experiment_id": "exp", "subject": SUBJECT}),
            stranger.post("record", b"\x00" * 100_000),
        ):
            assert (answer.status_code, answer.json()["kind"]) == (401, "unauthorized")
            assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert service.digest() == before


def test_a_customer_who_is_turned_away_is_so_at_once_and_may_come_back(service: Service) -> None:
    ada = service.customer("ada")
    task = ada.open("exp")
    service.store.revoke_customer("ada")
    assert ada.get("tasks/exp").status_code == 401
    again = service.customer("ada")
    assert ada.get("tasks/exp").status_code == 401
    assert again.get("tasks/exp").json()["task_id"] == task


def test_two_customers_may_use_the_same_experiment_id(service: Service) -> None:
    ada, bob = service.customer("ada"), service.customer("bob")
    hers = ada.open("exp")
    answer = bob.get("tasks/exp")
    assert (answer.status_code, answer.json()["kind"]) == (404, "no_task")
    his = bob.open("exp")
    assert his != hers
    assert (ada.get("tasks/exp").json()["task_id"], bob.get("tasks/exp").json()["task_id"]) == (hers, his)
    assert service.platform.ask(FindTask(experiment_id="exp")) is None, (
        "the operator's own experiments are yet others"
    )


def test_what_is_anothers_is_refused_and_stays_as_it_is(service: Service) -> None:
    ada, bob = service.customer("ada"), service.customer("bob")
    ticket = ada.begin("exp")
    task, session, step = ticket["task_id"], ticket["session_id"], ticket["step"]
    trial = ada.trial(task, 0.9) | {"trial_key": "b"}
    before = service.digest()
    gradient = ticket["extractor"]["tensors"]
    for call, message in {
        "recommend": {"task_id": task, "budget": 2},
        "record": trial,
        "begin_update": {"task_id": task, "takeover": True},
        "send_features": {"session_id": session, "step": step, "phi": PHI, "phi_tilde": PHI},
        "send_gradient": {"session_id": session, "step": step, "tensors": gradient},
        "commit": {"task_id": task, "session_id": session, "phi": PHI},
    }.items():
        answer = bob.post(call, message)
        assert (call, answer.status_code, answer.json()["kind"]) == (call, 403, "forbidden")
    assert service.digest() == before
    # A task of his own does not bring him into another's update.
    mine = bob.open("mine")
    before = service.digest()
    answer = bob.post("commit", {"task_id": mine, "session_id": session, "phi": PHI})
    assert answer.status_code == 403
    assert service.digest() == before
    features = {"session_id": session, "step": step, "phi": PHI, "phi_tilde": PHI}
    assert ada.post("send_features", features).status_code == 200, "her update goes on"


def test_a_recommendation_leaves_the_kept_ranker_as_it_was(service: Service) -> None:
    ada = service.customer("ada")
    for size in range(3):
        space = {"width": {"_type": "choice", "_value": list(range(1, 4 + size))}}
        subject = SUBJECT | {"space": space}
        assert ada.post("recommend", {"subject": subject, "budget": 2}).status_code == 200
    (ranker,) = service.platform._shelf._rankers.values()
    assert list(ranker.shapes) == list(service.platform.ranker(0).shapes)
    assert len(ranker.encoders) == len(ranker.shapes)
