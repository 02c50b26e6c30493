"""Everything that may cross between a customer and the platform (METHOD.md §9), and nothing else.

What a customer sends is one of: a meta-feature of 64 numbers, a configuration with its average precision, and a
gradient of the meta-feature extractor.  There is no type here that could hold an image, a box, a feature map or
the name of a file: text is limited to short words without separators or file endings, lists of numbers to 64
entries, and tensors to those that the extractor's own parameters name.

Every message is frozen and checks itself on arrival.  The same types serve one process and a network: they
round-trip through JSON (bytes as base64), and refuse what they do not know.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from nni_hyperfd.errors import PlatformError
from nni_hyperfd.protocol.fields import (
    RANKER_BYTES_LIMIT,
    VALIDATIONS_LIMIT,
    AveragePrecision,
    Count,
    CurvePoint,
    Finite,
    Identifier,
    Method,
    NetworkCosts,
    Parameters,
    SearchSpace,
    Seconds,
    Seed,
    Tensors,
    Vector,
)
from nni_hyperfd.spaces.architecture import FLOPS_LIMIT


class Message(BaseModel):
    """Base of everything that crosses: frozen, strict in types, without unknown fields."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, ser_json_bytes="base64", val_json_bytes="base64"
    )


def _present(fields: dict[str, Any], *names: str) -> dict[str, Any]:
    """A message's fields without those of ``names`` that are empty, which platforms before them refuse."""
    return {name: value for name, value in fields.items() if name not in names or value}


A = TypeVar("A")


class Question(Message, Generic[A]):
    """Base of what a customer sends: a message that the platform answers with an ``A``."""


# ---------------------------------------------------------------------------------------- from platform to customer


class ExtractorState(Message):
    """Parameters θ_G of the meta-feature extractor, and how many images one sample of a data set has.

    ``version`` is the ranker version they belong to, or on which the update stands that they are part of.
    """

    version: Count
    variant: Identifier
    images: Annotated[int, Field(ge=1, le=100_000)]
    tensors: Tensors


class RankerState(Message):
    """A whole ranker version (``Ranker.to_bytes``), with which a customer goes on while the platform is away."""

    version: Count
    tensors: Annotated[bytes, Field(min_length=1, max_length=RANKER_BYTES_LIMIT)]


class Task(Message):
    """A customer's task as the platform sees it; ``extractor_version`` is the one its φ was computed with."""

    task_id: Identifier
    experiment_id: Identifier
    space_key: Identifier
    extractor_version: Count
    status: Literal["open", "done", "closed"]


class RankedConfiguration(Message):
    """A configuration and its score <G(d), H(c)>; only differences between scores of one task mean anything."""

    parameters: Parameters
    score: Finite


class Recommendation(Message):
    """``configurations`` to try, in this order, and ``spares`` that take the place of failed ones."""

    version: Count
    configurations: Annotated[tuple[RankedConfiguration, ...], Field(max_length=1000)]
    spares: Annotated[tuple[RankedConfiguration, ...], Field(max_length=1000)]


class RecordReceipt(Message):
    """What became of a trial's result; whatever it says, the result is on disk.

    It was kept (``stored``), already there (``known``), or it overruled an earlier failure (``replaced``).
    """

    task_id: Identifier
    trial_key: Identifier
    outcome: Literal["stored", "known", "replaced"]


class UpdateTicket(Message):
    """Where an update stands: step number ``step`` of ``steps`` waits for φ and φ̃ under ``extractor``.

    Steps whose batch does not hold the customer's task are done by the platform alone and passed over here.
    ``step`` is None when all are done and the final φ is awaited.  ``gradient_norm`` is the largest norm of an extractor
    gradient that the platform takes.
    """

    kind: Literal["ticket"] = "ticket"
    session_id: Identifier
    steps: Count
    step: Count | None
    gradient_norm: Annotated[float, Field(gt=0.0, le=1e9, allow_inf_nan=False)]
    extractor: ExtractorState


class UpdateWait(Message):
    """Another update is under way; ask again after ``seconds``."""

    kind: Literal["wait"] = "wait"
    seconds: Seconds


class UpdateReceipt(Message):
    """The one update of an experiment; ``version_after`` is None where it had no usable result.

    A version that is not ``published`` is kept until an operator has looked at what the platform's guard said about it.
    """

    kind: Literal["receipt"] = "receipt"
    task_id: Identifier
    experiment_id: Identifier
    version_before: Count
    version_after: Count | None
    published: bool = True
    usable_trials: Count
    failed_trials: Count


