"""`headrace demo` closes the loop on real processes and a real Kafka, and leaves nothing running."""

import contextlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from headrace.cli import run
from headrace.demo.command import PIPELINE
from headrace.demo.home import Home
from headrace.demo.story import HELD, NAMED, SHIFT, TITLES
from headrace.local_kafka import LocalKafka
from headrace.plans import TRUSTED

ROOT = Path(__file__).parents[2]


def alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def descendants_until_the_end(process: "subprocess.Popen[bytes]", seconds: float) -> set[psutil.Process]:
    """Every process that was seen below this one while it ran; fails, and kills it, when it takes longer."""
    seen: set[psutil.Process] = set()
    deadline = time.monotonic() + seconds
    try:
        while process.poll() is None:
            assert time.monotonic() < deadline, f"not ended after {seconds:.0f} s"
            with contextlib.suppress(psutil.NoSuchProcess):
                seen.update(psutil.Process(process.pid).children(recursive=True))
            time.sleep(0.2)
    finally:
        process.kill()
        process.wait()
    return seen


@pytest.mark.kafka
@pytest.mark.slow
@pytest.mark.timeout(420)
def test_the_demo_tells_four_changes_apart_and_each_of_its_models_is_made_again_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with (tmp_path / "out").open("w+") as out, (tmp_path / "err").open("w+") as err:
        process = subprocess.Popen(
            [sys.executable, "-c", "from headrace.cli import main; main()", "demo", "--json"],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=out,
            stderr=err,
        )
        seen = descendants_until_the_end(process, 240)
    assert process.returncode == 0, (tmp_path / "err").read_text()
    assert len(seen) >= 7, "five services, Java and its guard"
    assert not [each for each in seen if alive(each)]
    told = [json.loads(line) for line in (tmp_path / "out").read_text().splitlines()]
    assert told[-1]["closed"] is True
    assert (told[-1]["missing"], told[-1]["wrong"]) == ([], [])
    said = {each["step"]: each["told"] for each in told if "step" in each}
    assert said.keys() == set(TITLES)
    assert said[TITLES[NAMED]] == "pressure arrives 100 times too large, from source events/1 alone"
    assert "rows of events/1" in said[TITLES[HELD]]
    assert "vibration" in said[TITLES[SHIFT]]
    assert told[-1]["worst"] < told[-1]["before"] - 0.2
    assert told[-1]["after"] > told[-1]["before"] - 0.05
    assert sorted(path.stem for path in (tmp_path / ".headrace" / "demo" / "logs").iterdir()) == [
        "drift",
        "features",
        "ingestion",
        "serving",
        "training",
    ]
    _verify(Home(tmp_path / ".headrace" / "demo"), monkeypatch, capsys)


def _verify(home: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("HEADRACE_ARTEFACTS", home.artefacts)
    monkeypatch.setenv("HEADRACE_TRUSTED_KEYS", str(home.keys / TRUSTED))
    with LocalKafka(home.kafka) as kafka:
        code = run(["verify", "-p", str(PIPELINE), "--brokers", kafka.address, "--json"])
    checks = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [each for each in checks if not each["holds"]] == []
    assert code == 0
    again = {each["version"] for each in checks if each["check"] == "fit"}
    assert again == set(range(1, len(again) + 1))
    assert len(again) >= 3
