"""Algorithm 1 in steps: against one plain loop with a single graph, and each switch of the ablations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor

from nni_hyperfd.errors import PlatformError, SpaceError, TrainingError
from nni_hyperfd.metafeature.extractor import (
    Variant,
    dataset_statistics,
    image_inputs,
    meta_feature,
)
from nni_hyperfd.metafeature.features import ImageFeatures
from nni_hyperfd.metafeature.view import ExactView
from nni_hyperfd.ranker.drive import drive
from nni_hyperfd.ranker.encoders import EncoderShape
from nni_hyperfd.ranker.encodings import encode
from nni_hyperfd.ranker.losses import lambda_ndcg_loss, mse_loss, triplet_loss
from nni_hyperfd.ranker.offline import OfflineData, RankedList
from nni_hyperfd.ranker.ranker import Ranker
from nni_hyperfd.ranker.settings import RankerSettings
from nni_hyperfd.ranker.transform import RIDGE, ExactTransform, transformation_loss
from nni_hyperfd.ranker.update import (
    ContinualUpdate,
    CurrentTask,
    PastTask,
    UpdatedState,
    draw_batches,
)
from nni_hyperfd.spaces.standard import standard_space

if TYPE_CHECKING:
    from tests.ranker.conftest import World

CENTER = torch.tensor([1.0, -0.5, 0.3])


def warm(world: World, variant: Variant = "full") -> Ranker:
    ranker = Ranker.build({world.space.key: EncoderShape.of(world.space)}, 0, variant)
    ranker.extractor.set_normalization(image_inputs(world.offline.features), world.offline.statistics)
    return ranker


def past_tasks(world: World, ranker: Ranker, count: int = 3) -> list[PastTask]:
    """Tasks whose meta-features come from an extractor that has since been turned a little."""
    offline_phi = world.offline.meta_features(ranker.extractor, 32)
    tasks = []
    for t in range(count):
        generator = torch.Generator().manual_seed(50 + t)
        center = torch.randn(3, generator=generator)
        turn = torch.eye(64) + 0.05 * torch.randn(64, 64, generator=generator)
        phi = meta_feature(ranker.extractor, world.features(center, 20, 60 + t), generator)
        tasks.append(
            PastTask(f"past{t}", world.trials(center, [t, 40 + t, 90, 130]), turn @ phi, offline_phi @ turn.T)
        )
    return tasks


def current(world: World) -> CurrentTask:
    return CurrentTask("now", world.trials(CENTER, [3, 77, 120, 200]))


def customer(world: World) -> ImageFeatures:
    return world.features(CENTER, 25, 7)


def run(
    world: World,
    settings: RankerSettings,
    past: Sequence[PastTask] | None = None,
    importance: dict[str, Tensor] | None = None,
    seed: int = 0,
) -> tuple[UpdatedState, Ranker]:
    """Both halves of an update in one process."""
    ranker = warm(world)
    update = ContinualUpdate(
        ranker,
        world.offline,
        past_tasks(world, ranker) if past is None else past,
        importance or {},
        current(world),
        settings,
        seed,
    )
    view = ExactView(ranker.extractor, customer(world), torch.Generator().manual_seed(seed))
    return drive(update, view), ranker


def test_asked_twice_it_is_finished_once(world: World) -> None:
    """A commit that found the disk full is sent again; the paper's iteration must not go on meanwhile."""
    ranker = warm(world)
    settings = RankerSettings(transform="iterative", batches=2)
    update = ContinualUpdate(
        ranker, world.offline, past_tasks(world, ranker), {}, current(world), settings, 0
    )
    while update.steps_left:
        update.begin_step(torch.zeros(64), torch.ones(64))
        update.finish_step({})
    first, again = update.finish(torch.ones(64)), update.finish(torch.zeros(64))
    assert first.transforms.keys() == {"now", "past0", "past1", "past2"}
    for key, transform in first.transforms.items():
        assert torch.equal(again.transforms[key], transform), key
    assert torch.equal(again.offline_phi, first.offline_phi)
    assert again.phi.sum() == 0


def moved(state: UpdatedState, world: World, part: str) -> bool:
    before = warm(world).state_dict()
    return any(
        not torch.equal(before[name], tensor) for name, tensor in state.parameters.items() if part in name
    )


def single_image_offline(world: World) -> OfflineData:
    """Data sets of one image each: every sample of such a set is the same, so a test can compute φ without the draws."""
    members = [member[:1] for member in world.offline.members]
    return OfflineData(world.offline.features, members, world.offline.experience)


