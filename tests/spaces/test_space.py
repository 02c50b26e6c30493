from __future__ import annotations

import copy
import itertools
import json
import math
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nni.algorithms.hpo.random_tuner import RandomTuner
from nni.algorithms.hpo.tpe_tuner import TpeTuner
from nni.common.hpo_utils import validate_search_space

from nni_hyperfd.errors import SpaceError
from nni_hyperfd.spaces.architecture import NETWORKS, backbone_flops, largest, mobilenet_v2
from nni_hyperfd.spaces.configuration import Configuration
from nni_hyperfd.spaces.hyperparameters import DEFAULT_HYPERPARAMETERS, GRID, HyperParameters
from nni_hyperfd.spaces.space import ENUMERATION_LIMIT, Space
from nni_hyperfd.spaces.standard import load_space, standard_search_space, standard_space
from tests.fixtures.work import Count

FOLDER = Path(__file__).parents[2] / "search_spaces"
KINDS = ("hpo", "nas", "joint")

USER_SPACE: dict[str, Any] = {
    "lr": {"_type": "loguniform", "_value": [1e-5, 1e-1]},
    "optimizer": {"_type": "choice", "_value": ["sgd", "adam"]},
    "batch": {"_type": "choice", "_value": [8, 16, 32]},
    "decay": {"_type": "uniform", "_value": [0, 0.1]},
    "epochs": {"_type": "randint", "_value": [5, 50]},
    "momentum": {"_type": "quniform", "_value": [0.8, 0.99, 0.01]},
    "nesterov": {"_type": "choice", "_value": [True, False]},
}

SPACES = {kind: standard_space(kind) for kind in KINDS} | {"flat": Space.from_search_space(USER_SPACE)}


def test_the_counts_of_dynamic_assignment_are_a_flat_space() -> None:
    space = load_space(FOLDER / "assignment.json")
    assert space.search_space == standard_search_space("assignment")
    assert (space.kind, space.size) == ("flat", 20**9)
    for configuration in space.sample(20, np.random.default_rng(0)):
        parameters = space.parameters(configuration)
        assert configuration.hyperparameters.counts == tuple(parameters.values())
        assert space.parse(parameters) == configuration
        assert all(
            space.parse(space.parameters(near)) == near
            for near in space.neighbours(configuration, np.random.default_rng(1))
        )


def test_how_anchors_are_given_is_a_key_like_others() -> None:
    space = Space.from_search_space(
        {
            "assign": {"_type": "choice", "_value": ["iou", "dynamic"]},
            "lr": standard_search_space("hpo")["lr"],
        }
    )
    every = space.enumerate()
    assert [c.hyperparameters.counts is None for c in every] == [True] * 3 + [False] * 3
    assert [space.parse(space.parameters(c)) for c in every] == every
    assert len({tuple(row) for row in space.encode(every)}) == 6


def test_sizes() -> None:
    assert SPACES["hpo"].size == 216
    assert SPACES["nas"].size == NETWORKS == 1_447_052_760_824_832
    assert SPACES["joint"].size == 216 * NETWORKS
    assert SPACES["flat"].size == math.inf


@pytest.mark.parametrize("tuner_class", [RandomTuner, TpeTuner])
@pytest.mark.parametrize("kind", SPACES)
def test_samples_of_nnis_own_tuners_are_read(kind: str, tuner_class: Any) -> None:
    space = SPACES[kind]
    assert validate_search_space(space.search_space, raise_exception=True)
    tuner = tuner_class(seed=3)
    tuner.update_search_space(space.search_space)
    depths = set()
    for trial in range(30):
        # TPE samples at random first, then from what it was told: both forms must be read.
        parameters = json.loads(json.dumps(tuner.generate_parameters(trial)))
        configuration = space.parse(parameters)
        assert space.parse(space.parameters(configuration)) == configuration
        if configuration.architecture is not None:
            depths.add(configuration.architecture.depths)
            assert configuration.architecture.depths[1] == int(parameters["s2_depth"]["_name"])
        tuner.receive_trial_result(trial, parameters, trial / 30)
    assert kind in ("hpo", "flat") or len(depths) > 10


