"""What the AsyncAPI document says of messages: content type, key, headers, payload and an example of each."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pydantic.json_schema import models_json_schema

from schemas.cloudevents import CONTENT_TYPE, DATA_TYPE, MEDIA_TYPE, PREFIX, STRUCTURED, Form, dataschema_of, type_of
from schemas.contract import ARROW_STREAM, NDJSON, event_model, label_model
from schemas.event_examples import event_example, label_example
from schemas.messages import MESSAGES, DeadLetter, Message
from schemas.public import Example, examples, open_up
from schemas.topics import BY_NAME

if TYPE_CHECKING:
    from collections.abc import Iterator

    from schemas.spec import Pipeline

BINDING = "0.5.0"
"""Version of the Kafka binding."""

SCHEMAS = "#/components/schemas/"
TEXT = {"type": "string"}


def components(spec: Pipeline, form: Form) -> dict[str, Any]:
    """Every message on a public topic, and every schema that they refer to."""
    return {
        "messages": {**_inputs(spec), **_outputs(spec, form)},
        "schemas": {**_schemas(spec), "CloudEvent": _ENVELOPE},
    }


def _inputs(spec: Pipeline) -> dict[str, Any]:
    return {**_shapes("Event", "events", event_example(spec)), **_shapes("Label", "labels", label_example(spec))}


def _shapes(name: str, topic: str, example: dict[str, Any]) -> dict[str, Any]:
    """The forms in which an event or a label may come."""
    payload, one = {"$ref": SCHEMAS + name}, name.lower()
    event = {"specversion": "1.0", "id": "1", "source": "/partner", "type": f"partner.{one}", "data": example}
    forms = [
        (
            name,
            f"One {one} as JSON, bare or as a binary CloudEvent (ce_ headers).",
            DATA_TYPE,
            payload,
            example,
        ),
        (f"{name}CloudEvent", f"One {one} as the data of a CloudEvent.", MEDIA_TYPE, _enveloped(payload), event),
        (f"{name}Lines", f"Many {topic}: one JSON object per line.", NDJSON, TEXT, json.dumps(example) + "\n"),
        (f"{name}Arrow", f"Many {topic}: an Arrow IPC stream with one column per field.", ARROW_STREAM, TEXT, None),
    ]
    return {
        title: {
            **_message(title, summary, kind, body, "any; rows are routed by what they say"),
            **({} if shown is None else {"examples": [{"name": "example", "payload": shown}]}),
        }
        for title, summary, kind, body, shown in forms
    }


def _outputs(spec: Pipeline, form: Form) -> dict[str, Any]:
    said = {type(each.message): each for each in examples(spec, form)}
    return {model.__name__: _output(model, said[model]) for model in MESSAGES}


def _output(model: type[Message], example: Example) -> dict[str, Any]:
    summary, key = (model.__doc__ or "").partition("\n")[0], BY_NAME[example.topic].key
    if model is DeadLetter:
        body: dict[str, Any] = {"description": "The bytes of the refused message, untouched."}
        found = _message(model.__name__, summary, "application/octet-stream", body, key)
        return {**found, "headers": {"$ref": SCHEMAS + "DeadLetterHeaders"}, "examples": [_shown(example)]}
    payload = {"$ref": SCHEMAS + model.__name__}
    kind, body = (MEDIA_TYPE, _enveloped(payload, model)) if example.headers == STRUCTURED else (DATA_TYPE, payload)
    headers = _header_schema(example, model)
    return {**_message(model.__name__, summary, kind, body, key), "headers": headers, "examples": [_shown(example)]}


def _message(name: str, summary: str, kind: str, payload: dict[str, Any], key: str) -> dict[str, Any]:
    return {
        "name": name,
        "title": name,
        "summary": summary,
        "contentType": kind,
        "payload": payload,
        "bindings": {"kafka": {"key": {"type": "string", "description": key}, "bindingVersion": BINDING}},
    }


def _shown(example: Example) -> dict[str, Any]:
    value = example.value.decode()
    payload = value if isinstance(example.message, DeadLetter) else json.loads(value)
    return {"name": "golden", "headers": {name: text.decode() for name, text in example.headers}, "payload": payload}


def _enveloped(data: dict[str, Any], model: type[Message] | None = None) -> dict[str, Any]:
    own: dict[str, Any] = {"data": data}
    if model is not None:
        own |= {"type": {"const": type_of(model)}, "dataschema": {"const": dataschema_of(model)}}
    return {"allOf": [{"$ref": SCHEMAS + "CloudEvent"}, {"type": "object", "required": ["data"], "properties": own}]}


def _header_schema(example: Example, model: type[Message]) -> dict[str, Any]:
    """What an example's headers have is what every message's headers have: all but the ids and times are constant."""
    fixed = {"content-type": dict(example.headers)["content-type"].decode(), f"{PREFIX}type": type_of(model)}
    names = [name for name, _ in example.headers]
    return {
        "type": "object",
        "required": names,
        "properties": {name: {"const": fixed[name]} if name in fixed else TEXT for name in names},
    }


_ENVELOPE = {
    "type": "object",
    "description": f"A CloudEvent 1.0 in structured JSON ({CONTENT_TYPE.decode()}); its data is the message.",
    "required": ["specversion", "id", "source", "type"],
    "properties": {
        "specversion": {"const": "1.0"},
        "id": {"type": "string", "minLength": 1, "description": "The same for every copy of the message."},
        "source": {"type": "string", "minLength": 1, "format": "uri-reference", "description": "Who says it."},
        "type": {"type": "string", "minLength": 1, "description": "What it is, with its version."},
        "subject": {"type": "string", "minLength": 1, "description": "What it is about."},
        "time": {"type": "string", "format": "date-time", "description": "Event time."},
        "datacontenttype": {"type": "string"},
        "dataschema": {"type": "string", "format": "uri", "description": "The schema of the data, version last."},
        "traceparent": {"type": "string", "description": "W3C trace context of whoever produced the event."},
    },
}


# --- schemas ----------------------------------------------------------------------------------


def _schemas(spec: Pipeline) -> dict[str, Any]:
    template = SCHEMAS + "{model}"
    written = [(model, "serialization") for model in MESSAGES if model is not DeadLetter]
    found: dict[str, Any] = models_json_schema(written, ref_template=template)[1]["$defs"]  # type: ignore[arg-type]
    open_up(found.values())
    found["DeadLetterHeaders"] = dead_letter_headers()
    for name, model in (("Event", event_model(spec)), ("Label", label_model(spec))):
        found[name] = model.model_json_schema(by_alias=True, ref_template=template)
    return found


def dead_letter_headers() -> dict[str, Any]:
    """The headers of a dead letter: those of the refused message, and ours as texts."""
    fields = DeadLetter.model_fields
    return {
        "type": "object",
        "description": "The headers of the refused message, and these as UTF-8 texts.",
        "required": [DeadLetter.prefix + name for name in fields if name not in DeadLetter.seldom],
        "properties": dict(_letter_properties()),
    }


def _letter_properties() -> Iterator[tuple[str, dict[str, Any]]]:
    for name, field in DeadLetter.model_fields.items():
        digits = {"pattern": "^[0-9]+$"} if field.annotation is int else {}
        yield DeadLetter.prefix + name, {"type": "string", "description": field.description, **digits}
