"""Customers who are broken or mean: a clear status, and a database that is the same to the last byte."""

from __future__ import annotations

import base64
import gzip
import json
import threading
import time
import tracemalloc
import zlib
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any

import pytest
import requests
import torch
from sqlalchemy import event

from nni_hyperfd.platform.platform import Platform
from nni_hyperfd.platform.state.schema import TrialRow
from nni_hyperfd.protocol import tensors
from nni_hyperfd.protocol.messages import RecommendRequest
from nni_hyperfd.server.customer_view import TRIALS
from nni_hyperfd.server.limits import Limits, Rates
from nni_hyperfd.server.refusals import Refusal
from nni_hyperfd.spaces.standard import standard_search_space

from .conftest import PHI, SUBJECT, Serve, Service


def check(answer: requests.Response, status: int, kind: str, words: str = "") -> None:
    """A refusal as the contract has it."""
    assert (answer.status_code, set(answer.json())) == (status, {"kind", "message"}), answer.text
    assert answer.json()["kind"] == kind
    assert words in answer.json()["message"]


def subject(**changed: Any) -> dict[str, Any]:
    return {"subject": SUBJECT | changed, "budget": 2}


LONG = "x" * 65
BAD_BODIES: list[tuple[str, Any]] = [
    # No JSON, or not the message.
    ("record", b""),
    ("record", b"\xff\xfe\x00"),
    ("record", b"{"),
    ("record", b"[" * 100_000),
    ("record", b"null"),
    ("record", b'"text"'),
    ("record", b"[]"),
    ("open_task", {}),
    ("open_task", {"experiment_id": "exp"}),
    ("open_task", {"experiment_id": "exp", "subject": SUBJECT, "photo": "..."}),
    ("begin_update", {"task_id": 7}),
    ("begin_update", {"task_id": ["a"]}),
    ("begin_update", {"task_id": "a\u0000b"}),
    ("begin_update", {"task_id": "a'; DROP TABLE tasks; --"}),
    ("begin_update", {"task_id": LONG}),
    # Wrong shapes and numbers.
    ("recommend", subject() | {"begun": [{"lr": "faces/0001.jpg"}]}),
    ("recommend", subject() | {"begun": [{}]}),
    ("recommend", subject() | {"method": "best"}),
    ("recommend", subject(phi=PHI[:-1])),
    ("recommend", subject(phi=[*PHI, 0.0])),
    ("recommend", subject(phi=[PHI])),
    ("recommend", subject(phi=[str(x) for x in PHI])),
    ("recommend", json.dumps(subject(phi=[float("nan")] * 64)).encode()),
    ("recommend", json.dumps(subject(phi=[float("inf")] * 64)).encode()),
    ("recommend", json.dumps(subject()).replace("0.01", "1e999").encode()),
    ("recommend", subject(phi=[1e7] * 64)),
    ("recommend", subject(extractor_version=9)),
    ("recommend", subject(extractor_version=-1)),
    ("recommend", subject(extractor_version=2**31)),
    ("recommend", subject(extractor_version=10**400)),
    ("recommend", subject(base_id="other")),
    ("recommend", subject(flops_limit=-1.0)),
    ("recommend", {**subject(), "budget": 0}),
    ("recommend", {**subject(), "budget": 10**9}),
    ("recommend", {**subject(), "candidates": 10**9}),
    ("recommend", {**subject(), "candidates": 100_000}),
    ("recommend", {**subject(), "generations": 50}),
    ("recommend", {**subject(), "seed": 2**63}),
    ("recommend", {"budget": 2}),
    # Search spaces that are none, or hide something.
    ("recommend", subject(space={})),
    ("recommend", subject(space={"lr": 7})),
    ("recommend", subject(space={"lr": {"_type": "choice", "_value": []}})),
    ("recommend", subject(space={"lr": {"_type": "choice", "_value": ["/home/me/face.jpg"]}})),
    ("recommend", subject(space={"lr": {"_type": "uniform", "_value": [1, "a"]}})),
    ("recommend", subject(space={"lr": {"_type": "uniform", "_value": [1e308, -1e308]}})),
    ("recommend", subject(space={"lr": {"_type": "quniform", "_value": [0, 1, 0]}})),
    ("recommend", subject(space={"lr": {"_type": "loguniform", "_value": [-1, 1]}})),
    ("recommend", json.dumps(subject(space={"a": {"_type": "choice", "_value": [float("nan")]}})).encode()),
    (
        "recommend",
        json.dumps(subject(space={"a": {"_type": "randint", "_value": [0, 7]}}))
        .replace("7", "9" * 5000)
        .encode(),
    ),
    ("recommend", subject(space={f"k{i}": {"_type": "choice", "_value": [1]} for i in range(300)})),
]