@pytest.mark.parametrize("kind", SPACES)
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_samples_are_distinct_admitted_and_read_back(kind: str, seed: int) -> None:
    space = SPACES[kind]
    sample = space.sample(20, np.random.default_rng(seed))
    assert len(set(sample)) == 20
    for configuration in sample:
        flat = json.loads(json.dumps(space.parameters(configuration)))
        assert space.parse(flat) == configuration
        assert Configuration.from_parameters(flat) == configuration
        if configuration.architecture is not None:
            assert backbone_flops(configuration.architecture) < space.flops_limit
    assert space.sample(20, np.random.default_rng(seed)) == sample


def test_a_limit_that_binds_is_kept() -> None:
    limit = 400e6
    space = standard_space("nas", flops_limit=limit)
    free = standard_space("nas").sample(500, np.random.default_rng(0))
    assert any(backbone_flops(c.architecture) >= limit for c in free)
    sample = space.sample(500, np.random.default_rng(0))
    assert len(set(sample)) == 500
    assert max(backbone_flops(c.architecture) for c in sample) < limit
    # A network above the limit can still be trained, so it is read.
    assert space.parse(Configuration(architecture=largest()).parameters()).architecture == largest()


def test_sampling_is_uniform_over_networks() -> None:
    sample = SPACES["nas"].sample(4000, np.random.default_rng(0))
    deepest = np.mean([c.architecture.depths[3] == 4 for c in sample])
    assert deepest == pytest.approx(6**4 / (6**2 + 6**3 + 6**4), abs=0.03)
    last = [c.architecture.stages[6][0] for c in sample]
    assert all(abs(last.count(block) / 4000 - 1 / 6) < 0.03 for block in set(last))
    assert len(set(last)) == 6


