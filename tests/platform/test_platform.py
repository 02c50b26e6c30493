"""The protocol over a real store and a real ranker: recommending, recording, and the update that happens once."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from nni_hyperfd.customer.client import TaskClient
from nni_hyperfd.errors import HyperFDError, PlatformError, UpdateLostError
from nni_hyperfd.metafeature.extractor import MetaFeatureExtractor, meta_feature, samples
from nni_hyperfd.metafeature.features import ImageFeatures
from nni_hyperfd.platform.first import first_state, read_assets, write_assets
from nni_hyperfd.platform.past import StoredTasks
from nni_hyperfd.platform.platform import Platform
from nni_hyperfd.platform.state.store import FILE_NAME
from nni_hyperfd.protocol import tensors
from nni_hyperfd.protocol.messages import (
    BeginUpdate,
    CommitUpdate,
    FeatureStep,
    FindTask,
    GradientStep,
    ReadExtractor,
    RecommendRequest,
    Task,
    UpdateReceipt,
    UpdateTicket,
    UpdateWait,
)
from nni_hyperfd.protocol.tensors import from_blob
from nni_hyperfd.ranker.encodings import encode
from nni_hyperfd.ranker.guard import Guard, GuardSettings
from nni_hyperfd.ranker.offline import OfflineData, RankedList
from nni_hyperfd.ranker.ranker import Ranker
from nni_hyperfd.ranker.settings import RankerSettings
from nni_hyperfd.ranker.transform import ExactTransform
from nni_hyperfd.ranker.update import ContinualUpdate, CurrentTask, PastTask
from nni_hyperfd.recommendation.ranking import read_space
from nni_hyperfd.spaces.standard import standard_search_space, standard_space

BASE_ID = "base0"
HPO = standard_search_space("hpo")
APS = (0.71, 0.64, None, 0.80)


@pytest.fixture
def client(platform: Platform, features: ImageFeatures) -> TaskClient:
    return TaskClient(platform, features, BASE_ID)


def run_trials(client: TaskClient, task: Task, aps: tuple[float | None, ...] = APS) -> None:
    """Report what a customer would after trying the recommendation."""
    for entry, ap in zip(client.recommend(task, budget=len(aps)).configurations, aps):
        client.record(task, entry.parameters, ap)


def customer(client: TaskClient, name: str, aps: tuple[float | None, ...] = APS) -> Task:
    task = client.open(name, HPO)
    run_trials(client, task, aps)
    return task


def state_bytes(platform: Platform) -> tuple[object, ...]:
    """Everything that a refused message must leave as it is."""
    store = platform._store
    newest = store.newest().number
    return store.versions(), store.tasks(), store.trials(), store.ranker(newest), store.omega(newest)


# ---------------------------------------------------------------------------------------------- recommending


def test_a_recommendation_is_the_rankers_and_changes_nothing(platform: Platform, client: TaskClient) -> None:
    task = client.open("exp", HPO)
    before = state_bytes(platform)
    answer = client.recommend(task, budget=4, exploration=0.0)
    space = standard_space("hpo")
    ranker = platform.ranker(0)
    phi = torch.tensor(platform._store.task(task.task_id).phi)
    points = space.enumerate()
    scores = ranker.predict(space.key, phi, encode(space, points))
    best = scores.topk(4)
    assert [c.parameters for c in answer.configurations] == [
        space.parameters(points[i]) for i in best.indices
    ]
    torch.testing.assert_close(torch.tensor([c.score for c in answer.configurations]), best.values)
    assert state_bytes(platform) == before


def test_exploration_and_spares_are_distinct_and_seeded(client: TaskClient) -> None:
    task = client.open("exp", HPO)
    answer = client.recommend(task, budget=4, seed=3)
    assert answer == client.recommend(task, budget=4, seed=3)
    assert answer != client.recommend(task, budget=4, seed=4)
    named = [tuple(c.parameters.items()) for c in answer.configurations + answer.spares]
    assert len(answer.configurations) == 4
    assert len(answer.spares) >= 4
    assert len(set(named)) == len(named)
    assert [c.score for c in answer.spares] == sorted((c.score for c in answer.spares), reverse=True)


def test_a_task_keeps_the_version_it_was_opened_with(platform: Platform, client: TaskClient) -> None:
    early = client.open("early", HPO)
    first = client.recommend(early, budget=4)
    client.update(customer(client, "other"))
    assert platform.status().version == 1
    assert client.recommend(early, budget=4) == first
    assert client.open("early", HPO) == early
    assert client.recommend(client.open("late", HPO), budget=4).version == 1


def test_a_preview_leaves_no_task(platform: Platform, client: TaskClient) -> None:
    before = state_bytes(platform)
    preview = client.preview(HPO, budget=4)
    assert state_bytes(platform) == before
    assert preview == client.recommend(client.open("exp", HPO), budget=4)


@pytest.mark.parametrize("kind", ["nas", "joint"])
def test_unknown_spaces_get_the_same_fresh_encoder_every_time(
    client: TaskClient, open_platform: Callable[..., Platform], features: ImageFeatures, kind: str
) -> None:
    space = standard_search_space(kind)
    answer = client.preview(space, budget=4, candidates=20, generations=1)
    again = TaskClient(open_platform(), features, BASE_ID).preview(space, 4, candidates=20, generations=1)
    assert answer == again
    assert len(answer.configurations) == 4
    for entry in answer.configurations:
        read_space(space, 730e6).parse(entry.parameters)


def test_a_users_own_space_learns_too(platform: Platform, client: TaskClient) -> None:
    space = {
        "width": {"_type": "quniform", "_value": [8, 64, 8]},
        "decay": {"_type": "loguniform", "_value": [1e-5, 1e-2]},
        "act": {"_type": "choice", "_value": ["relu", "silu"]},
    }
    task = client.open("own", space)
    run_trials(client, task)
    assert client.update(task).version_after == 1
    assert platform.ranker(1).shapes == platform.ranker(0).shapes, "the one ranker stays as it is"
    assert platform._store.own_encoder(task.space_key, 1) is not None


# ------------------------------------------------------------------------------------------------- the update


def test_an_experiment_moves_the_platform_by_one_version(platform: Platform, client: TaskClient) -> None:
    task = customer(client, "exp")
    receipt = client.update(task)
    assert (receipt.version_before, receipt.version_after) == (0, 1)
    assert (receipt.usable_trials, receipt.failed_trials) == (3, 1)
    for _ in range(2):
        assert client.update(task) == receipt
    status = platform.status()
    assert (status.version, status.counts.done_tasks, status.counts.usable_trials) == (1, 1, 3)
    assert status.tasks_by_space == {standard_space("hpo").key: 1}
    zero, one = platform.history()
    assert (zero.version, zero.experiment_id, zero.best_ap) == (0, None, None)
    assert (one.version, one.parent, one.experiment_id, one.best_ap) == (1, 0, "exp", 0.80)
    assert task.task_id == platform.ask(FindTask(experiment_id="exp")).task_id
    assert platform.ask(FindTask(experiment_id="exp")).status == "done"


def test_what_a_task_leaves_is_its_final_meta_feature(
    platform: Platform, client: TaskClient, features: ImageFeatures, offline: OfflineData
) -> None:
    """φ_t and G^(t)(D_offline) are those of the new extractor, which is what Z^(t) maps from (METHOD §7)."""
    first = customer(client, "one")
    client.update(first)
    record = platform._store.task(first.task_id)
    extractor = platform.ranker(1).extractor
    phi = meta_feature(extractor, features, torch.Generator().manual_seed(0), 6)
    torch.testing.assert_close(torch.tensor(record.final_phi), phi)
    assert StoredTasks(platform._store)[0].phi.tolist() == list(record.final_phi)
    client.update(customer(client, "two", (0.2, 0.5)))
    newest = platform.ranker(2).extractor
    pool = offline.features.gwap.flatten(1)
    with torch.no_grad():
        now = newest.forward_indexed(pool, offline.reference(6), offline.statistics)
    past, latest = StoredTasks(platform._store)
    torch.testing.assert_close(latest.offline_phi, now)
    carried = past.offline_phi @ ExactTransform.factor(past.offline_phi).refresh(now).T
    kept = past.offline_phi
    assert (carried - now).square().sum() < (kept - now).square().sum()
    assert latest.phi.tolist() == list(platform._store.task(latest.key).final_phi)


def test_the_next_customer_gets_another_ranking(platform: Platform, client: TaskClient) -> None:
    before = client.preview(HPO, budget=8, exploration=0.0)
    client.update(customer(client, "exp", (0.1, 0.9, 0.3, 0.2)))
    after = client.preview(HPO, budget=8, exploration=0.0)
    assert [c.score for c in before.configurations] != [c.score for c in after.configurations]


def test_updates_are_the_same_given_the_same_seeds(
    open_platform: Callable[..., Platform], features: ImageFeatures, tmp_path: Path
) -> None:
    rankers = []
    for folder, seed in (("a", 5), ("b", 5), ("c", 6)):
        platform = open_platform(tmp_path / folder)
        client = TaskClient(platform, features, BASE_ID, seed)
        client.update(customer(client, "exp"))
        rankers.append(platform.ranker(1).state_dict())
    same, other = rankers[1:]
    for name, tensor in rankers[0].items():
        assert torch.equal(tensor, same[name]), name
    assert any(not torch.equal(tensor, other[name]) for name, tensor in rankers[0].items())


class JoinedUpdate(ContinualUpdate):
    """The update as one autograd graph from the loss to θ_G, as if the platform had the customer's images."""

    def step(self, phi: torch.Tensor, phi_tilde: torch.Tensor) -> None:
        from nni_hyperfd.ranker.seeding import seeded

        given = [phi, phi_tilde] if self.wants_current else []
        with seeded(int(torch.randint(2**31, (), generator=self._generator))):
            self._training_mode()
            loss = self._unregularized_loss(self._batches[self._step], given)
        parameters = [self._parameters[name] for name in self._trained]
        found = torch.autograd.grad(loss, parameters, materialize_grads=True)
        self._gradients = dict(zip(self._trained, found))
        self.finish_step({})


