"""The clients that a partner team copies: each is run as it is, on a real Kafka, with a real model behind it."""

import ast
import json
import os
import queue
import shlex
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import IO

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from headrace.local_kafka import LocalKafkaSettings
from headrace.local_kafka.jars import Jar, _fetch_all, fetch_jars
from headrace.local_kafka.jvm import java_command
from runtime.bootstrap import bootstrap
from runtime.kafka import KafkaCarrier, KafkaLog
from runtime.metrics import Metrics
from runtime.ports import Outgoing, Place, Polled
from runtime.signing import Keys, key_id, keys_in_memory
from runtime.store import Store
from schemas import batch as b
from schemas import cloudevents
from schemas.messages import Member, Pool
from schemas.pipeline import parse, template
from services.ingestion.handler import Ingestion
from tests.unit.services.serving.loop import artefact, pool, spec

EXAMPLES = Path(__file__).parents[2] / "examples"
PROGRAMS = sorted([*EXAMPLES.glob("*.py"), *EXAMPLES.glob("*.sh")])
README = (EXAMPLES / "README.md").read_text("utf-8")
SUBSCRIBERS = ["subscribe_kafka_python.py", "subscribe_confluent.py"]
SECONDS = 45.0
pytestmark = pytest.mark.timeout(150)

TOOLS = Jar(
    "org.apache.kafka",
    "kafka-tools",
    "4.3.1",
    "",
    "62f3c5dd7aa3442d4c5bc6a95f86e2502178ea09de8e27f74d9563bf955e253c",
)
"""What `kafka-console-consumer.sh` runs; the broker does not need it, so that it is not among the locked jars."""


def python(name: str, *arguments: str) -> list[str]:
    return [sys.executable, str(EXAMPLES / name), *arguments]


def run(command: Sequence[str], given: str = "", **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        command,
        input=given,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
        env={**os.environ, **environment},
    )


@contextmanager
def lines(command: Sequence[str]) -> Iterator["queue.Queue[str]"]:
    """What a program prints, line by line while it runs; it has ended afterwards."""
    told: queue.Queue[str] = queue.Queue()

    def read(output: IO[str]) -> None:
        for line in output:
            told.put(line.rstrip())

    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as program:
        assert program.stdout is not None
        reader = threading.Thread(target=read, args=[program.stdout])
        reader.start()
        try:
            yield told
        finally:
            program.kill()
            reader.join()


@pytest.fixture
def store(tmp_path: Path) -> str:
    return (tmp_path / "artefacts").as_uri()


@pytest.fixture
def member(kafka: str, unique: str, store: str) -> Member:
    """A model in the store and on the log, and the pool that it leads."""
    made = artefact(Store(store, keys_in_memory()), spec().model_copy(update={"pipeline": unique}))
    bootstrap(kafka, parse(template(unique)), partitions=1, event_partitions=2)
    publish(kafka, unique, made, pool(made))
    return made


def publish(kafka: str, pipeline: str, *said: Member | Pool, binary: bool = False) -> None:
    with closing(KafkaCarrier(kafka, pipeline, "test")) as carrier:
        for each in said:
            value, headers = cloudevents.encode(each, id=each.key, source="/test", subject=each.key)
            if binary:
                value = each.model_dump_json().encode()
                names = {
                    "id": each.key,
                    "source": "/test",
                    "specversion": "1.0",
                    "type": cloudevents.type_of(type(each)),
                }
                headers = [("content-type", b"application/json"), *((f"ce_{n}", v.encode()) for n, v in names.items())]
            carrier.publish([Outgoing("models", 0, value, each.key.encode(), headers)])
        carrier.confirm()


def console() -> str:
    """The command of Kafka's console consumer, out of jars."""
    settings = LocalKafkaSettings()
    jars = fetch_jars(settings.cache, settings.maven_repository)
    tools = settings.cache / "kafka-jars" / TOOLS.name
    if not tools.exists():
        list(_fetch_all([TOOLS], tools.parent, settings.maven_repository))
    java = [each for each in java_command([*jars, tools]) if not each.startswith("-Dlog4j2")]  # it logs to stdout
    return shlex.join([*java, "org.apache.kafka.tools.consumer.ConsoleConsumer"])


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.name)
def test_an_example_is_short_and_listed(path: Path) -> None:
    assert len(path.read_text("utf-8").splitlines()) < 30
    assert f"[{path.name}]({path.name})" in README


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_an_example_knows_nothing_of_headrace(path: Path) -> None:
    nodes = list(ast.walk(ast.parse(path.read_text("utf-8"))))
    modules = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    modules |= {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}
    assert modules
    assert not {name.split(".")[0] for name in modules} & {"headrace", "services", "runtime", "schemas"}