def test_what_is_no_message_is_refused(service: Service) -> None:
    ada = service.customer("ada")
    ada.open("exp")
    before = service.digest()
    for call, message in BAD_BODIES:
        answer = ada.post(call, message)
        assert (answer.status_code, answer.json()["kind"]) == (422, "refused"), (call, str(message)[:200])
    assert service.digest() == before


def test_results_that_cannot_be_are_refused(service: Service) -> None:
    ada = service.customer("ada")
    task = ada.open("exp")
    good = ada.trial(task)
    before = service.digest()
    for change in (
        {"ap": 1.5},
        {"ap": -0.1},
        {"ap": None},
        {"ap": "0.5"},
        {"status": "failed"},
        {"trial_key": "../x"},
        {"budget": "a/b"},
        {"seed": -1},
        {"seconds": -1.0},
        {"parameters": {}},
        {"parameters": good["parameters"] | {"lr": 17.0}},
        {"parameters": good["parameters"] | {"picture": "face.jpg"}},
        {"parameters": good["parameters"] | {"more": 1}},
    ):
        check(ada.post("record", good | change), 422, "refused")
    check(ada.post("record", json.dumps(good | {"ap": float("nan")}).encode()), 422, "refused")
    for call, message in {
        "record": good | {"task_id": "0" * 32},
        "begin_update": {"task_id": "0" * 32},
        "recommend": {"task_id": "0" * 32, "budget": 1},
        "commit": {"task_id": "0" * 32, "session_id": "a", "phi": PHI},
    }.items():
        check(ada.post(call, message), 404, "no_task")
    check(
        ada.post(
            "open_task",
            {"experiment_id": "exp", "subject": SUBJECT | {"space": standard_search_space("nas")}},
        ),
        422,
        "refused",
        "another search space",
    )
    for path in (
        "extractor?version=7",
        "extractor?version=-1",
        "extractor?version=x",
        "ranker?version=99999999999",
    ):
        check(ada.get(path), 422, "refused")
    check(ada.get("tasks/a%20b"), 422, "refused")
    check(ada.get("tasks/exp", X_HyperFD_Protocol="2"), 422, "refused", "protocol 1")
    check(ada.get("nothing"), 404, "refused")
    check(ada.get("record"), 405, "refused")
    assert service.digest() == before


def test_messages_that_come_again_move_nothing(service: Service) -> None:
    ada = service.customer("ada")
    task = ada.open("exp")
    good = ada.trial(task)
    assert ada.post("record", good).json()["outcome"] == "stored"
    before = service.digest()
    assert ada.open("exp") == task
    assert ada.post("record", good).json()["outcome"] == "known"
    assert ada.post("record", good | {"ap": 0.9}).json()["outcome"] == "known"
    assert service.digest() == before
    ticket = ada.post("begin_update", {"task_id": task}).json()
    gradient = base64.urlsafe_b64encode(tensors.pack(zeros(service))).decode()
    while ticket["step"] is not None:
        turn = {"session_id": ticket["session_id"], "step": ticket["step"]}
        features = turn | {"phi": PHI, "phi_tilde": PHI}
        answers = [ada.post("send_features", features) for _ in range(2)]
        assert answers[0].content == answers[1].content
        answers = [ada.post("send_gradient", turn | {"tensors": gradient}) for _ in range(2)]
        assert answers[0].content == answers[1].content
        ticket = answers[0].json()
        check(ada.post("send_features", features), 422, "refused", "out of turn")
    end = {"task_id": task, "session_id": ticket["session_id"], "phi": PHI}
    receipt = ada.post("commit", end)
    after = service.digest()
    assert receipt.json()["version_after"] == 1
    assert ada.post("commit", end).content == receipt.content
    assert ada.post("begin_update", {"task_id": task}).json() == receipt.json()
    check(ada.post("send_features", features), 409, "update_lost")
    assert service.digest() == after


def zeros(service: Service) -> dict[str, torch.Tensor]:
    return {name: torch.zeros_like(p) for name, p in service.platform.ranker(0).extractor.named_parameters()}


