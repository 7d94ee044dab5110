"""What may change in a pipeline that runs: two specifications, compared key by key.

A pipeline's log outlives its file: records, labels, models and panes that were written under the old file are read
under the new one. What that means for each key is a table, `schemas/evolution_rules.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from schemas.checks import compiled, windowed
from schemas.evolution_rules import RULES, Verdict
from schemas.quantities import duration
from schemas.spec import FieldSpec, Spec
from schemas.sql import Expression
from schemas.windows import Window

if TYPE_CHECKING:
    from schemas.spec import Pipeline

DURATIONS = frozenset({"labels.mature", "labels.horizon", "drift.pane", "drift.lateness", "training.cooldown"})
NEW_LOG = "begin a new log with another `pipeline:` name"
"""The way that is always open."""


@dataclass(frozen=True, slots=True)
class Change:
    """One difference, and what is to be thought of it.

    Attributes:
        path: The key, such as `events.fields.price.min`.
        verdict: Whether a pipeline that runs may change so.
        what: What the key said and says.
        why: What follows from it.
        way: How to get there all the same; empty where it is fine.
    """

    path: str
    verdict: Verdict
    what: str
    why: str
    way: str = ""

    @property
    def advice(self) -> str:
        """Why, and the way where there has to be one."""
        return f"{self.why}. {self.way}" if self.way else self.why

    def __str__(self) -> str:
        """The change in one line."""
        return f"{self.path}: {self.what}: {self.advice}"


@dataclass(frozen=True, slots=True)
class Definition:
    """A feature as it is written, and what it computes."""

    text: str
    expression: Expression | Window

    def means(self, other: Definition) -> bool:
        """Whether both compute the same from the same columns, blanks and upper case aside."""
        ours, theirs = self.expression, other.expression
        if isinstance(ours, Window) or isinstance(theirs, Window):
            return isinstance(ours, Window) and isinstance(theirs, Window) and ours.means(theirs)
        return ours.kind == theirs.kind and ours.expr.meta.eq(theirs.expr)

    def __str__(self) -> str:
        """As it is written."""
        return self.text


def compare(old: Pipeline, new: Pipeline) -> list[Change]:
    """Every difference between what runs and what is to run, in the order of the file; none where they say the same."""
    return list(_block("", "", _spelt_out(old), _spelt_out(new)))


def refusals(changes: Iterable[Change]) -> list[Change]:
    """The changes that must not be made."""
    return [each for each in changes if each.verdict == "refused"]


def _spelt_out(spec: Pipeline) -> Pipeline:
    """With the id among the fields, listed or not, and with the features' meaning beside their text."""
    events = spec.events.model_copy(update={"fields": spec.event_fields})
    means: dict[str, Expression | Window] = {**compiled(spec), **windowed(spec)}
    features = {
        name: Definition(text if isinstance(text, str) else str(means[name]), means[name])
        for name, text in spec.features.items()
    }
    return spec.model_copy(update={"events": events, "features": features})


def _block(path: str, rule: str, old: Any, new: Any) -> Iterator[Change]:
    """Down to the keys that differ; `rule` is the path with `*` for a name that the file gives."""
    if f"{rule}.*" in RULES:
        yield from _named(path, rule, old, new)
    elif isinstance(old, Spec) and isinstance(new, Spec):
        for key in type(old).model_fields:
            yield from _block(_below(path, key), _below(rule, key), getattr(old, key), getattr(new, key))
    elif _says(old) != _says(new):
        yield _judged(path, rule, old, new)


def _named(path: str, rule: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Change]:
    before, after = ([name for name in each if name in old and name in new] for each in (old, new))
    if before != after:
        yield _judged(path, rule, before, after)
    for name in {**old, **new}:
        yield from _block(_below(path, name), f"{rule}.*", old.get(name), new.get(name))


def _judged(path: str, rule: str, old: Any, new: Any) -> Change:
    case = next(each for each in RULES[rule] if each.when(old, new))
    return Change(path, case.verdict, _difference(rule, old, new), case.why, case.way)


def _below(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _says(value: Any) -> Any:
    return value.text if isinstance(value, Definition) else value


def _difference(rule: str, old: Any, new: Any) -> str:
    if old is None:
        return f"added: {_shown(rule, new)}"
    return f"removed: {_shown(rule, old)}" if new is None else f"{_shown(rule, old)} → {_shown(rule, new)}"


def _shown(rule: str, value: Any) -> str:
    if rule in DURATIONS:
        return duration(value)
    if isinstance(value, FieldSpec):
        return f"{value.type}{', nullable' if value.nullable else ''}"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value))
    if isinstance(value, float):
        return f"{value:.15g}"
    return str(value).lower() if isinstance(value, bool) else str(value)