@pytest.mark.parametrize("loss", ["ranking", "mse"])
def test_the_steps_are_algorithm_1_with_one_graph_for_everything(world: World, loss: str) -> None:
    """A second implementation without the split: all losses in one expression, one backward, the images at hand.

    Without attention, as images that are all the same give it gradients of zero, which Adam turns into steps of noise.
    """
    settings = RankerSettings(
        batches=6,
        ratio=(2.0, 2.0, 2.0),
        loss=loss,
        learning_rate=1e-3,
        synaptic_weight=50.0,
        triplet_margin=1000.0,
    )  # type: ignore[arg-type]
    offline = single_image_offline(world)
    one_image = customer(world).subset(torch.tensor([0]))
    ranker = warm(world, "no_attention")
    generator = torch.Generator().manual_seed(11)
    importance = {
        name: torch.rand(p.shape, generator=generator)
        for name, p in ranker.named_parameters()
        if "encoders" in name
    }
    past = past_tasks(world, ranker)
    update = ContinualUpdate(ranker, offline, past, importance, current(world), settings, seed=5)
    batches = update._batches
    assert {kind for batch in batches for kind, _ in batch} == {"offline", "past", "current"}

    # --- the plain loop ---
    twin = warm(world, "no_attention")
    parameters = dict(twin.named_parameters())
    start = {name: p.detach().clone() for name, p in parameters.items()}
    path = {name: torch.zeros_like(p) for name, p in start.items()}
    optimizer = torch.optim.Adam(parameters.values(), lr=1e-3)
    pool, key = image_inputs(offline.features), world.space.key
    experience = offline.experience[key]

    def offline_phi(dataset: int) -> Tensor:
        image = pool[offline.members[dataset]].expand(1, 32, -1)
        return twin.extractor(image, offline.statistics[dataset][None])[0]

    def own_phi() -> Tensor:
        statistics = dataset_statistics(one_image.boxes)[None]
        return twin.extractor(image_inputs(one_image).expand(1, 32, -1), statistics)[0]

    for batch in batches:
        with torch.no_grad():
            newest = torch.stack([offline_phi(d) for d in range(len(offline))])
        rows, datasets = [], {}
        for kind, i in batch:
            if kind == "offline":
                dataset, at = experience.lists[i]
                own = (experience.encodings[experience.configurations[at]], experience.aps[at])
                datasets["offline", dataset] = phi = offline_phi(dataset)
            elif kind == "past":
                old = past[i].offline_phi
                ridge = (RIDGE * old.square().sum() / 64).sqrt() * torch.eye(64)
                z = torch.linalg.lstsq(torch.cat([old, ridge]).double(), torch.cat([newest, ridge]).double())
                own = (past[i].trials.encodings, past[i].trials.aps)
                datasets["past", i] = phi = z.solution.T.float() @ past[i].phi
            else:
                own = (current(world).trials.encodings, current(world).trials.aps)
                datasets["current", 0] = phi = own_phi()
            rows.append((twin.encoders[key](own[0]) @ phi, own[1]))
        primary = lambda_ndcg_loss if loss == "ranking" else mse_loss
        lists = [primary(s[None], a[None], torch.ones(1, len(a), dtype=torch.bool)) for s, a in rows]
        whole = sum(lists) / len(lists)
        hinges = [
            triplet_loss(
                datasets[v][None], datasets[v][None], datasets[u][None], torch.tensor([[True]]), 1000.0
            )
            for v in datasets
            for u in datasets
            if v[0] != "past" and v != u
        ]
        if hinges:
            whole = whole + 0.03 * sum(hinges) / len(hinges)
        gradients = torch.autograd.grad(whole, list(parameters.values()), materialize_grads=True)
        penalty = 50.0 * sum(
            (importance[name] * (p - start[name]) ** 2).sum()
            for name, p in parameters.items()
            if name in importance
        )
        optimizer.zero_grad()
        penalty.backward()
        before = {name: p.detach().clone() for name, p in parameters.items()}
        for p, gradient in zip(parameters.values(), gradients):
            p.grad = gradient if p.grad is None else p.grad + gradient
        optimizer.step()
        for name, gradient in zip(parameters, gradients):
            path[name] -= gradient * (parameters[name].detach() - before[name])

    # --- the two halves ---
    state = drive(update, ExactView(ranker.extractor, one_image, torch.Generator()))

    # Adam turns a gradient that is zero but for rounding into a step of some size, hence the 0.5 %.
    travelled = {name: (p.detach() - start[name]) ** 2 + 0.1 for name, p in parameters.items()}
    expected = {
        name: torch.relu(importance.get(name, torch.zeros_like(p)) + path[name] / travelled[name])
        for name, p in parameters.items()
    }
    for found, wanted in ((state.parameters, parameters), (state.importance, expected)):
        error = torch.cat([(found[name] - wanted[name]).abs().flatten() for name in parameters])
        assert error.max() < 1e-3
        assert (error > 2e-5).float().mean() < 0.005
    assert (parameters["extractor.project.weight"] - start["extractor.project.weight"]).abs().mean() > 1e-3


