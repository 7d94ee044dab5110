"""The specification of a pipeline: what every key of pipeline.yaml may say.

The whole language parses here. What this version cannot do yet is refused with the words "not
supported yet", because a key that is silently ignored is worse than one that does not exist.
"""

from __future__ import annotations

import hashlib
import json
import re
from functools import cached_property
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from schemas.checks import compiled, contradictions, windowed
from schemas.quantities import Duration, PositiveDuration, Rate, RateText, duration, milliseconds, positive
from schemas.task import ESTIMATORS, METRICS, MOST_CLASSES, Target, Task

DAY = 86_400_000
ONLINE = ("none", "hoeffding_adaptive_tree", "logistic_regression")

FieldName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,62}$", strict=True)]
FeatureName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_]{0,62}$", strict=True)]
FieldType = Literal["number", "integer", "boolean", "category", "text", "timestamp"]
FeatureType = Literal["number", "category"]


def _unquoted(value: object) -> object:
    """Refuse the numbers and booleans that YAML makes of bare words such as `yes` or `1`."""
    if isinstance(value, (bool, int, float)):
        raise ValueError(f"YAML reads this as {value!r}; put quotes around it to make it a text")  # noqa: TRY004 - pydantic wants it
    return value


def _expression(value: object) -> object:
    if not isinstance(value, (str, dict)):
        raise ValueError("is not a SQL expression; put quotes around one that holds a comma")  # noqa: TRY004 - pydantic wants it
    return value


Definition = Annotated[str | dict[str, Any], BeforeValidator(_expression)]
Category = Annotated[str, BeforeValidator(_unquoted), StringConstraints(min_length=1, max_length=1_000)]


def later(what: str, mend: str) -> ValueError:
    """The refusal of something that the language has and this version has not."""
    return ValueError(f"{what} is not supported yet; {mend}")


