"""A real stream through the real system, with an online member and with kills; its log and its models made again."""

from __future__ import annotations

import threading
from collections import Counter
from itertools import islice, pairwise
from pathlib import Path

import pytest

from headrace.again import read_again
from headrace.cli import run
from headrace.files import read
from headrace.following import whole
from headrace.output import Output
from headrace.plans import TRUSTED
from headrace.report import count, predictions, report
from headrace.rows import Options, messages
from headrace.skew.command import examine
from headrace.skew.spans import Range
from runtime.keys import public_keys
from runtime.signing import Keys
from runtime.weighed import read as weights_of
from schemas import batch as b
from schemas.beside import ONLINE
from schemas.cloudevents import decode
from schemas.messages import Decision
from tests.e2e.running import Running, running, until

ROOT = Path(__file__).parents[2]
FILE = ROOT.parent / "shared" / "data" / "elec2.csv.gz"
ROWS, RATE = 45_312, 1_000
FIRST = 12_000
"""Events and labels that are sent before there is a model: a slow machine has time for its first fit."""
KILLS = {"training": 15_000, "serving": 25_000}
"""Who is killed when so many rows have been scored."""
MODEL = "model:\n  online: hoeffding_adaptive_tree\n"


@pytest.mark.kafka
@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(not FILE.exists(), reason="the elec2 stream is not in ../shared/data")
def test_every_event_has_one_prediction_and_log_and_models_are_made_again_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADRACE_SKEW_SHARE", "1")
    pipeline = tmp_path / "pipeline.yaml"
    pipeline.write_text((ROOT / "tests/data/elec2.yaml").read_text("utf-8").replace("model:\n", MODEL))
    with running(tmp_path, pipeline) as system:
        keys = Keys.of(public_keys(tmp_path / "keys" / TRUSTED))
        before = _send_and_kill(system, keys)
        until(f"{ROWS} examples", lambda: report(system.log).examples >= ROWS, 120, system.problems)
        told = report(system.log)
        predicted = Counter(decode(each.value or b"").id for each in predictions(system.log))
        assert len(predicted) == predicted.total() == ROWS
        assert told.examples == ROWS
        assert len(told.members) >= 3
        assert told.accuracy is not None
        assert told.accuracy > 0.6
        system.stop()
        findings = list(read_again(system.log, system.spec))
        skew = examine(system.log, system.spec, Range(), Output(machine=True))
        steps, beside, learnt = _steps(system), _beside(system), _learnt(system, keys)
        verified = _verify(system, pipeline, tmp_path, monkeypatch)
    print(f"prequential accuracy {told.accuracy:.4f} over {told.judged} rows, {len(told.members)} models")
    print(f"the online member answered {sum(beside)} rows, and learnt {learnt[-1]}")
    assert [each for each in findings if each.different] == []
    assert (skew.rows, skew.sound) == (ROWS, True)
    assert "announced" in steps
    assert "skewed" not in steps
    assert verified == 0
    _goes_on_from_the_newest_snapshot(system, beside, learnt, before)


def _send_and_kill(system: Running, keys: Keys) -> int:
    """Send everything; how much the online member had learnt when training was killed."""
    options = Options.of(start="1996-05-07T00:00:00Z", every="30m", delay="48rows")
    inputs = messages(read(FILE), system.spec, options)
    system.send(islice(inputs, FIRST), RATE)
    until("the first pool", lambda: "swapped" in _steps(system), 60, system.problems)
    until("a snapshot", lambda: bool(_learnt(system, keys)), 60, system.problems)
    feeder = threading.Thread(target=system.send, args=(inputs, RATE))
    feeder.start()
    learnt = _kill(system, "training", keys)
    _kill(system, "serving", keys)
    feeder.join()
    return learnt


def _kill(system: Running, name: str, keys: Keys) -> int:
    rows = KILLS[name]
    until(f"{rows} predictions", lambda: count(system.log, "predictions") >= rows, 120, system.problems)
    learnt = _learnt(system, keys)[-1]
    system.services.kill(name)
    return learnt


def _steps(system: Running) -> set[str]:
    decisions = (decode(each.value or b"", each.headers) for _, each in whole(system.log, "decisions"))
    return {each.read(Decision).step for each in decisions}


def _beside(system: Running) -> list[bool]:
    """Whether the online member answered, row by row in the order of the stream."""
    batches = (b.decode(message.value) for _, message in whole(system.log, "scored"))
    rows = [
        (time, ONLINE in (members or ()))
        for batch in batches
        for time, members in zip(*(batch.column(name).to_pylist() for name in (b.TIME, b.MEMBERS)), strict=True)
    ]
    return [beside for _, beside in sorted(rows)]


def _learnt(system: Running, keys: Keys) -> list[int]:
    """How many labels the online member had learnt, checkpoint by checkpoint."""
    checkpoints = (weights_of(message, keys) for _, message in whole(system.log, "weights"))
    return [each.online.labels for each in checkpoints if each.online is not None]


def _verify(system: Running, pipeline: Path, directory: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setenv("HEADRACE_ARTEFACTS", (directory / "artefacts").as_uri())
    monkeypatch.setenv("HEADRACE_TRUSTED_KEYS", str(directory / "keys" / TRUSTED))
    return run(["verify", "-p", str(pipeline), "--brokers", system.kafka.address])


def _goes_on_from_the_newest_snapshot(system: Running, beside: list[bool], learnt: list[int], before: int) -> None:
    assert sorted(each.split()[0] for each in system.crashes) == sorted(KILLS)
    assert not [line for line in system.said if "online_member_begins_anew" in line]
    assert all(one <= other for one, other in pairwise(learnt)), "a snapshot was gone back to"
    assert learnt[-1] > before
    assert all(beside[KILLS["training"] :]), "rows went without it"
