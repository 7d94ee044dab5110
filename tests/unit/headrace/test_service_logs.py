"""Logs of services, shown to people and handed to programs."""

import json

import pytest

from headrace.output import Output
from headrace.service_logs import ServiceLogs

LINE = json.dumps({"time": "2026-01-01T12:00:01.000+00:00", "level": "info", "event": "model_swapped", "pool": 3})


def test_people_get_one_line_with_service_time_and_facts(capsys: pytest.CaptureFixture[str]) -> None:
    ServiceLogs(Output(machine=False)).line("serving", LINE)
    assert capsys.readouterr().out.split() == ["serving", "12:00:01", "model", "swapped", "pool=3"]


def test_programs_get_the_json_as_it_was(capsys: pytest.CaptureFixture[str]) -> None:
    ServiceLogs(Output(machine=True)).line("serving", LINE)
    assert json.loads(capsys.readouterr().out) == json.loads(LINE)


def test_what_is_not_json_is_shown_as_it_is_and_wrapped_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    ServiceLogs(Output(machine=False)).line("serving", "[bold]no[/bold] markup")
    assert "[bold]no[/bold] markup" in capsys.readouterr().out
    ServiceLogs(Output(machine=True)).line("serving", "[1, 2]")
    assert json.loads(capsys.readouterr().out) == {"service": "serving", "event": "said", "text": "[1, 2]"}


def test_a_traceback_is_shown_whole(capsys: pytest.CaptureFixture[str]) -> None:
    ServiceLogs(Output(machine=False)).line("drift-2", json.dumps({"event": "crashed", "traceback": "a\nb [c]"}))
    assert "a\nb [c]" in capsys.readouterr().out
