"""How long one customer may have the turn to update, by a clock that the test moves."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from nni_hyperfd.customer.client import TaskClient
from nni_hyperfd.errors import UpdateLostError
from nni_hyperfd.metafeature.features import ImageFeatures
from nni_hyperfd.metafeature.sending import received_extractor
from nni_hyperfd.platform import updates
from nni_hyperfd.platform.platform import Platform
from nni_hyperfd.platform.state import turns
from nni_hyperfd.platform.updates import LEASE_SECONDS, UPDATE_SECONDS
from nni_hyperfd.protocol import tensors
from nni_hyperfd.protocol.messages import (
    BeginUpdate,
    FeatureStep,
    GradientStep,
    Task,
    UpdateTicket,
    UpdateWait,
)
from nni_hyperfd.ranker.offline import OfflineData
from nni_hyperfd.ranker.ranker import Ranker
from nni_hyperfd.spaces.standard import standard_search_space
from tests.fixtures.drawn_platform import BASE_ID, SMALL

PHI = (0.1,) * 64


@dataclass
class Clock:
    now: float = 1e9

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """What turns and updates take for the time."""
    found = Clock()
    monkeypatch.setattr(turns, "time", SimpleNamespace(time=found))
    monkeypatch.setattr(updates, "time", SimpleNamespace(monotonic=found))
    return found


@pytest.fixture
def platform(tmp_path: Path, first_ranker: Ranker, offline: OfflineData) -> Iterator[Platform]:
    """One whose updates have enough steps to be drawn out."""
    long = replace(SMALL, batches=80)
    with closing(Platform.create(tmp_path / "platform", first_ranker, offline, BASE_ID, long)) as made:
        yield made


def begun(platform: Platform, features: ImageFeatures, customer: str) -> Task:
    """A customer's experiment with one result."""
    platform._store.add_customer(customer, "digest")
    client = TaskClient(_As(platform, customer), features, BASE_ID)
    task = client.open("exp", standard_search_space("hpo"))
    client.record(task, client.recommend(task, 1).configurations[0].parameters, 0.5)
    return task


@dataclass
class _As:
    """The platform as it knows one customer."""

    platform: Platform
    customer: str

    def ask(self, question):
        return self.platform.ask(question, self.customer)


def test_whoever_keeps_stepping_forward_has_ten_minutes_and_no_more(
    platform: Platform, features: ImageFeatures, clock: Clock
) -> None:
    """Each step renews the lease, so that it alone would never end the turn."""
    mine, theirs = (begun(platform, features, name) for name in ("ada", "bob"))
    start, pause = clock.now, LEASE_SECONDS - 1
    turn = _Drawn(platform, mine)
    while clock.now + pause - start <= UPDATE_SECONDS:
        clock.now += pause
        turn.send()
        answer = platform.ask(BeginUpdate(task_id=theirs.task_id))
        assert isinstance(answer, UpdateWait), "he waits while the other one's time is not up"
    clock.now += pause
    with pytest.raises(UpdateLostError, match="longer than 10 minutes"):
        turn.send()
    assert isinstance(platform.ask(BeginUpdate(task_id=theirs.task_id)), UpdateTicket)


class _Drawn:
    """An update of which one message is sent at a time."""

    def __init__(self, platform: Platform, task: Task) -> None:
        ticket = platform.ask(BeginUpdate(task_id=task.task_id))
        assert isinstance(ticket, UpdateTicket)
        self._platform, self._ticket, self._half = platform, ticket, False

    def send(self) -> None:
        ticket = self._ticket
        assert ticket.step is not None, "or else the test has too few steps"
        turn = {"session_id": ticket.session_id, "step": ticket.step}
        if not self._half:
            self._platform.ask(FeatureStep(**turn, phi=PHI, phi_tilde=PHI))
        else:
            gradient = dict(received_extractor(ticket.extractor).named_parameters())
            blob = tensors.pack(tensors.clip(gradient, ticket.gradient_norm))
            self._ticket = self._platform.ask(GradientStep(**turn, tensors=blob))
        self._half = not self._half
