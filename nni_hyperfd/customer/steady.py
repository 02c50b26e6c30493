"""A platform behind a network, and what a customer does while it is away.

Configurations are then ranked here, with the last ranker that the platform sent; results are kept in an outbox
until the platform has them. A result goes into the outbox *before* it is sent, so there is one way for both.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from hashlib import sha256
from typing import Any, TypeVar, cast

import torch

from nni_hyperfd.customer.kept import KeptRanker
from nni_hyperfd.customer.outbox import Outbox, Waiting
from nni_hyperfd.errors import HyperFDError, PlatformAwayError, RefusedError, TrustError
from nni_hyperfd.metafeature.sending import extractor_state
from nni_hyperfd.protocol.calls import PlatformAPI
from nni_hyperfd.protocol.messages import (
    BeginUpdate,
    ExtractorState,
    OpenTask,
    Question,
    ReadExtractor,
    ReadRanker,
    Recommendation,
    RecommendRequest,
    RecordReceipt,
    Subject,
    Task,
    TrialRecord,
    UpdateAnswer,
    UpdateReceipt,
    build,
)
from nni_hyperfd.recommendation.ranking import rank, read_space

logger = logging.getLogger(__name__)

PROVISIONAL = "away:"
"""How ids of tasks begin that the platform has not heard of."""

QUIET = 1.0
"""How long results are only kept after a platform was found away, in times of how long it took to find that out. NNI gives a tuner half
a minute to end: a machine that does not answer is waited for once, ten seconds, and not for each of twenty results; one that refuses
says so at once, and hears of the very next result."""


class Provisional(Recommendation):
    """A list that was ranked here and that the platform would have made otherwise: never to be taken for the platform's own.

    ``reason`` says how it was made.
    """

    reason: str


A = TypeVar("A")
Q = TypeVar("Q", bound=Question[Any])


class SteadyPlatform:
    """Implements :class:`~nni_hyperfd.protocol.calls.PlatformAPI` for one experiment.

    Args:
        remote: The platform itself.
        kept: Where its last ranker is kept.
        outbox: Of the experiment.
    """

    def __init__(self, remote: PlatformAPI, kept: KeptRanker, outbox: Outbox) -> None:
        self._remote, self._kept, self._outbox = remote, kept, outbox
        self._subjects: dict[str, Subject] = {}
        self._task: Task | None = None
        self._told_away = False
        self._ask_again = 0.0
        self._refusal: str | None = None

    def ask(self, question: Question[A]) -> A:
        """The answer to one question, from here where it can be while the platform is away. See `PlatformAPI.ask`."""
        if (own := _KINDS_OF_ITS_OWN.get(type(question))) is not None:
            return cast(A, own(self, question))
        return self._settled(self._remote.ask(self._addressed(question)))

    # ------------------------------------------------------------------------------------------------ looking

    def _extractor(self, question: ReadExtractor) -> ExtractorState:
        """θ_G, or that of the last ranker kept."""
        try:
            state = self._remote.ask(question)
        except PlatformAwayError as error:
            return self._kept_extractor(question.version, error)
        if question.version is None:
            self._keep(state)
        return state

    def _keep(self, extractor: ExtractorState) -> None:
        if self._kept.version() == extractor.version:
            return
        try:
            self._kept.keep(self._remote.ask(ReadRanker(version=extractor.version)), extractor)
        except (HyperFDError, OSError) as error:
            logger.warning("The platform's ranker is not kept for a time when it is away: %s.", error)

    def _kept_extractor(self, version: int | None, away: PlatformAwayError) -> ExtractorState:
        ranker, number = self._kept.ranker(), self._kept.version()
        if ranker is None or number is None or version not in (None, number):
            raise away
        self._told_away = True
        logger.warning(
            "Going on with the platform's ranker version %d, kept here: %s. Results wait on this disk for `hyperfd sync`.",
            number,
            away,
        )
        return extractor_state(ranker.extractor, number, self._kept.images())

    # --------------------------------------------------------------------------------------- tasks and trials

    def _open_task(self, message: OpenTask) -> Task:
        """Begin or find the task of an experiment, or a provisional one, which the platform hears of later."""
        try:
            task = self._task = self._remote.ask(message)
        except PlatformAwayError:
            self._outbox.add(message)
            task = build(
                Task,
                task_id=PROVISIONAL + sha256(message.experiment_id.encode()).hexdigest()[:32],
                experiment_id=message.experiment_id,
                space_key=read_space(message.subject.space, message.subject.flops_limit).key,
                extractor_version=message.subject.extractor_version,
                status="open",
            )
        except TrustError:
            raise
        except HyperFDError as error:
            if any(isinstance(waiting, OpenTask) for waiting in self._outbox.waiting()):
                raise self._give_up(error) from error
            raise
        self._subjects[task.task_id] = message.subject
        return task

    def _recommend(self, message: RecommendRequest) -> Recommendation:
        """Rank configurations, here while the platform is away, in the very way in which the platform does it.

        What the method hyperfd-gp needs beside the ranker stays on the platform: a first recommendation is the ranker's then,
        and a later one, which knows what was begun, is not made. What the platform has learnt of somebody's own space stays there,
        too: its encoder is an untrained one here. Either is told, and the answer says so (:class:`Provisional`).
        """
        try:
            return self._remote.ask(self._addressed(message))
        except PlatformAwayError as error:
            away = error
        subject = message.subject or self._subjects.get(message.task_id or "")
        ranker = self._kept.ranker()
        if (
            message.begun
            or (message.progress is not None and message.progress.trainings)
            or subject is None
            or ranker is None
            or self._kept.version() != subject.extractor_version
        ):
            raise away
        space = read_space(subject.space, subject.flops_limit, message)
        made = rank(ranker, subject.extractor_version, space, torch.tensor(subject.phi), message)
        reason = _otherwise(space.key in ranker.shapes, message.method)
        if reason is None:
            return made
        logger.warning("This list is not the platform's own: %s.", reason)
        return Provisional(reason=reason, **dict(made))

    def _record(self, message: TrialRecord) -> RecordReceipt:
        """Keep a trial's outcome: on the platform, or on this disk until the platform can be reached."""
        # With its final address if there is one: whoever delivers it may not know what this process knows.
        self._outbox.add(message if self._task is None else self._addressed(message))
        receipt = None
        if self._refusal is not None:
            self._outbox.give_up()
        elif (begun := time.monotonic()) >= self._ask_again:
            try:
                receipt = self.deliver().get(message.trial_key)
            except PlatformAwayError as error:
                if not self._told_away:
                    logger.warning("Results wait on this disk: %s.", error)
                self._told_away, now = True, time.monotonic()
                self._ask_again = now + QUIET * (now - begun)
        return receipt or build(
            RecordReceipt, task_id=message.task_id, trial_key=message.trial_key, outcome="stored"
        )

    def deliver(self) -> dict[str, RecordReceipt]:
        """Send whatever waits; what the platform has then waits no more. Returns receipts by trial key.

        A message that the platform refuses is given up with an error in the log, and raised when all others are sent.

        Raises:
            PlatformAwayError: The platform is still away; what was not sent goes on waiting.
            RefusedError: It will not have the experiment; nothing waits any more, and all messages are set aside.
            TrustError: Somebody else answers, or the token is not known; as before.
            HyperFDError: A message was refused.
        """
        receipts: dict[str, RecordReceipt] = {}
        refused: HyperFDError | None = None
        with self._outbox.lock:
            waiting = self._outbox.waiting()
            openings = [message for message in waiting if isinstance(message, OpenTask)]
            for opening in openings:
                self._open_late(opening)
            left: list[Waiting] = []
            try:
                for place, message in enumerate(waiting):
                    left = waiting[place:]
                    if not isinstance(message, TrialRecord):
                        continue
                    try:
                        receipts[message.trial_key] = self._remote.ask(self._addressed(message))
                    except (PlatformAwayError, TrustError):
                        raise
                    except HyperFDError as error:
                        logger.error("The platform refused a message: %s.", error)
                        refused = error
                left = []
            finally:
                # Provisional addresses mean nothing without the message that opens the task.
                first = openings if left else []
                later = [message for message in left if message not in openings]
                owed = [m for m in waiting if isinstance(m, BeginUpdate) and m not in left]
                self._outbox.replace([*first, *later, *owed])
        if self._told_away and waiting:
            logger.info("The platform is back, and has all results.")
            self._told_away = False
        if refused is not None:
            raise refused
        return receipts

    def _open_late(self, opening: OpenTask) -> None:
        """Begin, on the platform too, the task of an experiment that began while it was away."""
        try:
            self._task = self._remote.ask(opening)
        except (PlatformAwayError, TrustError):
            raise
        except HyperFDError as error:
            raise self._give_up(error) from error

    def _give_up(self, error: HyperFDError) -> RefusedError:
        """The platform will not have this experiment, so nothing of it is to wait any longer."""
        self._refusal = (
            f"the platform refuses this experiment ({str(error).rstrip('.')}) and will not learn from it; its results are kept in "
            f"{self._outbox.give_up()}"
        )
        return RefusedError(self._refusal)

    # ------------------------------------------------------------------------------------------------ updates

    def _begin_update(self, message: BeginUpdate) -> UpdateAnswer:
        """Start the experiment's update, when all results are delivered."""
        if self._refusal is not None:
            raise RefusedError(self._refusal)
        self._outbox.add(message.model_copy(update={"takeover": False}))
        self.deliver()
        return self._settled(self._remote.ask(self._addressed(message)))

    def _settled(self, answer: A) -> A:
        """The experiment's update is not owed any more when there is a receipt for it."""
        if isinstance(answer, UpdateReceipt):
            with self._outbox.lock:
                waiting = self._outbox.waiting()
                self._outbox.replace([m for m in waiting if not isinstance(m, BeginUpdate)])
        return answer

    def _addressed(self, question: Q) -> Q:
        """The question with the id by which the platform knows the task."""
        if not (getattr(question, "task_id", None) or "").startswith(PROVISIONAL):
            return question
        if self._task is None:
            raise PlatformAwayError("the platform has not heard of this experiment yet")
        return question.model_copy(update={"task_id": self._task.task_id})


def _otherwise(known: bool, method: str) -> str | None:
    """Why the platform would rank otherwise than the ranker that is kept here; None where it would not.

    Args:
        known: The ranker has an encoder for the search space.
        method: That was asked for.
    """
    if not known:
        return (
            "while the platform is away its configurations are ranked here with an untrained encoder, as the ranker kept here knows "
            "nothing of this search space; what the platform may have learnt of it is not used"
        )
    if method != "hyperfd":
        return f"while the platform is away it is ranked here without the past tasks and results that {method} goes by"
    return None


_KINDS_OF_ITS_OWN: dict[type[Question[Any]], Callable[[SteadyPlatform, Any], Any]] = {
    ReadExtractor: SteadyPlatform._extractor,
    OpenTask: SteadyPlatform._open_task,
    RecommendRequest: SteadyPlatform._recommend,
    TrialRecord: SteadyPlatform._record,
    BeginUpdate: SteadyPlatform._begin_update,
}
