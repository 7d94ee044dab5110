"""Each change of a published message that somebody would notice is refused, each other one is not."""

import copy
from typing import Any

import pytest

from schemas.compatibility import breaks
from schemas.generate import schema_of
from schemas.messages import MESSAGES, Message

OLD: dict[str, Any] = {
    "type": "object",
    "required": ["id", "kind", "value", "place", "tags"],
    "properties": {
        "id": {"type": "string", "pattern": "^[a-z]+$", "minLength": 1, "description": "Id."},
        "kind": {"enum": ["a", "b"], "type": "string"},
        "value": {"anyOf": [{"type": "number", "minimum": 0, "maximum": 1}, {"type": "null"}]},
        "place": {"$ref": "#/$defs/Place"},
        "tags": {"type": "array", "minItems": 1, "items": {"type": "integer"}},
        "figures": {"type": "object", "additionalProperties": {"type": "number"}},
        "format": {"const": "skops", "type": "string", "default": "skops"},
    },
    "$defs": {"Place": {"type": "object", "required": ["row"], "properties": {"row": {"type": "integer"}}}},
}
PROPERTIES = OLD["properties"]


def changed(path: str, value: Any) -> dict[str, Any]:
    """The schema with something else at a path; None takes it away."""
    schema = copy.deepcopy(OLD)
    *steps, last = path.split(".")
    block: Any = schema
    for step in steps:
        block = block[int(step)] if isinstance(block, list) else block[step]
    key: Any = int(last) if isinstance(block, list) else last
    if value is None:
        del block[key]
    else:
        block[key] = value
    return schema


NULLABLE = {"anyOf": [PROPERTIES["kind"], {"type": "null"}]}
WIDER = {
    "newly nullable": changed("properties.kind", NULLABLE),
    "one more value": changed("properties.kind.enum", ["a", "b", "c"]),
    "no values any more": changed("properties.kind.enum", None),
    "looser minimum": changed("properties.value.anyOf.0.minimum", -1),
    "no maximum": changed("properties.value.anyOf.0.maximum", None),
    "shorter": changed("properties.id.minLength", None),
    "fewer items": changed("properties.tags.minItems", None),
    "integer becomes number": changed("properties.tags.items.type", "number"),
    "deep inside": changed("$defs.Place.properties.row.type", "number"),
    "looser figures": changed("properties.figures.additionalProperties", {"type": ["number", "string"]}),
    "not required any more": changed("required", ["id", "kind", "value", "place"]),
    "constant becomes free": changed("properties.format.const", None),
}
NARROWER = {
    "not null any more": changed("properties.value", {"type": "number", "minimum": 0, "maximum": 1}),
    "one value less": changed("properties.kind.enum", ["a"]),
    "tighter minimum": changed("properties.value.anyOf.0.minimum", 0.5),
    "new maximum": changed("properties.id.maxLength", 3),
    "newly required": changed("required", [*OLD["required"], "figures"]),
    "new and required": changed("required", [*OLD["required"], "new"]),
    "required deep inside": changed("$defs.Place.required", ["row", "rack"]),
    "items of one value": changed("properties.tags.items.enum", [1]),
}
ALWAYS = {
    "gone": changed("properties.figures", None),
    "renamed": {**changed("properties.kind", None), "required": ["id", "value", "place", "tags"]},
    "retyped": changed("properties.id.type", "integer"),
    "gone inside": changed("$defs.Place.properties.row", None),
    "other pattern": changed("properties.id.pattern", "^[0-9]+$"),
    "other constant": changed("properties.format.const", "onnx"),
    "unknown keyword": changed("properties.id.format", "date-time"),
}
NEVER = {
    "the same": OLD,
    "new optional property": changed("properties.new", {"type": "string"}),
    "new optional property inside": changed("$defs.Place.properties.rack", {"type": "string"}),
    "other words": changed("properties.id.description", "The id."),
    "other default": changed("properties.format.default", "other"),
    "other order": changed("properties.kind.enum", ["b", "a"]),
    "other reference": {
        **changed("properties.place", {"$ref": "#/$defs/Where"}),
        "$defs": {"Where": OLD["$defs"]["Place"]},
    },
}


@pytest.mark.parametrize("new", (WIDER | NARROWER | ALWAYS).values(), ids=WIDER | NARROWER | ALWAYS)
def test_what_we_write_may_become_neither_wider_nor_narrower(new: dict[str, Any]) -> None:
    assert breaks(OLD, new, heard=False)


@pytest.mark.parametrize("new", (NARROWER | ALWAYS).values(), ids=NARROWER | ALWAYS)
def test_what_we_read_may_not_become_narrower(new: dict[str, Any]) -> None:
    assert breaks(OLD, new, heard=True)


@pytest.mark.parametrize("new", WIDER.values(), ids=WIDER)
def test_what_we_read_may_become_wider(new: dict[str, Any]) -> None:
    assert breaks(OLD, new, heard=True) == []


@pytest.mark.parametrize("heard", [True, False])
@pytest.mark.parametrize("new", NEVER.values(), ids=NEVER)
def test_what_nobody_notices_is_allowed(new: dict[str, Any], heard: bool) -> None:
    assert breaks(OLD, new, heard=heard) == []


def test_a_reason_names_the_place() -> None:
    assert breaks(OLD, WIDER["one more value"], heard=False) == ["$.kind: 'c' is written, only ['a', 'b'] are read"]
    assert breaks(OLD, ALWAYS["gone inside"], heard=False)[0] == "$.place.row: is gone"
    assert breaks(OLD, WIDER["newly nullable"], heard=False) == ["$.kind: null is written, and not what is read"]


@pytest.mark.parametrize("model", MESSAGES, ids=lambda model: model.what)
def test_no_property_of_any_message_can_go_unnoticed(model: type[Message]) -> None:
    old = schema_of(model)
    assert breaks(old, old, heard=False) == []
    for name in old["properties"]:
        new = copy.deepcopy(old)
        del new["properties"][name]
        assert any(name in each for each in breaks(old, new, heard=True))
        new["properties"][name] = {"type": "array", "items": {"type": "string", "pattern": "x"}}
        assert any(name in each for each in breaks(old, new, heard=False))
