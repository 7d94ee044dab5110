"""`headrace init` and `headrace validate`: write a pipeline, and check one."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from headrace.errors import WrongUse
from headrace.options import PIPELINE, JsonOption, PipelineOption
from headrace.output import Output
from schemas.pipeline import Pipeline, load, template
from schemas.topics import TOPICS


def init(
    directory: Annotated[Path, typer.Argument(help="Where to write pipeline.yaml; made if it is not there.")] = Path(),
    name: Annotated[
        str | None, typer.Option("--name", help="Name of the pipeline; by default that of the directory.")
    ] = None,
    *,
    json: JsonOption = False,
) -> None:
    """Write a commented pipeline.yaml to begin with. Never overwrites one.

    For example:

      headrace init

      headrace init shop --name returns
    """
    path = directory / "pipeline.yaml"
    chosen = name or _name_of(directory)
    try:
        text = template(chosen)
    except ValueError as error:
        raise WrongUse(f"{error}. Choose one with --name: lower-case letters, digits and -") from None
    _write_new(path, text)
    output = Output(machine=json)
    output.give({"pipeline": chosen, "path": str(path)})
    output.say(
        f"wrote {path}\n\nNext:\n"
        f"  edit {path}                    say what an event looks like and what to predict\n"
        f"  headrace validate -p {path}    check it\n"
        f"  headrace up -p {path} --kafka  start Kafka and the five services; they run until Ctrl-C\n\n"
        "Then, in another terminal:\n"
        f"  headrace replay FILE -p {path} --rate 1000  send them a CSV, NDJSON or Parquet file\n"
        f"  headrace watch -p {path}                    see how the model does"
    )


def _name_of(directory: Path) -> str:
    plain = re.sub(r"[^a-z0-9]+", "-", directory.resolve().name.lower()).strip("-")
    return plain if plain[:1].isalpha() else "orders"


def _write_new(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise WrongUse(f"{path} exists already: it was left as it is. Name another directory, or remove it") from None
    except OSError as error:
        raise WrongUse(f"{path} cannot be written: {error.strerror}. Name another directory") from error


def validate(
    pipeline: PipelineOption = PIPELINE,
    against: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="Compare with the pipeline of this name that runs on this Kafka."),
    ] = None,
    *,
    json: JsonOption = False,
) -> None:
    """Check a pipeline.yaml and say what it means; names the line of every mistake.

    With --against, say what would change in the pipeline that runs; exit code 1 when it must not change so.

    For example:

      headrace validate

      headrace validate -p shop/pipeline.yaml --json

      headrace validate --against 127.0.0.1:9092
    """
    spec = load(pipeline)
    output = Output(machine=json)
    if against is not None:
        importlib.import_module("headrace.against").weigh(spec, against, output)  # only this needs a Kafka client
        return
    output.give(_summary(spec))
    output.say(f"{pipeline} is a good pipeline: {spec.pipeline}, {spec.task}, digest {spec.digest}")
    output.say(_features(spec))
    output.say(_topics(spec))


def _summary(spec: Pipeline) -> dict[str, object]:
    return {
        "pipeline": spec.pipeline,
        "task": spec.task,
        "digest": spec.digest,
        "fields": {name: field.type for name, field in spec.event_fields.items()},
        "label": spec.labels.field,
        "classes": list(spec.classes),
        "features": spec.feature_types,
        "topics": {topic.name: topic.physical(spec.pipeline) for topic in TOPICS if topic.public},
    }


def _features(spec: Pipeline) -> Table:
    table = Table("feature", "type", "expression", box=None, header_style="bold")
    for name, kind in spec.feature_types.items():
        table.add_row(name, kind, str(spec.features[name]))
    return table


def _topics(spec: Pipeline) -> Table:
    table = Table("topic", "", "message", box=None, header_style="bold")
    for topic in TOPICS:
        if topic.public:
            table.add_row(topic.physical(spec.pipeline), f"you {_VERBS[topic.public]}", topic.message)
    return table


_VERBS = {"in": "write", "out": "read"}
