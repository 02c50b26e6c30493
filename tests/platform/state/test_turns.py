"""The queue for updates, by a clock that the test moves."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest
from prometheus_client.parser import text_string_to_metric_families

from nni_hyperfd.cli import main
from nni_hyperfd.errors import UpdateLostError
from nni_hyperfd.platform.state import turns
from nni_hyperfd.platform.state.records import FirstState, NewTask
from nni_hyperfd.platform.state.store import Store
from nni_hyperfd.platform.state.turns import QUEUE_SECONDS
from nni_hyperfd.platform.updates import LEASE_SECONDS
from nni_hyperfd.server.metrics import Metrics


@dataclass
class Clock:
    now: float = 1e9


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(turns, "time", SimpleNamespace(time=lambda: found.now))
    return found


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    found = Store(tmp_path, lambda: FirstState(b"ranker", b"omega", b"offline", "base"))
    yield found
    found.close()


def open_task(store: Store, customer: str, experiment: str = "exp") -> str:
    if customer not in {each.name for each in store.customers()}:
        store.add_customer(customer, "digest")
    return store.open_task(NewTask(customer, experiment, "space", {"lr": 0.1}, 1e9, 0, (0.0,) * 64)).id


def gauges(store: Store) -> dict[str, float]:
    families = text_string_to_metric_families(Metrics(store).text().decode())
    return {
        sample.name: sample.value
        for family in families
        for sample in family.samples
        if sample.name.startswith("hyperfd_update_")
    }


def test_turns_come_in_the_order_in_which_they_were_asked_for(store: Store, clock: Clock) -> None:
    names = ["ada", "bob", "cleo", "dan"]
    tasks = {name: open_task(store, name) for name in names}
    assert store.take_lease("ada", tasks["ada"], LEASE_SECONDS) == 0
    for name in names[1:]:
        clock.now += 1
        assert store.take_lease(name, tasks[name], LEASE_SECONDS) > 0
    for holder, following in pairwise(names):
        store.release_lease(holder)
        for other in reversed(names[names.index(following) + 1 :]):
            assert store.take_lease(other, tasks[other], LEASE_SECONDS) > 0, (
                "though it is free and he asks first"
            )
        assert store.take_lease(following, tasks[following], LEASE_SECONDS) == 0


def test_who_goes_away_loses_his_turn_when_the_lease_ends(store: Store, clock: Clock) -> None:
    away, waiting = open_task(store, "ada"), open_task(store, "bob")
    assert store.take_lease("one", away, LEASE_SECONDS) == 0
    clock.now += LEASE_SECONDS - 1
    store.renew_lease("one", LEASE_SECONDS)  # a step forward
    begun = clock.now
    while (wait := store.take_lease("two", waiting, LEASE_SECONDS)) > 0:
        assert clock.now < begun + LEASE_SECONDS
        clock.now += min(wait, 2.0)
    assert begun + LEASE_SECONDS <= clock.now < begun + LEASE_SECONDS + 2
    with pytest.raises(UpdateLostError):
        store.renew_lease("one", LEASE_SECONDS)
    store.check_lease("two")


def test_who_does_not_ask_any_more_loses_his_place(store: Store, clock: Clock) -> None:
    first, gone, last = (open_task(store, name) for name in ("ada", "bob", "cleo"))
    store.take_lease("one", first, LEASE_SECONDS)
    store.take_lease("two", gone, LEASE_SECONDS)
    clock.now += 1
    store.take_lease("three", last, LEASE_SECONDS)
    for _ in range(3):
        clock.now += QUEUE_SECONDS / 3
        store.take_lease("three", last, LEASE_SECONDS)
    store.release_lease("one")
    assert store.take_lease("three", last, LEASE_SECONDS) == 0


def test_a_customer_has_one_place_whatever_he_wants_to_finish(store: Store, clock: Clock) -> None:
    many = [open_task(store, "ada", f"exp{i}") for i in range(3)]
    other = open_task(store, "bob")
    holder = open_task(store, "cleo")
    store.take_lease("holder", holder, LEASE_SECONDS)
    for i in (1, 2):
        assert store.take_lease(f"many{i}", many[i], LEASE_SECONDS) > 0
    clock.now += 1
    assert store.take_lease("other", other, LEASE_SECONDS) > 0
    assert len(store.turn().waiting) == 2
    clock.now += 1
    store.release_lease("holder")
    assert store.take_lease("many1", many[1], LEASE_SECONDS) == 0
    assert store.take_lease("many2", many[2], LEASE_SECONDS) > 0
    store.release_lease("many1")
    assert store.take_lease("many2", many[2], LEASE_SECONDS) > 0
    assert store.take_lease("other", other, LEASE_SECONDS) == 0


def test_who_lets_his_turn_lapse_is_not_the_next_one_again(store: Store, clock: Clock) -> None:
    """He has more experiments, and asks for them before anybody else does."""
    first, second = (open_task(store, "mallory", name) for name in ("one", "two"))
    bob = open_task(store, "bob")
    assert store.take_lease("a", first, LEASE_SECONDS) == 0
    assert store.take_lease("b", second, LEASE_SECONDS) > 0
    for _ in range(3):
        clock.now += LEASE_SECONDS / 4
        assert store.take_lease("c", bob, LEASE_SECONDS) > 0
    clock.now += LEASE_SECONDS / 4
    assert store.take_lease("b", second, LEASE_SECONDS) > 0, "bob waits already"
    assert store.take_lease("c", bob, LEASE_SECONDS) == 0
    assert store.take_lease("b", second, LEASE_SECONDS) > 0
    store.release_lease("c")
    assert store.take_lease("b", second, LEASE_SECONDS) == 0


def test_the_queue_is_to_be_seen(store: Store, clock: Clock) -> None:
    tasks = {name: open_task(store, name, f"exp of {name}") for name in ("ada", "bob", "cleo")}
    assert set(gauges(store).values()) == {0.0}
    store.take_lease("one", tasks["ada"], LEASE_SECONDS)
    clock.now += 2
    store.take_lease("two", tasks["bob"], LEASE_SECONDS)
    clock.now += 3
    store.take_lease("three", tasks["cleo"], LEASE_SECONDS)
    clock.now += 1
    assert gauges(store) == {
        "hyperfd_update_seconds": 6.0,
        "hyperfd_update_queue": 2.0,
        "hyperfd_update_queue_seconds": 4.0,
    }
    turn = store.turn()
    assert (turn.experiment_id, turn.seconds, turn.waiting) == ("exp of ada", 6.0, (4.0, 1.0))


def test_the_status_says_whose_turn_it_is_and_who_waits(
    store: Store, clock: Clock, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def update() -> str:
        assert main(["status", "--platform", str(tmp_path)]) == 0
        lines = capsys.readouterr().out.splitlines()
        return next(line for line in lines if line.startswith("Update")).removeprefix("Update").strip()

    assert update() == "none under way"
    tasks = {name: open_task(store, name, f"exp-of-{name}") for name in ("ada", "bob", "cleo")}
    store.take_lease("one", tasks["ada"], LEASE_SECONDS)
    clock.now += 2
    assert update() == "exp-of-ada for 2 s; 0 waiting"
    store.take_lease("two", tasks["bob"], LEASE_SECONDS)
    clock.now += 3
    store.take_lease("three", tasks["cleo"], LEASE_SECONDS)
    clock.now += 1
    assert update() == "exp-of-ada for 6 s; 2 waiting, the first for 4 s"
    assert main(["status", "--platform", str(tmp_path), "--json"]) == 0
    turn = json.loads(capsys.readouterr().out)["turn"]
    assert turn == {"experiment_id": "exp-of-ada", "seconds": 6.0, "waiting": [4.0, 1.0]}
    store.release_lease("one")
    assert update() == "nobody; 2 waiting, the first for 4 s"
    clock.now += QUEUE_SECONDS
    assert update() == "none under way"
