"""`headrace models` and `headrace verify` on a real Kafka, over models that a controller made."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from headrace.cli import run
from headrace.plans import SIGNING, TRUSTED, pair
from runtime.bootstrap import bootstrap
from runtime.kafka import KafkaCarrier
from runtime.keys import private_key
from runtime.ports import Outgoing
from runtime.signing import Keys
from runtime.store import Store
from schemas.artefact import MODEL
from schemas.pipeline import load
from services.training import archive
from tests.unit.headrace.test_models import EVERYTHING, trained
from tests.unit.services.training.loop import SPEC


@dataclass
class Rig:
    arguments: list[str]
    model: Path
    segment: Path

    def run(self, *words: str, code: int = 0) -> None:
        assert run([*words, *self.arguments]) == code


@pytest.fixture
def rig(kafka: str, unique: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Rig:
    """Two models of which everything is archived, announced on the broker."""
    monkeypatch.setattr(archive, "CUT_BYTES", 1)
    pair(tmp_path / "keys")
    private = private_key(tmp_path / "keys" / SIGNING)
    loop = trained(store=Store((tmp_path / "store").as_uri(), Keys.of([private.public_key()], private)))
    path, text = tmp_path / "pipeline.yaml", SPEC.split("model:")[0].replace("pipeline: shop", f"pipeline: {unique}")
    path.write_text(text)
    bootstrap(kafka, load(path), partitions=1, event_partitions=2)
    with closing(KafkaCarrier(kafka, unique, "test")) as carrier:
        said = [Outgoing("models", 0, each.value, each.key, each.headers) for each in loop.log("models")]
        carrier.publish([*said, Outgoing("models", 0, b"{}", b"shop/pool")])
        carrier.confirm()
    monkeypatch.setenv("HEADRACE_ARTEFACTS", loop.store.url)
    monkeypatch.setenv("HEADRACE_TRUSTED_KEYS", str(tmp_path / "keys" / TRUSTED))
    model = tmp_path / "store" / loop.members()[1].uri / MODEL
    segment = tmp_path / "store" / loop.store.names("archive")[0]
    return Rig(["-p", str(path), "--brokers", kafka], model, segment)


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


@pytest.mark.timeout(180)
def test_models_are_listed_shown_compared_and_verified(rig: Rig, capsys: pytest.CaptureFixture[str]) -> None:
    rig.run("models", "list", "--json")
    assert [each["version"] for each in lines(capsys)] == [1, 2]
    rig.run("models", "show", "2", "--json")
    (shown,) = lines(capsys)
    assert (shown["version"], shown["estimator"]) == (2, "logistic_regression")
    rig.run("models", "diff", "1", "2", "--json")
    assert {"what": "version", "left": 1, "right": 2} in lines(capsys)
    rig.run("verify", "2", "--json")
    assert [(each["version"], each["check"], each["holds"]) for each in lines(capsys)] == [
        (2, name, True) for name in EVERYTHING
    ]

    rig.run("verify", "2")
    assert "version 2 is genuine, and was made again from its rows" in capsys.readouterr().out
    rig.run("verify", "1", "2", "--no-refit")
    assert "all 2 versions are genuine\n" in capsys.readouterr().out
    rig.run("models", "list")
    rig.run("models", "show", "1")
    rig.run("models", "diff", "1", "1")
    told = capsys.readouterr()
    assert "leader" in told.out
    assert "offset" in told.err

    rig.model.write_bytes(rig.model.read_bytes()[:-1])
    rig.run("verify", "2", "--no-refit", code=1)
    assert "version 2 is not what it should be: model.skops" in capsys.readouterr().err
    rig.segment.write_bytes(rig.segment.read_bytes()[:-1])
    rig.run("verify", code=1)
    told = capsys.readouterr()
    assert rig.segment.name in told.out
    assert "version 1 is not what it should be: dataset; version 2 is not what it should be: model.skops" in told.err
    assert "the topic models is not what it should be: offset" in told.err, "what nobody signed is there, too"
    rig.run("models", "show", "9", code=1)
    assert "version 9 is not announced; there are: 1, 2" in capsys.readouterr().err


def test_without_trusted_keys_the_mend_is_said(
    rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HEADRACE_TRUSTED_KEYS", str(tmp_path / "none"))
    rig.run("models", "list", code=2)
    assert "HEADRACE_TRUSTED_KEYS" in capsys.readouterr().err
