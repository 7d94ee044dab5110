"""Writes what is derived from the messages: `python -m schemas.generate`.

* schemas/generated: JSON Schemas, and the AsyncAPI document of the pipeline that `headrace init` writes.
* schemas/golden: an example of each message, byte for byte as it travels.

Editors check pipeline.yaml against one of the schemas, subscribers their messages against the others. A test fails
where a file is stale. What was published stays: files of earlier versions are kept, and a change that would break
whoever reads or writes a version is refused.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel

from schemas.asyncapi import document
from schemas.cloudevents import dataschema_of
from schemas.compatibility import breaks
from schemas.messages import MESSAGES, Message
from schemas.pipeline import parse, template
from schemas.public import examples, file_of, golden, heard, open_up
from schemas.spec import Pipeline

FOLDER = Path(__file__).parent / "generated"
GOLDEN = Path(__file__).parent / "golden"
ENDING = ".schema.json"
DIALECT = "https://json-schema.org/draft/2020-12/schema"


def documents() -> dict[str, str]:
    """File name to content of everything in schemas/generated, earlier versions aside."""
    found = {"pipeline.schema.json": text_of(_schema(Pipeline, "urn:headrace:schemas/pipeline.yaml/1", "validation"))}
    found |= {f"{file_of(model)}{ENDING}": text_of(schema_of(model)) for model in MESSAGES}
    return {**found, "asyncapi.json": text_of(document(parse(template("shop"))))}


def goldens() -> dict[str, str]:
    """File name to content of everything in schemas/golden, earlier versions aside."""
    made = examples(parse(template("shop")))
    return {f"{file_of(type(each.message))}.json": golden(each) for each in made}


def schema_of(model: type[Message]) -> dict[str, Any]:
    """The JSON Schema of a message; it is open, so that a subscriber accepts fields that a newer writer may add."""
    schema = _schema(model, dataschema_of(model), "serialization")
    open_up((schema, *schema.get("$defs", {}).values()))
    return schema


def text_of(body: dict[str, Any]) -> str:
    """JSON for a file."""
    return json.dumps(body, indent=2, ensure_ascii=False) + "\n"


def _schema(model: type[BaseModel], uri: str, mode: Literal["validation", "serialization"]) -> dict[str, Any]:
    body = model.model_json_schema(mode=mode)
    return {"$schema": DIALECT, "$id": uri, **body}


def broken(folder: Path = FOLDER) -> list[str]:
    """What the code would break of the published schemas in a folder: one sentence per place, with the mend."""
    published = {path.name.removesuffix(ENDING): path for path in sorted(folder.glob(f"*.v*{ENDING}"))}
    found = []
    for model in MESSAGES:
        if (path := published.get(file_of(model))) is not None:
            old = json.loads(path.read_text(encoding="utf-8"))
            found += [_refusal(model, reason) for reason in breaks(old, schema_of(model), heard=heard(model))]
    known = {model.what for model in MESSAGES}
    gone = sorted({name.rpartition(".v")[0] for name in published} - known)
    return found + [f"{what} is published, and no message is called so any more: keep its model" for what in gone]


def _refusal(model: type[Message], reason: str) -> str:
    file, version = file_of(model), model.schema_version
    return (
        f"{file} {reason}. It is published: raise {model.__name__}.schema_version to {version + 1} and keep "
        f"golden/{file}.json and {file}{ENDING}, or make the change one that readers of version {version} do not notice"
    )


def write(folder: Path = FOLDER, golden_folder: Path = GOLDEN) -> list[str]:
    """Write every file, unless that breaks what is published; what it would break."""
    if found := broken(folder):
        return found
    for place, files in ((folder, documents()), (golden_folder, goldens())):
        place.mkdir(exist_ok=True)
        for name, text in files.items():
            (place / name).write_text(text, encoding="utf-8")
    return []


if __name__ == "__main__":
    sys.exit("\n".join(write()) or 0)