def nearly_without_gradient(name: str) -> bool:
    """Parameters whose gradient is zero but for rounding, which Adam blows up to the size of a step.

    A vector added to all keys of the attention leaves its weights as they are, and a vector added to every H(c), as by
    the bias of a unit that is active for every configuration, shifts all scores of a list alike.
    """
    return name.endswith("in_proj_bias") or (name.startswith("encoders.") and name.endswith("bias"))


def test_the_split_update_equals_one_autograd_graph(
    platform: Platform, client: TaskClient, features: ImageFeatures, offline: OfflineData
) -> None:
    """METHOD §9: sending φ and gradients instead of images changes nothing, over two tasks in a row."""
    settings = RankerSettings(batches=8, images=6)
    space = standard_space("hpo")
    past: list[PastTask] = []
    importance: dict[str, torch.Tensor] = {}
    reference = platform.ranker(0)
    for name, aps in (("one", APS), ("two", (0.3, 0.1, 0.5, 0.4))):
        task = customer(client, name, aps)
        rows = [t for t in platform.trials(task.task_id) if t.ap is not None]
        trials = RankedList(
            space.key,
            encode(space, [space.parse(t.parameters) for t in rows]),
            torch.tensor([t.ap for t in rows]),
        )
        client.update(task)

        held_out = Guard(offline, GuardSettings(), settings.images).held_out
        update = JoinedUpdate(
            reference, offline, past, importance, CurrentTask(task.task_id, trials), settings, 0, held_out
        )
        drawn = samples(reference.extractor, features, torch.Generator().manual_seed(0), 6)
        update.pass_over_others()
        while update.steps_left:
            update.step(next(drawn), next(drawn))
            update.pass_over_others()
        phi = meta_feature(reference.extractor, features, torch.Generator().manual_seed(0), 6)
        state = update.finish(phi)
        importance = state.importance
        past.append(PastTask(task.task_id, trials, phi, state.offline_phi))

        version = platform.status().version
        made = platform.ranker(version)
        for key, tensor in state.parameters.items():
            if not nearly_without_gradient(key):
                torch.testing.assert_close(made.state_dict()[key], tensor, rtol=0, atol=1e-6)
        # What those other parameters do not change must agree as well: meta-features, and scores but for a common shift.
        scores = []
        for ranker in (reference, made):
            ranker.eval()
            found = offline.meta_features(ranker.extractor, 6)
            torch.testing.assert_close(found, state.offline_phi, rtol=0, atol=1e-6)
            scores.append(ranker.predict(space.key, phi, encode(space, space.enumerate())))
        torch.testing.assert_close(
            scores[0] - scores[0].mean(), scores[1] - scores[1].mean(), rtol=0, atol=1e-4
        )
        moved = [
            not torch.equal(tensor, platform.ranker(version - 1).state_dict()[key])
            for key, tensor in state.parameters.items()
        ]
        assert any(moved)
        torch.testing.assert_close(
            torch.tensor(platform._store.task(task.task_id).final_phi), phi, rtol=0, atol=1e-6
        )
        reference = Ranker.from_bytes(made.to_bytes())
        reference.load(state.parameters)


