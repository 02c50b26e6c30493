"""Rows of tables find their places in the scenario."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from nni_hyperfd.errors import DataError
from nni_hyperfd.evidence.offline_sets import OfflineSet
from nni_hyperfd.evidence.scenario import PAPER, Data, make_scenario
from nni_hyperfd.evidence.table import LookupTable, Row, canonical
from nni_hyperfd.metafeature.features import ImageFeatures

CONFIGURATIONS = [canonical({"lr": value}) for value in (0.1, 0.2, 0.3, 0.4)]


def features(images: int, seed: int) -> ImageFeatures:
    generator = torch.Generator().manual_seed(seed)
    return ImageFeatures(
        torch.randn(images, 3, 86, generator=generator),
        torch.rand(images, 3, 86, generator=generator),
        torch.randint(0, 5, (images,), generator=generator),
    )


def row(data_set: str, configuration: str, ap: float, space: str = "hpo", failure: str = "") -> Row:
    aps = (math.nan,) * 3 if failure else (ap, ap + 0.1, ap + 0.05)
    return Row(space, data_set, configuration, "short", 0, *aps, 1.0, "cpu", "1", failure)


@pytest.fixture
def data() -> Data:
    parts = (OfflineSet("a", (0, 1, 2, 5)), OfflineSet("b", (3, 4, 6)), OfflineSet("never-run", (7, 8)))
    customers = {"cats": features(4, 1), "video": features(6, 2)}
    train = np.array([0, 2, 3, 4, 8])
    return Data(parts, features(9, 0), train, train, customers)


def test_every_ap_is_where_it_belongs(data: Data) -> None:
    offline = [
        row("a", CONFIGURATIONS[3], 0.31),
        row("b", CONFIGURATIONS[0], 0.32),
        row("b", CONFIGURATIONS[1], 0.33),
    ]
    customers = [row("cats", text, 0.5 + k / 100) for k, text in enumerate(CONFIGURATIONS[:3])]
    customers += [row("video", text, 0.6 + k / 100) for k, text in enumerate(CONFIGURATIONS[:2])]
    customers += [
        row("video", CONFIGURATIONS[2], 0.0, failure="not finite"),
        row("cats", "{}", 0.9, space="nas"),
    ]
    customers += [row("server", text, 0.7 + k / 100) for k, text in enumerate(CONFIGURATIONS[:3])]
    scenario = make_scenario("hpo", LookupTable(customers), LookupTable(offline), data, PAPER)

    assert scenario.tasks == ("cats", "video")
    np.testing.assert_allclose(scenario.choose, [[0.5, 0.6], [0.51, 0.61], [0.52, np.nan]])
    np.testing.assert_allclose(scenario.judge, [[0.6, 0.7], [0.61, 0.71], [0.62, np.nan]])
    known = scenario.experience
    assert known.configurations == tuple(CONFIGURATIONS)
    assert (known.candidates, known.data_sets, known.server) == (3, ("a", "b", "server"), 2)
    nan = np.nan
    np.testing.assert_allclose(
        known.aps, [[nan, nan, nan, 0.36], [0.37, 0.38, nan, nan], [0.75, 0.76, 0.77, nan]]
    )
    assert [list(profile.members) for profile in known.profiles] == [[0, 2], [3, 4], [0, 2, 3, 4, 8]]
    boxes = data.server.boxes[[3, 4]].double()
    np.testing.assert_allclose(
        known.profiles[1].statistics[:4],
        [math.log(2), math.log1p(boxes.sum()), boxes.mean(), boxes.std(correction=0)],
    )
    np.testing.assert_array_equal(known.profiles[1].images, data.server.gwap[[3, 4]].flatten(1))
    assert scenario.profiles[1].images.shape == (6, 258)
    assert len({len(profile.statistics) for profile in (*known.profiles, *scenario.profiles)}) == 1


def test_without_a_common_configuration_there_is_no_scenario(data: Data) -> None:
    customers = [row("cats", CONFIGURATIONS[0], 0.5), row("video", CONFIGURATIONS[1], 0.5)]
    with pytest.raises(DataError, match="every one of cats, video"):
        make_scenario("hpo", LookupTable(customers), LookupTable(), data, PAPER)


def test_without_the_server_and_offline_rows_there_is_nothing_to_learn_from(data: Data) -> None:
    customers = [row(name, CONFIGURATIONS[0], 0.5) for name in ("cats", "video")]
    with pytest.raises(DataError, match="learn from"):
        make_scenario("hpo", LookupTable(customers), LookupTable(), data, PAPER)