UpdateAnswer = Annotated[UpdateTicket | UpdateWait | UpdateReceipt, Field(discriminator="kind")]
"""What becomes of the wish to update: it is under way, or has to wait, or was done before."""


class FeatureGradient(Message):
    """∂L/∂φ and ∂L/∂φ̃ of one step."""

    session_id: Identifier
    step: Count
    phi: Vector
    phi_tilde: Vector


# ---------------------------------------------------------------------------------------- from customer to platform


class ReadExtractor(Question[ExtractorState]):
    """Ask for θ_G of ranker version ``version``, by default the newest."""

    version: Count | None = None


class ReadRanker(Question[RankerState]):
    """Ask for the whole ranker of ``version``, by default the newest."""

    version: Count | None = None


class Subject(Message):
    """What a recommendation is for: a search space, and φ of the data.

    ``phi`` is G(d) under ranker version ``extractor_version``, computed from features of the base detector whose
    weights hash to ``base_id``.  Networks stay below ``flops_limit`` multiply-adds at 640x360.
    """

    space: SearchSpace
    phi: Vector
    extractor_version: Count
    base_id: Identifier
    flops_limit: Annotated[float, Field(gt=0.0, le=1e15, allow_inf_nan=False)] = FLOPS_LIMIT


class OpenTask(Question[Task]):
    """Begin (or find again) the task of one experiment; repeating it changes nothing."""

    experiment_id: Identifier
    subject: Subject


class FindTask(Question[Task | None]):
    """Ask for the task of an experiment, if there is one."""

    experiment_id: Identifier


