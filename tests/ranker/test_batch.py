"""The loss of long lists: over some of their configurations, and in expectation that of all."""

from __future__ import annotations

from math import comb
from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor

from nni_hyperfd.ranker import batch
from nni_hyperfd.ranker.offline import RankedList
from nni_hyperfd.ranker.ranker import Ranker
from nni_hyperfd.ranker.settings import RankerSettings

if TYPE_CHECKING:
    from tests.ranker.conftest import World

LONG, DRAWN = 6, 3


def seeds_of_all_draws() -> list[int]:
    """One seed for each of the subsets that may be drawn; all are as probable."""
    found: dict[frozenset[int], int] = {}
    seed = 0
    while len(found) < comb(LONG, DRAWN):
        drawn = torch.randperm(LONG, generator=torch.Generator().manual_seed(seed))[:DRAWN]
        found.setdefault(frozenset(drawn.tolist()), seed)
        seed += 1
    return list(found.values())


def loss_and_gradient(
    ranker: Ranker, phi: Tensor, lists: list[RankedList], seed: int
) -> tuple[Tensor, Tensor]:
    leaf = phi.clone().requires_grad_()
    loss = batch.list_loss(ranker, leaf, lists, RankerSettings(), torch.Generator().manual_seed(seed))
    (gradient,) = torch.autograd.grad(loss, leaf)
    return loss.detach(), gradient


def test_the_loss_of_a_drawn_list_is_in_expectation_that_of_the_whole(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over all subsets, with two equal APs, beside a list that is short enough to take part whole."""
    ranker = world.ranker().eval()
    encodings = world.offline.experience[world.space.key].encodings
    aps = torch.tensor([0.61, 0.74, 0.61, 0.70, 0.55, 0.68])
    lists = [
        RankedList(world.space.key, encodings[torch.arange(LONG)], aps),
        RankedList(world.space.key, encodings[torch.arange(DRAWN)], aps[:DRAWN]),
    ]
    phi = torch.randn(2, 64, generator=torch.Generator().manual_seed(1))
    whole, gradient = loss_and_gradient(ranker, phi, lists, 0)
    monkeypatch.setattr(batch, "LONGEST", DRAWN)
    losses, gradients = zip(*(loss_and_gradient(ranker, phi, lists, seed) for seed in seeds_of_all_draws()))
    assert len(set(map(float, losses))) > 1, "each draw is something else"
    torch.testing.assert_close(torch.stack(losses).mean(), whole)
    torch.testing.assert_close(torch.stack(gradients).mean(0), gradient)


def test_no_more_than_the_bound_take_part(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    ranker = world.ranker().eval()
    encodings = world.offline.experience[world.space.key].encodings
    entry = RankedList(world.space.key, encodings[torch.arange(LONG)], torch.linspace(0.5, 0.7, LONG))
    scored: list[int] = []
    score_lists = batch.score_lists

    def counting(ranker: Ranker, phi: Tensor, lists: list[RankedList]) -> list[Tensor]:
        scored.extend(len(each.aps) for each in lists)
        return score_lists(ranker, phi, lists)

    monkeypatch.setattr(batch, "LONGEST", DRAWN)
    monkeypatch.setattr(batch, "score_lists", counting)
    batch.list_loss(ranker, torch.ones(1, 64), [entry], RankerSettings(), torch.Generator().manual_seed(0))
    assert scored == [DRAWN]