def test_the_customers_gradient_matters(
    open_platform: Callable[..., Platform], features: ImageFeatures, tmp_path: Path
) -> None:
    """Guards the comparison above against a split update whose customer half is lost on the way."""
    extractors = []
    for folder, scale in (("a", 1.0), ("b", 0.0)):
        platform = open_platform(tmp_path / folder)
        client = TaskClient(platform, features, BASE_ID)
        task = customer(client, "exp")
        ticket = platform.ask(BeginUpdate(task_id=task.task_id))
        assert isinstance(ticket, UpdateTicket)
        finish_by_hand(platform, client, task, ticket, scale)
        extractors.append(platform.ranker(1).extractor.state_dict())
    assert any(not torch.equal(tensor, extractors[1][name]) for name, tensor in extractors[0].items())


def finish_by_hand(
    platform: Platform, client: TaskClient, task: Task, ticket: UpdateTicket, scale: float = 1.0
) -> UpdateReceipt:
    """An update whose customer sends the extractor's own parameters, scaled, as its gradient."""
    while ticket.step is not None:
        extractor = MetaFeatureExtractor("full")
        extractor.load_state_dict(
            tensors.unpack(ticket.extractor.tensors, extractor.state_dict(), "extractor state")
        )
        phi = (0.1,) * 64
        platform.ask(FeatureStep(session_id=ticket.session_id, step=ticket.step, phi=phi, phi_tilde=phi))
        gradient = {name: scale * p for name, p in extractor.named_parameters()}
        blob = tensors.pack(tensors.clip(gradient, ticket.gradient_norm))
        ticket = platform.ask(GradientStep(session_id=ticket.session_id, step=ticket.step, tensors=blob))
    return platform.ask(CommitUpdate(task_id=task.task_id, session_id=ticket.session_id, phi=(0.1,) * 64))


