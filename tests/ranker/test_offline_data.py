"""D_offline: its lists, its fixed sample, its bytes, and what it refuses."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from nni_hyperfd.errors import PlatformError
from nni_hyperfd.metafeature.features import ImageFeatures
from nni_hyperfd.ranker.encodings import encode, to_tensors
from nni_hyperfd.ranker.offline import Experience, OfflineData
from nni_hyperfd.spaces.standard import standard_space

NAS = standard_space("nas")


def experience() -> Experience:
    return Experience(
        torch.eye(4),
        torch.tensor([2, 0, 2, 1, 2, 1, 0]),
        torch.tensor([3, 0, 1, 2, 0, 3, 1]),
        torch.tensor([0.1, 0.5, 0.3, 0.9, 0.2, 0.8, 0.5]),
    )


def offline() -> OfflineData:
    generator = torch.Generator().manual_seed(0)
    features = ImageFeatures(
        torch.randn(10, 3, 86, generator=generator),
        torch.randn(10, 3, 86, generator=generator),
        torch.arange(10),
    )
    graphs = encode(NAS, NAS.sample(3, np.random.default_rng(0)))
    nas = Experience(graphs, torch.tensor([0, 0]), torch.tensor([2, 1]), torch.tensor([0.4, 0.6]))
    members = [torch.tensor([0, 1]), torch.arange(10), torch.tensor([7])]
    return OfflineData(features, members, {"hpo-a": experience(), NAS.key: nas})


def test_lists_gather_the_rows_of_a_data_set_and_skip_what_ranks_nothing() -> None:
    own = experience()
    assert [(name, rows.tolist()) for name, rows in own.lists] == [(1, [3, 5]), (2, [0, 2, 4])]
    ranked = own.ranked("hpo-a", own.lists[1][1])
    assert torch.equal(ranked.encodings, torch.eye(4)[[3, 1, 0]])
    assert ranked.aps.tolist() == pytest.approx([0.1, 0.3, 0.2])


def test_statistics_of_each_data_set() -> None:
    expected = [[np.log(2), np.log(1 + 1)], [np.log(10), np.log(1 + 45)], [0, np.log(1 + 7)]]
    assert torch.allclose(offline().statistics, torch.tensor(expected, dtype=torch.float))


def test_reference_never_changes_and_stays_within_its_data_set() -> None:
    one, other = offline().reference(6), offline().reference(6)
    assert torch.equal(one, other)
    assert set(one[0].tolist()) <= {0, 1}
    assert len(set(one[1].tolist())) == 6
    assert set(one[2].tolist()) == {7}


def test_bytes_give_everything_back() -> None:
    data = offline()
    again = OfflineData.from_bytes(data.to_bytes())
    assert torch.equal(again.features.gwap, data.features.gwap)
    assert [m.tolist() for m in again.members] == [m.tolist() for m in data.members]
    assert list(again.experience) == list(data.experience)
    for key, own in data.experience.items():
        for name in ("sets", "configurations", "aps"):
            assert torch.equal(getattr(own, name), getattr(again.experience[key], name))
        for name, tensor in to_tensors(own.encodings).items():
            assert torch.equal(tensor, to_tensors(again.experience[key].encodings)[name])
    with pytest.raises(PlatformError, match="damaged"):
        OfflineData.from_bytes(data.to_bytes()[:-1])


def test_rows_that_fit_nothing_are_refused() -> None:
    own, data = experience(), offline()
    with pytest.raises(PlatformError, match="6 data sets, 7 configurations"):
        replace(own, sets=own.sets[:6])
    with pytest.raises(PlatformError, match="configuration that is not there"):
        replace(own, encodings=torch.eye(3))
    with pytest.raises(PlatformError, match=r"outside \[0, 1\]"):
        replace(own, aps=torch.full((7,), 55.0))
    with pytest.raises(PlatformError, match=r"outside \[0, 1\]"):
        replace(own, aps=torch.full((7,), torch.nan))
    with pytest.raises(PlatformError, match="names data set 2, but there are 2"):
        replace(data, members=data.members[:2])
    with pytest.raises(PlatformError, match="names image 10, but there are 10"):
        replace(data, members=[*data.members[:2], torch.tensor([10])])
    with pytest.raises(PlatformError, match="at least one image"):
        replace(data, members=[*data.members[:2], torch.tensor([], dtype=torch.long)])