def test_no_sequence_of_blocks_is_preferred() -> None:
    """Pearson's statistic of each stage's sequences of blocks, and the correlation of any two stages."""
    networks = SPACES["nas"].networks
    assert networks is not None
    drawn = 100_000
    codes = networks.draw(np.random.default_rng(0), drawn)
    for stage, allowed in enumerate(networks.allowed):
        counts = np.array([(codes[:, stage] == code).sum() for code in allowed])
        assert counts.sum() == drawn
        if len(allowed) > 1:
            # Six standard deviations above what is expected of chance.
            free = len(allowed) - 1
            assert ((counts - drawn / len(allowed)) ** 2).sum() * len(allowed) / drawn < free + 6 * (
                2 * free
            ) ** 0.5
    halves = np.stack(
        [codes[:, i] < np.sort(allowed)[len(allowed) // 2] for i, allowed in enumerate(networks.allowed)]
    ).astype(float)
    several = [i for i, allowed in enumerate(networks.allowed) if len(allowed) > 1]
    together = np.corrcoef(halves[several]) - np.eye(len(several))
    assert np.abs(together).max() < 6 / drawn**0.5, "stages are chosen apart"


@pytest.mark.parametrize("kind", ["nas", "joint"])
def test_the_work_of_sampling_grows_with_the_sample(kind: str, calls: Count) -> None:
    """Ten times as many are at most twice ten times the work: nobody compares each with each."""
    sample = SPACES[kind].sample(20_000, np.random.default_rng(0))
    assert len(set(sample)) == 20_000
    few = calls(lambda: SPACES[kind].sample(2_000, np.random.default_rng(0)))
    assert calls(lambda: SPACES[kind].sample(20_000, np.random.default_rng(0))) < 20 * few


def test_enumeration_lists_each_point_once() -> None:
    listed = SPACES["hpo"].enumerate()
    assert len(set(listed)) == 216
    assert set(SPACES["hpo"].sample(216, np.random.default_rng(0))) == set(listed)
    for kind in ("nas", "joint", "flat"):
        with pytest.raises(SpaceError, match=rf"can be listed up to {ENUMERATION_LIMIT}; sample it"):
            SPACES[kind].enumerate()


def test_a_space_may_have_more_keys_than_numpy_has_dimensions() -> None:
    """256 keys, most of them with one value only; what is not chosen is not written out, which would take 140 MB."""
    entry = {"_type": "choice", "_value": [0, 1]}
    keys = {f"k{i:03}": entry if i % 16 == 0 else {"_type": "choice", "_value": [7]} for i in range(256)}
    space = Space.from_search_space(keys)
    tracemalloc.start()
    some = space.sample(200, np.random.default_rng(0))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert space.size == 2**16
    assert len(set(some)) == 200
    assert peak < 20e6
    del keys["k000"], keys["k016"], keys["k032"]
    few = Space.from_search_space({key: keys[key] for key in list(keys)[:90]})
    listed = [tuple(each.values.values()) for each in few.enumerate()]
    assert listed == list(itertools.product(*(entry["_value"] for entry in list(keys.values())[:90])))


def test_a_space_that_is_smaller_than_it_looks_is_given_up_soon(calls: Count) -> None:
    space = Space.from_search_space({"a": {"_type": "uniform", "_value": [0, 5e-324]}})

    def sampled() -> None:
        with pytest.raises(SpaceError, match=r"Only [12] of 200 distinct"):
            space.sample(200, np.random.default_rng(0))

    assert calls(sampled) < 10_000


def test_more_samples_than_points_are_refused() -> None:
    with pytest.raises(SpaceError, match=r"^217 distinct configurations were asked for, but .* has 216 "):
        SPACES["hpo"].sample(217, np.random.default_rng(0))


def small_nas() -> dict[str, Any]:
    space = standard_search_space("nas")
    for key, entry in space.items():
        if key == "s7_b1":
            entry["_value"] = ["k3e4", "k7e6"]
            continue
        del entry["_value"][:-1]
        for name, block in entry["_value"][0].items():
            if name != "_name":
                block["_value"] = ["k3e4", "k5e6"] if name == "s2_b1" else ["k3e6"]
    return space


def test_a_part_of_the_nas_space_is_listed_under_the_limit() -> None:
    space = Space.from_search_space(small_nas())
    assert space.size == len(space.enumerate()) == 4
    costs = sorted(backbone_flops(c.architecture) for c in space.enumerate())
    tight = Space.from_search_space(small_nas(), flops_limit=costs[2])
    assert sorted(backbone_flops(c.architecture) for c in tight.enumerate()) == costs[:2]
    assert len(tight.sample(2, np.random.default_rng(0))) == 2
    with pytest.raises(SpaceError, match=r"^No architecture of the search space is under .* raise the limit"):
        Space.from_search_space(small_nas(), flops_limit=costs[0])
    with pytest.raises(SpaceError, match=r"Stage 2 of the architecture is k3e6, k3e6, which .* leaves out"):
        space.parse(Configuration(architecture=mobilenet_v2()).parameters())


def test_an_unreachable_number_of_networks_is_reported_not_waited_for() -> None:
    space = standard_space("nas")
    tight = standard_space("nas", flops_limit=space.networks.cheapest_flops() + 1)
    with pytest.raises(
        SpaceError, match=r"^Only 1 of 5 distinct configurations .* raise the limit or widen the space\.$"
    ):
        tight.sample(5, np.random.default_rng(0))


def test_a_part_of_a_standard_space_keeps_its_key_and_its_encoding() -> None:
    part = Space.from_search_space({"lr": {"_type": "choice", "_value": [0.003, 0.001]}})
    assert (part.kind, part.size, part.key) == ("hpo", 2, SPACES["hpo"].key)
    configuration = part.parse({"lr": 0.003})
    assert configuration.hyperparameters == HyperParameters(learning_rate=0.003)
    assert part.parameters(configuration) == {"lr": 0.003}
    assert (part.encode([configuration]) == SPACES["hpo"].encode([configuration])).all()
    # Rows of another customer of the same kind must be encoded too.
    assert part.encode(SPACES["hpo"].enumerate()).shape == (216, 18)
    assert Space.from_search_space(small_nas()).key == SPACES["nas"].key


def test_keys_tell_spaces_apart() -> None:
    other = copy.deepcopy(USER_SPACE)
    other["decay"]["_value"] = [0, 0.2]
    keys = [space.key for space in (*SPACES.values(), Space.from_search_space(other))]
    assert len(set(keys)) == len(keys)
    assert SPACES["flat"].key != SPACES["hpo"].key
    assert standard_space("nas", flops_limit=5e8).key == SPACES["nas"].key
    assert Space.from_search_space(USER_SPACE).key == SPACES["flat"].key


def test_the_order_of_the_keys_in_the_file_means_nothing() -> None:
    reordered = Space.from_search_space(dict(reversed(USER_SPACE.items())))
    assert reordered.key == SPACES["flat"].key
    sample = SPACES["flat"].sample(10, np.random.default_rng(0))
    assert (reordered.encode(sample) == SPACES["flat"].encode(sample)).all()


def test_the_hpo_encoding_is_one_hot_with_scaled_values() -> None:
    space = SPACES["hpo"]
    listed = space.enumerate()
    features = space.encode(listed)
    assert features.shape == (216, space.encoding_width) == (216, 18)
    assert features.dtype == np.float32
    assert len(np.unique(features, axis=0)) == 216
    column = 0
    for key, values in GRID.items():
        one_hot = features[:, column : column + len(values)]
        chosen = [values.index(c.hyperparameters.parameters()[key]) for c in listed]
        assert (one_hot == np.eye(len(values))[chosen]).all()
        column += len(values)
        if len(values) == 3:
            scaled = features[:, column]
            assert {int(i): set(scaled[np.array(chosen) == i]) for i in (0, 2)} == {0: {0.0}, 2: {1.0}}
            assert all(0.4 < x < 0.6 for x in scaled[np.array(chosen) == 1])
            column += 1
    assert column == 18


def test_a_users_own_space_drives_the_training_by_our_keys_and_hands_the_others_on() -> None:
    space = SPACES["flat"]
    assert space.kind == "flat"
    parameters = {
        "lr": 0.02,
        "optimizer": "adam",
        "batch": 16,
        "decay": 0.05,
        "epochs": 7,
        "momentum": 0.9,
        "nesterov": True,
    }
    configuration = space.parse(parameters)
    assert configuration.hyperparameters == HyperParameters(optimizer="adam", learning_rate=0.02)
    assert configuration.values == {k: v for k, v in parameters.items() if k not in ("lr", "optimizer")}
    assert space.parameters(configuration) == parameters
    features = space.encode([configuration])[0]
    # In the order of the alphabet: batch 3 + 1, decay 1, epochs 1, lr 1, momentum 1, nesterov 2, optimizer 2.
    assert features.shape == (space.encoding_width,) == (12,)
    assert features == pytest.approx(
        [0, 1, 0, 1 / 2, 1 / 2, 2 / 44, math.log(2000) / math.log(1e4), 0.1 / 0.19, 1, 0, 0, 1], abs=1e-6
    )


def test_a_space_without_our_keys_leaves_training_to_the_defaults() -> None:
    space = Space.from_search_space({"batch": USER_SPACE["batch"]})
    assert space.enumerate() == [Configuration(values={"batch": size}) for size in (8, 16, 32)]


def test_the_joint_encoding_is_that_of_the_hyperparameters() -> None:
    sample = SPACES["joint"].sample(5, np.random.default_rng(0))
    trained = [Configuration(c.hyperparameters) for c in sample]
    assert (SPACES["joint"].encode(sample) == SPACES["hpo"].encode(trained)).all()
    with pytest.raises(SpaceError, match="encode its graphs instead"):
        SPACES["nas"].encode([Configuration(architecture=mobilenet_v2())])


@pytest.mark.parametrize("kind", SPACES)
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_neighbours_differ_by_one_change_and_stay_in_the_space(kind: str, seed: int) -> None:
    space = SPACES[kind]
    rng = np.random.default_rng(seed)
    [start] = space.sample(1, rng)
    neighbours = space.neighbours(start, rng, 8)
    assert len(set(neighbours)) == len(neighbours) == 8
    assert start not in neighbours
    for neighbour in neighbours:
        assert space.parse(space.parameters(neighbour)) == neighbour
        keys = [
            key
            for key, value in start.parameters().items()
            if not key.startswith(tuple(f"s{n}_" for n in range(1, 8)))
            and value != neighbour.parameters()[key]
        ]
        stages = []
        if start.architecture is not None:
            pairs = list(zip(start.architecture.stages, neighbour.architecture.stages))
            stages = [i for i, (old, new) in enumerate(pairs) if old != new]
            for i in stages:
                old, new = pairs[i]
                short, long = sorted((old, new), key=len)
                edits = sum(a != b for a, b in zip(old, new)) + len(long) - len(short)
                assert edits == 1
        assert len(keys) + len(stages) == 1


def test_neighbours_reach_every_key_and_stage_and_keep_the_limit() -> None:
    rng = np.random.default_rng(0)
    start = Configuration(DEFAULT_HYPERPARAMETERS, mobilenet_v2())
    limit = backbone_flops(mobilenet_v2()) + 1
    space = standard_space("joint", flops_limit=limit)
    neighbours = space.neighbours(start, rng, 10_000)
    assert all(backbone_flops(c.architecture) < limit for c in neighbours)
    # One step of a key, or a cheaper block, or one block less; stage 5 and 7 cannot lose a block.
    shorter = [c for c in neighbours if sum(c.architecture.depths) < sum(start.architecture.depths)]
    assert len(shorter) == 4
    trained = {c.hyperparameters for c in neighbours}
    assert len(trained) == 1 + sum(len(values) - 1 for values in GRID.values())
    # Six keys and six stages, each as likely as the others.
    kept = np.mean(
        [space.neighbours(start, rng, 1)[0].architecture == start.architecture for _ in range(400)]
    )
    assert kept == pytest.approx(0.5, abs=0.1)


def test_a_space_of_one_point_has_no_neighbours() -> None:
    space = Space.from_search_space({"lr": {"_type": "choice", "_value": [0.001]}})
    assert space.neighbours(space.enumerate()[0], np.random.default_rng(0)) == []


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        ("hpo", {"lr": None}, r"^lr is missing; this space has the keys optimizer, lr, crop, "),
        ("hpo", {"lr": 0.03}, r"^lr is 0\.03; use one of 0\.0003, 0\.001, 0\.003\.$"),
        ("hpo", {"rate": 1}, r"^rate is not a key of this space, which has optimizer, .*; leave it out\.$"),
        ("hpo", {"s2_depth": 1}, r"^s2_depth is not a key of this space"),
        ("nas", {"lr": 0.001}, r"^lr is not a key of this space"),
        ("nas", {"s3_b2": None}, r"^s3_b2 is missing"),
        ("joint", {"locw": "2"}, r"^locw is '2'; use one of 2, 4, 8\.$"),
        ("flat", {"decay": 0.2}, r"^decay is 0\.2; give a number from 0 to 0\.1\.$"),
    ],
)
def test_wrong_parameters_are_refused(kind: str, change: dict[str, Any], message: str) -> None:
    space = SPACES[kind]
    good = space.parameters(space.sample(1, np.random.default_rng(5))[0])
    if kind == "nas":
        good = Configuration(architecture=mobilenet_v2()).parameters()
    wrong = {key: value for key, value in {**good, **change}.items() if value is not None}
    with pytest.raises(SpaceError, match=message):
        space.parse(wrong)


