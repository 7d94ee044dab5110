"""What `up` and `demo` start: one plan per service instance, with its environment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from headrace.errors import WrongUse
from headrace.process import Plan
from runtime.keys import make

ONE_THREAD = {"POLARS_MAX_THREADS": "1", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
"""A service is scaled by processes; pools of threads that wait for each other cost it more than they bring."""

SIGNING, TRUSTED = "signing.pem", "trusted"
"""What is in a directory of keys: the private one's file, and the directory of the public ones."""

SERVICES = ("ingestion", "features", "serving", "drift", "training")


def plans(
    pipeline: Path,
    brokers: str,
    *,
    services: Sequence[str] = SERVICES,
    instances: Mapping[str, int] | None = None,
    http_port: int = 0,
    metrics_port: int = 0,
    data: Path = Path(".headrace/data"),
    artefacts: str | None = None,
    keys: Path | None = None,
) -> list[Plan]:
    """One plan per instance; the only instance of a service has its name, several are numbered from 1.

    Args:
        pipeline: The pipeline.yaml.
        brokers: Kafka bootstrap servers.
        services: Which ones, in any order.
        instances: How many of a service; 1 where it says nothing.
        http_port: Port of the first serving instance, the next ones count up; 0 for any free ports.
        metrics_port: Port of the first instance's health pages, the next ones count up; 0 for any free ports.
        data: Directory for files that may be lost, one folder in it per instance.
        artefacts: URL of the artefact store; by default what the environment says.
        keys: Directory of the keys, as `pair` makes them; by default what the environment says.
    """
    shared = {**ONE_THREAD, "HEADRACE_PIPELINE": str(pipeline.resolve()), "HEADRACE_BROKERS": brokers}
    if artefacts is not None:
        shared["HEADRACE_ARTEFACTS"] = artefacts
    if keys is not None:
        shared["HEADRACE_TRUSTED_KEYS"] = str(keys.resolve() / TRUSTED)
    found: list[Plan] = []
    for service, name, number in _instances(services, instances or {}):
        own = {
            "HEADRACE_INSTANCE": name,
            "HEADRACE_DATA": str(data.resolve() / name),
            "HEADRACE_METRICS_PORT": str(metrics_port and metrics_port + len(found)),
        }
        if service == "serving":
            own["HEADRACE_HTTP_PORT"] = str(http_port and http_port + number)
        if service == "training" and keys is not None:
            own["HEADRACE_SIGNING_KEY"] = str(keys.resolve() / SIGNING)
        found.append(Plan(name, f"services.{service}", {**shared, **own}))
    return found


def pair(keys: Path) -> str:
    """Make a pair of keys in a directory unless there is one; its id.

    Raises:
        WrongSetup: They cannot be written.
    """
    return make(keys / SIGNING, keys / TRUSTED)


def _instances(services: Sequence[str], instances: Mapping[str, int]) -> list[tuple[str, str, int]]:
    """(service, instance's name, its number from 0)."""
    return [
        (service, service if count == 1 else f"{service}-{number + 1}", number)
        for service in SERVICES
        if service in services
        for count in [instances.get(service, 1)]
        for number in range(count)
    ]


def chosen(text: str | None) -> list[str]:
    """The services of `--services a,b`; all of them for None."""
    if text is None:
        return list(SERVICES)
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        _refuse_unknown(name, "--services")
    if not names:
        raise WrongUse(f"--services names none: write some of {', '.join(SERVICES)}")
    return names


def counted(texts: Sequence[str]) -> dict[str, int]:
    """The counts of `--instances ingestion=2`, given any number of times."""
    counts = {}
    for text in texts:
        name, _, count = text.partition("=")
        _refuse_unknown(name, "--instances")
        if not count.isdecimal() or not int(count):
            raise WrongUse(f"--instances {text}: write a service and how many, such as ingestion=2")
        counts[name] = int(count)
    return counts


def _refuse_unknown(name: str, option: str) -> None:
    if name not in SERVICES:
        raise WrongUse(f"{option}: there is no service {name!r}; the services are {', '.join(SERVICES)}")
