"""The door to pipeline.yaml: read it, check it, and say what is wrong with it, line by line."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import BaseModel, ValidationError

from schemas.checks import suggestion
from schemas.spec import Contradictions, FieldSpec, Pipeline

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["FieldSpec", "Pipeline", "PipelineError", "load", "parse", "template"]

Loc = tuple[int | str, ...]


class PipelineError(ValueError):
    """A pipeline file that cannot be used; one line per mistake: file, line, what, mend."""


def load(path: str | Path) -> Pipeline:
    """The pipeline of a file; PipelineError says which lines to mend, or that it cannot be read."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        mend = "write one with `headrace init`, or name another file"
        raise PipelineError(f"{path}: there is no such file; {mend}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise PipelineError(f"{path}: cannot be read: {error}") from error
    return parse(text, name=str(path))


def parse(text: str, name: str = "pipeline.yaml") -> Pipeline:
    """The pipeline of a YAML text; PipelineError names the file as `name`."""
    root, data = _read(text, name)
    try:
        return Pipeline.model_validate(data)
    except ValidationError as error:
        found = sorted((_line(root, place), say) for place, say in _mistakes(error))
        lines = [f"{name}:{line}: {say}" for line, say in dict.fromkeys(found)]
        raise PipelineError("\n".join(lines)) from None


def _read(text: str, name: str) -> tuple[yaml.Node, Any]:
    loader = None
    try:
        loader = yaml.SafeLoader(text)
        root = loader.get_single_node()
        if not isinstance(root, yaml.MappingNode):
            raise PipelineError(f"{name}:1: must be `key: value` lines; see `headrace init`")
        _refuse_twins(root, name)
        return root, loader.construct_document(root)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        if isinstance(error, PipelineError):
            raise
        raise PipelineError(_broken(error, name)) from None
    finally:
        if loader is not None:
            loader.dispose()


def _broken(error: Exception, name: str) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error) or "nested too deeply"
    return f"{name}:{mark.line + 1 if mark else 1}: is not valid YAML: {problem}"


def _refuse_twins(node: yaml.Node, name: str) -> None:
    """YAML keeps the last of two equal keys without a word; refuse them instead."""
    seen: set[str] = set()
    for key, value in _entries(node):
        line = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode):
            raise PipelineError(f"{name}:{line}: a key must be a name")
        if key.value in seen:
            raise PipelineError(f"{name}:{line}: {key.value!r} is there twice: remove one")
        seen.add(key.value)
        _refuse_twins(value, name)


def _entries(node: yaml.Node) -> list[tuple[yaml.Node, yaml.Node]]:
    return list(node.value) if isinstance(node, yaml.MappingNode) else []


def _line(root: yaml.Node, place: Loc) -> int:
    """The line of the deepest part of the place that the file holds, counted from 1."""
    node, line = root, root.start_mark.line
    for step in place:
        if isinstance(node, yaml.SequenceNode) and isinstance(step, int):
            entries = [(item, item) for item in node.value[step : step + 1]]
        else:
            entries = [(k, v) for k, v in _entries(node) if k.value == str(step)]
        if not entries:
            break
        line, node = entries[0][0].start_mark.line, entries[0][1]
    return line + 1


def _mistakes(error: ValidationError) -> Iterator[tuple[Loc, str]]:
    for detail in error.errors(include_url=False):
        place = tuple(step for step in detail["loc"] if step != "[key]")
        cause = detail.get("ctx", {}).get("error")
        if isinstance(cause, Contradictions):
            for where, message in cause.found:
                yield where, f"{'.'.join(where)}: {message}"
        else:
            yield place, _sentence(place, detail["type"], detail["msg"])


def _sentence(place: Loc, kind: str, message: str) -> str:
    path = ".".join(map(str, place))
    if kind == "extra_forbidden":
        return f"{path}: unknown key{suggestion(str(place[-1]), _keys(place[:-1]))}"
    if kind == "missing":
        return f"{path}: is required: add `{place[-1]}: ...`"
    if kind == "string_pattern_mismatch":
        return f"{path}: a name is letters, digits and {'-' if path == 'pipeline' else '_'}: {message}"
    return f"{path or 'pipeline'}: {message.removeprefix('Value error, ')}"


def _keys(place: Loc) -> list[str]:
    """The keys that the block at a place may have."""
    block: type[BaseModel] = Pipeline
    for step in place:
        field = block.model_fields.get(str(step))
        if field is None or not isinstance(field.annotation, type):
            return list(FieldSpec.model_fields)
        block = field.annotation
    return list(block.model_fields)


def template(name: str) -> str:
    """The commented file that `headrace init` writes; ValueError where the name cannot be one."""
    text = _TEMPLATE.replace("$name", name)
    try:
        parse(text)
    except PipelineError as error:
        raise ValueError(f"{name!r} cannot name a pipeline: {error}") from None
    return text


_TEMPLATE = """\
# A pipeline: what comes in, what is predicted, and how the model stays good.
# Check it with `headrace validate`.
pipeline: $name
task: binary

events:                            # one JSON object per message on $name.events.v1
  id: order_id                     # what labels refer to
  time: ordered_at                 # RFC 3339 or epoch milliseconds
  entity: customer                 # rows of a customer stay in order
  fields:
    ordered_at: {type: timestamp}
    customer:   {type: text}
    amount:     {type: number, min: 0, unit: EUR}
    items:      {type: integer, min: 1}
    country:    {type: category}
    discount:   {type: number, nullable: true}

labels:                            # one JSON object per message on $name.labels.v1
  id: order_id
  time: known_at                   # when the truth was known
  field: returned
  type: boolean
  horizon: 24h                     # a label that is later than this no longer counts

features:                          # SQL over one event; what cannot be computed is null
  amount: amount
  items: items
  amount_per_item: amount / items
  discount_share: coalesce(discount, 0) / nullif(amount, 0)
  hour: extract(hour from ordered_at)
  country: country

model:
  estimator: hist_gradient_boosting    # or logistic_regression

drift:
  settle: 1000                     # labelled rows behind a change before the next fit

training:
  min_rows: 2000                   # labelled rows before the first fit
  window: 20000                    # newest labelled rows that a fit sees
  cooldown: 10m
"""
