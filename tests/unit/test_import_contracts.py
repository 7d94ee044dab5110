"""Each import contract refuses the import that it is there to refuse.

A small tree with this project's shape is checked by the real contracts of pyproject.toml, once as it should be and
once per wrong import. A validator that was never seen to refuse anything proves nothing.
"""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"
SERVICES = ("ingestion", "features", "serving", "drift", "training")

DIRECTION = "headrace > services > runtime > schemas, never the other way"
INDEPENDENCE = "no service imports another service"
RINGS = "inside a service: entry point > handler > domain"
PURE_DOMAIN = "domain code does no input or output"
BLIND_HANDLER = "handlers know messages, not brokers"
KAFKA_DOOR = "kafka-python has one door"
FAUST_DOOR = "Faust has one door"
LIBRDKAFKA_DOOR = "librdkafka has one door"

RIGHT = (
    {
        "headrace/cli.py": "import services.drift.handler",
        "runtime/ports.py": "import schemas.topics",
        "runtime/memory.py": "import runtime.ports",
        "runtime/kafka.py": "import kafka, runtime.ports",
        "runtime/kafka_admin.py": "import kafka",
        "runtime/streams.py": "import faust, mode, aiokafka, runtime.ports",
        "runtime/fanout.py": "import confluent_kafka",
        "schemas/topics.py": "",
    }
    | {
        path: text
        for service in SERVICES
        for path, text in {
            f"services/{service}/__main__.py": f"import runtime.kafka, services.{service}.handler",
            f"services/{service}/settings.py": "import pydantic_settings",
            f"services/{service}/handler.py": f"import runtime.ports, services.{service}.domain.rules",
            f"services/{service}/domain/rules.py": "import numpy, schemas.topics",
        }.items()
    }
    | {
        "services/features/handler.py": "import runtime.ports, services.features.joining",
        "services/features/joining.py": "import services.features.rewind, services.features.domain.rules",
        "services/features/rewind.py": "import runtime.ports",
        "services/features/known.py": "import runtime.fold, services.features.windowing",
        "services/features/windowing.py": "import runtime.tail, services.features.rewind",
        "services/serving/http.py": "import aiohttp, services.serving.domain.rules",
        "services/training/handler.py": "import runtime.ports, services.training.carrying",
        "services/training/carrying.py": "import services.training.quarantining, services.training.fitter",
        "services/training/due.py": "import services.training.quarantining, services.training.knowledge",
        "services/training/ending.py": "import services.training.quarantining, services.training.knowledge",
        "services/training/telling.py": "import services.training.quarantining, services.training.saying",
        "services/training/fitter.py": "import services.training.domain.rules",
        "services/training/composing.py": "import services.training.knowledge, services.training.saying",
        "services/training/refereeing.py": "import services.training.composing",
        "services/training/wishing.py": "import services.training.composing",
        "services/training/founding.py": "import services.training.datasets, services.training.fitter",
        "services/training/knowledge.py": "import services.training.weighing, services.training.datasets",
        "services/training/weighing.py": "import services.training.learning",
        "services/training/learning.py": "import runtime.store, services.training.domain.rules",
        "services/training/remaking.py": "import services.training.segments",
        "services/training/datasets.py": "import services.training.archive",
        "services/training/archive.py": "import services.training.segments",
        "services/training/segments.py": "import services.training.domain.rules",
        "services/training/outside.py": "import services.training.fits, services.training.child",
        "services/training/fits.py": "import runtime.metrics, services.training.domain.rules",
        "services/training/child.py": "import services.training.doing",
        "services/training/doing.py": "import services.training.domain.rules",
        "runtime/metrics.py": "",
        "services/training/quarantining.py": "import services.training.saying",
        "services/training/saying.py": "import services.training.reading",
        "services/training/reading.py": "import runtime.ports",
    }
)

