"""`headrace backtest` on a real Kafka: the file beside what was announced, over what is recorded there."""

import contextlib
import json
from pathlib import Path

import pytest

from headrace.cli import run
from headrace.demo.stream import readings
from headrace.files import Options, messages
from headrace.following import whole
from headrace.report import report
from headrace.simulate import assemble
from headrace.simulate import run as run_loop
from runtime.bootstrap import bootstrap
from runtime.kafka import KafkaCarrier
from runtime.ports import Outgoing
from runtime.signing import keys_in_memory
from runtime.store import Store
from schemas.pipeline import parse

pytestmark = pytest.mark.timeout(180)
PUMPS = Path(__file__).parents[1] / "data" / "pumps.yaml"
OPTIONS = Options.of(start="2026-01-01T00:00:00Z", every="1s", delay="300rows", prefix="reading-")


def test_both_policies_are_told_and_a_file_that_changes_rows_is_refused(
    kafka: str, unique: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = PUMPS.read_text().replace("pipeline: demo", f"pipeline: {unique}", 1)
    spec = parse(text)
    loop = assemble(spec, Store("memory://", keys_in_memory()), 2)
    run_loop(loop, spec, messages(readings(5_000, 4_000, 7), spec, OPTIONS))
    bootstrap(kafka, spec, text, 2, 1)
    with contextlib.closing(KafkaCarrier(kafka, unique, "test")) as carrier:
        for place, message in (each for topic in ("features", "outcomes") for each in whole(loop.log, topic)):
            headers = [(key, value or b"") for key, value in message.headers]
            carrier.publish([Outgoing(*place, message.value or b"", message.key, headers)])
        carrier.confirm()
    file = tmp_path / "changed.yaml"
    words = ["backtest", "-p", str(file), "--brokers", kafka, "--from", "2026-01-01T00:00:00Z"]

    file.write_text(text.replace("settle: 1000", "settle: 500"))
    assert run([*words, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    was = report(loop.log)
    assert told["changes"] == ["drift.settle: 1000 → 500"]
    assert (told["running"]["members"], told["running"]["judged"]) == (len(was.members), was.judged)
    assert told["running"]["metric"]["accuracy"] == was.accuracy
    assert told["changed"]["judged"] == was.judged

    file.write_text(text)
    assert run(words) == 2
    assert "says what runs already" in capsys.readouterr().err
    file.write_text(text.replace("horizon: 1h", "horizon: 2h"))
    assert run(words) == 2
    assert "labels.horizon" in capsys.readouterr().err