def test_an_experiment_without_results_makes_no_version(platform: Platform, client: TaskClient) -> None:
    task = customer(client, "exp", (None, None))
    receipt = client.update(task)
    assert (receipt.version_before, receipt.version_after) == (0, None)
    assert (receipt.usable_trials, receipt.failed_trials) == (0, 2)
    assert client.update(task) == receipt
    assert platform.ask(FindTask(experiment_id="exp")).status == "closed"
    assert platform.status().version == 0
    run_trials(client, task, (0.5, 0.6, 0.7))
    assert client.update(task).version_after == 1, "a result that came after all is learnt from"


def test_a_single_result_is_enough(client: TaskClient) -> None:
    assert client.update(customer(client, "exp", (0.5,))).version_after == 1


# ------------------------------------------------------------------------------------------- several at once


def test_updates_in_threads_are_serialized_and_none_is_lost(
    open_platform: Callable[..., Platform], features: ImageFeatures
) -> None:
    """Each thread has its own Platform object, as another process would."""
    receipts: list[UpdateReceipt] = []

    def work(name: str) -> None:
        client = TaskClient(open_platform(), features, BASE_ID)
        receipts.append(client.update(customer(client, name)))

    open_platform()
    threads = [threading.Thread(target=work, args=(f"exp{i % 3}",)) for i in range(4)]  # exp0 comes twice
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {(r.experiment_id, r.version_after) for r in receipts} == {
        (r.experiment_id, r.version_before + 1) for r in receipts
    }
    assert sorted({r.version_after for r in receipts}) == [1, 2, 3]
    assert [v.parent for v in open_platform().history()] == [None, 0, 1, 2]


