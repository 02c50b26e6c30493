"""Equations 6 and 7 against double loops in plain Python."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nni_hyperfd.ranker.losses import (
    discounts,
    gains,
    lambda_ndcg_loss,
    mse_loss,
    ndcg,
    pad,
    triplet_loss,
)

AP = st.integers(0, 20).map(lambda i: i / 20)
SCORE = st.integers(-40, 40).map(lambda i: i / 8)
LISTS = st.lists(st.lists(st.tuples(SCORE, AP), min_size=1, max_size=7), min_size=1, max_size=4)


def grade(aps: list[float]) -> list[float]:
    low, high = min(aps), max(aps)
    return [0.0 if high == low else 2 ** (4 * (ap - low) / (high - low)) - 1 for ap in aps]


def ranks(scores: list[float]) -> list[int]:
    """1 + how many come before: higher, or equal and listed earlier."""
    return [
        1 + sum(other > own or (other == own and j < i) for j, other in enumerate(scores))
        for i, own in enumerate(scores)
    ]


def dcg(gain: list[float], rank: list[int]) -> float:
    return sum(g / math.log2(1 + r) for g, r in zip(gain, rank))


def slow_lambda_loss(lists: list[list[tuple[float, float]]]) -> float:
    """Exchanges each pair in the ranking for real and looks at what that does to NDCG."""
    means = []
    for rows in lists:
        scores, aps = [s for s, _ in rows], [a for _, a in rows]
        gain, rank = grade(aps), ranks(scores)
        best = dcg(sorted(gain, reverse=True), list(range(1, len(gain) + 1))) or 1.0
        terms = []
        for i in range(len(rows)):
            for j in range(len(rows)):
                if aps[i] > aps[j]:
                    exchanged = list(rank)
                    exchanged[i], exchanged[j] = rank[j], rank[i]
                    delta = abs(dcg(gain, exchanged) - dcg(gain, rank)) / best
                    terms.append(delta * math.log1p(math.exp(-(scores[i] - scores[j]))))
        if terms:
            means.append(sum(terms) / len(terms))
    return sum(means) / len(means) if means else 0.0


def tensors(lists: list[list[tuple[float, float]]]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    scores, mask = pad([torch.tensor([s for s, _ in rows], dtype=torch.float64) for rows in lists])
    aps, _ = pad([torch.tensor([a for _, a in rows], dtype=torch.float64) for rows in lists])
    return scores, aps, mask


def test_two_configurations_by_hand() -> None:
    # The better one (gain 15) is on rank 2: exchanging gives 15/1 instead of 15/log2(3), over a best of 15.
    scores, aps, mask = tensors([[(1.0, 0.5), (-1.0, 0.9)]])
    expected = (1 - 1 / math.log2(3)) * math.log(1 + math.exp(2))
    assert lambda_ndcg_loss(scores, aps, mask).item() == pytest.approx(expected)


@settings(max_examples=60, deadline=None)
@given(LISTS)
def test_ranking_loss_is_the_double_loop(lists: list[list[tuple[float, float]]]) -> None:
    assert lambda_ndcg_loss(*tensors(lists)).item() == pytest.approx(slow_lambda_loss(lists), abs=1e-9)


@settings(max_examples=25, deadline=None)
@given(LISTS, SCORE)
def test_only_differences_of_scores_count(lists: list[list[tuple[float, float]]], shift: float) -> None:
    scores, aps, mask = tensors(lists)
    moved = lambda_ndcg_loss(scores + shift, aps, mask)
    assert moved.item() == pytest.approx(lambda_ndcg_loss(scores, aps, mask).item(), abs=1e-9)


@settings(max_examples=25, deadline=None)
@given(LISTS, st.floats(-1e6, 1e6))
def test_padding_may_hold_anything(lists: list[list[tuple[float, float]]], filling: float) -> None:
    scores, aps, mask = tensors(lists)
    expected = lambda_ndcg_loss(scores, aps, mask)
    dirty = lambda_ndcg_loss(
        torch.where(mask, scores, filling).masked_fill(~mask, torch.inf if filling > 0 else filling),
        torch.where(mask, aps, filling),
        mask,
    )
    assert dirty.item() == pytest.approx(expected.item(), abs=1e-12)


def test_no_gradient_flows_through_the_exchange_weights() -> None:
    scores, aps, mask = tensors([[(0.3, 0.2), (0.1, 0.7), (-0.4, 0.5)]])
    scores.requires_grad_()
    lambda_ndcg_loss(scores, aps, mask).backward()
    # The weights of the pairs as constants, at the current ranks.
    gain, discount = gains(aps, mask)[0], discounts(scores.detach(), mask)[0]
    best = (gain.sort(descending=True).values / torch.log2(torch.arange(2.0, 5.0))).sum()
    expected = torch.zeros(3, dtype=torch.float64)
    for i, j in [(1, 0), (2, 0), (1, 2)]:
        weight = (gain[i] - gain[j]).abs() * (discount[i] - discount[j]).abs() / best / 3
        slope = -weight * torch.sigmoid(scores.detach()[0, j] - scores.detach()[0, i])
        expected[i] += slope
        expected[j] -= slope
    assert torch.allclose(scores.grad[0], expected)


def test_relevance_is_scaled_within_each_list() -> None:
    aps = torch.tensor([[0.90, 0.91, 0.92], [0.1, 0.5, 0.9]])
    mask = torch.ones(2, 3, dtype=torch.bool)
    assert torch.allclose(gains(aps, mask), torch.tensor([[0.0, 3.0, 15.0]]).expand(2, 3), atol=1e-3)


def test_equal_aps_rank_nothing() -> None:
    scores, aps, mask = tensors([[(1.0, 0.5), (2.0, 0.5)]])
    scores.requires_grad_()
    loss = lambda_ndcg_loss(scores, aps, mask)
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(scores.grad, torch.zeros_like(scores))
    assert ndcg(scores, aps, mask).isnan().all()


@settings(max_examples=40, deadline=None)
@given(LISTS)
def test_ndcg_is_the_plain_sum(lists: list[list[tuple[float, float]]]) -> None:
    for rows, found in zip(lists, ndcg(*tensors(lists)).tolist()):
        gain = grade([a for _, a in rows])
        if max(gain) == 0:
            assert math.isnan(found)
        else:
            best = dcg(sorted(gain, reverse=True), list(range(1, len(gain) + 1)))
            assert found == pytest.approx(dcg(gain, ranks([s for s, _ in rows])) / best)


def test_following_the_loss_downhill_reaches_the_perfect_order() -> None:
    aps = torch.rand(3, 12, generator=torch.Generator().manual_seed(0))
    mask = torch.ones(3, 12, dtype=torch.bool)
    scores = torch.zeros(3, 12, requires_grad=True)
    optimizer = torch.optim.Adam([scores], lr=0.05)
    for _ in range(300):
        optimizer.zero_grad()
        lambda_ndcg_loss(scores, aps, mask).backward()
        optimizer.step()
    assert (ndcg(scores, aps, mask) > 0.995).all()


def test_mse_is_the_mean_over_each_list_then_over_lists() -> None:
    scores, aps, mask = tensors([[(0.5, 0.4), (0.2, 0.6), (0.1, 0.1)], [(1.0, 0.0)]])
    assert mse_loss(scores, aps, mask).item() == pytest.approx(((0.01 + 0.16 + 0) / 3 + 1) / 2)


def test_triplet_by_hand() -> None:
    phi = torch.tensor([[0.0, 0.0], [1.0, 0.0]])
    tilde = torch.tensor([[0.0, 0.3], [1.0, 0.0]])
    others = torch.cat([phi, torch.tensor([[0.0, 0.5]])])
    different = torch.tensor([[False, True, True], [True, False, True]])
    # v=0: near .09; far 1 and .25 -> max(.09 − 1 + .5, 0) = 0 and .34.  v=1: near 0; far 1 and 1.25 -> 0 and 0.
    assert triplet_loss(phi, tilde, others, different, 0.5).item() == pytest.approx(0.34 / 4)


def test_triplet_is_the_double_loop() -> None:
    generator = torch.Generator().manual_seed(1)
    phi, tilde, others = (0.2 * torch.randn(n, 64, generator=generator) for n in (3, 3, 5))
    different = torch.rand(3, 5, generator=generator) > 0.3
    terms = [
        max(
            sum((a - b) ** 2 for a, b in zip(phi[v].tolist(), tilde[v].tolist()))
            - sum((a - b) ** 2 for a, b in zip(phi[v].tolist(), others[u].tolist()))
            + 0.5,
            0,
        )
        for v in range(3)
        for u in range(5)
        if different[v, u]
    ]
    assert max(terms) > 0
    expected = sum(terms) / len(terms)
    assert triplet_loss(phi, tilde, others, different, 0.5).item() == pytest.approx(expected, rel=1e-5)


def test_triplet_without_another_data_set_is_nothing() -> None:
    phi = torch.ones(1, 64, requires_grad=True)
    loss = triplet_loss(phi, torch.zeros(1, 64), phi, torch.tensor([[False]]), 0.5)
    loss.backward()
    assert loss.item() == 0
    assert not phi.grad.any()