def test_what_the_producer_sends_is_valid_and_every_label_names_an_event(kafka: str, unique: str) -> None:
    pipeline = parse(template(unique))
    bootstrap(kafka, pipeline, partitions=1, event_partitions=2)
    done = run(python("produce_events.py", kafka, unique))
    assert (done.returncode, done.stdout.split(" ")[0]) == (0, "20"), done.stderr
    ids = {}
    with closing(KafkaLog(kafka, unique, "test")) as log:
        for topic, output in (("events", "records"), ("labels", "outcomes")):
            ingestion = Ingestion(pipeline, 1, Metrics())
            for place in (Place(topic, 0), Place(topic, 1)):
                ingestion.restore(place, log)
            polled = [
                Polled(topic, each, messages)
                for each in range(2)
                if (messages := list(log.read(Place(topic, each), 0, log.end(Place(topic, each)))))
            ]
            assert {message.key for run in polled for message in run.messages} == {
                b"customer-0",
                b"customer-1",
                b"customer-2",
            }
            [outgoing] = ingestion.handle(polled)
            assert {each.topic for each in outgoing} == {output}
            ids[topic] = [name for each in outgoing for name in b.decode(each.value).column(b.EVENT_ID).to_pylist()]
    assert len(ids["events"]) == 10
    assert sorted(ids["events"]) == sorted(ids["labels"])


@pytest.mark.parametrize("program", SUBSCRIBERS)
def test_a_subscriber_that_starts_late_gets_the_current_state_and_then_the_news(
    kafka: str, unique: str, member: Member, program: str
) -> None:
    with lines(python(program, kafka, unique)) as told:
        first = told.get(timeout=SECONDS)
        assert first.startswith(f"state: version 1 at {member.uri}, metrics {{")
        assert json.loads(first.split("metrics ")[1].split(", cause")[0]) == member.metrics
        assert first.endswith("cause first")
        assert told.get(timeout=SECONDS) == "state: pool 1 answers, led by version 1"
        second = member.model_copy(update={"version": 2})
        publish(kafka, unique, second)
        assert told.get(timeout=SECONDS).startswith("news: version 2 at ")
        publish(kafka, unique, pool(second), binary=True)
        assert told.get(timeout=SECONDS) == "news: pool 2 answers, led by version 2"


def test_updates_from_a_shell_can_be_verified(kafka: str, unique: str, member: Member, store: str) -> None:
    script = ["sh", str(EXAMPLES / "subscribe.sh"), kafka, unique, "--max-messages", "2"]
    told = run(script, CONSUMER=console())
    assert told.returncode == 0, told.stderr
    types = [json.loads(line)["type"] for line in told.stdout.splitlines()]
    assert types == ["headrace.member.v1", "headrace.pool.v1"]
    done = run(python("verify_model.py", store), told.stdout)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{unique} version 1: manifest and model.skops, warmup.arrow are genuine\n"
    assert member.model == unique


def update(member: Member) -> str:
    value, _ = cloudevents.encode(member, id=member.key, source="/test")
    return value.decode()


@pytest.mark.parametrize("name", ["manifest.json", "model.skops", "warmup.arrow"])
def test_a_forged_file_is_named_and_ends_with_1(name: str, store: str, tmp_path: Path) -> None:
    member = artefact(Store(store, keys_in_memory()), spec())
    path = tmp_path / "artefacts" / member.uri / name
    value = bytearray(path.read_bytes())
    value[-1] ^= 1
    path.write_bytes(value)
    done = run(python("verify_model.py", store), update(member))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"FORGED: {member.uri}/{name} is not the file that was announced\n"


def key(folder: Path, keys: Keys) -> str:
    (public,) = keys.trusted.values()
    file = folder / f"{key_id(public)}.pem"
    file.write_bytes(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return str(file)


def test_a_signature_is_verified_with_the_keys_that_are_named(store: str, tmp_path: Path) -> None:
    private = ec.generate_private_key(ec.SECP256R1())
    stranger = key(tmp_path, Keys.of([private.public_key()]))
    trusted = key(tmp_path, keys_in_memory())
    one, two = (artefact(Store(store, keys_in_memory()), spec(), version) for version in (1, 2))
    done = run([*python("verify_signature.py", store), stranger, trusted], update(one))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "shop version 1: manifest.json, model.skops, warmup.arrow are signed\n"
    folder, forged = tmp_path / "artefacts", (1, "", f"FORGED: no key that you trust signed {one.uri}\n")
    done = run([*python("verify_signature.py", store), stranger], update(one))
    assert (done.returncode, done.stdout, done.stderr) == forged
    (folder / one.uri / "model.sig").write_bytes((folder / two.uri / "model.sig").read_bytes())
    done = run([*python("verify_signature.py", store), trusted], update(one))
    assert (done.returncode, done.stdout, done.stderr) == forged


def test_a_missing_file_is_named_and_ends_with_1(store: str, tmp_path: Path) -> None:
    member = artefact(Store(store, keys_in_memory()), spec())
    (tmp_path / "artefacts" / member.uri / "model.skops").unlink()
    done = run(python("verify_model.py", store), update(member))
    assert (done.returncode, done.stderr) == (1, f"MISSING: {member.uri}/model.skops\n")