class Spec(BaseModel):
    """Base of every block of the file: frozen, and closed to keys that it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class FieldSpec(Spec):
    """One field of an event: its type and what its values may be."""

    type: FieldType = Field(description="Type of the field's values.")
    nullable: bool = Field(default=False, description="The field may be null or absent.")
    min: float | None = Field(default=None, description="Smallest value accepted.")
    max: float | None = Field(default=None, description="Largest value accepted.")
    values: tuple[Category, ...] | None = Field(
        default=None, min_length=1, max_length=1_000, description="The only values accepted."
    )
    unit: str | None = Field(default=None, description="Unit, for readers.")
    max_length: int | None = Field(default=None, ge=1, le=1_000_000, description="Longest text accepted, characters.")

    @model_validator(mode="after")
    def _fits_its_type(self) -> Self:
        numeric, text = self.type in {"number", "integer"}, self.type in {"category", "text"}
        if not numeric and (self.min is not None or self.max is not None):
            raise ValueError(f"min and max are for number and integer, not for {self.type}")
        if not text and (self.values is not None or self.max_length is not None):
            raise ValueError(f"values and max_length are for category and text, not {self.type}")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min {self.min:g} is above max {self.max:g}: no value could pass")
        if self.values is not None and len(set(self.values)) < len(self.values):
            raise ValueError("values holds the same value twice")
        return self


class EventsSpec(Spec):
    """What an event looks like."""

    time: FieldName | None = Field(default=None, description="Field with the event time; absent: the Kafka timestamp.")
    id: FieldName | None = Field(default=None, description="Field with the id; absent: <topic>/<partition>/<offset>.")
    entity: FieldName | None = Field(default=None, description="Field with the entity whose rows stay in order.")
    fields: dict[FieldName, FieldSpec] = Field(min_length=1, description="Fields of an event.")


class LabelsSpec(Spec):
    """What a label looks like, and how late it may be."""

    id: FieldName = Field(description="Field that names the labelled event.")
    time: FieldName | None = Field(default=None, description="Field with the time at which the label was known.")
    revision: FieldName | None = Field(
        default=None, description="Field with the label's revision: a higher one corrects an earlier label."
    )
    mature: Duration = Field(default=0, description="Only 0s so far.")
    field: FieldName = Field(description="Field with the label itself.")
    type: FieldType = Field(description="boolean or category; in regression number or integer.")
    values: tuple[Category, ...] | None = Field(
        default=None,
        max_length=MOST_CLASSES,
        description="The classes of a category label: two, the second of which is the positive one; with "
        "`task: multiclass` three or more.",
    )
    horizon: PositiveDuration = Field(description="How late a label may be.")
    absent: str | bool | int | float = Field(
        default="unlabelled",
        description="What no label by the horizon means: `unlabelled` (no example), or a value of the label.",
    )

    @field_validator("mature")
    @classmethod
    def _matures_at_once(cls, value: int) -> int:
        if value:
            raise later("labels.mature other than 0s", "leave it out")
        return value


class WindowsSpec(Spec):
    """State of the window features."""

    per: Literal["entity", "partition"] = Field(
        default="entity", description="Owner of a window; without events.entity write `partition`, or run with one."
    )
    entities: int = Field(
        default=1_000_000, ge=1, description="Most entities kept per partition; rows of more have no windows."
    )


OF_PACKAGE = r"^[A-Za-z_][A-Za-z0-9_.]*:[A-Za-z_][A-Za-z0-9_]*$"
"""module:Class of an estimator that another package brings."""


def _all(by_task: dict[Task, tuple[str, ...]]) -> list[str]:
    return list(dict.fromkeys(name for names in by_task.values() for name in names))


class ModelSpec(Spec):
    """What is fitted, and what it is judged by."""

    estimator: str = Field(
        default="hist_gradient_boosting",
        description="Name of the estimator, or module:Class of an installed package.",
        json_schema_extra={"anyOf": [{"enum": [*_all(ESTIMATORS)]}, {"pattern": OF_PACKAGE}]},
    )
    params: dict[str, bool | int | float | str | None] = Field(
        default_factory=dict, description="Parameters of the estimator."
    )
    metric: str | None = Field(
        default=None,
        description="What a model is judged by; left out: log_loss, in regression rmse.",
        json_schema_extra={"enum": [*_all(METRICS), None]},
    )
    online: str = Field(
        default="none",
        description="Learner by river beside the members, which learns from every label; for classes and `blend`.",
        json_schema_extra={"enum": list(ONLINE)},
    )

    @field_validator("estimator")
    @classmethod
    def _known_estimator(cls, value: str) -> str:
        if value not in (known := _all(ESTIMATORS)) and not re.fullmatch(OF_PACKAGE, value):
            raise ValueError(f"{value!r} is no estimator: write one of {', '.join(known)}, or module:Class")
        return value

    @field_validator("metric")
    @classmethod
    def _known_metric(cls, value: str | None) -> str | None:
        if value is not None and value not in (known := _all(METRICS)):
            raise later(f"metric {value!r}", f"write one of {', '.join(known)}")
        return value

    @field_validator("online", mode="before")
    @classmethod
    def _known_online(cls, value: object) -> str:
        if value is not None and value not in ONLINE:
            raise ValueError(f"{value!r} is no online member: write one of {', '.join(ONLINE)}")
        return str(value or "none")


class DriftSpec(Spec):
    """How the drift monitors count."""

    false_alarms: RateText = Field(
        default=Rate(count=1, per_ms=30 * DAY), description="Most false alarms, of all monitors together."
    )
    pane: PositiveDuration = Field(default=60_000, description="Event-time bucket in which counts are merged.")
    lateness: Duration = Field(default=60_000, description="How long a pane waits for rows that come late.")
    settle: int = Field(default=1_000, ge=1, description="Labelled rows behind a change before a fit.")
    seasonality: tuple[Literal["hour_of_day", "day_of_week"], ...] = Field(
        default=(), max_length=2, description="Cycles of the stream: what each hour or day is compared with is its own."
    )


class Mixed(Spec):
    """Rows of all times: the newest half of so many, and as many of all that are older."""

    mixed: int = Field(description="Rows: the newest half, and a uniform sample of the older ones.")


LEAST_ROWS = 20
ROWS = (
    "write a number of rows such as 20000, a duration such as 7d, `all`, or {mixed: 20000}; "
    f"{LEAST_ROWS} rows are the least"
)


def _rows(value: object) -> object:
    """Rows as people write them; a duration comes out in its largest unit."""
    mixed = isinstance(value, dict) and set(value) == {"mixed"}
    count = value["mixed"] if mixed else value  # type: ignore[index]
    if isinstance(value, Mixed) or value == "all" or (type(count) is int and count >= LEAST_ROWS):
        return value
    try:
        return duration(positive(milliseconds(value)))
    except ValueError:
        raise ValueError(ROWS) from None


Rows = Annotated[
    int | str | Mixed,
    BeforeValidator(_rows),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": LEAST_ROWS},
                {"type": "string", "pattern": r"^(all|\d+\s*(ms|s|m|h|d))$"},
                {
                    "type": "object",
                    "properties": {"mixed": {"type": "integer", "minimum": LEAST_ROWS}},
                    "required": ["mixed"],
                    "additionalProperties": False,
                },
            ],
            "examples": [20000, "7d", "all", {"mixed": 20000}],
        }
    ),
]


class TrainingSpec(Spec):
    """When a model is fitted and on how much."""

    min_rows: int = Field(default=2_000, ge=20, description="Labelled rows for the first fit.")
    window: Rows = Field(
        default=20_000,
        description=(
            "Labelled rows of a fit: the newest so many; those of a duration; `all`; or {mixed: rows}, the newest half "
            "of so many and a uniform sample of the older ones."
        ),
    )
    cooldown: Duration = Field(default=600_000, description="Rest between two fits.")
    fits: RateText = Field(default=Rate(count=24, per_ms=DAY), description="Most fits.")

    @model_validator(mode="after")
    def _window_holds_the_minimum(self) -> Self:
        rows = self.window.mixed if isinstance(self.window, Mixed) else self.window
        if isinstance(rows, int) and rows < self.min_rows:
            raise ValueError(f"window ({rows}) must not be below min_rows ({self.min_rows})")
        return self


class StrategySpec(Spec):
    """How the members' outputs become one prediction."""

    name: Literal["blend", "champion"] = Field(
        default="blend", description="`blend`: all answer, by the weight that labels give them; `champion`: one rules."
    )
    members: int = Field(
        default=6,
        ge=1,
        le=64,
        description="Most members of the pool; with 1 each fit replaces the one before.",
    )
    alpha: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="For `champion`: most wrong promotions, as a share; absent: 0.05.",
    )
    max_rows: int | None = Field(
        default=None, ge=100, description="For `champion`: rows after which a challenger is given up; absent: 20000."
    )

    @model_validator(mode="after")
    def _fits_its_name(self) -> Self:
        if self.name == "blend" and (self.alpha is not None or self.max_rows is not None):
            raise ValueError("alpha and max_rows are for champion: remove them, or write `name: champion`")
        if self.name == "champion" and self.members == 1:
            raise ValueError("champion needs a challenger beside the champion: write `members: 2` or more")
        return self


