"""The page for people of `headrace contract`: one HTML file that needs nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from importlib import resources
from string import Template
from typing import Any

from headrace.dead_letters.mends import mend
from schemas.asyncapi import document
from schemas.cloudevents import Form
from schemas.contract import event_model, label_model
from schemas.event_examples import event_example, label_example
from schemas.generate import schema_of
from schemas.messages import DeadLetter, Message
from schemas.pipeline import FieldSpec, Pipeline
from schemas.public import CARRIED, Example, examples
from schemas.reasons import reasons
from schemas.topics import DAY_MS, TOPICS, Topic

Cells = Sequence[str]


def page(spec: Pipeline, form: Form) -> str:
    """The page; every text that comes from the pipeline is escaped."""
    text = resources.files("headrace").joinpath("contract_page.html").read_text(encoding="utf-8")
    parts = {
        "name": spec.pipeline,
        "digest": spec.digest,
        "task": spec.task,
        "label": spec.labels.field,
        "horizon": _span(spec.labels.horizon),
    }
    html = {
        "topics": _table(("topic", "you", "one message is", "key", "partitions", "kept"), _topics(spec)),
        "event": _payload(event_model(spec).model_json_schema(by_alias=True), spec.event_fields),
        "label_fields": _payload(label_model(spec).model_json_schema(by_alias=True), spec.label_fields),
        "event_example": _code(event_example(spec)),
        "label_example": _code(label_example(spec)),
        "messages": "\n".join(_messages(spec, form)),
        "reasons": _table(("reason", "what was wrong", "what to do"), _reasons()),
        "form": escape(_FORMS[form]),
    }
    return Template(text).substitute({name: escape(each) for name, each in parts.items()} | html)


_FORMS: Mapping[Form, str] = {
    "structured": "The value is a CloudEvent 1.0 in structured JSON, the message is its `data`.",
    "binary": (
        "The value is the message; the attributes of its CloudEvent 1.0 are headers that begin with ce_. Where the "
        "content type is application/cloudevents+json, the value is the whole event and the message is its `data`."
    ),
}

# --- topics -----------------------------------------------------------------------------------


def _topics(spec: Pipeline) -> Iterator[Cells]:
    for topic in TOPICS:
        if topic.public:
            verb = "write" if topic.public == "in" else "read"
            cells = (topic.message, topic.key, topic.partitions, _kept(topic))
            yield (_mono(topic.physical(spec.pipeline)), verb, *map(escape, cells))


def _kept(topic: Topic) -> str:
    if topic.compacted:
        return "newest per key, for ever"
    return "for ever" if topic.retention == "forever" else f"{topic.days} days"


def _span(milliseconds: int) -> str:
    for unit, size in (("day", DAY_MS), ("hour", 3_600_000), ("minute", 60_000), ("second", 1_000)):
        if milliseconds % size == 0:
            count = milliseconds // size
            return f"{count} {unit}{'' if count == 1 else 's'}"
    return f"{milliseconds} ms"


# --- events and labels ------------------------------------------------------------------------


def _payload(schema: Mapping[str, Any], fields: Mapping[str, FieldSpec]) -> str:
    rows = (
        (_mono(name), field.type, escape(field.unit or ""), escape(_bounds(field)), _null(field), _said(schema, name))
        for name, field in fields.items()
    )
    return _table(("field", "type", "unit", "bounds", "may be null or absent", "meaning"), rows)


def _bounds(field: FieldSpec) -> str:
    if field.values is not None:
        return "one of " + ", ".join(field.values)
    given = {"≥": field.min, "≤": field.max}
    bounds = [f"{sign} {bound:g}" for sign, bound in given.items() if bound is not None]
    return ", ".join([*bounds, *([f"at most {field.max_length} characters"] if field.max_length else [])])


def _null(field: FieldSpec) -> str:
    return "yes" if field.nullable else "no"


def _said(schema: Mapping[str, Any], name: str) -> str:
    return escape(str(schema["properties"][name].get("description", "")))


# --- messages ---------------------------------------------------------------------------------


def _messages(spec: Pipeline, form: Form) -> Iterator[str]:
    said = {type(each.message): each for each in examples(spec, form)}
    kinds = {name: each["contentType"] for name, each in document(spec, form)["components"]["messages"].items()}
    for topic in TOPICS:
        for model in CARRIED.get(topic.name, ()):
            yield _message(topic.physical(spec.pipeline), model, said[model], kinds[model.__name__])


def _message(topic: str, model: type[Message], example: Example, kind: str) -> str:
    schema = schema_of(model)
    summary = escape((model.__doc__ or "").partition("\n")[0])
    prefix = DeadLetter.prefix if model is DeadLetter else ""
    rows = (
        (_mono(prefix + name), escape(kind_of(part, schema)), escape(str(part.get("description", ""))))
        for name, part in schema["properties"].items()
    )
    shown = {"key": example.key, "headers": {name: text.decode() for name, text in example.headers}}
    return (
        f'<h3 id="{escape(model.what)}">{escape(model.__name__)}, version {model.schema_version}</h3>\n'
        f"<p>{summary} On {_mono(topic)}, content type {_mono(kind)}.</p>\n"
        f"{_table(('field', 'type', 'meaning'), rows)}\n"
        f"<details><summary>Example</summary>{_code(shown)}{_code(_value(example))}</details>"
    )


def _value(example: Example) -> Any:
    try:
        return json.loads(example.value)
    except ValueError:
        return example.value.decode()


def kind_of(part: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    """A schema's type in words, bounds included."""
    if "$ref" in part:
        inner = schema["$defs"][part["$ref"].rpartition("/")[2]]
        return "{" + ", ".join(f"{name}: {kind_of(each, schema)}" for name, each in inner["properties"].items()) + "}"
    if "anyOf" in part:
        return " or ".join(kind_of(each, schema) for each in part["anyOf"])
    if "enum" in part or "const" in part:
        return "one of " + ", ".join(map(str, part.get("enum", [part.get("const")])))
    return _plain_kind(part, schema)


def _plain_kind(part: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    match part.get("type"):
        case "array":
            return f"list of {kind_of(part['items'], schema)}"
        case "object":
            return f"{kind_of(part['additionalProperties'], schema)} by name"
        case "string":
            return "time, RFC 3339" if part.get("format") == "date-time" else "text"
        case kind:
            bounds = (("minimum", "≥"), ("maximum", "≤"))
            return " ".join([str(kind), *(f"{sign} {part[name]}" for name, sign in bounds if name in part)])


def _reasons() -> Iterator[Cells]:
    for code, meaning in reasons().items():
        yield (_mono(code), escape(meaning), escape(mend(code)))


# --- HTML -------------------------------------------------------------------------------------


def _table(head: Cells, rows: Iterable[Cells]) -> str:
    titles = "".join(f"<th>{escape(each)}</th>" for each in head)
    body = "\n".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="wide"><table>\n<thead><tr>{titles}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>'


def _mono(text: str) -> str:
    return f"<code>{escape(text)}</code>"


def _code(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False)
    return f"<pre>{escape(text)}</pre>"