WRONG = [
    ("schemas/topics.py", "import runtime.ports", DIRECTION),
    ("runtime/ports.py", "import services.drift", DIRECTION),
    ("services/drift/handler.py", "import headrace.cli", DIRECTION),
    ("services/drift/handler.py", "import services.training.handler", INDEPENDENCE),
    ("services/serving/__main__.py", "import services.features.domain.rules", INDEPENDENCE),
    ("services/drift/domain/rules.py", "import services.drift.handler", RINGS),
    ("services/drift/handler.py", "import services.drift.settings", RINGS),
    ("services/drift/settings.py", "import services.drift.__main__", RINGS),
    ("services/features/rewind.py", "import services.features.handler", RINGS),
    ("services/training/reading.py", "import services.training.saying", RINGS),
    ("services/training/saying.py", "import services.training.quarantining", RINGS),
    ("services/serving/http.py", "import services.serving.handler", RINGS),
    ("services/drift/anywhere.py", "import runtime.ports", RINGS),
    ("services/drift/domain/rules.py", "import runtime.ports", PURE_DOMAIN),
    ("services/serving/domain/rules.py", "import logging", PURE_DOMAIN),
    ("services/training/domain/rules.py", "import time", PURE_DOMAIN),
    ("services/features/handler.py", "import runtime.memory", BLIND_HANDLER),
    ("services/features/handler.py", "import runtime.kafka", BLIND_HANDLER),
    ("services/features/handler.py", "import runtime.streams", BLIND_HANDLER),
    ("services/serving/handler.py", "import runtime.fanout", BLIND_HANDLER),
    ("services/features/handler.py", "import pydantic_settings", BLIND_HANDLER),
    ("services/features/rewind.py", "import runtime.memory", BLIND_HANDLER),
    ("services/serving/http.py", "import runtime.fanout", BLIND_HANDLER),
    ("services/training/saying.py", "import runtime.kafka", BLIND_HANDLER),
    ("runtime/memory.py", "import kafka", KAFKA_DOOR),
    ("headrace/cli.py", "import kafka", KAFKA_DOOR),
    ("services/drift/__main__.py", "import faust", FAUST_DOOR),
    ("runtime/kafka.py", "import aiokafka", FAUST_DOOR),
    ("services/serving/__main__.py", "import confluent_kafka", LIBRDKAFKA_DOOR),
    ("runtime/streams.py", "import confluent_kafka", LIBRDKAFKA_DOOR),
]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    contracts = PYPROJECT.read_text("utf-8").partition("[tool.importlinter]")
    (tmp_path / "pyproject.toml").write_text(contracts[1] + contracts[2], "utf-8")
    for name, text in RIGHT.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    for folder in {parent for name in RIGHT for parent in (tmp_path / name).parents} - {*tmp_path.parents, tmp_path}:
        (folder / "__init__.py").touch()
    return tmp_path


def lint(tree: Path) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        "-c",
        "import sys; from importlinter.cli import lint_imports_command as c; sys.exit(c())",
    ]
    return subprocess.run([*command, "--no-cache"], cwd=tree, capture_output=True, text=True, check=False)


def broken(output: str) -> set[str]:
    return {line.partition(" BROKEN")[0] for line in output.splitlines() if " BROKEN" in line}


def test_a_tree_as_it_should_be_passes(tree: Path) -> None:
    result = lint(tree)
    assert result.returncode == 0, result.stdout
    assert not broken(result.stdout)


@pytest.mark.parametrize(("where", "wrong", "contract"), WRONG)
def test_a_wrong_import_breaks_its_contract(tree: Path, where: str, wrong: str, contract: str) -> None:
    (tree / where).write_text(f"{RIGHT.get(where, '')}\n{wrong}\n", "utf-8")
    result = lint(tree)
    assert result.returncode == 1, result.stdout + result.stderr
    assert contract in broken(result.stdout)


def test_every_contract_has_a_wrong_import_that_it_refuses() -> None:
    contracts = tomllib.loads(PYPROJECT.read_text("utf-8"))["tool"]["importlinter"]["contracts"]
    assert {contract["name"] for contract in contracts} == {contract for _, _, contract in WRONG}
