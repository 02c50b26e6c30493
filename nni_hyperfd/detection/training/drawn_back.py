"""A trained detector drawn back a little towards the base, from whose weights it began.

Fine-tuning on a few hundred pictures fits their accidents, too, such as the persons that are seen in them. The weights on the line from
the base to the trained ones keep more of what the base has seen (WiSE-FT: Wortsman et al., "Robust fine-tuning of zero-shot
models", CVPR 2022, eq. 1). How far back, and against which other averages, was measured by ``benchmarks/averaging.py``.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from nni_hyperfd.data.pixels import PixelStore
from nni_hyperfd.detection.evaluation.bootstrap import drawn_aps
from nni_hyperfd.detection.training.budgets import Budget
from nni_hyperfd.detection.training.fine_tuning import Candidate, Engine, heldout_truth, measured

SHARE = 0.8
"""Of the way from the base to the trained weights."""
DRAWS = 200
"""Of the bootstrap that tells how sure a lead on val is."""


def between(base: Mapping[str, Tensor], trained: Mapping[str, Tensor], share: float) -> dict[str, Tensor]:
    """The weights that lie ``share`` (0..1) of the way from ``base`` to ``trained``; counters are those of ``trained``."""
    return {
        name: torch.lerp(base[name], value, share) if value.is_floating_point() else value.clone()
        for name, value in trained.items()
    }


def draw_back(
    engine: Engine, base: Mapping[str, Tensor], trained: Candidate, store: PixelStore, budget: Budget
) -> Candidate:
    """``trained`` or, if val does not speak against it, the weights :data:`SHARE` of the way from ``base`` to it.

    Val speaks against it where the lead of ``trained`` is more than its own standard error over pictures (the one-standard-error rule:
    Breiman et al., 1984; the standard error is that of the paired bootstrap). A small val split can say no more.

    Args:
        engine: Is left with the weights of the line.
        base: The start weights of the training.
        trained: What it reached.
        store: The data set's pixels.
        budget: At whose size is evaluated.

    Raises:
        DataError: As :func:`~nni_hyperfd.detection.training.fine_tuning.fine_tune`.
    """
    engine.model.load_state_dict(between(base, trained.state, SHARE))
    back = measured(engine, store, budget)
    truth, images = heldout_truth(store, budget)["val"], len(store.splits["val"])
    draws = [
        drawn_aps(each.val_detections, truth, images, DRAWS, np.random.default_rng(0))
        for each in (trained, back)
    ]
    lead = trained.val_ap - back.val_ap
    return trained if lead > float(np.std(draws[0] - draws[1])) else back
