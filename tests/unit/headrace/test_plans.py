"""Which processes `up` starts, and with what."""

from pathlib import Path

import pytest

from headrace.errors import WrongUse
from headrace.plans import SERVICES, chosen, counted, pair, plans

PIPELINE = Path("pipeline.yaml")


def test_all_services_in_the_order_of_the_stream() -> None:
    assert [plan.module for plan in plans(PIPELINE, "a:1")] == [f"services.{name}" for name in SERVICES]


def test_several_instances_are_numbered_and_share_nothing_of_their_own() -> None:
    made = plans(PIPELINE, "a:1", services=["serving"], instances={"serving": 2}, http_port=8000, metrics_port=9100)
    assert [plan.name for plan in made] == ["serving-1", "serving-2"]
    for key, values in {
        "HEADRACE_HTTP_PORT": ["8000", "8001"],
        "HEADRACE_METRICS_PORT": ["9100", "9101"],
        "HEADRACE_INSTANCE": ["serving-1", "serving-2"],
    }.items():
        assert [plan.environment[key] for plan in made] == values
    assert len({plan.environment["HEADRACE_DATA"] for plan in made}) == 2


def test_no_port_means_any_port() -> None:
    assert {plan.environment["HEADRACE_METRICS_PORT"] for plan in plans(PIPELINE, "a:1")} == {"0"}


def test_paths_hold_wherever_a_child_runs() -> None:
    assert Path(plans(PIPELINE, "a:1")[0].environment["HEADRACE_PIPELINE"]).is_absolute()


def test_choices_are_read_as_written() -> None:
    assert chosen("serving, drift") == ["serving", "drift"]
    assert chosen(None) == list(SERVICES)
    assert counted(["ingestion=2", "serving=3"]) == {"ingestion": 2, "serving": 3}


@pytest.mark.parametrize("text", ["ingestion", "ingestion=0", "ingestion=two", "ingress=2"])
def test_a_wrong_count_is_refused(text: str) -> None:
    with pytest.raises(WrongUse, match="--instances"):
        counted([text])


@pytest.mark.parametrize("text", ["ingress", ",", ""])
def test_an_unknown_service_is_refused(text: str) -> None:
    with pytest.raises(WrongUse, match="--services"):
        chosen(text)


def test_the_private_key_is_in_the_environment_of_training_alone(tmp_path: Path) -> None:
    pair(tmp_path)
    for plan in plans(tmp_path / "pipeline.yaml", "broker:9092", keys=tmp_path):
        assert ("HEADRACE_SIGNING_KEY" in plan.environment) == (plan.name == "training")
        assert plan.environment["HEADRACE_TRUSTED_KEYS"] == str(tmp_path / "trusted")
    assert (tmp_path / "signing.pem").exists()