def test_an_empty_trial_of_a_nas_space_is_refused() -> None:
    with pytest.raises(SpaceError, match=r"^The architecture is missing; this space has the keys s2_depth"):
        SPACES["nas"].parse({})


def test_configurations_of_another_space_are_refused() -> None:
    with pytest.raises(SpaceError, match=r"has no architecture; add one"):
        SPACES["nas"].parameters(Configuration(DEFAULT_HYPERPARAMETERS))
    with pytest.raises(SpaceError, match=r"^optimizer is None; use one of"):
        SPACES["hpo"].parameters(Configuration(architecture=mobilenet_v2()))


def nested(**stage_2: Any) -> dict[str, Any]:
    space = standard_search_space("nas")
    space["s2_depth"] = {"_type": "choice", "_value": [stage_2]}
    return space


BLOCK = {"_type": "choice", "_value": ["k3e6"]}


@pytest.mark.parametrize(
    ("search_space", "message"),
    [
        ({}, "^The search space is empty"),
        ({"s_l1_a1": {"_type": "randint", "_value": [0, 5]}}, r"^s_l1_a1 is 0\.0; use a whole number from 1 to 20"),
        ({"s_l1_a1": {"_type": "randint", "_value": [1, 22]}}, r"^s_l1_a1 is 21(\.0)?; use a whole number"),
        (
            {"assign": {"_type": "choice", "_value": ["iou", "dynamic"]}, "s_l1_a1": {"_type": "randint", "_value": [1, 5]}},
            "^assign offers 'iou', which has no use for s_l1_a1; search the counts alone",
        ),
        ([], "^The search space is empty"),
        ({"x": 3}, r"^x is 3; write"),
        ({"iou": {"_type": "uniform", "_value": [0, 0.5]}}, r"^iou .* is 0\.0; use a number above 0\.1"),
        ({"lr": {"_type": "normal", "_value": [0, 1]}}, "^lr has no ends; use choice, uniform"),
        ({"optimizer": {"_type": "choice", "_value": ["sgd", "lion"]}}, "^optimizer is 'lion'; use one of"),
        ({"s2_b1": BLOCK}, "^s2_depth is missing in the search space; an architecture needs every stage"),
        ({**nested(_name=1, s2_b1=BLOCK), "s9_b1": BLOCK}, "^s9_b1 stands outside"),
        (nested(_name=5, s2_b1=BLOCK), "^s2_depth offers the depth 5; list each of 1, 2, 3"),
        (nested(s2_b1=BLOCK), "^s2_depth offers {.*; write each depth with its blocks"),
        (nested(_name=2, s2_b1=BLOCK), "^Depth 2 of stage 2 has the keys s2_b1; it needs s2_b1, s2_b2"),
        (
            nested(_name=1, s2_b1={"_type": "choice", "_value": ["k3e1"]}),
            "^s2_b1 offers 'k3e1'; use a choice among",
        ),
        (nested(_name=1, s2_b1={"_type": "uniform", "_value": [0, 1]}), "^s2_b1 offers .* a choice among"),
        ({**nested(_name=1, s2_b1=BLOCK), "s2_depth": {"_type": "choice", "_value": [1]}}, "^s2_depth offers 1"),
        (
            {**standard_search_space("nas"), "lr": {"_type": "choice", "_value": [0.1]}},
            r"^lr is .* together with architectures; use choices among 0\.0003, 0\.001, 0\.003, as",
        ),
        (
            {**standard_search_space("nas"), "batch": USER_SPACE["batch"]},
            "^batch is .* together with architectures; use optimizer, lr, crop, iou, locw, negp, as",
        ),
    ],
)  # fmt: skip
def test_search_spaces_that_do_not_fit_are_refused(search_space: Any, message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        Space.from_search_space(search_space)


def test_the_given_search_space_is_not_shared() -> None:
    given_space = standard_search_space("hpo")
    space = Space.from_search_space(given_space)
    given_space["lr"]["_value"].append(1)
    assert space.search_space["lr"]["_value"] == [0.0003, 0.001, 0.003]


def test_spaces_import_no_torch() -> None:
    code = "import sys, nni_hyperfd.spaces.space; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=FOLDER.parent).returncode == 0