def test_another_experiment_waits_and_then_builds_on_the_newest(
    open_platform: Callable[..., Platform], features: ImageFeatures
) -> None:
    mine, theirs = open_platform(), open_platform()
    client, other = (TaskClient(p, features, BASE_ID) for p in (mine, theirs))
    task, waiting = customer(client, "exp"), customer(other, "other")
    ticket = mine.ask(BeginUpdate(task_id=task.task_id))
    assert isinstance(ticket, UpdateTicket)
    for takeover in (False, True):
        answer = theirs.ask(BeginUpdate(task_id=waiting.task_id, takeover=takeover))
        assert isinstance(answer, UpdateWait)
    with pytest.raises(PlatformError, match="took longer"):
        other.update(waiting, wait_limit=0.0)
    assert finish_by_hand(mine, client, task, ticket).version_after == 1
    receipt = other.update(waiting)
    assert (receipt.version_before, receipt.version_after) == (1, 2)


def test_a_taken_over_update_ends_and_the_other_one_counts(
    open_platform: Callable[..., Platform], features: ImageFeatures
) -> None:
    mine, theirs = open_platform(), open_platform()
    client = TaskClient(mine, features, BASE_ID)
    task = customer(client, "exp")
    ticket = mine.ask(BeginUpdate(task_id=task.task_id))
    assert isinstance(ticket, UpdateTicket)
    receipt = TaskClient(theirs, features, BASE_ID).update(task)
    assert receipt.version_after == 1
    with pytest.raises(UpdateLostError):
        mine.ask(
            FeatureStep(
                session_id=ticket.session_id, step=ticket.step, phi=(0.0,) * 64, phi_tilde=(0.0,) * 64
            )
        )
    assert (
        mine.ask(CommitUpdate(task_id=task.task_id, session_id=ticket.session_id, phi=(0.0,) * 64)) == receipt
    )
    assert mine.status().version == 1


def test_a_silent_update_loses_its_turn(
    open_platform: Callable[..., Platform], features: ImageFeatures
) -> None:
    mine = open_platform(lease_seconds=0.0)
    client = TaskClient(mine, features, BASE_ID)
    task, other = customer(client, "exp"), customer(client, "other")
    ticket = mine.ask(BeginUpdate(task_id=task.task_id))
    assert isinstance(ticket, UpdateTicket)
    assert client.update(other).version_after == 1
    with pytest.raises(UpdateLostError):
        finish_by_hand(mine, client, task, ticket)
    assert client.update(task).version_after == 2


