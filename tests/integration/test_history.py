"""`headrace bootstrap FILE` on a real Kafka: the first model comes from history, and training takes it for its own."""

import contextlib
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from headrace.cli import run
from headrace.plans import SIGNING, TRUSTED, pair
from runtime.artefact import fetch_manifest
from runtime.kafka import KafkaCarrier, KafkaLog
from runtime.kafka_admin import topic_admin
from runtime.keys import private_key
from runtime.model import fetch
from runtime.ports import Outgoing, Place
from runtime.signing import Keys
from runtime.store import Store
from runtime.worker import Worker
from schemas import batch as b
from schemas import cloudevents
from schemas.messages import Decision
from schemas.pipeline import Pipeline, parse
from services.training.handler import Training
from services.training.knowledge import announced
from services.training.reading import checkpoint
from services.training.remaking import remake
from services.training.segments import SegmentDamaged
from tests.unit.services.training.loop import STEP, labelled, passing

pytestmark = pytest.mark.timeout(300)

PIPELINE = """
pipeline: NAME
task: binary
events:
  id: id
  time: at
  entity: shop
  fields:
    at: {type: timestamp}
    shop: {type: category}
    x: {type: number, nullable: true}
    z: {type: number}
    colour: {type: category}
labels: {id: id, time: known, field: good, type: boolean, horizon: 24h}
features:
  x: x
  z: z
  colour: colour
  x_mean: {mean: x, over: 1h}
model: {estimator: logistic_regression}
training: {min_rows: 400, window: all}
"""
ROWS = 1_500


class Rig:
    """A pipeline of a name, its history, and the command as a person runs it."""

    def __init__(self, brokers: str, name: str, folder: Path) -> None:
        self.brokers, self.name, self.folder = brokers, name, folder
        text = PIPELINE.replace("NAME", name)
        self.spec: Pipeline = parse(text)
        (folder / "pipeline.yaml").write_text(text)
        pair(folder / "keys")
        private = private_key(folder / "keys" / SIGNING)
        self.store = Store(f"file://{folder}/artefacts", Keys.of([private.public_key()], private))

    def history(self, rows: int, name: str = "history.csv") -> str:
        """Rows of two shops, one a minute; what is good follows x."""
        random = np.random.default_rng(1)
        x, z = random.normal(size=rows), random.normal(size=rows)
        frame = pl.DataFrame({
            "id": [f"e{each}" for each in range(rows)],
            "at": [1_750_000_000_000 + each * 60_000 for each in range(rows)],
            "shop": np.where(np.arange(rows) % 2, "north", "south"),
            "x": x,
            "z": z,
            "colour": np.where(z > 1, "red", "blue"),
            "good": np.where(x + 0.3 * random.normal(size=rows) > 0, "true", "false"),
        })  # fmt: skip
        frame.write_csv(self.folder / name)
        return str(self.folder / name)

    def controller(self) -> Worker:
        worker = Worker(Training(self.spec, self.store), KafkaCarrier(self.brokers, self.name, "training"))
        worker.start()
        return worker

    def run(self, *words: str) -> int:
        return run(["bootstrap", *words, "-p", str(self.folder / "pipeline.yaml"), "--brokers", self.brokers])


