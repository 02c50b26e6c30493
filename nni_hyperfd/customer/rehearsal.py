"""What an experiment would send, before anything is sent."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nni_hyperfd.customer.ledger import Entry, entry_of, summary
from nni_hyperfd.protocol.messages import (
    BeginUpdate,
    CommitUpdate,
    FeatureStep,
    GradientStep,
    Message,
    OpenTask,
    RecommendRequest,
    TrialRecord,
    build,
)
from nni_hyperfd.recommendation.ranking import read_space

_ID = "0" * 32


@dataclass(frozen=True)
class Planned:
    """One kind of message of an experiment.

    Args:
        call: of the platform's interface.
        times: how often it is sent, in words.
        entry: as the ledger would have it; numbers that only the experiment brings are stand-ins of the same length.
    """

    call: str
    times: str
    entry: Entry


def rehearse(request: RecommendRequest, gradient_bytes: int) -> list[Planned]:
    """The messages of an experiment whose recommendation ``request`` asks for, in their order.

    Args:
        request: with its subject.
        gradient_bytes: size of a gradient of the extractor.
    """
    subject = request.subject
    assert subject is not None, "only a request with a subject says all that is needed"
    space = read_space(subject.space, subject.flops_limit)
    example = space.parameters(space.sample(1, np.random.default_rng(0))[0])
    phi = subject.phi
    asked = request.model_copy(update={"subject": None, "task_id": _ID})
    again = asked.model_copy(update={"begun": (example,) * (request.budget - 1)})
    plans_anew = request.method == "hyperfd-gp" and request.budget > 1
    messages: list[tuple[str, str, Message]] = [
        ("open_task", "once", build(OpenTask, experiment_id="experiment", subject=subject)),
        ("recommend", "once", asked),
        *([("recommend", "after each result but the last", again)] if plans_anew else []),
        (
            "record",
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
            ),
        ),
        ("begin_update", "once, more often while others update", build(BeginUpdate, task_id=_ID)),
        (
            "send_features",
            "once a step of the update",
            build(FeatureStep, session_id=_ID, step=0, phi=phi, phi_tilde=phi),
        ),
        (
            "send_gradient",
            "once a step of the update",
            build(GradientStep, session_id=_ID, step=0, tensors=bytes(gradient_bytes)),
        ),
        ("commit", "once", build(CommitUpdate, task_id=_ID, session_id=_ID, phi=phi)),
    ]
    return [
        Planned(call, times, entry_of(call, message.model_dump_json().encode(), summary(message)))
        for call, times, message in messages
    ]
