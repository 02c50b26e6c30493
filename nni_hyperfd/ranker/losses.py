"""The losses of the ranker (HyperFD eq. 6 and 7, METHOD §6) and the measure they aim at. Pure functions."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

RELEVANCE_SCALE = 4.0
"""Relevance of the best configuration of a list. AP@50 differs little within a list, and 2^AP − 1 is then nearly
linear; AP is therefore mapped to [0, 4] within each list (worst 0, best 4), the usual grades of NDCG."""


def gains(aps: Tensor, mask: Tensor) -> Tensor:
    """2^rel − 1 with rel = 4 · (AP − min) / (max − min) of each list.

    Args:
        aps: ``[L, K]`` AP@50; anything where ``mask`` is False.
        mask: ``[L, K]`` boolean, True where a list has a configuration.

    Returns:
        ``[L, K]`` in [0, 15]; zeros for padding and for a list whose APs are all equal.
    """
    low = aps.masked_fill(~mask, torch.inf).amin(1, keepdim=True)
    high = aps.masked_fill(~mask, -torch.inf).amax(1, keepdim=True)
    spread = high - low
    scaled = (aps - low) / torch.where(spread > 0, spread, torch.ones_like(spread))
    return torch.where(mask & (spread > 0), torch.exp2(RELEVANCE_SCALE * scaled) - 1, 0.0)


def discounts(scores: Tensor, mask: Tensor) -> Tensor:
    """1 / log2(1 + rank), rank 1-based by falling ``scores`` ``[L, K]``; equal scores keep their order, padding is last."""
    order = scores.masked_fill(~mask, -torch.inf).argsort(dim=1, descending=True, stable=True)
    ranks = torch.arange(1, scores.shape[1] + 1, dtype=scores.dtype).expand_as(scores)
    return 1 / torch.log2(1 + torch.empty_like(scores).scatter_(1, order, ranks))


def _ideal(gain: Tensor, mask: Tensor) -> Tensor:
    """DCG ``[L, 1]`` of the perfect order; 1 where there is nothing to gain, so that it can divide."""
    best = (gain * discounts(gain, mask)).sum(1, keepdim=True)
    return torch.where(best > 0, best, torch.ones_like(best))


class Stakes(NamedTuple):
    """What exchanging two configurations of a list is worth, for all pairs at once.

    Args:
        gain: ``[L, K]`` gains over the DCG of the perfect order.
        discount: ``[L, K]`` of the ranks in the current order.
        share: ``[L]`` by which the sum over pairs becomes the mean over the list's pairs with different APs; 0 where it has none.
    """

    gain: Tensor
    discount: Tensor
    share: Tensor

    def sample(self, positions: Tensor) -> Stakes:
        """Of one list ``[1, K]``, those of the M configurations at ``positions`` ``[M]``, drawn from it uniformly and without replacement.

        Their ranks and gains stay those in the whole list. A pair of the list is among them with probability
        M (M − 1) / K (K − 1), so the loss over them is that of the whole list in expectation.
        """
        whole, drawn = self.gain.shape[1], len(positions)
        scale = whole * (whole - 1) / max(drawn * (drawn - 1), 1)
        return Stakes(self.gain[:, positions], self.discount[:, positions], self.share * scale)


@torch.no_grad()
def stakes(scores: Tensor, aps: Tensor, mask: Tensor) -> Stakes:
    """Of lists ``[L, K]`` in the order of ``scores``; time and memory grow with K log K."""
    gain = gains(aps, mask)
    gain = gain / _ideal(gain, mask)
    sorted_aps = aps.masked_fill(~mask, torch.inf).sort(dim=1).values
    counts = mask.sum(1)
    place = torch.arange(aps.shape[1], device=aps.device).expand_as(aps)
    first = torch.ones_like(mask)
    first[:, 1:] = sorted_aps[:, 1:] != sorted_aps[:, :-1]
    # A configuration is better than as many as come before the first of those that equal it.
    lower = torch.where(first, place, 0).cummax(1).values
    pairs = (lower * (place < counts[:, None])).sum(1)
    return Stakes(gain, discounts(scores, mask), (pairs > 0) / pairs.clamp(min=1).to(scores.dtype))


def lambda_ndcg_loss(scores: Tensor, aps: Tensor, mask: Tensor, of_pairs: Stakes | None = None) -> Tensor:
    r"""Ranking loss (eq. 6): :math:`\mathbb{E}\,[\,|\Delta\mathrm{NDCG}_{ij}| \cdot \mathrm{softplus}(-(s_i - s_j))]`.

    The pairs (i, j) are those of one list with :math:`a_i > a_j`, and

    .. math:: |\Delta\mathrm{NDCG}_{ij}| = |g_i - g_j| \cdot |d_i - d_j| \,/\, \mathrm{maxDCG}

    is what exchanging the two in the current order would change; g are :func:`gains`, d :func:`discounts` of the whole
    list. No gradient flows through it. The mean is taken over the pairs of a list, then over the lists that have one,
    so that a long list does not outweigh a short one.

    Args:
        scores: ``[L, K]`` of the ranker; anything where ``mask`` is False.
        aps: ``[L, K]`` AP@50.
        mask: ``[L, K]`` boolean, True where a list has a configuration.
        of_pairs: Where these are drawn from longer lists, :meth:`Stakes.sample` of those; by default they are whole lists.

    Returns:
        ``[]``, not negative; 0 when no list has two different APs.
    """
    found = stakes(scores.detach(), aps, mask) if of_pairs is None else of_pairs
    with torch.no_grad():
        delta = (found.gain[:, :, None] - found.gain[:, None]).abs()
        delta = delta * (found.discount[:, :, None] - found.discount[:, None]).abs()
        better = (aps[:, :, None] > aps[:, None]) & mask[:, :, None] & mask[:, None]
        weight = delta * better * found.share[:, None, None] / (found.share > 0).sum().clamp(min=1)
    # Padding may hold anything, and 0 · inf is not 0.
    scores = scores.masked_fill(~mask, 0.0)
    return (weight * functional.softplus(scores[:, None] - scores[:, :, None])).sum()


def mse_loss(scores: Tensor, aps: Tensor, mask: Tensor) -> Tensor:
    """Ablation "HyperFD (MSE)", ``[]``: the score as a prediction of AP@50 in [0, 1]; mean over a list, then over lists.

    Arguments are as for :func:`lambda_ndcg_loss`.
    """
    squares = torch.where(mask, scores - aps, 0.0).square()
    return (squares.sum(1) / mask.sum(1)).mean()


def triplet_loss(phi: Tensor, phi_tilde: Tensor, others: Tensor, different: Tensor, margin: float) -> Tensor:
    r"""Triplet regularization (eq. 7), the mean of :math:`\max(\|\phi_v - \tilde\phi_v\|^2 - \|\phi_v - \phi_u\|^2 + \alpha, 0)`.

    Args:
        phi: ``[V, 64]`` data sets whose images are at hand.
        phi_tilde: ``[V, 64]`` the same data sets from other samples of their images.
        others: ``[U, 64]`` data sets to keep away from.
        different: ``[V, U]`` boolean, False where v and u are one data set.
        margin: α.

    Returns:
        ``[]``, the mean over the pairs that ``different`` allows; 0 when there is none.
    """
    near = (phi - phi_tilde).square().sum(1)
    far = (phi[:, None] - others[None]).square().sum(2)
    hinge = functional.relu(near[:, None] - far + margin)
    return (hinge * different).sum() / different.sum().clamp(min=1)


@torch.no_grad()
def ndcg(scores: Tensor, aps: Tensor, mask: Tensor) -> Tensor:
    """NDCG ``[L]`` of each whole list of ``[L, K]`` in the order of ``scores``; NaN for a list whose APs are all equal."""
    gain = gains(aps, mask)
    reached = (gain * discounts(scores, mask)).sum(1)
    return torch.where(gain.sum(1) > 0, reached / _ideal(gain, mask)[:, 0], torch.nan)


def pad(rows: list[Tensor]) -> tuple[Tensor, Tensor]:
    """L vectors ``[K_l]`` -> ``[L, K]`` with zeros behind the shorter ones, and the mask of what is real."""
    lengths = torch.tensor([len(row) for row in rows])
    padded = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    return padded, torch.arange(padded.shape[1]) < lengths[:, None]
