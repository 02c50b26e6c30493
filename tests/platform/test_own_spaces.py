"""Encoders of customers' own spaces: in rows of their own, as good as in the one ranker, and bounded."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from nni_hyperfd.customer.client import TaskClient
from nni_hyperfd.errors import PlatformError
from nni_hyperfd.metafeature.features import CHANNELS, LEVELS, ImageFeatures
from nni_hyperfd.metafeature.sending import received_extractor
from nni_hyperfd.metafeature.view import ExactView
from nni_hyperfd.platform.platform import Platform
from nni_hyperfd.platform.state.store import FILE_NAME, Store
from nni_hyperfd.protocol.fields import KEYS_LIMIT, VALUES_LIMIT
from nni_hyperfd.protocol.messages import FindTask, ReadExtractor, ReadRanker, RecommendRequest
from nni_hyperfd.protocol.tensors import from_blob
from nni_hyperfd.ranker.ranker import Ranker
from nni_hyperfd.ranker.settings import RankerSettings
from nni_hyperfd.recommendation.ranking import rank, read_space
from nni_hyperfd.spaces.architecture import FLOPS_LIMIT
from nni_hyperfd.spaces.standard import standard_search_space

BASE_ID = "base0"
ASSET = Path(__file__).parents[1] / "assets" / "own_space_v2.sqlite"


def own_space(name: str, keys: int, values: int) -> dict[str, Any]:
    return {f"{name}{i}": {"_type": "choice", "_value": list(range(values))} for i in range(keys)}


@pytest.fixture
def client(platform: Platform, features: ImageFeatures) -> TaskClient:
    return TaskClient(platform, features, BASE_ID)


def experiment(client: TaskClient, name: str, space: dict[str, Any]) -> Any:
    task = client.open(name, space)
    for entry, ap in zip(client.recommend(task, budget=3, candidates=20).configurations, (0.2, 0.9, 0.4)):
        client.record(task, entry.parameters, ap)
    return task


def test_a_space_of_45_000_values_is_refused_in_one_sentence(platform: Platform, client: TaskClient) -> None:
    for call in (client.open, lambda _, space: client.preview(space, 4)):
        with pytest.raises(PlatformError, match=r"45000 values.*at most 2048.*quniform") as error:
            call("wide", own_space("k", 45, 1000))
        assert len(str(error.value)) < 300
    assert platform.status().counts.open_tasks == 0


def test_the_standard_spaces_are_far_below_the_limits(client: TaskClient) -> None:
    for kind in ("hpo", "nas", "joint", "assignment"):
        assert client.preview(standard_search_space(kind), 2, candidates=8).configurations


def test_counts_of_dynamic_assignment_are_ranked_and_learned_from_by_a_platform_that_never_saw_them(
    platform: Platform, client: TaskClient
) -> None:
    space = standard_search_space("assignment")
    task = experiment(client, "counts", space)
    assert client.update(task).version_after == 1
    assert platform._store.own_encoder(task.space_key, 1)
    ranked = client.preview(space, 4).configurations
    assert len({tuple(each.parameters.values()) for each in ranked}) == 4
    assert all(set(each.parameters) == set(space) for each in ranked)


def test_six_experiments_in_the_widest_spaces_leave_the_ranker_as_large_as_it_was(
    platform: Platform, client: TaskClient
) -> None:
    store, size = platform._store, len(platform._store.ranker(0))
    keys = 8
    for number in range(6):
        task = experiment(client, f"exp{number}", own_space(f"k{number}_", keys, VALUES_LIMIT // keys))
        assert client.update(task).version_after == number + 1
        assert len(store.ranker(number + 1)) == pytest.approx(size, rel=0.01)
        assert len(store.omega(number + 1)) == pytest.approx(size, rel=0.1)
        assert len(platform.ask(ReadRanker()).tensors) < 8 * 2**20
        blob = store.own_encoder(task.space_key, number + 1)
        # 64 numbers for each value and each key's scaled value, and as many for Ω, beside the layers behind them.
        assert len(blob) < 2 * 256 * (VALUES_LIMIT + KEYS_LIMIT) + 2**17
    assert platform._shelf.ranker(6).shapes == platform.ranker(0).shapes, "nor does a kept one grow"


def test_a_sample_of_a_space_of_many_keys_is_bounded_by_its_values(client: TaskClient) -> None:
    """Of 20 000 configurations of 256 keys, 512 are looked at, and as many as were asked for are named."""
    space = own_space("k", KEYS_LIMIT, VALUES_LIMIT // KEYS_LIMIT)
    few = client.preview(space, 4, candidates=512)
    assert client.preview(space, 4, candidates=20_000) == few
    assert client.preview(space, 4, candidates=256) != few
    assert len(client.preview(space, 600, candidates=700).configurations) == 600
    listable = {**own_space("two", 12, 2), **own_space("one", KEYS_LIMIT - 12, 1)}
    assert client.preview(listable, 4, candidates=20_000) == client.preview(listable, 4, candidates=512)


def test_a_listable_space_of_many_keys_is_ranked(client: TaskClient) -> None:
    """Nine keys with two values and 90 with one."""
    space = {**own_space("two", 9, 2), **own_space("one", 90, 1)}
    task = experiment(client, "many", space)
    assert client.update(task).version_after == 1


def test_what_was_learnt_in_an_own_space_ranks_the_next_experiment_in_it(
    platform: Platform, client: TaskClient
) -> None:
    space = own_space("k", 3, 4)
    fresh = client.preview(space, 8, exploration=0.0)
    task = experiment(client, "first", space)
    client.update(task)
    learnt = client.preview(space, 8, exploration=0.0)
    read = read_space(space, FLOPS_LIMIT)
    ranker = platform.ranker(1)
    request = RecommendRequest(subject=client.subject(space), budget=8, exploration=0.0)
    phi = torch.tensor(request.subject.phi)
    assert rank(ranker, 1, read, phi, request) != learnt, "a fresh encoder would say something else"
    platform._shelf.own_spaces.give(ranker, 1, read)
    assert rank(ranker, 1, read, phi, request) == learnt
    assert fresh.version == 0
    # Who asks with the version before gets what was known then.
    old = RecommendRequest(subject=fresh_subject(platform, client, space), budget=8, exploration=0.0, seed=0)
    assert platform.ask(old).configurations == fresh.configurations


def fresh_subject(platform: Platform, client: TaskClient, space: dict[str, Any]) -> Any:
    """What the customer would ask with if he still had the extractor of version 0."""
    view = ExactView(
        received_extractor(platform.ask(ReadExtractor(version=0))),
        client._features,
        torch.Generator().manual_seed(0),
        6,
    )
    subject = client.subject(space)
    return subject.model_copy(update={"extractor_version": 0, "phi": tuple(view.meta_feature().tolist())})


def test_a_row_holds_what_the_update_left(platform: Platform, client: TaskClient) -> None:
    """Parting a ranker and giving the encoder back loses nothing, neither parameters nor importance."""
    space = own_space("k", 3, 4)
    read = read_space(space, FLOPS_LIMIT)
    own = platform._shelf.own_spaces
    ranker = platform.ranker(0)
    own.give(ranker, 0, read)
    importance = {name: torch.rand_like(p) for name, p in ranker.named_parameters()}
    state = ranker.parameters_state()
    shared, rest, blobs = own.parted(ranker, importance)
    assert list(blobs) == [read.key]
    again = Ranker.from_bytes(shared)
    assert read.key not in again.shapes
    store = platform._store
    store.own_encoder = lambda key, version: blobs[key]  # type: ignore[method-assign]
    back = own.give(again, 0, read)
    assert state.keys() == again.state_dict().keys()
    assert all(torch.equal(tensor, again.state_dict()[name]) for name, tensor in state.items())
    assert (rest | dict(back)).keys() == importance.keys()
    assert all(torch.equal((rest | dict(back))[name], tensor) for name, tensor in importance.items())


def test_an_own_space_is_rehearsed_where_a_draw_holds_it(
    open_platform: Callable[..., Platform], features: ImageFeatures, tmp_path: Path
) -> None:
    """Updates of others go on moving the encoder of a space whose tasks they draw, and only then."""
    client = TaskClient(platform := open_platform(), features, BASE_ID)
    own = experiment(client, "own", own_space("k", 3, 4))
    client.update(own)
    moved = []
    for number in range(6):
        client.update(experiment(client, f"hpo{number}", standard_search_space("hpo")))
        moved.append(
            platform._store.own_encoder(own.space_key, number + 2)
            != platform._store.own_encoder(own.space_key, number + 1)
        )
    assert any(moved)
    assert platform.ranker().shapes == platform.ranker(0).shapes


def test_encoders_in_the_ranker_of_the_last_release_are_found_and_move_out(tmp_path: Path) -> None:
    shutil.copy(ASSET, tmp_path / FILE_NAME)
    platform = Platform(Store(tmp_path), RankerSettings(batches=4, images=4))
    store = platform._store
    generator = torch.Generator().manual_seed(2)
    shape = (12, LEVELS, CHANNELS)
    gwap = torch.randn(shape, generator=generator).half()
    features = ImageFeatures(gwap, torch.zeros(shape).half(), torch.randint(1, 9, (12,), generator=generator))
    client = TaskClient(platform, features, BASE_ID)
    task = platform.ask(FindTask(experiment_id="open"))
    record = store.task(task.task_id)
    space = read_space(record.space, record.flops_limit)
    old = Ranker.from_bytes(store.ranker(1))
    assert space.key in old.shapes
    request = RecommendRequest(task_id=task.task_id, budget=4)
    assert platform.ask(request) == rank(old.eval(), 1, space, torch.tensor(record.phi), request)
    assert space.key not in Ranker.from_bytes(platform.ask(ReadRanker(version=1)).tensors).shapes, (
        "nobody else gets it"
    )
    receipt = client.update(task)
    assert receipt.version_after == 2
    assert space.key not in platform.ranker(2).shapes
    tensors, _ = from_blob("encoder of a search space", store.own_encoder(space.key, 2))
    before = {
        n.removeprefix(f"encoders.{space.key}."): t for n, t in old.state_dict().items() if space.key in n
    }
    after = {n.removeprefix("state."): t for n, t in tensors.items() if n.startswith("state.")}
    assert before.keys() == after.keys()
    # It went on from where it was: a few steps of 1e-4 each.
    for name, tensor in before.items():
        torch.testing.assert_close(after[name], tensor, rtol=0, atol=5e-3)
    assert any(not torch.equal(after[name], tensor) for name, tensor in before.items())
    assert sum(n.startswith("importance.") for n in tensors) == len(after)
    platform.close()