def test_a_message_that_comes_twice_counts_once(platform: Platform, client: TaskClient) -> None:
    task = customer(client, "exp")
    ticket = platform.ask(BeginUpdate(task_id=task.task_id))
    assert isinstance(ticket, UpdateTicket)
    extractor = platform.ranker(0).extractor
    gradient = tensors.pack({name: torch.zeros_like(p) for name, p in extractor.named_parameters()})
    steps = 0
    while ticket.step is not None:
        step = FeatureStep(
            session_id=ticket.session_id, step=ticket.step, phi=(0.1,) * 64, phi_tilde=(0.2,) * 64
        )
        assert platform.ask(step) == platform.ask(step)
        half = GradientStep(session_id=ticket.session_id, step=ticket.step, tensors=gradient)
        ticket = platform.ask(half)
        assert platform.ask(half) == ticket
        with pytest.raises(PlatformError, match="out of turn"):
            platform.ask(step)
        steps += 1
    assert 0 < steps <= ticket.steps == 8
    end = CommitUpdate(task_id=task.task_id, session_id=ticket.session_id, phi=(0.1,) * 64)
    assert platform.ask(end) == platform.ask(end)
    assert platform.status().version == 1


# ------------------------------------------------------------------------------------- refused, and unchanged


def test_hostile_messages_during_an_update_are_refused_and_change_nothing(
    platform: Platform, client: TaskClient
) -> None:
    task = customer(client, "exp")
    foreign = customer(client, "foreign")
    before = state_bytes(platform)
    ticket = platform.ask(BeginUpdate(task_id=task.task_id))
    assert isinstance(ticket, UpdateTicket)
    good = {n: torch.zeros_like(p) for n, p in platform.ranker(0).extractor.named_parameters()}
    name = next(iter(good))
    phi = (0.1,) * 64
    session, step = ticket.session_id, ticket.step
    assert step is not None

    def gradient(blob: bytes) -> GradientStep:
        return GradientStep(session_id=session, step=step, tensors=blob)

    def refuse(call: Callable[[], object], words: str) -> None:
        with pytest.raises(PlatformError, match=words):
            call()

    refuse(lambda: platform.ask(gradient(tensors.pack(good))), "out of turn")
    refuse(
        lambda: platform.ask(CommitUpdate(task_id=task.task_id, session_id=session, phi=phi)), "steps left"
    )
    wrong_step = FeatureStep(session_id=session, step=step + 1, phi=phi, phi_tilde=phi)
    refuse(lambda: platform.ask(wrong_step), "out of turn")
    strange = FeatureStep(session_id="strange", step=step, phi=phi, phi_tilde=phi)
    refuse(lambda: platform.ask(strange), "not under way")
    platform.ask(FeatureStep(session_id=session, step=step, phi=phi, phi_tilde=phi))
    huge = {**good, name: torch.full_like(good[name], 1e6)}
    cases = {
        b"": "not a safetensors",
        b"\xff" * 64: "not a safetensors",
        tensors.pack(good)[:-9]: "not a safetensors",
        tensors.pack({n: t for n, t in good.items() if n != name}): "lacks",
        tensors.pack({**good, "images": torch.zeros(3, 640, 640)}): "too much: images",
        tensors.pack({**good, name: torch.zeros(2)}): "expected",
        tensors.pack({**good, name: good[name].half()}): "expected",
        tensors.pack({**good, name: torch.full_like(good[name], torch.nan)}): "not finite",
        tensors.pack({**good, name: torch.full_like(good[name], torch.inf)}): "not finite",
        tensors.pack(huge): "norm",
    }
    for blob, words in cases.items():
        if blob:
            refuse(lambda blob=blob: platform.ask(gradient(blob)), words)
    other = CommitUpdate(task_id=foreign.task_id, session_id=session, phi=phi)
    refuse(lambda: platform.ask(other), "another experiment|steps left")
    assert state_bytes(platform) == before
    # The update itself is unharmed.
    next_ticket = platform.ask(gradient(tensors.pack(good)))
    assert finish_by_hand(platform, client, task, next_ticket).version_after == 1


