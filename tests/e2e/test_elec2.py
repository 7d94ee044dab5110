"""A real stream through the real system, and its log read again."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from headrace.again import read_again
from headrace.files import read
from headrace.following import whole
from headrace.output import Output
from headrace.report import predictions, report
from headrace.rows import Options, messages
from headrace.skew.command import examine
from headrace.skew.spans import Range
from schemas.cloudevents import decode
from schemas.messages import Decision
from tests.e2e.running import running, until

ROOT = Path(__file__).parents[2]
FILE = ROOT.parent / "shared" / "data" / "elec2.csv.gz"
ROWS = 45_312


@pytest.mark.kafka
@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(not FILE.exists(), reason="the elec2 stream is not in ../shared/data")
def test_every_event_has_one_prediction_and_the_log_read_again_says_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADRACE_SKEW_SHARE", "1")
    options = Options.of(start="1996-05-07T00:00:00Z", every="30m", delay="48rows")
    with running(tmp_path, ROOT / "tests/data/elec2.yaml") as system:
        system.send(messages(read(FILE), system.spec, options), 2_000)
        until(f"{ROWS} examples", lambda: report(system.log).examples >= ROWS, 120, system.problems)
        told = report(system.log)
        predicted = Counter(decode(each.value or b"").id for each in predictions(system.log))
        assert len(predicted) == predicted.total() == ROWS
        assert told.examples == ROWS
        assert len(told.members) >= 3
        assert told.accuracy is not None
        assert told.accuracy > 0.6
        for name in system.services.names:
            system.services.stop(name)
        findings = list(read_again(system.log, system.spec))
        skew = examine(system.log, system.spec, Range(), Output(machine=True))
        steps = {
            decode(each.value or b"", each.headers).read(Decision).step for _, each in whole(system.log, "decisions")
        }
    print(f"prequential accuracy {told.accuracy:.4f} over {told.judged} rows, {len(told.members)} models")
    assert [each for each in findings if each.different] == []
    assert (skew.rows, skew.sound) == (ROWS, True)
    assert "announced" in steps
    assert "skewed" not in steps
