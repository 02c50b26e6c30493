"""The two ways the ranker learns, under one name."""

from nni_hyperfd.ranker.update import ContinualUpdate, CurrentTask, PastTask, UpdatedState
from nni_hyperfd.ranker.warmup import WarmUpReport, warm_up

__all__ = ["ContinualUpdate", "CurrentTask", "PastTask", "UpdatedState", "WarmUpReport", "warm_up"]