def test_hostile_requests_are_refused_and_change_nothing(
    platform: Platform, client: TaskClient, features: ImageFeatures
) -> None:
    task = client.open("exp", HPO)
    before = state_bytes(platform)
    good = client.recommend(task, budget=1).configurations[0].parameters

    def refuse(call: Callable[[], object], words: str) -> None:
        with pytest.raises(HyperFDError, match=words):
            call()

    nobody = Task(task_id="0" * 32, experiment_id="x", space_key="k", extractor_version=0, status="open")
    refuse(lambda: client.recommend(nobody, budget=1), "no task")
    refuse(lambda: client.record(nobody, good, 0.5), "no task")
    refuse(lambda: client.update(nobody), "no task")
    refuse(lambda: client.record(task, {**good, "lr": 17.0}, 0.5), "lr")
    refuse(lambda: client.record(task, {**good, "more": 1}, 0.5), "more")
    refuse(lambda: client.record(task, good, 1.5), "ap")
    refuse(lambda: client.record(task, good, float("nan")), "ap")
    refuse(lambda: client.record(task, good, 0.5, budget="../etc"), "budget")
    refuse(lambda: client.recommend(task, budget=0), "budget")
    refuse(lambda: client.recommend(task, budget=4, exploration=2.0), "exploration")
    refuse(lambda: client.open("exp", standard_search_space("nas")), "another search space")
    refuse(lambda: client.open("new", {"lr": {"_type": "choice", "_value": []}}), "_value")
    refuse(lambda: client.open("a b", HPO), "experiment_id")
    refuse(lambda: TaskClient(platform, features, "other").open("new", HPO), "base detector other")
    refuse(lambda: platform.ask(ReadExtractor(version=3)), "no ranker version 3")
    subject = client.subject(HPO)
    future = RecommendRequest(subject=subject.model_copy(update={"extractor_version": 9}), budget=1)
    refuse(lambda: platform.ask(future), "no ranker version 9")
    assert state_bytes(platform) == before


def test_a_loss_that_is_not_finite_ends_the_update_only(platform: Platform, client: TaskClient) -> None:
    """A meta-feature at the limit of what a message may hold, again and again, must not leave a broken version."""
    task = customer(client, "exp")
    before = state_bytes(platform)
    ticket = platform.ask(BeginUpdate(task_id=task.task_id))
    assert isinstance(ticket, UpdateTicket)
    assert ticket.step is not None
    phi = (1e6,) * 64
    extreme = FeatureStep(
        session_id=ticket.session_id, step=ticket.step, phi=phi, phi_tilde=tuple(-x for x in phi)
    )
    with contextlib.suppress(HyperFDError):
        platform.ask(extreme)
    assert state_bytes(platform) == before
    assert client.update(task).version_after == 1
    for tensor in platform.ranker(1).state_dict().values():
        assert torch.isfinite(tensor).all()


# ----------------------------------------------------------------------------------------------- the first state


def test_shipped_assets_read_back(tmp_path: Path, first_ranker: Ranker, offline: OfflineData) -> None:
    state = first_state(first_ranker, offline, BASE_ID)
    write_assets(tmp_path / "assets", state, {"made": "by a test"})
    found = read_assets(tmp_path / "assets")
    assert (found.ranker, found.offline, found.base_id) == (state.ranker, state.offline, BASE_ID)
    assert from_blob("importance", found.omega) == ({}, {})
    (tmp_path / "assets" / "offline.safetensors").write_bytes(b"broken")
    with pytest.raises(PlatformError):
        read_assets(tmp_path / "assets")


def test_a_platform_in_a_damaged_file_is_refused(
    open_platform: Callable[..., Platform], tmp_path: Path
) -> None:
    open_platform().close()
    path = tmp_path / "platform" / FILE_NAME
    path.write_bytes(path.read_bytes()[:5000])
    before = path.read_bytes()
    with pytest.raises(PlatformError, match="damaged"):
        open_platform()
    with pytest.raises(PlatformError, match="damaged"):
        Platform.open(tmp_path / "platform")
    assert path.read_bytes() == before
