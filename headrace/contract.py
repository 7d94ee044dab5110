"""`headrace contract`: all that a partner team needs of one pipeline, in a directory."""

from __future__ import annotations

import json as jsons
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import BaseModel

from headrace.contract_page import page
from headrace.errors import WrongUse
from headrace.options import PIPELINE, JsonOption, PipelineOption
from headrace.output import Output
from schemas.asyncapi import document
from schemas.cloudevents import Form
from schemas.contract import event_model, label_model
from schemas.event_examples import event_example, label_example
from schemas.generate import DIALECT, schema_of, text_of
from schemas.messages import MESSAGES
from schemas.pipeline import Pipeline, load
from schemas.public import examples, file_of, golden

ASYNCAPI, PAGE = "asyncapi.json", "index.html"


def contract(
    pipeline: PipelineOption = PIPELINE,
    out: Annotated[Path, typer.Option("--out", help="Directory to write to; made if it is not there.")] = Path(
        "contract"
    ),
    cloudevents: Annotated[
        Form, typer.Option(help="Form of the CloudEvents that the services write.", envvar="HEADRACE_CLOUDEVENTS")
    ] = "structured",
    *,
    json: JsonOption = False,
) -> None:
    """Write what producers and subscribers of a pipeline need: schemas, AsyncAPI, examples and a page for people.

    Files that it wrote before are written anew; others are left alone.

    For example:

      headrace contract

      headrace contract -p shop/pipeline.yaml --out shop/contract --json
    """
    spec = load(pipeline)
    wanted = files(spec, cloudevents)
    _refuse_foreign(out, wanted, document(spec)["id"])
    _write(out, wanted)
    output = Output(machine=json)
    output.give({"pipeline": spec.pipeline, "digest": spec.digest, "directory": str(out), "files": sorted(wanted)})
    output.say(
        f"wrote {len(wanted)} files to {out}\n\n"
        f"  {out / PAGE}      the page for people: open it in a browser\n"
        f"  {out / ASYNCAPI}   the same for tools, AsyncAPI 3\n"
        f"  {out / 'schemas'}/        JSON Schema 2020-12 of an event, a label and every message\n"
        f"  {out / 'examples'}/       one of each, as it travels"
    )


def files(spec: Pipeline, form: Form) -> dict[str, str]:
    """File name to content of a pipeline's contract."""
    found = {ASYNCAPI: text_of(document(spec, form)), PAGE: page(spec, form)}
    for name, model, example in (
        ("event", event_model(spec), event_example(spec)),
        ("label", label_model(spec), label_example(spec)),
    ):
        found[f"schemas/{name}.schema.json"] = text_of(_own_schema(spec, name, model))
        found[f"examples/{name}.json"] = text_of(example)
    for model in MESSAGES:
        found[f"schemas/{file_of(model)}.schema.json"] = text_of(schema_of(model))
    for each in examples(spec, form):
        found[f"examples/{file_of(type(each.message))}.json"] = golden(each)
    return found


def _own_schema(spec: Pipeline, name: str, model: type[BaseModel]) -> dict[str, Any]:
    uri = f"urn:headrace:pipelines:{spec.pipeline}/{name}/{spec.digest}"
    return {"$schema": DIALECT, "$id": uri, **model.model_json_schema(by_alias=True)}


def _refuse_foreign(directory: Path, wanted: dict[str, str], identity: str) -> None:
    """Overwrite a contract of the same pipeline and nothing else."""
    there = [name for name in wanted if (directory / name).exists()]
    if not there:
        return
    owner = _owner(directory / ASYNCAPI)
    if owner == identity:
        return
    foreign = f"{directory / there[0]} is not from `headrace contract`"
    whose = foreign if owner is None else f"{directory} holds the contract of another pipeline, {owner}"
    raise WrongUse(f"{whose}: it was left as it is. Name another directory with --out")


def _owner(path: Path) -> str | None:
    """Id of the contract that is there, None where there is none."""
    try:
        found = jsons.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    identity = found.get("id") if isinstance(found, dict) else None
    return identity if isinstance(identity, str) and identity.startswith("urn:headrace:") else None


def _write(directory: Path, wanted: dict[str, str]) -> None:
    try:
        for name, text in wanted.items():
            path = directory / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    except OSError as error:
        reason = f"{error.filename or directory} cannot be written: {error.strerror}"
        raise WrongUse(f"{reason}. Name a directory that you may write to with --out") from error
