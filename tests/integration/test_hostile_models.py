"""A serving process on a real Kafka whose store and whose `models` somebody else writes to: its pool stays."""

from __future__ import annotations

import contextlib
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from headrace.following import whole
from headrace.local_kafka.probe import free_ports
from headrace.plans import SIGNING, pair, plans
from headrace.supervisor import Supervisor
from runtime.bootstrap import bootstrap
from runtime.kafka import KafkaCarrier, KafkaLog
from runtime.keys import private_key
from runtime.ports import Outgoing
from runtime.signing import Keys, signed
from runtime.store import Store
from schemas import cloudevents
from schemas.artefact import MODEL
from schemas.messages import Decision, Member, Pool
from schemas.pipeline import Pipeline, load
from tests.polling import eventually
from tests.unit.services.serving.loop import artefact, pool
from tests.unit.services.training.loop import SPEC

SECONDS = 90.0


def keys(private: ec.EllipticCurvePrivateKey) -> Keys:
    return Keys.of([private.public_key()], private)


STRANGER = keys(ec.generate_private_key(ec.SECP256R1()))


@dataclass
class System:
    kafka: str
    spec: Pipeline
    store: Store
    metrics: int

    def say(self, by: Keys, *said: Member | Pool) -> None:
        with contextlib.closing(KafkaCarrier(self.kafka, self.spec.pipeline, "test")) as carrier:
            for each in (signed(by, each) for each in said):
                value, headers = cloudevents.encode(each, id=each.key, source="/test", subject=each.key)
                carrier.publish([Outgoing("models", 0, value, each.key.encode(), headers)])
            carrier.confirm()

    def decisions(self) -> list[tuple[str, str]]:
        with contextlib.closing(KafkaLog(self.kafka, self.spec.pipeline, "test")) as log:
            events = [cloudevents.decode(each.value or b"", each.headers) for _, each in whole(log, "decisions")]
        told = [each.read(Decision) for each in events]
        return [(each.subject.removeprefix(f"{self.spec.pipeline}/"), each.step) for each in told]

    def counted(self, why: str) -> float:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics}/metrics", timeout=5) as page:
            lines = page.read().decode().splitlines()
        return float(
            next(line for line in lines if line.startswith(f'headrace_refused_models_total{{why="{why}"}}')).split()[1]
        )


@pytest.fixture
def system(kafka: str, unique: str, tmp_path: Path) -> Iterator[System]:
    path, (port,) = tmp_path / "pipeline.yaml", free_ports(1)
    path.write_text(SPEC.split("model:")[0].replace("pipeline: shop", f"pipeline: {unique}"))
    spec = load(path)
    bootstrap(kafka, spec, partitions=1, event_partitions=2)
    pair(tmp_path / "keys")
    own = keys(private_key(tmp_path / "keys" / SIGNING))
    store = Store((tmp_path / "artefacts").as_uri(), own)
    children = plans(
        path, kafka, services=["serving"], metrics_port=port, data=tmp_path / "data", artefacts=store.url,
        keys=tmp_path / "keys",
    )  # fmt: skip
    with Supervisor(children, lambda *_: None):
        yield System(kafka, spec, store, port)


@pytest.mark.timeout(300)
def test_a_serving_process_refuses_and_counts_and_goes_on_with_its_pool(system: System) -> None:
    first, second, third = (artefact(system.store, system.spec, version) for version in (1, 2, 3))
    system.say(system.store.keys, first, pool(first))
    assert eventually(lambda: ("pool/1", "swapped") in system.decisions(), SECONDS)

    system.say(STRANGER, second, pool(second))
    system.say(Keys(unsigned=True), second, pool(second))
    path = f"{second.uri}/{MODEL}"
    system.store.replace(path, system.store.get(path)[:-1] + b"x")
    system.say(system.store.keys, second, pool(second))
    assert eventually(lambda: ("pool/2", "refused") in system.decisions(), SECONDS)
    assert [system.counted(why) for why in ("unknown_key", "unsigned", "artefact")] == [2, 2, 1]

    system.say(system.store.keys, pool(first), third, pool(third))
    assert eventually(lambda: ("pool/3", "swapped") in system.decisions(), SECONDS)
    assert system.decisions() == [("pool/1", "swapped"), ("pool/2", "refused"), ("pool/3", "swapped")]
    assert system.counted("void") == 1
