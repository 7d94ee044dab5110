"""Resolve jgo.toml into jgo.lock.toml: `python -m headrace.local_kafka.lock` (part of `make lock`)."""

import importlib
import tempfile
from pathlib import Path
from typing import Any

from headrace.local_kafka.jars import LOCK

HEADER = "# Made by `make lock` from jgo.toml. Every jar of the local Kafka with its SHA-256.\n"


def write_lock(lock: Path = LOCK) -> int:
    """Resolve the wishes beside the lock anew, write it and give the number of jars."""
    with tempfile.TemporaryDirectory() as scratch:
        dependencies = _resolve(lock.with_name("jgo.toml"), Path(scratch))
        locked = importlib.import_module("jgo.env").LockedDependency
        entries = sorted((locked.from_dependency(d).to_dict() for d in dependencies), key=_name)
    lock.write_text(HEADER + "".join(map(_table, entries)), "utf-8")
    return len(entries)


def _resolve(spec: Path, scratch: Path) -> list[Any]:
    env, maven = importlib.import_module("jgo.env"), importlib.import_module("jgo.maven")
    context = maven.MavenContext(repo_cache=scratch / "repository")
    builder = env.EnvironmentBuilder(context, cache_dir=scratch / "cache")
    wishes = builder.spec_to_dependencies(env.EnvironmentSpec.load(spec))
    direct, transitive = context.resolver.resolve(wishes)
    needed = [*direct, *(d for d in transitive if d.scope in ("compile", "runtime"))]
    return list({d.artifact.key: d for d in needed}.values())


def _name(entry: dict[str, str]) -> tuple[str, ...]:
    return entry["groupId"], entry["artifactId"], entry.get("classifier", "")


def _table(entry: dict[str, str]) -> str:
    keys = [k for k in ("groupId", "artifactId", "version", "classifier", "sha256") if k in entry]
    return "\n[[dependencies]]\n" + "".join(f'{key} = "{entry[key]}"\n' for key in keys)


if __name__ == "__main__":
    write_lock()