def test_gradients_that_do_not_fit_are_refused(service: Service) -> None:
    ada = service.customer("ada")
    ticket = ada.begin("exp")
    turn = {"session_id": ticket["session_id"], "step": ticket["step"]}
    assert ada.post("send_features", turn | {"phi": PHI, "phi_tilde": PHI}).status_code == 200
    good = zeros(service)
    name = next(iter(good))
    before = service.digest()
    for blob, words in {
        b"\xff" * 64: "not a safetensors",
        (10**12).to_bytes(8, "little") + b"{}": "not a safetensors",
        tensors.pack(good)[:-9]: "not a safetensors",
        tensors.pack({**good, "images": torch.zeros(3, 64, 64)}): "too much: images",
        tensors.pack({**good, name: torch.zeros(2)}): "expected",
        tensors.pack({**good, name: torch.full_like(good[name], torch.nan)}): "not finite",
        tensors.pack({**good, name: torch.full_like(good[name], 1e6)}): "norm",
        tensors.pack({**good, name: torch.full_like(good[name], 3e38)}): "norm",
    }.items():
        text = base64.urlsafe_b64encode(blob).decode()
        check(ada.post("send_gradient", turn | {"tensors": text}), 422, "refused", words)
    check(ada.post("send_gradient", turn | {"tensors": "%%%"}), 422, "refused")
    check(ada.post("send_gradient", turn | {"step": 10**6, "tensors": "AAAA"}), 422, "refused", "out of turn")
    assert service.digest() == before
    text = base64.urlsafe_b64encode(tensors.pack(good)).decode()
    assert ada.post("send_gradient", turn | {"tensors": text}).status_code == 200, "the update itself goes on"