class Pipeline(Spec):
    """One pipeline, as its file describes it: the language that all services share."""

    pipeline: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,62}$")] = Field(
        description="Name; topics are called <pipeline>.<topic>.v1."
    )
    task: Task = Field(description="What is predicted: one of two classes, one of several, or a number.")
    events: EventsSpec
    labels: LabelsSpec
    features: dict[FeatureName, Definition] = Field(
        min_length=1, max_length=1_000, description="SQL expression over the event or window, by name."
    )
    windows: WindowsSpec = WindowsSpec()
    model: ModelSpec = ModelSpec()
    drift: DriftSpec = DriftSpec()
    training: TrainingSpec = TrainingSpec()
    strategy: StrategySpec = StrategySpec()

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Self:
        if self.model.online != "none" and (self.task == "regression" or self.strategy.name == "champion"):
            what = "is for classes, not for regression" if self.task == "regression" else "is for the strategy blend"
            raise Contradictions([(("model", "online"), f"{self.model.online} {what}; remove it")])
        if found := contradictions(self):
            raise Contradictions(found)
        return self

    @cached_property
    def digest(self) -> str:
        """First 16 hex digits of the SHA-256 of the specification, formatting and comments aside.

        The order of fields and features counts, because it is the order of the columns.
        """
        text = json.dumps(self.model_dump(mode="json"), separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def longest_window(self) -> int:
        """How far a feature looks back, late rows and whole panes included, milliseconds; 0: none does."""
        return max((each.reach(self.drift.lateness) for each in windowed(self).values()), default=0)

    @property
    def windows_by_entity(self) -> bool:
        """Whether an entity owns a window; else its partition does."""
        return self.windows.per == "entity" and self.events.entity is not None

    @property
    def metric(self) -> str:
        """What a model is judged by."""
        return self.model.metric or METRICS[self.task][0]

    @cached_property
    def target(self) -> Target:
        """What is predicted, as numbers."""
        return Target(self.task, self.classes)

    @cached_property
    def classes(self) -> tuple[bool | str, ...]:
        """The label's values, none in regression; of two, a probability is that of the second."""
        if self.task == "regression":
            return ()
        return self.labels.values if self.labels.values is not None else (False, True)

    @cached_property
    def absent_label(self) -> float | None:
        """What no label by the horizon means, as `_label` says it; None where such a row is unlabelled."""
        absent = self.labels.absent
        if self.task == "regression":
            return float(absent) if isinstance(absent, (int, float)) and not isinstance(absent, bool) else None
        given = [type(each) is type(absent) and each == absent for each in self.classes]
        return given.index(True) if True in given else None

    @cached_property
    def event_fields(self) -> dict[str, FieldSpec]:
        """Every field of an event, the id that need not be listed included, in column order."""
        name = self.events.id
        if name is None or name in self.events.fields:
            return dict(self.events.fields)
        return {name: IMPLICIT_ID, **self.events.fields}

    @cached_property
    def label_fields(self) -> dict[str, FieldSpec]:
        """Every field of a label: id, entity, time and revision where the pipeline has them, and the label."""
        labels, fields = self.labels, {self.labels.id: IMPLICIT_ID}
        if (entity := self.events.entity) is not None:
            fields[entity] = self.events.fields[entity]
        if labels.time is not None:
            fields[labels.time] = FieldSpec(type="timestamp")
        if labels.revision is not None:
            fields[labels.revision] = FieldSpec(type="integer", min=0)
        fields[labels.field] = FieldSpec(type=labels.type, values=labels.values)
        return fields

    @cached_property
    def feature_types(self) -> dict[str, FeatureType]:
        """What a model sees of each feature: numbers and booleans are `number`."""
        kinds = {name: expression.kind for name, expression in compiled(self).items()}
        return {name: "category" if kinds.get(name) == "text" else "number" for name in self.features}


IMPLICIT_ID = FieldSpec(type="text", max_length=256)


class Contradictions(ValueError):
    """Keys that are each well formed and do not go together: (place, message) pairs."""

    def __init__(self, found: list[tuple[tuple[str, ...], str]]) -> None:
        super().__init__("; ".join(f"{'.'.join(place)}: {text}" for place, text in found))
        self.found = found
