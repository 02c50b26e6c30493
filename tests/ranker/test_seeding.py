"""A seeded block depends on its seed and leaves no trace, on no device."""

from __future__ import annotations

import pytest
import torch

from nni_hyperfd.ranker.seeding import seeded


def test_a_block_depends_on_its_seed_alone_and_nothing_outside_notices() -> None:
    torch.manual_seed(5)
    undisturbed = torch.rand(4)
    torch.manual_seed(5)
    with seeded(1):
        first = torch.rand(3)
    assert torch.equal(torch.rand(4), undisturbed)
    with seeded(1):
        assert torch.equal(torch.rand(3), first)
    with seeded(2):
        assert not torch.equal(torch.rand(3), first)


def test_generators_of_accelerators_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no accelerator, torch keeps the seed for when one comes; that is a trace, too."""

    def trace(seed: int) -> None:
        raise AssertionError("an accelerator's generator was seeded")

    for module in (torch.cuda, torch.mps, torch.xpu):
        monkeypatch.setattr(
            module, "manual_seed_all" if hasattr(module, "manual_seed_all") else "manual_seed", trace
        )
    with seeded(1):
        torch.rand(3)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_draws_on_as_if_nothing_had_been() -> None:
    torch.cuda.manual_seed_all(5)
    undisturbed = torch.rand(4, device="cuda")
    torch.cuda.manual_seed_all(5)
    with seeded(1):
        torch.rand(3)
    assert torch.equal(torch.rand(4, device="cuda"), undisturbed)
