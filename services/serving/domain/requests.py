"""What a caller may ask over HTTP, and what is wrong with a request: what, where, and the mend."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from schemas.beside import ONLINE
from schemas.events import FieldError, Reason, Rejection, arrow_schema, event_decoder, to_columns
from schemas.expressions import Expressions
from schemas.pipeline import Pipeline
from schemas.task import THRESHOLD, Target

Vector = npt.NDArray[np.float64]

MOST_EVENTS = 4_000


class Problem(msgspec.Struct, frozen=True):
    """One thing that is wrong with a request."""

    code: str
    what: str
    where: str
    mend: str


class Wrong(Exception):
    """A request that cannot be answered, with every problem that was found."""

    def __init__(self, problems: Sequence[Problem], status: int = 400) -> None:
        super().__init__("; ".join(each.what for each in problems))
        self.problems, self.status = list(problems), status


class Asked(NamedTuple):
    """What a request asks.

    Attributes:
        events: Its events.
        features: Their features.
        outputs: Whether each member's output is to be told, too.
    """

    events: list[msgspec.Struct]
    features: pa.RecordBatch
    outputs: bool


class _Request(msgspec.Struct, forbid_unknown_fields=True):
    events: list[msgspec.Raw]
    outputs: bool = False


_MENDS = {
    Reason.MISSING_FIELD: "add the field; fields may only be left out where pipeline.yaml says nullable",
    Reason.UNKNOWN_FIELD: "remove the field, or declare it in pipeline.yaml",
    Reason.NULL_VALUE: "give a value; null is for fields that pipeline.yaml calls nullable",
    Reason.WRONG_TYPE: "send the type that pipeline.yaml declares",
    Reason.OUT_OF_RANGE: "stay within the bounds that pipeline.yaml declares",
    Reason.DUPLICATE_KEY: "send each field once",
    Reason.NOT_AN_OBJECT: "send a JSON object per event",
    Reason.TOO_LARGE: "send less per event",
}
_FORM = 'send {"events": [{...}, ...]}, and "outputs": true to see what each member says'


class Reader:
    """Makes feature rows of requests, the way that ingestion and features make them of events.

    Args:
        spec: The pipeline.
    """

    def __init__(self, spec: Pipeline) -> None:
        self._spec = spec
        self._event = event_decoder(spec)
        self._schema = arrow_schema(spec)
        self._expressions = Expressions(spec)
        self._windowed = spec.longest_window > 0
        self._request = msgspec.json.Decoder(_Request)

    def read(self, body: bytes) -> Asked:
        """The events of a request and their features.

        Raises:
            Wrong: With the problems of all events.
        """
        if self._windowed:
            what = "this pipeline has windows over earlier events, which a request does not bring; not supported yet"
            raise Wrong([Problem("windows", what, "$", "send the event to the topic of events")], 501)
        request = self._asked(body)
        events = self._events(request.events)
        batch = pa.RecordBatch.from_arrays(to_columns(events, self._spec), schema=self._schema)
        features = self._expressions.compute(pl.DataFrame(pl.from_arrow(batch)))
        rows = features.rechunk().to_arrow().combine_chunks().to_batches(max_chunksize=None)[0]
        return Asked(events, rows, request.outputs)

    def _asked(self, body: bytes) -> _Request:
        try:
            request = self._request.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise Wrong([Problem("not_a_request", str(error), "$", _FORM)]) from None
        if not request.events:
            raise Wrong([Problem("empty", "there are no events", "$.events", _FORM)])
        if len(request.events) > MOST_EVENTS:
            what = f"{len(request.events)} events; at most {MOST_EVENTS} are taken at once"
            raise Wrong([Problem(Reason.TOO_LARGE, what, "$.events", "send several requests")], 413)
        return request

    def _events(self, raw: Sequence[msgspec.Raw]) -> list[msgspec.Struct]:
        read = [self._event.decode(bytes(each)) for each in raw]
        problems = [
            _problem(index, error)
            for index, each in enumerate(read)
            if isinstance(each, Rejection)
            for error in each.errors
        ]
        if problems:
            raise Wrong(problems)
        return [each for each in read if not isinstance(each, Rejection)]


def _problem(index: int, found: FieldError) -> Problem:
    where = f"$.events[{index}]{found.path.removeprefix('$')}"
    return Problem(found.code, found.message, where, _MENDS.get(found.code, _FORM))


def answers(events: Sequence[msgspec.Struct], outputs: Vector, spec: Pipeline) -> list[dict[str, Any]]:
    """One prediction per event, in the order of the request.

    Args:
        events: The events.
        outputs: What the pool says, shape (rows, K).
        spec: The pipeline.
    """
    name, tell = spec.events.id, _TOLD[spec.task]
    finite: npt.NDArray[np.bool_] = np.all(np.isfinite(outputs), axis=1)
    return [
        {
            **({} if name is None else {"event_id": getattr(event, name)}),
            **(tell(output, spec.target) if known else _NOTHING),
        }
        for event, output, known in zip(events, outputs.tolist(), finite.tolist(), strict=True)
    ]


def told_by(members: Sequence[int], outputs: Vector) -> list[dict[str, dict[str, Any]]]:
    """Each member's output for each event: a number, or K of them; null where it gave no finite one.

    Args:
        members: Versions of the members.
        outputs: Shape (events, members, K).
    """
    plain = outputs[:, :, 0] if outputs.shape[2] == 1 else outputs
    names = ["online" if each == ONLINE else str(each) for each in members]
    return [{"outputs": dict(zip(names, row, strict=True))} for row in plain.tolist()]


def _of_two(output: Sequence[float], target: Target) -> dict[str, Any]:
    return {"value": target.classes[output[0] >= THRESHOLD], "probability": output[0]}


def _of_several(output: Sequence[float], target: Target) -> dict[str, Any]:
    likeliest = max(range(len(output)), key=output.__getitem__)
    probabilities = dict(zip(target.names, output, strict=True))
    return {"value": target.names[likeliest], "probability": output[likeliest], "probabilities": probabilities}


def _of_number(output: Sequence[float], target: Target) -> dict[str, Any]:  # noqa: ARG001 - one shape
    return {"value": output[0], "probability": None}


_NOTHING = {"value": None, "probability": None}
_TOLD = {"binary": _of_two, "multiclass": _of_several, "regression": _of_number}