class BegunTraining(Message):
    """How far one training is: AP@50 on val after each of its validations so far.

    One that is ``running`` may say how many validations it will have when its trial is done (``until``); by default one more.
    """

    parameters: Parameters
    aps: Annotated[tuple[AveragePrecision, ...], Field(max_length=VALIDATIONS_LIMIT)] = ()
    state: Literal["stopped", "running", "failed"] = "stopped"
    until: Annotated[int, Field(ge=1, le=VALIDATIONS_LIMIT)] | None = None

    @model_validator(mode="after")
    def _until_of_what_runs(self) -> BegunTraining:
        if self.until is not None and (self.state != "running" or self.until < len(self.aps)):
            raise ValueError("only a training that is running has an until, which is not before its last ap")
        return self

    @model_serializer(mode="wrap")
    def _without_no_until(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return _present(handler(self), "until")


class Progress(Message):
    """How far the trainings of an experiment are, where each may be gone on with.

    A full training has ``validations`` of them at equal distances, and all trainings together may still have ``left``.
    """

    validations: Annotated[int, Field(ge=1, le=VALIDATIONS_LIMIT)]
    left: Count
    trainings: Annotated[tuple[BegunTraining, ...], Field(max_length=1000)] = ()

    @model_validator(mode="after")
    def _no_longer_than_full(self) -> Progress:
        if any(max(len(each.aps), each.until or 0) > self.validations for each in self.trainings):
            raise ValueError("a training has more validations than a full one")
        return self


class RecommendRequest(Question[Recommendation]):
    """Ask for ``budget`` configurations and some spares, for an opened task or, without opening one, a subject.

    ``candidates`` is the size of the sample that is ranked where the space is too large to be listed, and ``generations``
    the rounds of evolutionary refinement of that sample.

    ``method`` hyperfd is the paper's: a ranking by <φ, H(c)>, part of which is drawn at random (``exploration``). hyperfd-gp is a
    Gaussian process that φ is an input of; its proposals depend on the task's results so far. ``begun`` are configurations
    that it shall not propose again, whether or not the platform has their results; a ``progress`` says how far those are that have
    no result, as far as that is known. hyperfd-mf proposes which trainings to begin or to go on with, best first, by ``progress``; what
    runs, ended or failed is not among them.

    With ``network_costs`` only networks are proposed whose parts cost less than 1 together
    (:class:`~nni_hyperfd.spaces.cost.PartCosts`). Where there are none the field is left out, as is ``progress``: platforms before
    them refuse what they do not know.
    """

    task_id: Identifier | None = None
    subject: Subject | None = None
    budget: Annotated[int, Field(ge=1, le=1000)]
    candidates: Annotated[int, Field(ge=1, le=100_000)] = 200
    generations: Annotated[int, Field(ge=0, le=50)] = 0
    exploration: Annotated[float, Field(ge=0.0, le=1.0, allow_inf_nan=False)] = 0.5
    method: Method = "hyperfd"
    begun: Annotated[tuple[Parameters, ...], Field(max_length=1000)] = ()
    seed: Seed = 0
    network_costs: NetworkCosts | None = None
    progress: Progress | None = None

    @model_validator(mode="after")
    def _one_of_two(self) -> RecommendRequest:
        if (self.task_id is None) == (self.subject is None):
            raise ValueError("give either a task_id or a subject")
        return self

    @model_validator(mode="after")
    def _progress_of_its_method(self) -> RecommendRequest:
        if self.method == "hyperfd-mf" and self.progress is None:
            raise ValueError("method hyperfd-mf goes with a progress")
        if self.method == "hyperfd" and self.progress is not None:
            raise ValueError("method hyperfd knows no progress")
        return self

    @model_serializer(mode="wrap")
    def _without_what_is_not_there(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return _present(handler(self), "network_costs", "progress")


class TrialRecord(Question[RecordReceipt]):
    """One trial's outcome: AP@50 on val (``ap``), on test and on both pooled (``heldout_ap``), or its failure.

    ``curve`` is AP@50 on val at each validation, with the share of a full training until then. A training that has ``begun`` and
    was left before its end has a curve and no ``ap``.
    """

    task_id: Identifier
    trial_key: Identifier
    parameters: Parameters
    status: Literal["ok", "failed", "begun"]
    ap: AveragePrecision | None = None
    test_ap: AveragePrecision | None = None
    heldout_ap: AveragePrecision | None = None
    seconds: Seconds | None = None
    seed: Seed = 0
    budget: Identifier = "paper"
    curve: Annotated[tuple[CurvePoint, ...], Field(max_length=VALIDATIONS_LIMIT)] = ()

    @model_validator(mode="after")
    def _ap_goes_with_success(self) -> TrialRecord:
        if (self.status == "ok") != (self.ap is not None):
            raise ValueError("a trial that is ok has an ap, and no other has one")
        if self.status == "begun" and not self.curve:
            raise ValueError("a training that has begun has a curve")
        shares = [share for share, _ in self.curve]
        if any(first >= second for first, second in pairwise(shares)):
            raise ValueError("the points of a curve come one after the other")
        return self

    @model_serializer(mode="wrap")
    def _without_no_curve(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return _present(handler(self), "curve")


class BeginUpdate(Question[UpdateAnswer]):
    """Ask to run the experiment's update.

    ``takeover`` ends an update of the *same* experiment that seems to be under way, as after a killed process.
    """

    task_id: Identifier
    seed: Seed = 0
    takeover: bool = False


class FeatureStep(Question[FeatureGradient]):
    """φ and φ̃ of two fresh image samples under the current θ_G."""

    session_id: Identifier
    step: Count
    phi: Vector
    phi_tilde: Vector


class GradientStep(Question[UpdateTicket]):
    """∂L/∂θ_G through φ and φ̃, norm-clipped."""

    session_id: Identifier
    step: Count
    tensors: Tensors


class CommitUpdate(Question[UpdateReceipt]):
    """End of the update: ``phi`` is G^(t)(d) under the final θ_G, which the platform keeps for ever."""

    task_id: Identifier
    session_id: Identifier
    phi: Vector


M = TypeVar("M", bound=Message)


def build(kind: type[M], **fields: Any) -> M:
    """``kind(**fields)``, with a PlatformError of one sentence in place of pydantic's report.

    Raises:
        PlatformError: They do not make one.
    """
    try:
        return kind(**fields)
    except ValidationError as report:
        raise PlatformError(_one_sentence(kind, report)) from None


def parse(kind: type[M], text: str | bytes) -> M:
    """Read a message from JSON text.

    Raises:
        PlatformError: It does not fit.
    """
    try:
        return kind.model_validate_json(text)
    except ValidationError as report:
        raise PlatformError(_one_sentence(kind, report)) from None


def parse_words(kind: type[M], words: Mapping[str, str]) -> M:
    """Read a message from what an address says of its fields.

    Raises:
        PlatformError: They do not fit.
    """
    try:
        return kind.model_validate_strings(words, strict=False)
    except ValidationError as report:
        raise PlatformError(_one_sentence(kind, report)) from None


def _one_sentence(kind: type[Message], report: ValidationError) -> str:
    first = report.errors(include_url=False, include_input=False)[0]
    if first["loc"][:1] == ("parameters",) and len(first["loc"]) > 1:
        return (
            f"{kind.__name__} was refused: the configuration's {str(first['loc'][1])[:80]!r} must be a short name with a truth "
            "value, a finite number or a short word, never a path or the name of a file"
        )
    where = ".".join(str(part) for part in first["loc"][:3])
    return f"{kind.__name__} was refused: {where or 'message'}: {first['msg']}"
