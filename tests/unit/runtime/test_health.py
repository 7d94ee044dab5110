"""The pages of a service and its log lines, as Prometheus, an orchestrator and a log collector read them."""

import io
import json
import logging
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from email.message import Message

import pytest

from runtime.errors import WrongSetup
from runtime.health import HealthServer
from runtime.logs import JsonFormatter, configure
from runtime.metrics import Metrics


class Rig:
    """A server whose checks a test sets."""

    def __init__(self) -> None:
        self.metrics = Metrics()
        self.live = {"worker-0": True}
        self.ready = {"worker-0": True, "worker-1": True}
        self.server = HealthServer(0, self.metrics.registry, lambda: self.live, lambda: self.ready)

    def get(self, path: str) -> tuple[int, Message, str]:
        """Status, headers and body of a page."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.server.port}{path}", timeout=5) as answer:
                return answer.status, answer.headers, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.headers, error.read().decode()


@pytest.fixture
def rig() -> Iterator[Rig]:
    rig = Rig()
    yield rig
    rig.server.close()


def test_metrics_are_what_prometheus_reads(rig: Rig) -> None:
    rig.metrics.rows.labels("events").inc(3)
    status, headers, body = rig.get("/metrics")
    assert status == 200
    assert headers["Content-Type"].startswith("text/plain; version=")
    assert 'headrace_rows_total{stream="events"} 3.0' in body.splitlines()


@pytest.mark.parametrize("page", ["live", "ready"])
def test_a_page_says_yes_only_while_every_check_does(rig: Rig, page: str) -> None:
    assert rig.get(f"/{page}")[0] == 200
    checks = {"worker-0": True, "worker-1": False}
    setattr(rig, page, checks)
    status, headers, body = rig.get(f"/{page}")
    assert status == 503
    assert headers["Content-Type"] == "application/json"
    assert json.loads(body) == checks


def test_not_ready_is_no_reason_to_be_restarted(rig: Rig) -> None:
    rig.ready = {"worker-0": False}
    assert (rig.get("/ready")[0], rig.get("/live")[0]) == (503, 200)


def test_another_page_names_the_three_that_exist(rig: Rig) -> None:
    status, _, body = rig.get("/health")
    assert status == 404
    assert body == "/metrics, /live or /ready\n"


def test_a_port_that_is_taken_is_a_wrong_setup_and_names_the_setting() -> None:
    with socket.create_server(("", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(WrongSetup, match=rf"port {port} for /metrics is taken.*HEADRACE_METRICS_PORT"):
            HealthServer(port, Metrics().registry, dict, dict)


def test_a_closed_server_gives_its_port_back() -> None:
    first = HealthServer(0, Metrics().registry, dict, dict)
    first.close()
    HealthServer(first.port, Metrics().registry, dict, dict).close()


def line(**facts: object) -> dict[str, object]:
    """What is written for a record with some facts."""
    record = logging.makeLogRecord(
        {"name": "headrace.worker", "levelname": "WARNING", "msg": "retrying", "created": 1_790_000_000.25, **facts}
    )
    read: dict[str, object] = json.loads(JsonFormatter(service="features", instance="features-2").format(record))
    return read


def test_a_log_line_is_one_object_with_the_event_and_its_facts() -> None:
    assert line(seconds=0.5, place=("events", 3)) == {
        "time": "2026-09-21T14:13:20.250+00:00",
        "level": "warning",
        "service": "features",
        "instance": "features-2",
        "logger": "headrace.worker",
        "event": "retrying",
        "seconds": 0.5,
        "place": ["events", 3],
    }


def test_a_fact_that_json_does_not_know_is_written_as_text() -> None:
    assert line(error=ValueError("a\nb"))["error"] == "a\nb"


def test_a_traceback_stays_on_its_line() -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        1 / 0  # noqa: B018 - for its traceback
    told = line(exc_info=(caught.type, caught.value, caught.tb))
    assert str(told["traceback"]).endswith("ZeroDivisionError: division by zero")


def test_our_loggers_speak_from_the_level_asked_for_and_clients_from_warning_on() -> None:
    root, ours, stream = logging.getLogger(), logging.getLogger("headrace"), io.StringIO()
    before = (root.handlers[:], root.level, ours.level)
    try:
        configure("drift", "drift-1", "INFO", stream)
        for name in ("headrace.worker", "kafka.client"):
            logging.getLogger(name).debug("quiet")
            logging.getLogger(name).info("told")
            logging.getLogger(name).warning("warned")
    finally:
        root.handlers[:] = before[0]
        root.setLevel(before[1])
        ours.setLevel(before[2])
    told = [json.loads(each) for each in stream.getvalue().splitlines()]
    assert [(each["logger"], each["event"]) for each in told] == [
        ("headrace.worker", "told"),
        ("headrace.worker", "warned"),
        ("kafka.client", "warned"),
    ]
