"""May a published message change like this? What must hold between its committed JSON Schema and a new one.

* Messages that Headrace writes. Subscribers hold the old schema, so a new message must be valid under it; and the log
  keeps old messages, so these must be valid under the new schema. Allowed are new optional properties, nothing else.
  Refused are a property that is gone, renamed, newly required or no longer required, and a type, enum, bound or
  pattern that became wider (null, one more value) or narrower.
* Messages that users write. Whoever holds the old schema goes on to write by it: such messages must be valid under the
  new one. Allowed are new optional properties and what became wider. Refused are a property that is gone, because what
  it says would no longer be heard, one that is newly required, and whatever became narrower.

Titles, descriptions, defaults and examples may change. Keywords that this module does not know must stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Schema = Mapping[str, Any]

NOTES = {"$schema", "$id", "$defs", "title", "description", "default", "examples", "deprecated", "unit"}
LEAST = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
MOST = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")
_KNOWN = {
    *NOTES, *LEAST, *MOST, "$ref", "type", "anyOf", "enum", "const", "properties", "required", "items",
    "additionalProperties",
}  # fmt: skip


def breaks(old: Schema, new: Schema, *, heard: bool) -> list[str]:
    """Why the new schema may not be published under the old one's version: one sentence per place, none if it may.

    Args:
        old: What was published.
        new: What the code would publish now.
        heard: Users write the message, Headrace reads it.
    """
    before, after = _Side(old, old), _Side(new, new)
    found = list(_Fit(old_reads=False).values(before, after, "$"))
    if not heard:
        found += _Fit(old_reads=True).values(after, before, "$")
    return list(dict.fromkeys(found))


@dataclass(frozen=True, slots=True)
class _Side:
    """A part of a schema, and the document in which its references lie."""

    part: Schema
    document: Schema

    def at(self, part: Schema) -> _Side:
        while "$ref" in part:
            part = self.document["$defs"][part["$ref"].rpartition("/")[2]]
        return _Side(part, self.document)

    @property
    def variants(self) -> list[_Side]:
        """What a value may be, one form each."""
        if "anyOf" in self.part:
            return [each for part in self.part["anyOf"] for each in self.at(part).variants]
        if isinstance(kinds := self.part.get("type"), list):
            return [self.at({**self.part, "type": kind}) for kind in kinds]
        return [self.at(self.part)]

    @property
    def allowed(self) -> list[Any] | None:
        """The only values, None where there is no such list."""
        return [self.part["const"]] if "const" in self.part else self.part.get("enum")

    def __str__(self) -> str:
        return str(self.allowed or self.part.get("type", "anything"))


@dataclass(frozen=True, slots=True)
class _Fit:
    """Whether everything that one side writes is valid for the side that reads.

    Attributes:
        old_reads: The reader has the old schema.
    """

    old_reads: bool

    def values(self, written: _Side, read: _Side, path: str) -> Iterator[str]:
        ours, theirs = written.at(written.part).variants, read.at(read.part).variants
        for each in ours:
            found = [list(self._form(each, other, path)) for other in theirs]
            if all(found):
                same = [reasons for reasons, other in zip(found, theirs, strict=True) if str(other) == str(each)]
                one = found[0] if len(theirs) == len(ours) == 1 else None
                yield from one or (same[0] if same else [f"{path}: {each} is written, and not what is read"])

    def _form(self, written: _Side, read: _Side, path: str) -> Iterator[str]:
        kinds = written.part.get("type"), read.part.get("type")
        if kinds[1] is not None and kinds[0] != kinds[1] and kinds != ("integer", "number"):
            yield f"{path}: {kinds[0] or 'anything'} is written, {kinds[1]} is read"
            return
        yield from _listed(written, read, path)
        yield from _bounds(written.part, read.part, path)
        for keyword in sorted({*written.part, *read.part} - _KNOWN):
            if written.part.get(keyword) != read.part.get(keyword):
                yield f"{path}: {keyword} differs"
        yield from self._properties(written, read, path)
        yield from self._inner(written, read, path)

    def _properties(self, written: _Side, read: _Side, path: str) -> Iterator[str]:
        said, expected = written.part.get("properties", {}), read.part.get("properties", {})
        gone = expected.keys() - said.keys() if self.old_reads else said.keys() - expected.keys()
        for name in sorted(gone):
            yield f"{path}.{name}: is gone"
        for name in sorted({*read.part.get("required", ())} - {*written.part.get("required", ())} - gone):
            yield f"{path}.{name}: may be missing where it is written, and is required where it is read"
        for name in expected.keys() & said.keys():
            yield from self.values(written.at(said[name]), read.at(expected[name]), f"{path}.{name}")

    def _inner(self, written: _Side, read: _Side, path: str) -> Iterator[str]:
        for keyword in ("items", "additionalProperties"):
            said, expected = written.part.get(keyword, True), read.part.get(keyword, True)
            if isinstance(said, Mapping) and isinstance(expected, Mapping):
                yield from self.values(written.at(said), read.at(expected), f"{path}[*]")
            elif expected is not True and said != expected:
                yield f"{path}: {keyword} is narrower where it is read"


def _listed(written: _Side, read: _Side, path: str) -> Iterator[str]:
    if read.allowed is None:
        return
    if written.allowed is None:
        yield f"{path}: any value is written, only {read.allowed} are read"
        return
    for value in written.allowed:
        if value not in read.allowed:
            yield f"{path}: {value!r} is written, only {read.allowed} are read"


def _bounds(written: Schema, read: Schema, path: str) -> Iterator[str]:
    for keyword in LEAST:
        if keyword in read and (keyword not in written or written[keyword] < read[keyword]):
            yield f"{path}: {keyword} is {written.get(keyword)} where it is written, {read[keyword]} where it is read"
    for keyword in MOST:
        if keyword in read and (keyword not in written or written[keyword] > read[keyword]):
            yield f"{path}: {keyword} is {written.get(keyword)} where it is written, {read[keyword]} where it is read"
