from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from runtime.errors import WrongSetup
from schemas import batch as b
from schemas.spec import WindowsSpec
from services.serving.http import BODY_BYTES, PATH, PredictServer
from tests.unit.services.serving.loop import Loop, features, spec
from tests.unit.services.serving.test_pool import two


@pytest.fixture
def loop() -> Loop:
    loop = Loop()
    loop.start()
    return loop


@pytest.fixture
def server(loop: Loop) -> Iterator[PredictServer]:
    server = PredictServer(loop.spec, lambda: loop.handler.pool, "127.0.0.1", 0)
    server.start()
    yield server
    server.stop()


def ask(
    server: PredictServer, body: bytes, method: str = "POST", path: str = PATH
) -> tuple[int, dict[str, Any], dict[str, str]]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    connection.request(method, path, body)
    answer = connection.getresponse()
    said = json.loads(answer.read() or b"{}")
    connection.close()
    return answer.status, said, dict(answer.getheaders())


def events(*each: dict[str, object]) -> bytes:
    return json.dumps({"events": each}).encode()


GOOD: dict[str, object] = {"id": "e1", "x": 1.5, "z": 0.5, "colour": "red"}


def test_while_there_is_no_model_the_caller_is_told_when_to_come_back(server: PredictServer) -> None:
    status, said, headers = ask(server, events(GOOD))
    assert (status, said["problems"][0]["code"]) == (503, "no_model")
    assert int(headers["Retry-After"]) > 0


def test_an_event_gets_the_same_prediction_over_http_as_over_kafka(loop: Loop, server: PredictServer) -> None:
    loop.announce()
    loop.events(0, 20)
    loop.run()
    rows = features(0, 20).select([b.EVENT_ID, "x", "z", "colour"]).rename_columns(["id", "x", "z", "colour"])
    given = [
        {name: value for name, value in row.items() if value is not None} | {"colour": row["colour"] or "none"}
        for row in rows.to_pylist()
    ]
    status, said, _ = ask(server, events(*given))
    assert (status, said["model"], said["pool"]) == (200, 1, 1)
    assert [each["event_id"] for each in said["predictions"]] == [f"e{i}" for i in range(20)]
    told = [each.probability for each in loop.predictions()]
    assert [each["probability"] for each in said["predictions"]] == pytest.approx(told, abs=1e-12)


def test_each_members_output_is_told_on_request(loop: Loop, server: PredictServer) -> None:
    two(loop)
    loop.run()
    body = json.dumps({"events": [GOOD, GOOD], "outputs": True}).encode()
    status, said, _ = ask(server, body)
    assert (status, said["pool"], said["weights"]) == (200, 2, 0)
    assert [each["outputs"].keys() for each in said["predictions"]] == [{"1", "2"}] * 2
    low, high = sorted(said["predictions"][0]["outputs"].values())
    assert low < said["predictions"][0]["probability"] < high
    assert "outputs" not in ask(server, events(GOOD))[1]["predictions"][0]


def test_a_swap_is_seen_by_the_next_request(loop: Loop, server: PredictServer) -> None:
    loop.announce(1)
    loop.run()
    assert ask(server, events(GOOD))[1]["model"] == 1
    loop.announce(2, turned=True)
    loop.run()
    assert ask(server, events(GOOD))[1]["model"] == 2


def test_all_wrong_events_are_named_with_what_where_and_the_mend(loop: Loop, server: PredictServer) -> None:
    loop.announce()
    loop.run()
    body = events({**GOOD, "z": "much", "new": 1}, GOOD, {"id": "e2", "x": 1.0, "z": 1.0}, {**GOOD, "colr": "red"})
    status, said, _ = ask(server, body)
    assert status == 400
    assert [(each["code"], each["where"]) for each in said["problems"]] == [
        ("wrong_type", "$.events[0].z"),
        ("unknown_field", "$.events[0].new"),
        ("missing_field", "$.events[2].colour"),
        ("unknown_field", "$.events[3].colr"),
    ]
    assert all(each["what"] and each["mend"] for each in said["problems"])


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b'{"event": []}', b'{"events": {}}', b'{"events": []}', b"\xff", b"[" * 5000]
)
def test_what_is_no_request_is_refused_with_the_right_form(loop: Loop, server: PredictServer, body: bytes) -> None:
    loop.announce()
    loop.run()
    status, said, _ = ask(server, body)
    assert status == 400
    assert '{"events": [' in said["problems"][0]["mend"]


def test_too_large_a_request_is_refused(loop: Loop, server: PredictServer) -> None:
    loop.announce()
    loop.run()
    many = b'{"events": [' + b",".join([b"{}"] * 4001) + b"]}"
    assert ask(server, many)[0] == 413
    assert ask(server, b" " * (BODY_BYTES + 1))[0] == 413


def test_a_request_to_a_pipeline_with_windows_is_refused_because_it_brings_no_earlier_events(loop: Loop) -> None:
    loop.announce()
    loop.run()
    windows = {"features": {"often": {"count": "*", "over": "1h"}}, "windows": WindowsSpec(per="partition")}
    server = PredictServer(loop.spec.model_copy(update=windows), lambda: loop.handler.pool, "127.0.0.1", 0)
    server.start()
    status, said, _ = ask(server, events(GOOD))
    server.stop()
    assert (status, said["problems"][0]["code"]) == (501, "windows")


def test_other_paths_and_methods_are_refused_with_the_mend(server: PredictServer) -> None:
    status, said, _ = ask(server, b"", path="/predict")
    assert (status, said["problems"][0]["mend"]) == (404, f"POST to {PATH}")
    status, said, headers = ask(server, b"", method="GET")
    assert (status, headers["Allow"]) == (405, "POST")
    assert "POST only" in said["problems"][0]["mend"]


def test_a_taken_port_is_a_wrong_setup_that_names_the_setting() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(WrongSetup, match=f"cannot listen on 127.0.0.1:{port}.*HEADRACE_HTTP_PORT"):
            PredictServer(spec(), lambda: None, "127.0.0.1", port)
