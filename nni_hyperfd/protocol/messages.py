"""Everything that may cross between a customer and the platform (METHOD.md §9), and nothing else.

What a customer sends is one of: a meta-feature of 64 numbers, a configuration with its average precision, and a
gradient of the meta-feature extractor.  There is no type here that could hold an image, a box, a feature map or
the name of a file: text is limited to short words without separators or file endings, lists of numbers to 64
entries, and tensors to those that the extractor's own parameters name.

Every message is frozen and checks itself on arrival.  The same types serve one process and a network: they
round-trip through JSON (bytes as base64), and refuse what they do not know.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from itertools import pairwise
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    SerializerFunctionWrapHandler,
    StringConstraints,
    TypeAdapter,
    ValidationError,
    model_serializer,
    model_validator,
)

from nni_hyperfd.errors import PlatformError
from nni_hyperfd.spaces.architecture import FLOPS_LIMIT

PHI_SIZE = 64
"""Length of a meta-feature φ (METHOD.md §4)."""
NUMBER_LIMIT = 1e6
"""Largest magnitude of an entry of φ or of ∂L/∂φ; trained extractors stay below about 10."""
TENSOR_BYTES_LIMIT = 16 * 2**20
"""Largest safetensors blob; the full extractor is well below a quarter of it."""
RANKER_BYTES_LIMIT = 8 * 2**20
"""Largest ranker; version 0 has 1.2 MB, and encoders of customers' own spaces are not in it."""
SPACE_BYTES_LIMIT = 64 * 2**10
"""Largest search space as JSON text; the largest standard one has 4 kB."""
VALUES_LIMIT = 2048
"""Most values that a search space lists, all its keys together: its encoder has 256 bytes for each."""
NUMBER_IN_SPACE_LIMIT = 1e12
"""Largest magnitude of a number in a search space, and so in a configuration."""
VALIDATIONS_LIMIT = 20
"""Most validations of a training whose beginning counts, and most points of a learning curve."""
KEYS_LIMIT = 256
"""Most keys of one configuration."""

# A dot followed by letters at the end of a word reads as a file ending; "v1.5" and "1e-3" do not.
_FILE_ENDING = re.compile(r"\.[A-Za-z][A-Za-z0-9]{0,4}$")
_NNI_TYPES = frozenset(
    (
        "choice",
        "randint",
        "uniform",
        "quniform",
        "loguniform",
        "qloguniform",
        "normal",
        "qnormal",
        "lognormal",
        "qlognormal",
    )
)


def _refuse_file_names(word: str) -> str:
    if _FILE_ENDING.search(word) or ".." in word:
        raise ValueError("reads like a file name, and names of files do not leave the customer")
    return word


Identifier = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_:-]{0,63}$")]
"""An experiment, task, trial, session or base-weights id."""
Key = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_.-]{0,63}$"), AfterValidator(_refuse_file_names)
]
"""The name of a hyper-parameter."""
Word = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9_.,:+=() -]{1,64}$"), AfterValidator(_refuse_file_names)
]
"""The value of a categorical hyper-parameter: a short word, without a path separator."""
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Count = Annotated[int, Field(ge=0, lt=2**31)]
Finite = Annotated[float, Field(ge=-NUMBER_IN_SPACE_LIMIT, le=NUMBER_IN_SPACE_LIMIT, allow_inf_nan=False)]
Coordinate = Annotated[float, Field(ge=-NUMBER_LIMIT, le=NUMBER_LIMIT, allow_inf_nan=False)]
Vector = Annotated[tuple[Coordinate, ...], Field(min_length=PHI_SIZE, max_length=PHI_SIZE)]
"""Exactly 64 finite numbers: φ, φ̃, or a gradient with respect to one of them."""
AveragePrecision = Annotated[float, Field(ge=0.0, le=1.0, allow_inf_nan=False)]
CurvePoint = tuple[Annotated[float, Field(gt=0.0, le=1.0, allow_inf_nan=False)], AveragePrecision]
"""Share of a full training, and AP@50 on val then."""
Seconds = Annotated[float, Field(ge=0.0, le=1e9, allow_inf_nan=False)]
WholeNumber = Annotated[int, Field(ge=-(2**53), le=2**53)]
Parameters = Annotated[
    dict[Key, bool | WholeNumber | Finite | Word], Field(min_length=1, max_length=KEYS_LIMIT)
]
"""One configuration, flat."""
NetworkCosts = Annotated[
    tuple[
        Annotated[
            tuple[Annotated[float, Field(ge=0.0, le=NUMBER_LIMIT, allow_inf_nan=False)], ...],
            Field(min_length=1, max_length=12),
        ],
        ...,
    ],
    Field(min_length=8, max_length=8),
]
"""What all networks have in common costs, then what the blocks of each stage cost, in units of the most that a network may."""
Method = Literal["hyperfd", "hyperfd-gp", "hyperfd-mf"]
"""How configurations are chosen: see :class:`RecommendRequest`."""
Tensors = Annotated[bytes, Field(min_length=1, max_length=TENSOR_BYTES_LIMIT)]
"""Safetensors bytes; names, shapes and numbers are checked by ``tensors.unpack`` against the expected ones."""


