"""Named budgets: the paper's values, and that the smaller ones shrink nothing but effort."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nni_hyperfd.detection.training.budgets import BUDGETS, Budget, get_budget, shortened
from nni_hyperfd.errors import TrainingError


def test_paper_is_the_supplement() -> None:
    paper = get_budget("paper")
    assert (paper.image_size, paper.evaluation_size, paper.batch_size) == (640, 720, 32)
    assert (paper.epochs, paper.validate_every, paper.patience, paper.stop_after) == (1000, 10, 5, 8)
    assert paper.steps_per_epoch(3000) == 93


def test_an_epoch_has_a_step_however_few_images_there_are() -> None:
    assert get_budget("paper").steps_per_epoch(5) == 1


def test_small_budgets_count_an_epoch_in_crops_not_in_images() -> None:
    for name in ("short", "smoke", "table"):
        budget = get_budget(name)
        assert budget.epoch_images
        assert (
            budget.steps_per_epoch(7)
            == budget.steps_per_epoch(70_000)
            == budget.epoch_images // budget.batch_size
        )


@pytest.mark.parametrize("budget", BUDGETS.values(), ids=BUDGETS)
def test_every_budget_can_be_trained(budget) -> None:
    assert budget == get_budget(budget.name)
    assert budget.image_size % 32 == 0
    assert budget.epochs % budget.validate_every == 0
    assert budget.epochs >= budget.validate_every
    assert replace(budget, epoch_images=1).steps_per_epoch(10) == 1


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(TrainingError, match=r"'long'.*paper, short, smoke, table"):
        get_budget("long")


def test_a_shortened_budget_ends_with_a_validation_and_is_never_longer() -> None:
    budget = Budget("any", 64, 96, 9, None, 2, 1, 1)
    assert [shortened(budget, epochs).epochs for epochs in (0.5, 1, 2, 3, 7.5, 8, 9, 27)] == [
        2,
        2,
        2,
        4,
        8,
        8,
        9,
        9,
    ]
    for wrong in (0, -1, float("nan"), "3", True, None):
        with pytest.raises(TrainingError, match="number of epochs"):
            shortened(budget, wrong)
