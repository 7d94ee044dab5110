"""The supervisor keeps children running, stops them in order, and leaves none behind."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import psutil
import pytest

from headrace.errors import RunFailed
from headrace.process import Plan
from headrace.supervisor import Supervisor
from runtime.errors import WrongSetup
from tests.polling import eventually

FAKE = """
import json, os, signal, sys, threading
from http.server import BaseHTTPRequestHandler, HTTPServer

class Ready(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
    def log_message(self, *_):
        pass

stop = threading.Event()
if os.environ.get("DEAF"):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
else:
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
if os.environ.get("EXIT"):
    print("the mend is here", file=sys.stderr)
    sys.exit(int(os.environ["EXIT"]))
signal.signal(signal.SIGUSR1, lambda *_: os._exit(2))
server = HTTPServer(("127.0.0.1", 0), Ready)
threading.Thread(target=server.serve_forever, daemon=True).start()
print(json.dumps({"event": "started", "metrics_port": server.server_port}))
stop.wait()
print(json.dumps({"event": "stopped"}))
"""


def alive(pid: int | None) -> bool:
    try:
        return pid is not None and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


class Rig:
    """A supervisor over fake services."""

    def __init__(self, folder: Path) -> None:
        (folder / "fake_service.py").write_text(FAKE)
        self.folder = folder
        self.lines: list[tuple[str, str]] = []
        self.crashes: list[tuple[str, int]] = []
        self.pauses: list[tuple[float, float]] = []
        """When a crash was noticed, and the pause that was announced."""
        self.made: list[Supervisor] = []

    def plan(self, name: str, **environment: str) -> Plan:
        return Plan(name, "fake_service", {"PYTHONPATH": str(self.folder), **environment})

    def supervisor(self, *plans: Plan) -> Supervisor:
        supervisor = Supervisor(
            plans,
            on_line=lambda name, line: self.lines.append((name, line)),
            on_crash=self._crashed,
        )
        self.made.append(supervisor)
        return supervisor

    def _crashed(self, name: str, code: int, pause: float) -> None:
        self.crashes.append((name, code))
        self.pauses.append((time.monotonic(), pause))


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path)
    yield rig
    for each in rig.made:
        each.stop()


def test_all_children_run_until_stop_and_none_after(rig: Rig) -> None:
    supervisor = rig.supervisor(rig.plan("a"), rig.plan("b"))
    supervisor.start()
    supervisor.wait_ready(15)
    pids = [supervisor.pid("a"), supervisor.pid("b")]
    supervisor.stop()
    assert not any(map(alive, pids))
    assert {(name, json.loads(line)["event"]) for name, line in rig.lines} == {
        (name, event) for name in "ab" for event in ("started", "stopped")
    }


def test_a_killed_child_starts_again_and_only_that_one(rig: Rig) -> None:
    supervisor = rig.supervisor(rig.plan("a"), rig.plan("b"))
    supervisor.start()
    supervisor.wait_ready(15)
    first, other = supervisor.pid("a"), supervisor.pid("b")
    supervisor.kill("a")
    assert eventually(lambda: supervisor.pid("a") not in (None, first))
    supervisor.wait_ready(15)
    assert supervisor.pid("b") == other
    assert rig.crashes == [("a", -signal.SIGKILL)]


def test_a_child_that_keeps_crashing_is_started_at_growing_intervals(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headrace.supervisor.PAUSES_S", (0.05, 0.1, 0.4))
    supervisor = rig.supervisor(rig.plan("a", EXIT="1"))
    supervisor.start()
    assert eventually(lambda: len(rig.crashes) >= 4)
    assert [pause for _, pause in rig.pauses[:4]] == [0.05, 0.1, 0.4, 0.4]
    gaps = [later - sooner for (sooner, _), (later, _) in pairwise(rig.pauses)]
    assert all(gap >= pause for gap, (_, pause) in zip(gaps, rig.pauses, strict=False))
    assert supervisor.refused is None


def test_a_wrong_setup_stops_everything_and_is_told_in_the_child_s_words(rig: Rig) -> None:
    supervisor = rig.supervisor(rig.plan("good"), rig.plan("bad", EXIT="2"))
    supervisor.start()
    with pytest.raises(WrongSetup, match=r"bad cannot run:\n  the mend is here"):
        supervisor.wait_ready(15)
    assert eventually(lambda: supervisor.pid("good") is None)
    assert rig.crashes == []


@pytest.mark.parametrize("told", [True, False], ids=["somebody waited for it", "nobody asked"])
def test_a_child_that_was_ready_and_ends_with_2_has_crashed(rig: Rig, *, told: bool) -> None:
    supervisor = rig.supervisor(rig.plan("a"), rig.plan("b"))
    supervisor.start()
    if told:
        supervisor.wait_ready(15)
    else:
        assert eventually(lambda: supervisor._proven == {"a", "b"})
    first, other = supervisor.pid("a"), supervisor.pid("b")
    assert first is not None
    os.kill(first, signal.SIGUSR1)
    assert eventually(lambda: supervisor.pid("a") not in (None, first))
    assert supervisor.refused is None
    assert supervisor.pid("b") == other
    assert rig.crashes == [("a", 2)]


def test_one_child_can_be_stopped_and_started(rig: Rig) -> None:
    supervisor = rig.supervisor(rig.plan("a"), rig.plan("b"))
    supervisor.start()
    supervisor.wait_ready(15)
    supervisor.stop("a")
    assert supervisor.pid("a") is None
    assert supervisor.ready() == ["b"]
    supervisor.start("a")
    supervisor.wait_ready(15)
    assert rig.crashes == []


def test_a_suspended_child_is_not_ready_and_ends_with_the_rest(rig: Rig) -> None:
    supervisor = rig.supervisor(rig.plan("a"))
    supervisor.start()
    supervisor.wait_ready(15)
    pid = supervisor.pid("a")
    supervisor.suspend("a")
    assert eventually(lambda: not supervisor.ready())
    supervisor.resume("a")
    supervisor.wait_ready(15)
    supervisor.suspend("a")
    supervisor.stop()
    assert not alive(pid)


def test_a_child_that_does_not_listen_is_killed(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headrace.supervisor.DRAIN_S", 0.2)
    supervisor = rig.supervisor(rig.plan("a", DEAF="1"))
    supervisor.start()
    supervisor.wait_ready(15)
    pid = supervisor.pid("a")
    supervisor.stop()
    assert not alive(pid)


def test_who_is_not_ready_in_time_is_named_with_its_last_words(rig: Rig) -> None:
    supervisor = rig.supervisor(rig.plan("a"), rig.plan("b", EXIT="1"))
    supervisor.start()
    with pytest.raises(RunFailed, match=r"not ready after 2 s: b.*\n  the mend is here"):
        supervisor.wait_ready(2)


def test_children_end_when_the_supervisor_is_killed(rig: Rig) -> None:
    (rig.folder / "parent.py").write_text(
        "import sys, time\n"
        "from headrace.process import Plan\n"
        "from headrace.supervisor import Supervisor\n"
        f"plan = Plan('a', 'fake_service', {{'PYTHONPATH': {str(rig.folder)!r}}})\n"
        "supervisor = Supervisor([plan])\n"
        "supervisor.start()\n"
        "supervisor.wait_ready(15)\n"
        "print(supervisor.pid('a'), flush=True)\n"
        "time.sleep(60)\n"
    )
    root = Path(__file__).parents[3]
    with subprocess.Popen(
        [sys.executable, rig.folder / "parent.py"],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(root)},
        text=True,
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert alive(pid)
        parent.kill()
    assert eventually(lambda: not alive(pid))


def test_a_prepared_child_imports_and_runs_only_when_started(rig: Rig) -> None:
    package = rig.folder / "slow_service"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "__main__.py").write_text(
        "print('imported')\nif __name__ == '__main__':\n    print('runs')\n    exit(2)\n"
    )
    supervisor = rig.supervisor(Plan("a", "slow_service", {"PYTHONPATH": str(rig.folder)}))
    supervisor.prepare()
    assert eventually(lambda: rig.lines)
    pid = supervisor.pid("a")
    assert rig.lines == [("a", "imported")]
    supervisor.start()
    assert supervisor.pid("a") in (pid, None)
    assert eventually(supervisor.ended.is_set)
    assert rig.lines == [("a", "imported"), ("a", "imported"), ("a", "runs")]


def test_a_prepared_child_can_be_stopped_without_ever_running(rig: Rig) -> None:
    supervisor = rig.supervisor(rig.plan("a"))
    supervisor.prepare()
    pid = supervisor.pid("a")
    assert alive(pid)
    supervisor.stop()
    assert not alive(pid)
    assert rig.lines == []


def test_a_killed_child_starts_again_although_others_are_prepared_meanwhile(rig: Rig) -> None:
    supervisor = rig.supervisor(rig.plan("a"), rig.plan("b"))
    supervisor.start()
    supervisor.wait_ready(15)
    supervisor.stop("b")
    supervisor.kill("a")
    supervisor.prepare()
    supervisor.wait_ready(15)
    assert rig.crashes == [("a", -signal.SIGKILL)]


def test_a_directory_of_the_user_cannot_stand_in_for_a_service(
    rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "project"
    (home / "schemas").mkdir(parents=True)
    (home / "schemas" / "__init__.py").write_text("raise SystemExit(3)")
    (rig.folder / "uses_schemas.py").write_text("import schemas.topics\nprint('ours')\nraise SystemExit(2)\n")
    monkeypatch.chdir(home)
    supervisor = rig.supervisor(Plan("a", "uses_schemas", {"PYTHONPATH": str(rig.folder)}))
    supervisor.start()
    assert eventually(supervisor.ended.is_set)
    assert ("a", "ours") in rig.lines
