"""All settings of the ranker's training in one block; the defaults are the paper's (Table 12)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from nni_hyperfd.errors import RankerError

RankerLoss = Literal["ranking", "mse"]
Mode = Literal["full", "latest_only", "freeze_extractor", "freeze_all"]
Transform = Literal["exact", "iterative", "none"]


@dataclass(frozen=True)
class RankerSettings:
    """How the ranker is warmed up and updated.

    Args:
        learning_rate: Of Adam in an update, and of the iterative transformation.
        batches: Steps of one update (N_iters).
        lists: Data-set lists in a batch of an update.
        ratio: How often a list is offline : past : current; a kind without any list is left out.
        images: Images in one sample of a data set.
        loss: ``"ranking"``, or ``"mse"`` for the ablation of Table 1.
        triplet_weight: λ_sim; 0 switches the triplet loss off (Table 4).
        triplet_margin: α.
        synaptic_weight: λ_reg; 0 switches Synaptic Intelligence off (Table 4).
        synaptic_damping: ξ.
        mode: What an update may do (Table 2): everything; learn from the current task alone; leave G as it is; nothing.
        transform: How φ of past tasks is carried to the newest G (Table 3): exact least squares, the paper's
            iteration, or not at all.
        transform_iterations: Adam steps a batch of the iterative transformation (N_trans).
        warmup_epochs: Passes over the offline lists. The number is fixed: NDCG on a dozen held-out lists is too noisy to end the warm-up
            by (``docs/evidence.md``).
        warmup_rate: Of Adam in the warm-up. The paper's 1e-4 is for thousands of lists.
        warmup_lists: Lists in a batch of the warm-up. The paper's 4 lists of two configurations each are
            too few for the batch normalization of a graph network.

    Raises:
        RankerError: A value out of range; the message names it.
    """

    learning_rate: float = 1e-4
    batches: int = 50
    lists: int = 4
    ratio: tuple[float, float, float] = (5.0, 1.0, 1.0)
    images: int = 32
    loss: RankerLoss = "ranking"
    triplet_weight: float = 0.03
    triplet_margin: float = 0.5
    synaptic_weight: float = 10_000.0
    synaptic_damping: float = 0.1
    mode: Mode = "full"
    transform: Transform = "exact"
    transform_iterations: int = 20
    warmup_epochs: int = 80
    warmup_rate: float = 1e-3
    warmup_lists: int = 8

    def __post_init__(self) -> None:
        for name, allowed in (("loss", RankerLoss), ("mode", Mode), ("transform", Transform)):
            if getattr(self, name) not in get_args(allowed):
                raise RankerError(
                    f"Ranker setting {name} is {getattr(self, name)!r}; use one of {', '.join(get_args(allowed))}."
                )
        for name in ("learning_rate", "warmup_rate", "synaptic_damping"):
            if not getattr(self, name) > 0:
                raise RankerError(f"Ranker setting {name} is {getattr(self, name)!r}; it must be above 0.")
        for name in ("triplet_weight", "triplet_margin", "synaptic_weight", "batches", "warmup_epochs"):
            if not getattr(self, name) >= 0:
                raise RankerError(
                    f"Ranker setting {name} is {getattr(self, name)!r}; it must not be negative."
                )
        for name in ("lists", "images", "transform_iterations", "warmup_lists"):
            if not getattr(self, name) >= 1:
                raise RankerError(f"Ranker setting {name} is {getattr(self, name)!r}; it must be at least 1.")
        if len(self.ratio) != 3 or min(self.ratio) < 0 or not self.ratio[2] > 0:
            raise RankerError(
                f"Ranker setting ratio is {self.ratio!r}; give three numbers for offline, past and current lists, "
                "none negative and the last above 0."
            )
