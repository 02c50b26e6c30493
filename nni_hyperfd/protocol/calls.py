"""The one door between a customer and the platform: which questions there are, how each travels, and what one may rely on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import NoneType
from typing import Any, Literal, Protocol, TypeVar, cast, get_args

from pydantic import TypeAdapter, ValidationError

from nni_hyperfd.errors import PlatformError
from nni_hyperfd.protocol.messages import (
    BeginUpdate,
    CommitUpdate,
    FeatureStep,
    FindTask,
    GradientStep,
    OpenTask,
    Question,
    ReadExtractor,
    ReadRanker,
    RecommendRequest,
    TrialRecord,
)

PROTOCOL = "1"
"""Version of the wire; a client names it as ``X-HyperFD-Protocol``."""

A = TypeVar("A")


class PlatformAPI(Protocol):
    """What a customer may do with a platform (METHOD.md §9): ask it a question of :data:`CALLS`.

    The same in one process (``platform.Platform``), for one of many customers (``server.CustomerView``), over a network
    (``customer.HTTPPlatform``), and over one that comes and goes (``customer.SteadyPlatform``):

    * Threads. Any number may ask at once. The messages of one update follow each other, each when the one before is answered.
    * Repetition. Whoever does not know whether a question has arrived asks it again, from the same process or another. What
      is kept counts once; an update that was done is only looked up. The two halves of a step may be repeated until the
      next message of their update, and get the answer that they got; BeginUpdate begins the update anew.
    * What is durable. When a task, a RecordReceipt or an UpdateReceipt is returned, it is on the platform's disk; where a
      SteadyPlatform answers in place of a platform that is away, the question is on the customer's disk instead. An update
      under way is in one process's memory only: whoever loses it (UpdateLostError) begins it anew, and loses no result.
    * Errors. A question that is refused raises one HyperFDError of one sentence, and changes nothing.
    """

    def ask(self, question: Question[A]) -> A:
        """The answer to one question.

        Raises:
            PlatformError: It is refused: out of turn, or it does not fit what the platform knows.
            UnknownTaskError: It names a task that is not there.
            UpdateLostError: The update that it belongs to is over; begin it again.
            ForbiddenError: It names what is another customer's.
            RefusedError: The experiment was begun while the platform was away, and the platform will not have it.
            SpaceError: Its search space is malformed, or its configuration is not one of that space; over a network this is a
                PlatformError of the same sentence.
            PlatformAwayError: Nobody answered; nobody knows whether it arrived. Ask again.
            TrustError: Something else answered than the platform, or the platform does not know the token.
        """


@dataclass(frozen=True)
class Call:
    """How one kind of question travels.

    Args:
        question: Type of the message; that of its answer is its type argument.
        name: In ledgers, logs and metrics, and of the route where there is no ``path``.
        path: Of a question that is asked by an address alone (GET), its fields in braces or as the query; empty for one
            that is the body of a POST.
        changes: Whether the platform is another one afterwards, or an update further on.
        quick: Whether only the store is asked; any other may wait for the turn to work with the ranker.
    """

    question: type[Question[Any]]
    name: str
    path: str = ""
    changes: bool = False
    quick: bool = False

    @property
    def method(self) -> Literal["GET", "POST"]:
        """Of HTTP."""
        return "GET" if self.path else "POST"

    @property
    def route(self) -> str:
        """Address below the platform's, with fields of the question in braces."""
        return f"/v1/{self.path or self.name}"

    @property
    def answer(self) -> Any:
        """Type of the answer, as the question's class has it; what may be None is ``Kind | None``."""
        question_of_it: Any = self.question.__mro__[1]
        (kind,) = question_of_it.__pydantic_generic_metadata__["args"]
        return kind

    @property
    def may_be_none(self) -> bool:
        """Whether there may be no answer."""
        return NoneType in get_args(self.answer)


CALLS: Mapping[type[Question[Any]], Call] = {
    call.question: call
    for call in (
        Call(ReadExtractor, "extractor", "extractor"),
        Call(ReadRanker, "ranker_state", "ranker"),
        Call(FindTask, "find_task", "tasks/{experiment_id}", quick=True),
        Call(OpenTask, "open_task", changes=True, quick=True),
        Call(RecommendRequest, "recommend"),
        Call(TrialRecord, "record", changes=True, quick=True),
        Call(BeginUpdate, "begin_update", changes=True),
        Call(FeatureStep, "send_features", changes=True),
        Call(GradientStep, "send_gradient", changes=True),
        Call(CommitUpdate, "commit", changes=True),
    )
}
"""Everything that ever leaves a customer's machine."""

_ANSWERS: dict[type[Question[Any]], TypeAdapter[Any]] = {
    kind: TypeAdapter(call.answer) for kind, call in CALLS.items()
}


def read_answer(question: Question[A], text: bytes) -> A:
    """The answer to ``question`` from its JSON.

    Raises:
        PlatformError: It is none.
    """
    try:
        return cast(A, _ANSWERS[type(question)].validate_json(text))
    except ValidationError as report:
        first = report.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"][:3])) or "answer"
        raise PlatformError(f"{where}: {first['msg']}") from None
