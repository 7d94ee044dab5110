"""Writes the JSON Schemas in schemas/generated: `python -m schemas.generate`.

Editors check pipeline.yaml against one of them, subscribers their messages against the others. A
test fails where a file is stale.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel

from schemas.cloudevents import dataschema_of
from schemas.messages import MESSAGES
from schemas.spec import Pipeline

FOLDER = Path(__file__).parent / "generated"


def documents() -> dict[str, str]:
    """File name to content of every generated schema."""
    found = {"pipeline.schema.json": _document(Pipeline, "urn:headrace:schemas/pipeline.yaml/1")}
    for model in MESSAGES:
        found[f"{model.what}.v{model.schema_version}.schema.json"] = _document(model, dataschema_of(model))
    return found


def _document(model: type[BaseModel], uri: str) -> str:
    mode: Literal["validation", "serialization"] = "validation" if model is Pipeline else "serialization"
    body = model.model_json_schema(mode=mode)
    if model is not Pipeline:
        _open(body)
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": uri, **body}
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def _open(schema: dict[str, Any]) -> None:
    """Let a subscriber accept fields that a newer writer may add."""
    for block in (schema, *schema.get("$defs", {}).values()):
        if block.get("additionalProperties") is False:
            del block["additionalProperties"]


def write(folder: Path = FOLDER) -> None:
    """Write every schema into a folder; files that are no longer generated are removed."""
    folder.mkdir(exist_ok=True)
    wanted = documents()
    for stale in folder.glob("*.schema.json"):
        if stale.name not in wanted:
            stale.unlink()
    for name, text in wanted.items():
        (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write()
