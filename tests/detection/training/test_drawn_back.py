"""Weights between the base and the trained ones, and when they are handed out."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nni_hyperfd.data.pixels import PixelStore
from nni_hyperfd.detection.evaluation.detections import Detections
from nni_hyperfd.detection.training.budgets import Budget
from nni_hyperfd.detection.training.drawn_back import SHARE, between, draw_back
from nni_hyperfd.detection.training.fine_tuning import measured

BUDGET = Budget("tiny", 64, 96, 2, 16, 1, 1, 2, batch_size=8)
IMAGES = 10


class OneWeight:
    """Its weight ``w`` finds the one face of each picture of ``faces_at(w)``."""

    def __init__(self, boxes: np.ndarray, faces_at: Callable[[float], list[int]]) -> None:
        self.model, self.boxes, self.faces_at = nn.Linear(1, 1, bias=False), boxes, faces_at

    def at(self, weight: float) -> OneWeight:
        self.model.load_state_dict({"weight": torch.full((1, 1), weight)})
        return self

    def detect(self, split: str) -> Detections:
        found = np.array(self.faces_at(round(float(self.model.weight.detach()), 6)), dtype=int)
        return Detections(found, self.boxes[: len(found)], np.linspace(0.9, 0.5, len(found)))

    def state(self) -> dict[str, Tensor]:
        return {name: value.clone() for name, value in self.model.state_dict().items()}


@pytest.fixture
def pictures(store_of: Callable[..., PixelStore]) -> PixelStore:
    """The same ten pictures with a face each on val and test."""
    rows = list(range(IMAGES))
    return store_of(
        [np.zeros((96, 96, 3), np.uint8)] * IMAGES,
        [[(10, 10, 60, 60, False)]] * IMAGES,
        {"train": rows, "val": rows, "test": rows},
    )


def handed_out(store: PixelStore, trained: range, back: range) -> float:
    """The weight that is handed out where the base is 0 and training reached 1; each finds the faces of these pictures."""
    engine = OneWeight(
        np.tile([10.0, 10.0, 60.0, 60.0], (IMAGES, 1)), lambda at: list(trained if at == 1 else back)
    )
    reached = measured(engine.at(1.0), store, BUDGET)
    base = {"weight": torch.zeros(1, 1)}
    return float(draw_back(engine, base, reached, store, BUDGET).state["weight"])


def test_a_point_of_the_line_by_hand() -> None:
    base = {"weight": torch.tensor([0.0, 10.0]), "batches": torch.tensor(0)}
    trained = {"weight": torch.tensor([1.0, 20.0]), "batches": torch.tensor(7)}
    point = between(base, trained, 0.75)
    torch.testing.assert_close(point["weight"], torch.tensor([0.75, 17.5]))
    assert int(point["batches"]) == 7
    assert torch.equal(base["weight"], torch.tensor([0.0, 10.0])), "what was handed in stays as it was"


@pytest.mark.parametrize(
    ("trained", "back", "weight"),
    [
        (range(8), range(9), SHARE),  # better on val
        (range(9), range(9), SHARE),  # as good
        # One picture behind, but they differ on five: with other pictures it could as well be ahead.
        (range(8), range(3, 10), SHARE),
        (range(9), range(3), 1.0),  # six pictures of ten are no accident
    ],
)
def test_val_speaks_against_it_by_more_than_a_standard_error(
    pictures: PixelStore, trained: range, back: range, weight: float
) -> None:
    assert handed_out(pictures, trained, back) == pytest.approx(weight)