def test_lists_come_five_to_one_to_one() -> None:
    settings = RankerSettings(batches=5000)
    available = {"offline": 70, "past": 10, "current": 1}
    batches = draw_batches(available, settings, torch.Generator().manual_seed(0))
    assert all(len(batch) == 4 for batch in batches)
    kinds = [kind for batch in batches for kind, _ in batch]
    for kind, share in (("offline", 5 / 7), ("past", 1 / 7), ("current", 1 / 7)):
        deviation = (share * (1 - share) / len(kinds)) ** 0.5
        assert abs(kinds.count(kind) / len(kinds) - share) < 4 * deviation
    positions = torch.tensor([i for batch in batches for kind, i in batch if kind == "offline"])
    counts = torch.bincount(positions, minlength=70).float()
    # Chi-square with 69 degrees of freedom: mean 69, deviation 12.
    assert ((counts - counts.mean()) ** 2 / counts.mean()).sum() < 69 + 4 * 12


def test_a_kind_without_lists_is_left_out() -> None:
    settings = RankerSettings(batches=3000)
    batches = draw_batches(
        {"offline": 7, "past": 0, "current": 1}, settings, torch.Generator().manual_seed(0)
    )
    kinds = [kind for batch in batches for kind, _ in batch]
    assert kinds.count("past") == 0
    assert abs(kinds.count("current") / len(kinds) - 1 / 6) < 0.015
    only = draw_batches({"offline": 0, "past": 0, "current": 1}, settings, torch.Generator())
    assert {kind for batch in only for kind, _ in batch} == {"current"}


def test_same_seed_same_state_and_another_seed_another(world: World) -> None:
    settings = RankerSettings(batches=4)
    torch.manual_seed(1)
    one, _ = run(world, settings)
    torch.manual_seed(2)
    two, _ = run(world, settings)
    other, _ = run(world, settings, seed=1)
    assert all(torch.equal(t, two.parameters[name]) for name, t in one.parameters.items())
    assert all(torch.equal(t, two.importance[name]) for name, t in one.importance.items())
    assert not all(torch.equal(t, other.parameters[name]) for name, t in one.parameters.items())


def test_what_is_left_behind_can_be_written_down(world: World) -> None:
    state, ranker = run(world, RankerSettings(batches=3))
    assert {field.name for field in fields(state)} == {
        "parameters", "importance", "offline_phi", "transforms", "phi"
    }  # fmt: skip
    assert state.parameters.keys() == ranker.state_dict().keys()
    assert state.importance.keys() == dict(ranker.named_parameters()).keys()
    assert state.offline_phi.shape == (60, 64)
    assert state.transforms == {}
    iterated = run(world, RankerSettings(batches=3, transform="iterative"))[0].transforms
    assert iterated.keys() == {"past0", "past1", "past2", "now"}
    assert torch.equal(iterated["now"], torch.eye(64))
    for tensors in (state.parameters, state.importance, iterated, {"phi": state.phi}):
        again = load(save(dict(tensors)))
        assert all(torch.equal(tensor, again[name]) for name, tensor in tensors.items())
    expected = world.offline.meta_features(ranker.extractor, 32)
    assert torch.allclose(state.offline_phi, expected, atol=1e-5)


def test_the_transformation_carries_an_unseen_customer_along(world: World) -> None:
    """Z learnt on the server's data sets must hold for a customer the server never saw: that is what it is for."""
    first, ranker = run(world, RankerSettings(batches=10, learning_rate=1e-3), past=[])
    others = [torch.randn(3, generator=torch.Generator().manual_seed(300 + i)) for i in range(5)]
    images = [world.features(center, 25, 400 + i) for i, center in enumerate(others)]

    def describe(g: torch.nn.Module) -> Tensor:
        return torch.stack([meta_feature(g, f, torch.Generator().manual_seed(1)) for f in images])

    old = describe(ranker.extractor)
    task = PastTask("first", current(world).trials, first.phi, first.offline_phi)
    update = ContinualUpdate(
        ranker, world.offline, [task], first.importance,
        replace(current(world), key="second"), RankerSettings(batches=40, learning_rate=1e-3), 1,
    )  # fmt: skip
    second = drive(update, ExactView(ranker.extractor, customer(world), torch.Generator().manual_seed(2)))
    new = describe(ranker.extractor)
    left_alone = (old - new).square().sum()
    z = ExactTransform.factor(first.offline_phi).refresh(second.offline_phi)
    assert (old @ z.T - new).square().sum() < 0.5 * left_alone


