"""Settings: environment only, one frozen class per service, every field with bounds and a line for the docs."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from runtime.errors import WrongSetup
from schemas.cloudevents import Form

PREFIX = "HEADRACE_"
T = TypeVar("T", bound=BaseSettings)


class ServiceSettings(BaseSettings):
    """What every service needs to know."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore")

    brokers: str = Field("127.0.0.1:9092", min_length=3, description="Kafka bootstrap servers, host:port,host:port.")
    pipeline: Path = Field(Path("pipeline.yaml"), description="The pipeline.yaml that the service runs.")
    artefacts: str = Field("file://.headrace/artefacts", min_length=3, description="URL of the artefact store.")
    instance: str = Field(default_factory=socket.gethostname, description="Name of this instance, in logs.")
    metrics_port: int = Field(0, ge=-1, le=65535, description="Port of /metrics, /live, /ready; 0 any, -1 none.")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="Least level that is logged.")
    cloudevents: Form = Field("structured", description="Form of the CloudEvents that it writes: structured or binary.")
    data: Path = Field(Path(".headrace/data"), description="Directory for files that may be lost at any time.")


TRUSTED_TYPES: str = Field(
    "",
    description="Types, with commas, that a model may hold besides those of the list: for module:Class estimators.",
)


def names(text: str) -> tuple[str, ...]:
    """The names in a setting that lists some."""
    return tuple(each for each in (part.strip() for part in text.split(",")) if each)


class TrustSettings(ServiceSettings):
    """What a service that reads models needs to know besides."""

    trusted_keys: str = Field(
        ".headrace/keys/trusted",
        min_length=1,
        description="Public keys of which models are taken: PEM files, or directories of them, with commas.",
    )
    allow_unsigned: bool = Field(False, description="Whether models that nobody signed are taken, too.")


def read(kind: type[T]) -> T:
    """The settings from the environment.

    Raises:
        WrongSetup: One is missing or out of bounds; the text names the variable.
    """
    try:
        return kind()
    except ValidationError as error:
        lines = [
            f"{PREFIX}{'.'.join(map(str, each['loc'])).upper()}: {each['msg']} (is {each['input']!r})"
            for each in error.errors()
        ]
        raise WrongSetup("settings from the environment do not fit:\n  " + "\n  ".join(lines)) from error