_KEY: TypeAdapter[str] = TypeAdapter(Key)
_WORD: TypeAdapter[str] = TypeAdapter(Word)


def _fits(kind: TypeAdapter[str], word: str) -> bool:
    try:
        kind.validate_python(word, strict=True)
    except ValidationError:
        return False
    return True


def _check_space_node(node: JsonValue, depth: int) -> None:
    """Refuse whatever is not an NNI search space, so that the field is no hiding place for other data."""
    if depth > 8:
        raise ValueError("the search space is nested deeper than 8 levels")
    if not isinstance(node, dict):
        raise ValueError("a search space is an object of {key: {_type, _value}}")
    for key, entry in node.items():
        if key == "_name" and depth > 1:
            _check_choice(entry, depth)
            continue
        if not _fits(_KEY, key):
            raise ValueError(f"the search space key {key[:80]!r} is not a short name")
        if not isinstance(entry, dict) or set(entry) != {"_type", "_value"}:
            raise ValueError(f"the search space entry {key!r} must have exactly _type and _value")
        if not (isinstance(entry["_type"], str) and entry["_type"] in _NNI_TYPES):
            raise ValueError(f"the search space entry {key!r} has an unknown _type")
        values = entry["_value"]
        if not isinstance(values, list) or not 1 <= len(values) <= 1024:
            raise ValueError(f"the _value of {key!r} must be a list of 1 to 1024 entries")
        for value in values:
            if isinstance(value, dict):
                _check_space_node(value, depth + 1)
            else:
                _check_choice(value, depth)


def _check_choice(value: JsonValue, depth: int) -> None:
    if isinstance(value, bool | int | float):
        if not abs(value) <= NUMBER_IN_SPACE_LIMIT:  # NaN is not
            raise ValueError(
                f"a number of the search space is not finite or larger than {NUMBER_IN_SPACE_LIMIT:g}"
            )
        return
    if not (isinstance(value, str) and _fits(_WORD, value)):
        raise ValueError(f"the search space value {str(value)[:80]!r} is neither a number nor a short word")


def _check_space(space: dict[str, JsonValue]) -> dict[str, JsonValue]:
    _check_space_node(space, 1)
    if (listed := _values(space)) > VALUES_LIMIT:
        raise ValueError(
            f"the search space lists {listed} values, and at most {VALUES_LIMIT} are taken; write long lists of numbers as quniform or "
            "randint"
        )
    if len(json.dumps(space)) > SPACE_BYTES_LIMIT:
        raise ValueError(f"the search space is larger than {SPACE_BYTES_LIMIT} bytes")
    return space


def _values(node: JsonValue) -> int:
    """How many values a checked search space lists."""
    if isinstance(node, dict):
        return sum(_values(part) for name, part in node.items() if name not in ("_type", "_name"))
    return sum(_values(value) for value in node) if isinstance(node, list) else 1


SearchSpace = Annotated[
    dict[str, JsonValue], Field(min_length=1, max_length=KEYS_LIMIT), AfterValidator(_check_space)
]
"""An NNI search space as its JSON object."""


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
    that it shall not propose again, whether or not the platform has their results. hyperfd-mf proposes which trainings to begin or
    to go on with, best first, by ``progress``; what runs, ended or failed is not among them.

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
        if (self.method == "hyperfd-mf") != (self.progress is not None):
            raise ValueError("method hyperfd-mf goes with a progress, and no other does")
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
    """``kind(**fields)``, with a PlatformError of one sentence in place of pydantic's report."""
    try:
        return kind(**fields)
    except ValidationError as report:
        raise PlatformError(_one_sentence(kind, report)) from None


def parse(kind: type[M], text: str | bytes) -> M:
    """Read a message from JSON text; raises PlatformError where it does not fit."""
    try:
        return kind.model_validate_json(text)
    except ValidationError as report:
        raise PlatformError(_one_sentence(kind, report)) from None


def parse_words(kind: type[M], words: Mapping[str, str]) -> M:
    """Read a message from what an address says of its fields; raises PlatformError where it does not fit."""
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
