"""How a process ends: drained by signals, however many; crashed with one line; wrong setup with the mend."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from schemas.pipeline import template

ROOT = Path(__file__).parents[3]
SECONDS = 30

WORKS = """
from runtime.memory import MemoryBroker, MemoryCarrier
from runtime.service import run
from runtime.settings import ServiceSettings

class Idle:
    inputs, follows, leads = ("a",), (), False
    def restore(self, place, log):
        print("working", flush=True)
        return ()
    def tick(self, now):
        return ()

def build(context, settings):
    carrier = MemoryCarrier(MemoryBroker({"a": 1}), "g")
    return [context.worker(Idle(), carrier)]

run("idle", ServiceSettings, build)
"""

BREAKS = """
from runtime import errors
from runtime.service import run
from runtime.settings import ServiceSettings

def build(context, settings):
    raise errors.%s("no luck")

run("broken", ServiceSettings, build)
"""


def start(home: Path, program: str) -> subprocess.Popen[str]:
    file = home / "pipeline.yaml"
    file.write_text(template("signals"))
    settings = {"HEADRACE_PIPELINE": str(file), "HEADRACE_METRICS_PORT": "-1", "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-c", program],
        env={**os.environ, **settings},
        cwd=home,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_process_under_a_hail_of_signals_drains(tmp_path: Path) -> None:
    with start(tmp_path, WORKS) as child:
        assert child.stdout is not None
        while "working" not in child.stdout.readline():
            assert child.poll() is None
        for _ in range(200):
            child.send_signal(signal.SIGTERM)
            child.send_signal(signal.SIGINT)
        assert child.wait(SECONDS) == 0


@pytest.mark.parametrize("kind", ["Transient", "Fatal", "HoleFound"])
def test_an_error_while_workers_are_built_is_a_crash_of_one_line(tmp_path: Path, kind: str) -> None:
    with start(tmp_path, BREAKS % kind) as child:
        out, errors = child.communicate(timeout=SECONDS)
    (line,) = (json.loads(each) for each in (out + errors).splitlines())
    assert (child.returncode, line["event"], line["kind"], line["error"]) == (1, "crashed", kind, "no luck")


def test_a_wrong_setup_while_workers_are_built_is_told_to_a_person(tmp_path: Path) -> None:
    with start(tmp_path, BREAKS % "WrongSetup") as child:
        out, errors = child.communicate(timeout=SECONDS)
    assert (child.returncode, out, errors) == (2, "", "broken: no luck\n")