def test_nobody_fills_the_disk(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nni_hyperfd.server.customer_view.OPEN_TASKS", 2)
    monkeypatch.setattr("nni_hyperfd.server.customer_view.TRIALS", 1)
    ada, bob = service.customer("ada"), service.customer("bob")
    task = ada.open("one")
    ada.open("two")
    more = {"experiment_id": "three", "subject": SUBJECT}
    check(ada.post("open_task", more), 422, "refused", "2 open experiments")
    assert ada.open("one") == task
    assert bob.post("open_task", more).status_code == 200
    trial = ada.trial(task)
    assert ada.post("record", trial).status_code == 200
    check(ada.post("record", trial | {"trial_key": "b"}), 422, "refused", "1 results")


def test_an_experiment_with_as_many_results_as_are_taken_is_still_finished(service: Service) -> None:
    ada = service.customer("ada")
    task = ada.open("exp")
    trial = ada.trial(task)
    with service.store.writing() as session:
        session.add_all(
            TrialRow(
                **{k: v for k, v in trial.items() if k not in ("trial_key", "ap")},
                trial_key=f"key{i}",
                ap=i / TRIALS,
                seed=0,
                budget="paper",
            )
            for i in range(TRIALS)
        )
    before = service.digest()
    check(ada.post("record", trial), 422, "refused", f"{TRIALS} results; finish it")
    assert service.digest() == before
    ticket = ada.post("begin_update", {"task_id": task}).json()
    turn = {"session_id": ticket["session_id"], "step": ticket["step"], "phi": PHI, "phi_tilde": PHI}
    assert ada.post("send_features", turn).status_code == 200, "with a list of them all"


def test_an_update_that_is_drawn_out_loses_its_turn(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada, bob = service.customer("ada"), service.customer("bob")
    ticket = ada.begin("exp")
    waiting = bob.open("exp")
    bob.post("record", bob.trial(waiting))
    assert bob.post("begin_update", {"task_id": waiting}).json()["kind"] == "wait"
    monkeypatch.setattr("nni_hyperfd.platform.updates.UPDATE_SECONDS", 0.0)
    turn = {"session_id": ticket["session_id"], "step": ticket["step"], "phi": PHI, "phi_tilde": PHI}
    check(ada.post("send_features", turn), 409, "update_lost", "longer than")
    assert bob.post("begin_update", {"task_id": waiting}).json()["kind"] == "ticket"


# ------------------------------------------------------------------------------------------------------------ bodies


def pieces(size: int) -> Any:
    for _ in range(size // 2**16):
        yield b" " * 2**16


def test_large_bodies_are_not_read_to_their_end(service: Service) -> None:
    ada = service.customer("ada")
    ada.open("exp")
    before = service.digest()
    check(ada.post("record", b" " * 10_000_000), 413, "too_large")
    # Without a length in the head.
    answer = requests.post(
        f"{service.url}/v1/record",
        data=pieces(10_000_000),
        headers={"Authorization": f"Bearer {ada.token}"},
        timeout=60,
    )
    check(answer, 413, "too_large")
    assert service.digest() == before


def test_zip_bombs_do_not_go_off(service: Service) -> None:
    ada = service.customer("ada")
    before = service.digest()
    bomb = gzip.compress(b" " * 100_000_000, 9)
    assert len(bomb) < 100_000
    tracemalloc.start()
    try:
        check(ada.post("record", bomb, Content_Encoding="gzip"), 413, "too_large")
        assert tracemalloc.get_traced_memory()[1] < 50_000_000, "it was unpacked"
    finally:
        tracemalloc.stop()
    nested = gzip.compress(gzip.compress(b" " * 10_000_000, 9), 9)
    check(ada.post("record", nested, Content_Encoding="gzip"), 422, "refused", "Invalid JSON")
    # Nothing comes out of these, however much goes in.
    packer = zlib.compressobj(wbits=31)
    empty = packer.compress(b"") + packer.flush(zlib.Z_FULL_FLUSH) * 1_000_000
    check(ada.post("record", empty[:5_000_000], Content_Encoding="gzip"), 413, "too_large")
    assert service.digest() == before


def test_packed_bodies_that_are_broken_are_refused(service: Service) -> None:
    ada = service.customer("ada")
    good = gzip.compress(json.dumps({"experiment_id": "exp", "subject": SUBJECT}).encode())
    before = service.digest()
    for body in (b"", b"plain", good[:-1], good[:20] + b"\x00" + good[21:], good + b"more", good + good):
        check(
            ada.post("open_task", body, Content_Encoding="gzip"),
            422,
            "refused",
            "packed" if body in (b"", good[:-1]) else "",
        )
    for encoding in ("br", "deflate", "gzip, gzip"):
        check(ada.post("open_task", good, Content_Encoding=encoding), 422, "refused", "gzip only")
    assert service.digest() == before
    assert ada.post("open_task", good, Content_Encoding="gzip").status_code == 200
    assert ada.post("open_task", zlib.compress(b""), Content_Encoding="identity").status_code == 422


# ------------------------------------------------------------------------------------------------------------- limits


def test_one_customer_in_a_hurry_does_not_slow_the_others(serve: Serve) -> None:
    service = serve(rate=0.1, burst=4)
    ada, bob = service.customer("ada"), service.customer("bob")
    answers = [ada.get("tasks/none") for _ in range(8)]
    assert [answer.status_code for answer in answers[:4]] == [404] * 4
    refused = next(answer for answer in answers if answer.status_code != 404)
    check(refused, 429, "too_many", "0.1 requests a second")
    assert 1 <= int(refused.headers["Retry-After"]) <= 10
    assert bob.get("tasks/none").status_code == 404


def test_who_asks_too_often_is_told_so_after_a_while(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refusals cost the server something, too: asked for without a pause, they slow all others down."""
    slept = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr("nni_hyperfd.server.app.sleep", sleep)
    ada = serve(rate=0.1, burst=1).customer("ada")
    assert ada.get("tasks/none").status_code == 404
    assert slept == []
    check(ada.get("tasks/none"), 429, "too_many")
    assert slept == [0.5]


def test_a_bucket_fills_up_again_at_its_rate() -> None:
    moment = 0.0
    rates = Rates(Limits(rate=2.0, burst=3), clock=lambda: moment)

    def taken(seconds: float) -> int:
        nonlocal moment
        moment += seconds
        count, refusal = 0, None
        while refusal is None:
            try:
                rates.take("ada")
            except Refusal as error:
                refusal = error
            else:
                count += 1
        assert refusal.status == HTTPStatus.TOO_MANY_REQUESTS
        assert refusal.retry_after is not None
        assert 0 < refusal.retry_after <= 0.5
        return count

    assert [taken(0.0), taken(0.25), taken(0.25), taken(1.0), taken(1000.0)] == [3, 0, 1, 2, 3]


def test_large_bodies_count_as_many_requests(serve: Serve) -> None:
    """Each is read while all others wait, so that fifty a second of them would leave nothing to anybody else."""
    service = serve(rate=0.01, burst=100)
    ada, bob, eve = (service.customer(name) for name in ("ada", "bob", "eve"))
    large = b" " * 2**22
    check(ada.post("record", large), 422, "refused")
    refused = ada.post("record", large)
    check(refused, 429, "too_many", "pieces of 64 KiB")
    # What came is counted, and the largest body has room when that has passed.
    assert 6400 <= int(refused.headers["Retry-After"]) <= 12_800
    check(ada.get("tasks/none"), 429, "too_many")
    assert bob.get("tasks/none").status_code == 404
    packed = gzip.compress(large)
    check(eve.post("record", packed, Content_Encoding="gzip"), 422, "refused")
    check(eve.post("record", packed, Content_Encoding="gzip"), 429, "too_many")


def test_a_large_ranking_counts_as_many_requests(serve: Serve) -> None:
    service = serve(rate=0.01, burst=100)
    ada, bob = service.customer("ada"), service.customer("bob")
    assert ada.post("recommend", subject() | {"candidates": 20_000}).status_code == 200
    refused = ada.get("tasks/none")
    check(refused, 429, "too_many")
    # 100, less the request and 20 000 / 50, and one for the next request.
    assert 30_000 <= int(refused.headers["Retry-After"]) <= 30_200
    assert [bob.post("recommend", subject()).status_code for _ in range(5)] == [200] * 5, "of the usual size"


def test_whoever_asks_for_many_rankings_has_one_thread_at_a_time(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or one customer would take all threads that may wait for the ranker, and all others would wait for his."""
    ada, bob = service.customer("ada"), service.customer("bob")
    go_on, ranked, ask = threading.Event(), [], Platform.ask

    def slow(platform: Platform, question: Any, *customer: str) -> Any:
        if isinstance(question, RecommendRequest) and question.budget == 1:
            ranked.append(question)
            assert go_on.wait(300)
        return ask(platform, question, *customer)

    monkeypatch.setattr(Platform, "ask", slow)
    asking = [
        threading.Thread(target=lambda: ada.post("recommend", subject() | {"budget": 1})) for _ in range(80)
    ]
    for each in asking:
        each.start()
    try:
        under_way = service.app.state.desk.under_way
        while under_way._count["ada"] < 64 or not ranked:
            assert any(each.is_alive() for each in asking)
            time.sleep(0.01)
        check(ada.get("tasks/none"), 429, "too_many", "64 of your requests")
        assert bob.post("recommend", subject()).status_code == 200
        assert bob.get("tasks/none").status_code == 404
        assert len(ranked) == 1
    finally:
        go_on.set()
        for each in asking:
            each.join()
    assert len(ranked) == 64
    # A request is let go of after its answer is sent, so whoever has that may be earlier.
    service.stop()
    assert not under_way._count["ada"]


# ------------------------------------------------------------------------------------------- a server in trouble


@contextmanager
def full_disk(service: Service) -> Any:
    """SQLite itself finds no room for another page."""
    engine = service.store._engine

    def no_room(connection: Any, *_: object) -> None:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages}")

    engine.dispose()
    event.listen(engine, "connect", no_room)
    yield
    event.remove(engine, "connect", no_room)
    engine.dispose()


def test_a_full_disk_is_told_from_a_wrong_message(
    service: Service, capfd: pytest.CaptureFixture[str]
) -> None:
    ada = service.customer("ada")
    task = ada.open("exp")
    wide = {"a": {"_type": "choice", "_value": [f"word{i}" for i in range(1000)]}}
    new = {"experiment_id": "new", "subject": SUBJECT | {"space": wide}}
    before = service.digest()
    with full_disk(service):
        answer = ada.post("open_task", new)
        check(answer, 503, "unavailable", "nothing was changed")
        assert answer.headers["Retry-After"] == "5"
        assert "/" not in answer.json()["message"], "no place of the server's"
        assert ada.get("tasks/exp").json()["task_id"] == task
    assert service.digest() == before
    assert ada.post("open_task", new).status_code == 200


def test_the_servers_own_mistakes_say_nothing_to_a_customer(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada = service.customer("ada")

    def mistake(*_: object) -> None:
        raise RuntimeError("the secret of the house")

    monkeypatch.setattr(service.store, "find_task", mistake)
    check(ada.get("tasks/exp"), 500, "internal")
    assert "secret" not in ada.get("tasks/exp").text
    assert requests.get(f"{service.url}/healthz", timeout=60).json() == {"status": "ok", "version": 0}
