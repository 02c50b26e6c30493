"""What an experiment would send, before anything is sent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from nni_hyperfd.customer.ledger import LedgerEntry, entry_of
from nni_hyperfd.detection.training.budgets import BUDGETS
from nni_hyperfd.protocol.messages import (
    BeginUpdate,
    BegunTraining,
    CommitUpdate,
    FeatureStep,
    GradientStep,
    OpenTask,
    Progress,
    Question,
    RecommendRequest,
    TrialRecord,
    build,
)
from nni_hyperfd.recommendation.ranking import read_space

_ID = "0" * 32
_PLANS = {
    "hyperfd-gp": "after each result but the last",
    "hyperfd-mf": "before each trial, of which there are more",
}


@dataclass(frozen=True)
class Planned:
    """One kind of message of an experiment.

    Args:
        times: How often it is sent, in words.
        entry: As the ledger would have it; numbers that only the experiment brings are stand-ins of the same length.
    """

    times: str
    entry: LedgerEntry


def rehearse(request: RecommendRequest, gradient_bytes: int) -> list[Planned]:
    """The messages of an experiment whose recommendation ``request`` asks for, in their order.

    Args:
        request: With its subject.
        gradient_bytes: Size of a gradient of the extractor.
    """
    subject = request.subject
    assert subject is not None, "only a request with a subject says all that is needed"
    space = read_space(subject.space, subject.flops_limit)
    example = space.parameters(space.sample(1, np.random.default_rng(0))[0])
    phi = subject.phi
    asked = request.model_copy(update={"subject": None, "task_id": _ID})
    again = asked.model_copy(update={"begun": (example,) * (request.budget - 1)})
    plans_anew = request.method != "hyperfd" and request.budget > 1
    progress = request.progress
    count = BUDGETS["short"].validations if progress is None else progress.validations
    curve = tuple(((i + 1) / count, 0.123456789) for i in range(count))
    all_begun = (BegunTraining(parameters=example, aps=tuple(ap for _, ap in curve)),) * (request.budget - 1)
    if progress is not None:
        again = asked.model_copy(update={"progress": progress.model_copy(update={"trainings": all_begun})})
    elif request.method == "hyperfd-gp":
        # As if all other trials ran beside the one that has a result.
        so_far = build(Progress, validations=count, left=0, trainings=all_begun)
        again = again.model_copy(update={"progress": so_far})
    messages: list[tuple[str, Question[Any]]] = [
        ("once", build(OpenTask, experiment_id="experiment", subject=subject)),
        ("once", asked),
        *([(_PLANS[request.method], again)] if plans_anew else []),
        (
            "once a trial, and again at the end",
            build(
                TrialRecord,
                task_id=_ID,
                trial_key=_ID,
                parameters=example,
                status="ok",
                ap=0.123456789,
                test_ap=0.123456789,
                heldout_ap=0.123456789,
                seconds=123.456,
                curve=curve,
            ),
        ),
        ("once, more often while others update", build(BeginUpdate, task_id=_ID)),
        (
            "once a step of the update",
            build(FeatureStep, session_id=_ID, step=0, phi=phi, phi_tilde=phi),
        ),
        (
            "once a step of the update",
            build(GradientStep, session_id=_ID, step=0, tensors=bytes(gradient_bytes)),
        ),
        ("once", build(CommitUpdate, task_id=_ID, session_id=_ID, phi=phi)),
    ]
    return [
        Planned(times, entry_of(message, message.model_dump_json().encode())) for times, message in messages
    ]
