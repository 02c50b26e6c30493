"""One contract, four platforms: in this process, for one of many customers, over a network, and over one that may go away.

What ``protocol.calls.PlatformAPI`` promises is asked of each of them by the same tests.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter

from nni_hyperfd.customer.kept import KeptRanker
from nni_hyperfd.customer.outbox import Outbox
from nni_hyperfd.customer.steady import SteadyPlatform
from nni_hyperfd.errors import HyperFDError, PlatformError, UnknownTaskError, UpdateLostError
from nni_hyperfd.metafeature.sending import received_extractor
from nni_hyperfd.platform.platform import Platform
from nni_hyperfd.platform.state.store import Store
from nni_hyperfd.protocol import tensors
from nni_hyperfd.protocol.calls import CALLS, PlatformAPI
from nni_hyperfd.protocol.messages import (
    BeginUpdate,
    CommitUpdate,
    FeatureStep,
    FindTask,
    GradientStep,
    OpenTask,
    Question,
    ReadExtractor,
    ReadRanker,
    RecommendRequest,
    RecordReceipt,
    Subject,
    Task,
    TrialRecord,
    UpdateReceipt,
    UpdateTicket,
)
from nni_hyperfd.server.customer_view import CustomerView
from nni_hyperfd.server.tokens import new_token
from nni_hyperfd.spaces.standard import standard_search_space
from tests.fixtures.served import serving

PHI = tuple(i / 100 for i in range(64))
SUBJECT = Subject(space=standard_search_space("hpo"), phi=PHI, extractor_version=0, base_id="base0")


@pytest.fixture(params=["in process", "view", "http", "steady"])
def door(request: pytest.FixtureRequest, platform: Platform, tmp_path: Path) -> Iterator[PlatformAPI]:
    """The small platform, as each of the four lets one ask it."""
    if request.param == "in process":
        yield platform
    elif request.param == "view":
        new_token(platform._store, "ada")
        yield CustomerView(platform, platform._store, "ada")
    else:
        with serving(platform) as served, closing(served.connect("ada")) as remote:
            kept, outbox = KeptRanker(tmp_path / "kept"), Outbox(tmp_path / "exp" / "outbox.jsonl")
            yield remote if request.param == "http" else SteadyPlatform(remote, kept, outbox)


def everything(platform: Platform) -> tuple[object, ...]:
    """What a question that changes nothing must leave as it is."""
    store = platform._store
    return store.versions(), store.tasks(), store.trials(), store.ranker(0)


def result(door: PlatformAPI, task: Task, place: int = 0, ap: float = 0.5) -> TrialRecord:
    """The result of what is recommended at a place."""
    plan = door.ask(RecommendRequest(task_id=task.task_id, budget=place + 1, exploration=0.0))
    parameters = plan.configurations[place].parameters
    return TrialRecord(task_id=task.task_id, trial_key=f"k{place}", parameters=parameters, status="ok", ap=ap)


def halves(ticket: UpdateTicket) -> tuple[FeatureStep, GradientStep]:
    """What the customer has to say in the step that a ticket names; his images have no influence."""
    parameters = dict(received_extractor(ticket.extractor).named_parameters())
    zero = tensors.pack({name: torch.zeros_like(each) for name, each in parameters.items()})
    name: dict[str, Any] = {"session_id": ticket.session_id, "step": ticket.step}
    return FeatureStep(**name, phi=PHI, phi_tilde=PHI[::-1]), GradientStep(**name, tensors=zero)


def begun(door: PlatformAPI, experiment: str = "exp") -> tuple[Task, UpdateTicket]:
    """An experiment with one result, whose update is under way."""
    task = door.ask(OpenTask(experiment_id=experiment, subject=SUBJECT))
    door.ask(result(door, task))
    ticket = door.ask(BeginUpdate(task_id=task.task_id))
    assert isinstance(ticket, UpdateTicket)
    return task, ticket


def test_an_experiment_asks_every_question_and_each_gets_its_kind_of_answer(
    door: PlatformAPI, platform: Platform
) -> None:
    asked: set[type[Question[Any]]] = set()

    def ask(question: Question[Any]) -> Any:
        call = CALLS[type(question)]
        asked.add(call.question)
        before = everything(platform)
        answer = door.ask(question)
        if not call.changes:
            assert everything(platform) == before
        assert TypeAdapter(call.answer).validate_python(answer) is answer
        return answer

    assert ask(FindTask(experiment_id="exp")) is None
    state = ask(ReadExtractor())
    assert state == ask(ReadExtractor(version=0))
    assert ask(ReadRanker()).version == state.version == 0
    task = ask(OpenTask(experiment_id="exp", subject=SUBJECT))
    assert ask(FindTask(experiment_id="exp")) == task
    for place in range(2):
        assert ask(result(door, task, place)).outcome == "stored"
    assert ask(RecommendRequest(task_id=task.task_id, budget=3)).version == 0
    ticket = ask(BeginUpdate(task_id=task.task_id))
    while ticket.step is not None:
        features, gradient = halves(ticket)
        assert ask(features).step == ticket.step
        ticket = ask(gradient)
    receipt = ask(CommitUpdate(task_id=task.task_id, session_id=ticket.session_id, phi=PHI))
    assert (receipt.version_before, receipt.version_after, receipt.usable_trials) == (0, 1, 2)
    assert ask(ReadExtractor()).version == 1
    assert asked == set(CALLS), "a new question belongs into this test"


def test_what_is_asked_again_counts_once_and_is_answered_again(door: PlatformAPI, platform: Platform) -> None:
    opening = OpenTask(experiment_id="exp", subject=SUBJECT)
    task = door.ask(opening)
    assert door.ask(opening) == task
    record = result(door, task)
    assert [door.ask(record).outcome for _ in range(2)] == ["stored", "known"]
    begin = BeginUpdate(task_id=task.task_id, takeover=True)
    lost, ticket = door.ask(begin), door.ask(begin)
    assert isinstance(lost, UpdateTicket)
    assert isinstance(ticket, UpdateTicket)
    assert lost.session_id != ticket.session_id
    with pytest.raises(UpdateLostError):
        door.ask(halves(lost)[0])
    while ticket.step is not None:
        features, gradient = halves(ticket)
        assert door.ask(features) == door.ask(features)
        following = door.ask(gradient)
        assert door.ask(gradient) == following
        with pytest.raises(PlatformError, match="out of turn"):
            door.ask(features)
        ticket = following
    commit = CommitUpdate(task_id=task.task_id, session_id=ticket.session_id, phi=PHI)
    assert door.ask(commit) == door.ask(commit) == door.ask(begin)
    counts = platform.status().counts
    assert (counts.done_tasks, counts.usable_trials, platform.status().version) == (1, 1, 1)


def test_what_was_answered_is_on_the_disk(door: PlatformAPI, platform: Platform, tmp_path: Path) -> None:
    task, ticket = begun(door)
    with closing(Store(tmp_path / "platform")) as store:  # as another process sees it
        assert [trial.ap for trial in store.trials(task.task_id)] == [0.5]
        while ticket.step is not None:
            for half in halves(ticket):
                answer = door.ask(half)
            assert isinstance(answer, UpdateTicket)
            ticket = answer
        assert store.newest().number == 0
        door.ask(CommitUpdate(task_id=task.task_id, session_id=ticket.session_id, phi=PHI))
        assert (store.newest().number, store.task(task.task_id).status) == (1, "done")


def test_a_refusal_is_one_sentence_and_changes_nothing(door: PlatformAPI, platform: Platform) -> None:
    task, ticket = begun(door)
    record = result(door, task)
    before = everything(platform)
    features, gradient = halves(ticket)
    refused: list[tuple[Question[Any], type[HyperFDError]]] = [
        (ReadExtractor(version=7), PlatformError),
        (ReadRanker(version=7), PlatformError),
        (RecommendRequest(task_id="nobody", budget=1), UnknownTaskError),
        (record.model_copy(update={"task_id": "nobody"}), UnknownTaskError),
        (record.model_copy(update={"trial_key": "x", "parameters": {"lr": 17.0}}), HyperFDError),
        (
            OpenTask(experiment_id="new", subject=SUBJECT.model_copy(update={"base_id": "other"})),
            PlatformError,
        ),
        (BeginUpdate(task_id="nobody"), UnknownTaskError),
        (features.model_copy(update={"session_id": "nobody"}), UpdateLostError),
        (features.model_copy(update={"step": (ticket.step or 0) + 1}), PlatformError),
        (gradient, PlatformError),
        (CommitUpdate(task_id=task.task_id, session_id=ticket.session_id, phi=PHI), PlatformError),
    ]
    for question, kind in refused:
        with pytest.raises(kind) as caught:
            door.ask(question)
        assert "\n" not in str(caught.value)
        assert everything(platform) == before, question
    assert door.ask(features).step == ticket.step, "the update itself is unharmed"


def test_any_number_of_threads_may_ask(door: PlatformAPI, platform: Platform) -> None:
    task = door.ask(OpenTask(experiment_id="exp", subject=SUBJECT))
    records = [result(door, task, place, ap=0.1 + place / 10) for place in range(4)]
    receipts: list[RecordReceipt] = []
    failures: list[Exception] = []

    def work() -> None:
        try:
            for record in records:
                receipts.append(door.ask(record))
                door.ask(RecommendRequest(task_id=task.task_id, budget=2))
                assert door.ask(FindTask(experiment_id="exp")) == task
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert len(receipts) == 16
    found = {trial.trial_key: trial.ap for trial in platform.trials(task.task_id)}
    assert found == {record.trial_key: record.ap for record in records}


def test_an_update_that_was_done_is_only_looked_up(door: PlatformAPI, platform: Platform) -> None:
    task = door.ask(OpenTask(experiment_id="exp", subject=SUBJECT))
    receipt = door.ask(BeginUpdate(task_id=task.task_id))
    assert isinstance(receipt, UpdateReceipt)
    assert (receipt.version_after, receipt.usable_trials) == (None, 0), "nothing to learn from"
    before = everything(platform)
    assert door.ask(BeginUpdate(task_id=task.task_id)) == receipt
    assert everything(platform) == before