def only_past(**changes: object) -> RankerSettings:
    return RankerSettings(batches=3, ratio=(0.0, 1.0, 1e-12), **changes)  # type: ignore[arg-type]


def test_past_tasks_move_the_encoder_and_never_the_extractor(world: World) -> None:
    state, _ = run(world, only_past())
    assert moved(state, world, "encoders.")
    assert not moved(state, world, "extractor.")


def test_each_transformation_does_what_it_says(world: World) -> None:
    states = {t: run(world, only_past(transform=t))[0] for t in ("exact", "iterative", "none")}
    assert states["none"].transforms == {}
    ranker = warm(world)
    for task in past_tasks(world, ranker):
        old, new = task.offline_phi, states["exact"].offline_phi
        exact = ExactTransform.factor(old).refresh(new)
        iterated = states["iterative"].transforms[task.key]
        losses = [float(transformation_loss(z, old, new)) for z in (exact, iterated, torch.eye(64))]
        assert losses == sorted(losses)
        assert losses[0] < losses[1] < losses[2]
    encoders = [
        torch.cat([t.flatten() for name, t in s.parameters.items() if "encoders" in name])
        for s in states.values()
    ]
    assert not torch.equal(encoders[0], encoders[2])


def test_the_iteration_goes_on_from_where_it_was_left(world: World) -> None:
    ranker = warm(world)
    plain = past_tasks(world, ranker)
    settings = only_past(transform="iterative")
    fresh, _ = run(world, settings, past=plain)
    far = [replace(task, transform=fresh.transforms[task.key]) for task in plain]
    further, _ = run(world, settings, past=far)
    for task in plain:
        error = [
            (task.offline_phi @ s.transforms[task.key].T - s.offline_phi).square().sum()
            for s in (fresh, further)
        ]
        assert error[1] < error[0]


def test_oracle_sees_the_past_with_the_newest_extractor(world: World) -> None:
    """With the true features of the past at hand, neither the stored φ nor Z plays a part."""
    ranker = warm(world)
    images = [world.features(torch.full((3,), float(t)), 20, 80 + t) for t in range(3)]
    oracle = [replace(task, features=f) for task, f in zip(past_tasks(world, ranker), images)]
    misled = [replace(task, phi=torch.zeros(64)) for task in oracle]
    one, _ = run(world, only_past(), past=oracle)
    two, _ = run(world, only_past(), past=misled)
    assert all(torch.equal(t, two.parameters[name]) for name, t in one.parameters.items())
    assert not moved(one, world, "extractor.")


def test_modes(world: World) -> None:
    settings = RankerSettings(batches=4)
    full, _ = run(world, settings)
    assert moved(full, world, "extractor.")
    assert moved(full, world, "encoders.")
    frozen, _ = run(world, replace(settings, mode="freeze_extractor"))
    assert not moved(frozen, world, "extractor.")
    assert moved(frozen, world, "encoders.")
    nothing, _ = run(world, replace(settings, mode="freeze_all"))
    assert not moved(nothing, world, "")
    available = {"offline": 9, "past": 9, "current": 1}
    latest = draw_batches(available, replace(settings, mode="latest_only"), torch.Generator())
    assert {kind for batch in latest for kind, _ in batch} == {"current"}


def test_triplet_and_synaptic_switches(world: World) -> None:
    settings = RankerSettings(batches=4, triplet_margin=1000.0)
    importance = {name: torch.ones_like(p) for name, p in warm(world).named_parameters()}
    start = warm(world).state_dict()

    def distance(state: UpdatedState) -> float:
        return sum(float((t - start[name]).square().sum()) for name, t in state.parameters.items())

    whole, _ = run(world, settings, importance=importance)
    free, _ = run(world, replace(settings, synaptic_weight=0.0), importance=importance)
    assert distance(whole) < 0.8 * distance(free)
    without, _ = run(world, replace(settings, triplet_weight=0.0, synaptic_weight=0.0))
    assert distance(without) != distance(free)