@pytest.fixture
def rig(kafka: str, unique: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Rig:
    monkeypatch.setenv("HEADRACE_ARTEFACTS", f"file://{tmp_path}/artefacts")
    monkeypatch.setenv("HEADRACE_SIGNING_KEY", str(tmp_path / "keys" / SIGNING))
    monkeypatch.setenv("HEADRACE_TRUSTED_KEYS", str(tmp_path / "keys" / TRUSTED))
    monkeypatch.setenv("HEADRACE_PARTITIONS", "2")
    return Rig(kafka, unique, tmp_path)


def test_without_a_file_the_topics_are_made_and_no_model(rig: Rig, capsys: pytest.CaptureFixture[str]) -> None:
    assert rig.run("--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["member"] is None
    assert f"{rig.name}.examples.v1" in told["created"]
    assert rig.run() == 0
    assert f"unchanged {rig.name}" in capsys.readouterr().out


def test_the_first_model_comes_from_history_and_training_fits_no_other(
    rig: Rig, capsys: pytest.CaptureFixture[str]
) -> None:
    assert rig.run(rig.history(ROWS), "--label-delay", "1h", "--json") == 0
    told = json.loads(capsys.readouterr().out)["member"]
    assert (told["version"], told["rows"], told["cause"]["kind"]) == (1, ROWS, "first")

    with contextlib.closing(KafkaLog(rig.brokers, rig.name, "test")) as log:
        found = announced(log, rig.store.keys)
        assert found.pool is not None
        assert (found.pool.leader, found.pool.version, list(found.members)) == (1, 1, [1])
        dataset = fetch_manifest(rig.store, found.members[1]).dataset
        rows = remake(dataset, rig.name, rig.spec.feature_types, rig.store)
        assert rows.num_rows == ROWS
        assert rows.column("x_mean").null_count == 2  # the first row of each shop
        assert fetch(rig.store, found.members[1], rig.spec.feature_types).score(rows).shape == (ROWS,)
        _damage(rig, dataset.log)
        with pytest.raises(SegmentDamaged, match=dataset.log):
            remake(dataset, rig.name, rig.spec.feature_types, rig.store)

        worker = rig.controller()
        train(rig, log, worker)
        assert list(announced(log, rig.store.keys).members) == [1]
        assert checkpoint(log).done[f"{rig.name}/first"] == "announced"
        place = Place("decisions", 0)
        said = [cloudevents.decode(each.value or b"").read(Decision) for each in log.read(place, 0, log.end(place))]
        assert list({each.id: each.step for each in said}.values()) == ["fitted", "announced"]
        assert said[0].evidence["history"] == dataset.log

    assert rig.run(rig.history(ROWS)) == 1
    assert "has a model already, version 1" in capsys.readouterr().err


def _damage(rig: Rig, log: str) -> None:
    (path, *_) = rig.store.names(f"archive/{rig.name}/examples/log-{log}")
    file = rig.folder / "artefacts" / path
    file.write_bytes(file.read_bytes()[:-1] + b"\0")


def train(rig: Rig, log: KafkaLog, worker: Worker) -> None:
    """Give a controller as many labelled rows as a first fit takes, and run it until it has decided."""
    rows = labelled(0, 500)
    rows = rows.append_column("x_mean", rows.column("z"))
    with contextlib.closing(KafkaCarrier(rig.brokers, rig.name, "test")) as way:
        for partition in range(2):
            way.publish([Outgoing("examples", partition, b.encode(rows), None, passing(10_000 * STEP))])
            rows = rows.slice(0, 0)
        way.confirm()
    run_until(worker, lambda: f"{rig.name}/first" in checkpoint(log).done)
    worker._carrier.close()


def run_until(worker: Worker, done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not done():
        assert time.monotonic() < deadline
        worker.step()


def test_a_file_that_is_not_there_is_refused_before_anything_is_made(
    rig: Rig, capsys: pytest.CaptureFixture[str]
) -> None:
    assert rig.run("nowhere.csv") == 2
    assert "nowhere.csv: there is no such file" in capsys.readouterr().err
    with topic_admin(rig.brokers) as admin:
        assert not admin.existing([f"{rig.name}.models.v1"])


def test_a_controller_that_runs_takes_the_model_for_its_first(rig: Rig) -> None:
    assert rig.run() == 0
    worker = rig.controller()
    with contextlib.closing(KafkaLog(rig.brokers, rig.name, "test")) as log:
        run_until(worker, lambda: checkpoint(log).epoch == 1)
        assert rig.run(rig.history(ROWS)) == 0
        train(rig, log, worker)
        assert list(announced(log, rig.store.keys).members) == [1]
        assert checkpoint(log).done[f"{rig.name}/first"] == "announced"
        handler = worker._handler
        assert isinstance(handler, Training)
        assert list(handler._known.weighing.blend.members) == [1]
        handler._known.archive.write()
        assert rig.store.names(f"archive/{rig.name}/examples/log-{log.topic_id('examples')}/0")


@pytest.mark.parametrize(
    ("rows", "words", "code", "says"),
    [
        (300, (), 1, "the history has 300 labelled rows, and a first fit takes 400"),
        (ROWS, ("--label", "nothing"), 2, "nothing"),
        (ROWS, ("--label-delay", "soon"), 2, "--label-delay"),
    ],
)
def test_what_makes_no_model_is_refused_with_the_mend_and_nothing_is_announced(
    rig: Rig, rows: int, words: tuple[str, ...], code: int, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert rig.run(rig.history(rows), *words) == code
    assert says in capsys.readouterr().err
    with contextlib.closing(KafkaLog(rig.brokers, rig.name, "test")) as log:
        if code == 1:
            assert announced(log, rig.store.keys).newest is None
