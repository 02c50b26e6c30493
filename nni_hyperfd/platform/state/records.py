"""What the store takes and gives: plain values, free of the database and of tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any


@dataclass(frozen=True)
class FirstState:
    """What a new platform starts from: ranker version 0 with its Ω, and the offline data (safetensors bytes)."""

    ranker: bytes
    omega: bytes
    offline: bytes
    base_id: str


@dataclass(frozen=True)
class VersionInfo:
    """A ranker version without its blobs; ``parent`` and ``experiment_id`` are None for version 0.

    ``guard`` is the report on it, as JSON text, where there is one; ``kept`` is False once its blobs were pruned.
    """

    number: int
    parent: int | None
    experiment_id: str | None
    reason: str
    created: datetime
    published: bool
    guard: str | None
    kept: bool


@dataclass(frozen=True)
class CustomerInfo:
    """A customer without his token; ``tasks`` are how many he has opened, ``revoked`` since when he is refused."""

    name: str
    created: datetime
    revoked: datetime | None
    tasks: int


@dataclass(frozen=True)
class NewTask:
    """A task to be opened by ``customer``."""

    customer: str
    experiment_id: str
    space_key: str
    space: Mapping[str, Any]
    flops_limit: float
    extractor_version: int
    phi: tuple[float, ...]


@dataclass(frozen=True)
class TaskRecord(NewTask):
    """A task that was opened; ``status`` is open, done (it made a version) or closed (it had no usable result)."""

    id: str
    status: str
    created: datetime
    finished: datetime | None
    version_before: int | None
    version_after: int | None
    final_phi: tuple[float, ...] | None
    trials_used: int | None
    trials_failed: int | None


@dataclass(frozen=True)
class StoredTrial:
    """A row of tuning experience; ``ap`` is None for a failed trial, and for one that has begun and was left before its end.

    ``curve`` is (share of a full training, AP@50 on val) after each validation, where it is known.
    """

    task_id: str
    trial_key: str
    parameters: Mapping[str, Any]
    status: str
    ap: float | None
    test_ap: float | None
    heldout_ap: float | None
    seconds: float | None
    seed: int
    budget: str
    curve: Sequence[tuple[float, float]] = ()


@dataclass(frozen=True)
class NewVersion:
    """What an update hands over: the ranker, Ω, G^(t)(D_offline), and Z by task id where the paper's iteration made it.

    ``own_encoders`` are those of customers' own spaces that it moved, by the key of their space.
    ``settings`` says how it was trained.  Where it is not ``published``, the Z of other tasks stay as they are.
    """

    ranker: bytes
    omega: bytes
    features: bytes
    transformations: Mapping[str, bytes]
    settings: Mapping[str, Any]
    final_phi: tuple[float, ...]
    trials_used: int
    trials_failed: int
    published: bool = True
    guard: str | None = None
    own_encoders: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class Turn:
    """Who updates the platform, and who waits for it.

    Args:
        experiment_id: Whose turn it is; None where nobody's is.
        seconds: For how long it has been.
        waiting: Seconds for which each customer in the queue has waited, the next one first.
    """

    experiment_id: str | None
    seconds: float
    waiting: tuple[float, ...]


@dataclass(frozen=True)
class Counts:
    """How much the platform knows."""

    open_tasks: int
    done_tasks: int
    closed_tasks: int
    usable_trials: int
    failed_trials: int