def test_graphs_keep_their_batch_statistics(world: World) -> None:
    nas = standard_space("nas")
    ranker = warm(world)
    ranker.add_space(nas, seed=0)
    before = {name: b.clone() for name, b in ranker.named_buffers()}
    trials = RankedList(
        nas.key,
        encode(nas, nas.sample(3, np.random.default_rng(0))),
        torch.tensor([0.1, 0.5, 0.9]),
    )
    update = ContinualUpdate(
        ranker,
        world.offline,
        [],
        {},
        CurrentTask("n", trials),
        RankerSettings(batches=2, mode="latest_only"),
        0,
    )
    generator = torch.Generator().manual_seed(0)
    while update.steps_left:
        update.begin_step(torch.randn(64, generator=generator), torch.randn(64, generator=generator))
        update.finish_step({})
    assert all(torch.equal(b, before[name]) for name, b in ranker.named_buffers())
    assert EncoderShape.of(nas) == ranker.shapes[nas.key]


def test_the_customer_is_left_in_peace_when_the_batch_is_about_others(world: World) -> None:
    update = ContinualUpdate(
        warm(world), world.offline, [], {}, current(world), RankerSettings(batches=20), seed=0
    )
    wanted = 0
    while update.steps_left:
        if update.wants_current:
            wanted += 1
            with pytest.raises(PlatformError, match="needs the current task's meta-feature"):
                update.begin_step()
            gradients = update.begin_step(torch.ones(64), torch.zeros(64))
            assert gradients[0].shape == gradients[1].shape == (64,)
            assert gradients[0].any()
        else:
            update.begin_step()
        update.finish_step({})
    assert 0 < wanted < 20


def test_calls_out_of_turn_and_broken_messages_are_refused(world: World) -> None:
    def fresh() -> ContinualUpdate:
        settings = RankerSettings(batches=2, mode="latest_only")
        return ContinualUpdate(warm(world), world.offline, [], {}, current(world), settings, seed=0)

    phi = torch.ones(64)
    with pytest.raises(PlatformError, match="2 steps left"):
        fresh().finish(phi)
    with pytest.raises(PlatformError, match="was not begun"):
        fresh().finish_step({})
    with pytest.raises(PlatformError, match=r"shape \[3\]"):
        fresh().begin_step(torch.ones(3), phi)
    with pytest.raises(PlatformError, match="expected 64 finite"):
        fresh().begin_step(phi, phi * torch.nan)
    update = fresh()
    update.begin_step(phi, phi)
    with pytest.raises(PlatformError, match="out of turn"):
        update.begin_step(phi, phi)
    for gradient in ({"project.bias": torch.zeros(3)}, {"../encoders": torch.zeros(64)}):
        with pytest.raises(PlatformError, match="does not fit the extractor"):
            update.finish_step(gradient)
    with pytest.raises(PlatformError, match=r"project\.bias is not finite"):
        update.finish_step({"project.bias": torch.full((64,), torch.inf)})
    # A refused message leaves the step open and the parameters untouched.
    update.finish_step({"project.bias": torch.ones(64)})
    with pytest.raises(TrainingError, match=r"update is (nan|inf)"):
        update.begin_step(phi * 1e38, phi)


def test_a_past_task_of_other_offline_data_is_refused(world: World) -> None:
    ranker = warm(world)
    task = past_tasks(world, ranker, 1)[0]
    wrong = replace(task, offline_phi=task.offline_phi[:10])
    with pytest.raises(PlatformError, match=r"past0 has φ \[64\] and offline meta-features \[10, 64\]"):
        ContinualUpdate(ranker, world.offline, [wrong], {}, current(world), RankerSettings(), 0)
    stranger = CurrentTask("x", RankedList("flat-0", torch.zeros(2, 1), torch.tensor([0.1, 0.2])))
    with pytest.raises(SpaceError, match="knows no search space flat-0"):
        ContinualUpdate(ranker, world.offline, [], {}, stranger, RankerSettings(), 0)


def test_an_update_improves_the_order_of_the_trials_it_saw(world: World) -> None:
    settings = RankerSettings(batches=30, learning_rate=5e-4, mode="latest_only")
    ranker, trials = warm(world), current(world).trials
    mask = torch.ones(1, 4, dtype=torch.bool)

    def loss(seen: Ranker, phi: Tensor) -> Tensor:
        return lambda_ndcg_loss(
            seen.predict(trials.space, phi, trials.encodings)[None], trials.aps[None], mask
        )

    before = loss(ranker, meta_feature(ranker.extractor, customer(world), torch.Generator().manual_seed(0)))
    state, after = run(world, settings, past=[])
    assert loss(after, state.phi) < 0.8 * before
