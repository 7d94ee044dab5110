"""The Makefile, the locks and pyproject.toml agree with each other."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from headrace.local_kafka.jars import locked_jars

ROOT = Path(__file__).parents[2]
LOCKS = sorted((ROOT / "requirements").glob("*.txt"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def locked(lock: Path) -> set[str]:
    return set(re.findall(r"^([a-z0-9._-]+)(?:\[.*\])?==", lock.read_text("utf-8"), re.MULTILINE))


def named(requirements: list[str]) -> set[str]:
    return {re.split(r"[\[<>=~! ]", requirement)[0].replace("_", "-") for requirement in requirements}


def test_make_help_names_every_target() -> None:
    phony = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    assert phony is not None
    shown = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for target in phony[1].split():
        assert re.search(rf"make {target} +\w", shown), target


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.name)
def test_a_lock_names_no_address_and_a_hash_for_every_package(lock: Path) -> None:
    text = lock.read_text("utf-8")
    assert "://" not in text
    blocks = re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE)[1:]
    assert len(blocks) > 20
    assert all("--hash=sha256:" in block for block in blocks)


def test_the_locks_hold_what_pyproject_asks_for() -> None:
    extras: dict[str, list[str]] = PROJECT["optional-dependencies"]
    services = ("ingestion", "features", "serving", "drift", "training")
    for_services = named(PROJECT["dependencies"] + [r for service in services for r in extras[service]])
    everything = for_services | named(extras["local"] + extras["dev"]) - {"headrace"}
    assert for_services <= locked(ROOT / "requirements" / "services.txt")
    assert everything <= locked(ROOT / "requirements" / "dev.txt")


def test_the_jars_are_one_kafka_and_each_has_its_hash() -> None:
    jars = locked_jars()
    kafka = {jar.version for jar in jars if jar.group == "org.apache.kafka"}
    assert kafka == {"4.3.1"}
    assert len({jar.name for jar in jars}) == len(jars)
    assert all(re.fullmatch(r"[0-9a-f]{64}", jar.sha256) for jar in jars)
