"""`headrace explain` on a real Kafka: what a person types, and what comes back."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace.cli import run
from headrace.demo.stream import readings
from headrace.explain.reading import ledger
from headrace.files import Options, messages
from headrace.following import whole
from headrace.plans import SIGNING, TRUSTED, pair
from headrace.simulate import assemble
from headrace.simulate import run as run_loop
from runtime.bootstrap import bootstrap
from runtime.kafka import KafkaCarrier, KafkaLog
from runtime.keys import private_key
from runtime.ports import Outgoing
from runtime.signing import Keys
from runtime.store import Store
from schemas.pipeline import parse

pytestmark = pytest.mark.timeout(180)
PUMPS = Path(__file__).parents[1] / "data" / "pumps.yaml"
OPTIONS = Options.of(start="2026-01-01T00:00:00Z", every="1s", delay="300rows", prefix="reading-")
TOPICS = ("decisions", "models", "drift", "weights", "scored", "examples")


class Rig:
    """The log of a run in memory, copied to a broker, and the command as a person runs it."""

    def __init__(self, brokers: str, name: str, folder: Path) -> None:
        text = PUMPS.read_text().replace("pipeline: demo", f"pipeline: {name}", 1)
        self._file, self._brokers = folder / "pipeline.yaml", brokers
        self._file.write_text(text)
        spec, self.store = parse(text), f"file://{folder / 'artefacts'}"
        pair(folder / "keys")
        private = private_key(folder / "keys" / SIGNING)
        self.keys = Keys.of([private.public_key()], private)
        bootstrap(brokers, spec, text, 2, 1)
        loop = assemble(spec, Store(self.store, self.keys), 2)
        run_loop(loop, spec, messages(readings(6_000, 4_000, 7), spec, OPTIONS))
        with contextlib.closing(KafkaCarrier(brokers, name, "test")) as carrier:
            for place, message in (each for topic in TOPICS for each in whole(loop.log, topic)):
                headers = [(key, value or b"") for key, value in message.headers]
                carrier.publish([Outgoing(*place, message.value or b"", message.key, headers)])
            carrier.confirm()
        self.log = KafkaLog(brokers, name, "test")

    def run(self, *words: str) -> int:
        return run(["explain", *words, "-p", str(self._file), "--brokers", self._brokers])


@pytest.fixture
def rig(kafka: str, unique: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    made = Rig(kafka, unique, tmp_path)
    monkeypatch.setenv("HEADRACE_ARTEFACTS", made.store)
    monkeypatch.setenv("HEADRACE_TRUSTED_KEYS", str(tmp_path / "keys" / TRUSTED))
    with contextlib.closing(made.log):
        yield made


def test_versions_episodes_and_predictions_are_told_and_what_is_unknown_is_refused(
    rig: Rig, capsys: pytest.CaptureFixture[str]
) -> None:
    read = ledger(rig.log, rig.keys)
    newest = max(read.members)
    assert rig.run(f"v{newest}") == 0
    assert f"version {newest} was fitted at" in capsys.readouterr().out
    episode = next(iter(read.episodes))
    kinds = {f"v{newest}": "version", episode: "episode", "reading-5000": "prediction"}
    steps = set[str]()
    for subject, kind in kinds.items():
        assert rig.run(subject, "--json") == 0
        told = json.loads(capsys.readouterr().out)
        assert (told["kind"], told["subject"]) == (kind, subject)
        steps |= {each["step"] for each in told["entries"]}
    assert {"opened", "fitted", "dataset", "weighed", "swapped", "scored", "answered", "mixed", "labelled"} <= steps

    assert rig.run("--why-not", "--from", "2026-01-01T00:50:30Z", "--to", "2026-01-01T00:51:00Z") == 0
    assert "no retraining: nothing asked for it" in capsys.readouterr().out
    assert rig.run("readng-5000") == 2
    assert "did you mean" in capsys.readouterr().err
