"""The facts that Headrace tells, one frozen model per public message.

Event times are milliseconds of the epoch in columns and RFC 3339 texts on the wire. Readers ignore
fields that they do not know (`from_json`), so that a newer writer does not break them; writers
cannot make any.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Annotated, ClassVar, Literal, Self, get_args

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    WithJsonSchema,
    model_validator,
)

Scalar = bool | int | float | str | None
"""A single figure or word of evidence."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def moment(milliseconds: int) -> datetime:
    """The UTC time of epoch milliseconds."""
    return _EPOCH + timedelta(milliseconds=milliseconds)


def rfc3339(time: datetime) -> str:
    """A time as every message writes it: UTC, milliseconds, Z."""
    return time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


Time = Annotated[
    AwareDatetime,
    AfterValidator(lambda time: time.astimezone(UTC)),
    PlainSerializer(rfc3339, return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]
Positions = dict[str, int]
"""`<topic>/<partition>` to the offset up to which (inclusive) its messages had been read."""


class Message(BaseModel):
    """Base of the public messages; `what` and `schema_version` make the CloudEvents type."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    what: ClassVar[str]
    schema_version: ClassVar[int] = 1
    readable: ClassVar[frozenset[int]] = frozenset()
    """Earlier versions whose messages are valid ones of this version, too."""

    @classmethod
    def written(cls, **fields: object) -> Self:
        """A message to send, from fields as they come; ValidationError where one does not fit."""
        return cls.model_validate(fields)

    @classmethod
    def from_json(cls, data: bytes) -> Self:
        """The message of JSON bytes, unknown fields ignored; ValidationError where it is none."""
        return cls.model_validate_json(data, extra="ignore")


class Source(BaseModel):
    """Where a row came in: its identity in the log."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    partition: int = Field(ge=0, description="Partition of the events topic.")
    position: int = Field(ge=0, description="Offset in that partition.")
    row: int = Field(ge=0, description="Row inside a batch message, 0 for a single event.")


class Prediction(Message):
    """An event was scored, or could not be: exactly one per valid event."""

    what: ClassVar[str] = "prediction"
    schema_version: ClassVar[int] = 2
    readable: ClassVar[frozenset[int]] = frozenset({1})

    event_id: str = Field(description="Id of the event.")
    entity: str | None = Field(default=None, description="Entity of the event, if it has one.")
    time: Time = Field(description="Time of the event.")
    value: bool | str | float | None = Field(
        description="The likeliest class, in regression the number; null without a model."
    )
    probability: float | None = Field(
        ge=0,
        le=1,
        description="Of two classes the probability of the second, of several that of the value; null in regression "
        "and without a model.",
    )
    probabilities: dict[str, float] | None = Field(
        default=None,
        exclude_if=lambda value: value is None,
        description="Probability of each class where there are several, by its name.",
    )
    reason: str | None = Field(default=None, description="Why there is no value, else null.")
    pool: int | None = Field(ge=1, description="Version of the pool that scored; null if none.")
    source: Source = Field(description="Where the event came in.")

    @property
    def id(self) -> str:
        """The same for every copy of the prediction."""
        return f"{self.source.partition}-{self.source.position}-{self.source.row}"


DriftKind = Literal["concept", "covariate", "prediction", "label", "bad_data", "recurring", "feature", "schema"]
"""What sort of change it is; the last two are in messages of version 1 only."""

OpenKind = Annotated[DriftKind, WithJsonSchema({"type": "string", "examples": [*get_args(DriftKind)]})]
"""Closed when writing. Subscribers see a text, so that a kind more breaks none of them."""

StreamKind = Literal["numeric", "category", "classes", "score", "loss", "magnitude"]
OpenStreamKind = Annotated[StreamKind, WithJsonSchema({"type": "string", "examples": [*get_args(StreamKind)]})]

MOST_STREAMS, MOST_HISTORY = 5, 120


class StreamChange(BaseModel):
    """How one stream changed: its histogram before and after."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str = Field(description="Feature, score or role, such as price or _prediction.")
    kind: OpenStreamKind = Field(description="What its bins are. Kinds may be added: readers must expect others.")
    share: float = Field(ge=0, le=1, description="Its share of the statistic.")
    effect: float = Field(description="Shift in standard deviations for ordered bins, else total variation, 0 to 1.")
    start: Time = Field(description="Event time at which it probably began to change.")
    bins: tuple[str, ...] = Field(description="What each bin holds, for people.")
    before: tuple[int, ...] = Field(description="Rows of the reference per bin.")
    after: tuple[int, ...] = Field(description="Rows behind the probable start per bin.")
    source: str | None = Field(
        default=None, description="The only source that moved, such as events/2; null where several did."
    )

    @model_validator(mode="after")
    def _counts_every_bin(self) -> Self:
        if not len(self.bins) == len(self.before) == len(self.after):
            raise ValueError(
                f"{len(self.bins)} bins, {len(self.before)} counts before, {len(self.after)} after: must be as many"
            )
        return self


class Statistic(BaseModel):
    """The statistic of a family at the end of a pane."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    at: Time = Field(description="Event time of the pane's end.")
    value: float = Field(description="Logarithm to base 10 of the statistic.")


class DriftEpisode(Message):
    """The judge found that the world had changed, or that the change had ended."""

    what: ClassVar[str] = "drift-episode"
    schema_version: ClassVar[int] = 2
    readable: ClassVar[frozenset[int]] = frozenset({1})

    id: str = Field(description="Id of the episode; its states share it.")
    state: Literal["opened", "closed"] = Field(description="What happened to the episode.")
    family: str = Field(description="What was watched: concept, features, prediction, label or quality.")
    kind: OpenKind = Field(description="What sort of change it is. Kinds may be added: readers must expect others.")
    anchor: int = Field(ge=0, description="Version of the member whose outputs were watched.")
    detector: str = Field(description="Name of the test that spoke, such as adwin.")
    statistic: float = Field(description="Logarithm to base 10 of its statistic; of adwin the rise of the error.")
    threshold: float = Field(description="What it speaks above, likewise; of adwin its delta.")
    detected_at: Time = Field(description="Event time at which the change was certain.")
    estimated_start: Time = Field(description="Event time at which it probably began.")
    rows: int = Field(ge=0, description="Rows from the probable start to the detection.")
    evidence: dict[str, Scalar] = Field(default_factory=dict, description="Figures, by name.")
    positions: Positions = Field(description="Log positions through which it was judged.")
    reason: str = Field(description="One sentence for people.")
    epoch: int = Field(ge=0, description="Epoch of the judge; lower ones are void.")
    streams: tuple[StreamChange, ...] = Field(
        default=(), max_length=MOST_STREAMS, description="The streams that changed most, the leading one first."
    )
    history: tuple[Statistic, ...] = Field(
        default=(), max_length=MOST_HISTORY, description="The statistic at the end of the newest panes, oldest first."
    )
    recurs: int | None = Field(
        default=None, ge=1, description="Version of the member that knew this world; null where none did."
    )


class Cause(BaseModel):
    """What a fit was made for."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["first", "drift", "growth", "operator", "schema"] = Field(description="Sort of trigger.")
    id: str = Field(description="Id of the episode, wish or other trigger.")


SIGNATURE = "ECDSA P-256 over SHA-256 of the other fields in canonical JSON, base64; null where nobody signed it."
KEY_ID = "Id of the key that signed it; null where nobody did."


class Member(Message):
    """A model was fitted, checked and stored."""

    what: ClassVar[str] = "member"

    model: str = Field(description="Name of the model: that of the pipeline.")
    version: int = Field(ge=1, description="Version, counted up per model.")
    uri: str = Field(description="Directory of the artefact in the object store.")
    sha256: str = Field(pattern="^[0-9a-f]{64}$", description="SHA-256 of the model file.")
    manifest_sha256: str = Field(pattern="^[0-9a-f]{64}$", description="SHA-256 of the manifest.")
    digest: str = Field(description="Digest of parameters and warm-up outputs: same model, same.")
    format: Literal["skops"] = Field(default="skops", description="Format of the model file.")
    pipeline_digest: str = Field(description="Digest of the specification that it was fitted for.")
    features: tuple[str, ...] = Field(description="Names of its inputs, in order.")
    trained_through: Positions = Field(description="Log positions of the newest rows that it saw.")
    rows: int = Field(ge=1, description="Rows of the fit.")
    metrics: dict[str, float] = Field(description="Metrics on held-out newest rows, by name.")
    cause: Cause = Field(description="What it was fitted for.")
    epoch: int = Field(ge=0, description="Epoch of the controller; lower ones are void.")
    signed_by: str | None = Field(default=None, description=KEY_ID)
    signature: str | None = Field(default=None, description=SIGNATURE)

    @property
    def key(self) -> str:
        """The key on the compacted topic."""
        return f"{self.model}/member/{self.version}"


class Pool(Message):
    """The pool was composed anew: which members answer from now on."""

    what: ClassVar[str] = "pool"

    model: str = Field(description="Name of the model.")
    version: int = Field(ge=1, description="Version, counted up per model.")
    members: tuple[int, ...] = Field(min_length=1, description="Versions of the members.")
    leader: int = Field(description="Version of the member that leads.")
    anchor: int = Field(description="Version of the member whose outputs drift watches.")
    reference_pane: int = Field(description="Start of the first pane of its reference, epoch ms.")
    weights: dict[int, float] = Field(description="Weight of each member at this moment, sum 1.")
    strategy: Literal["blend", "champion"] = Field(description="How outputs become one.")
    epoch: int = Field(ge=0, description="Epoch of the controller; lower ones are void.")
    signed_by: str | None = Field(default=None, description=KEY_ID)
    signature: str | None = Field(default=None, description=SIGNATURE)
    pinned: int | None = Field(
        default=None, description="Version of the member that answers alone on an operator's wish; null for none."
    )
    cause: Cause | None = Field(default=None, description="What it was composed anew for; null in old messages.")

    @property
    def alone(self) -> int | None:
        """The member whose output is the prediction, None where all members' outputs become one."""
        return self.leader if self.pinned is None and self.strategy == "champion" else self.pinned

    @model_validator(mode="after")
    def _speaks_of_its_members(self) -> Self:
        if self.pinned is not None and self.pinned not in self.members:
            raise ValueError("who is pinned must be a member")
        if not {self.leader, self.anchor} <= set(self.members):
            raise ValueError("leader and anchor must be members")
        if self.weights.keys() != set(self.members):
            raise ValueError("weights must name each member once")
        return self

    @property
    def key(self) -> str:
        """The key on the compacted topic."""
        return f"{self.model}/pool"


Step = Literal[
    "triggered",
    "suppressed",
    "fitted",
    "rejected",
    "announced",
    "refused",
    "swapped",
    "opened",
    "closed",
    "failed",
    "replayed",
    "skewed",
    "quarantined",
    "released",
    "recalled",
    "promoted",
    "pinned",
    "evicted",
    "rolled_back",
    "frozen",
    "unfrozen",
]

OpenStep = Annotated[Step, WithJsonSchema({"type": "string", "examples": [*get_args(Step)]})]
"""Closed when writing. Subscribers see a text, so that a ledger that learns a word breaks none of them."""


class Decision(Message):
    """A service decided something, for these reasons: one line of the ledger."""

    what: ClassVar[str] = "decision"

    subject: str = Field(description="What it is about: an episode, a member, a wish, a feature of a row.")
    step: OpenStep = Field(description="What was decided. Steps may be added: readers must expect others.")
    service: str = Field(description="Who decided.")
    outcome: str = Field(description="What follows, in a few words.")
    reason: str = Field(description="One sentence for people.")
    evidence: dict[str, Scalar] = Field(default_factory=dict, description="Figures, by name.")
    positions: Positions = Field(default_factory=dict, description="Log positions it rests on.")
    time: Time | None = Field(default=None, description="Event time of the decision, if any.")

    @property
    def id(self) -> str:
        """The same for every copy of the decision."""
        return f"{self.subject}:{self.step}"


class Wish(Message):
    """An operator wished something."""

    what: ClassVar[str] = "wish"

    id: str = Field(description="Id of the wish, chosen by whoever sends it.")
    kind: Literal["retrain", "pin", "evict", "rollback", "freeze", "unfreeze", "release"] = Field(
        description="What is wished."
    )
    subject: str = Field(description="Model, member or episode that it is about.")
    who: str = Field(min_length=1, description="Who wishes it.")
    reason: str = Field(min_length=1, description="Why.")


class PipelineAnnounced(Message):
    """A pipeline started with this specification."""

    what: ClassVar[str] = "pipeline-announced"

    name: str = Field(description="Name of the pipeline.")
    digest: str = Field(pattern="^[0-9a-f]{16}$", description="Digest of the specification.")
    text: str = Field(description="The file, as it was written.")
    partitions: int | None = Field(default=None, ge=1, description="P, the internal partitions.")


class DeadLetter(Message):
    """A message or row was refused. Sent as Kafka headers beside the original bytes and headers."""

    what: ClassVar[str] = "dead-letter"
    prefix: ClassVar[str] = "headrace-"
    seldom: ClassVar[frozenset[str]] = frozenset({"errors", "cut"})
    """Fields that have a header only where they say something."""

    topic: str = Field(description="Topic of the refused message.")
    partition: int = Field(ge=0, description="Its partition.")
    offset: int = Field(ge=0, description="Its offset.")
    row: int = Field(default=0, ge=0, description="Row inside a batch message.")
    reason: str = Field(description="Reason code, stable for programs.")
    path: str = Field(default="$", description="Place in the message.")
    message: str = Field(description="One sentence for people.")
    pipeline: str = Field(description="Digest of the specification that refused it.")
    errors: str = Field(
        default="", description="All errors, a JSON list of {code, path, message}, where there are several."
    )
    cut: int = Field(
        default=0, ge=0, description="Bytes of the original, where it was too large to keep more than its beginning."
    )

    @property
    def id(self) -> str:
        """The same for every copy of the dead letter."""
        return f"{self.topic}/{self.partition}/{self.offset}/{self.row}"

    def headers(self) -> list[tuple[str, bytes]]:
        """The Kafka headers: one per field, UTF-8 text, with a prefix that keeps them apart from the original's."""
        fields = self.model_dump(exclude={name for name in self.seldom if not getattr(self, name)})
        return [(self.prefix + name, str(value).encode(errors="replace")) for name, value in fields.items()]

    @classmethod
    def from_headers(cls, headers: Iterable[tuple[str, bytes]]) -> Self:
        """The dead letter of such headers; ValidationError where one is missing."""
        found = {name: value.decode(errors="replace") for name, value in headers if name.startswith(cls.prefix)}
        fields = {name.removeprefix(cls.prefix): value for name, value in found.items()}
        return cls.model_validate({name: value for name, value in fields.items() if name in cls.model_fields})


MESSAGES: tuple[type[Message], ...] = (
    Prediction,
    DriftEpisode,
    Member,
    Pool,
    Decision,
    Wish,
    PipelineAnnounced,
    DeadLetter,
)
"""Every public message; JSON Schemas are generated from this list."""
