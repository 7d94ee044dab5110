"""docker-compose.yml and the Prometheus configuration know the same five services, each with its guards."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from headrace.plans import SERVICES
from runtime.metrics import Metrics

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))
PROMETHEUS: dict[str, Any] = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text("utf-8"))
ALERTS: dict[str, Any] = yaml.safe_load((ROOT / "deploy/prometheus/alerts.yml").read_text("utf-8"))
RULES: list[dict[str, Any]] = [rule for group in ALERTS["groups"] for rule in group["rules"]]
DOCKERFILE = (ROOT / "deploy/Dockerfile").read_text("utf-8")
AROUND = {"kafka", "topics", "keys", "prometheus"}
READERS = ("serving", "drift", "training")
"""Who reads models, and so needs to know whose to take."""


def service(name: str) -> dict[str, Any]:
    found: dict[str, Any] = COMPOSE["services"][name]
    return found


def test_compose_runs_the_five_services_and_what_they_need() -> None:
    assert set(COMPOSE["services"]) == {*SERVICES, *AROUND}


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_runs_its_module_with_no_rights_and_a_health_check(name: str) -> None:
    found = service(name)
    assert found["command"] == ["python", "-m", f"services.{name}"]
    assert (ROOT / "services" / name / "__main__.py").exists()
    assert found["read_only"] is True
    assert found["cap_drop"] == ["ALL"]
    assert found["security_opt"] == ["no-new-privileges:true"]
    assert found["mem_limit"]
    assert "healthcheck" not in found, "the image's own check asks /ready"
    assert "http://127.0.0.1:9100/ready" in DOCKERFILE.split("HEALTHCHECK")[1]
    assert "USER 10001" in DOCKERFILE


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_waits_for_its_topics_and_drains_before_it_is_killed(name: str) -> None:
    found = service(name)
    needed = ("topics", "keys") if name in READERS else ("topics",)
    assert found["depends_on"] == {each: {"condition": "service_completed_successfully"} for each in needed}
    assert int(found["stop_grace_period"].removesuffix("s")) > 10
    assert found["restart"] == "unless-stopped"


@pytest.mark.parametrize("name", SERVICES)
def test_public_keys_are_for_readers_and_the_private_one_is_for_training_alone(name: str) -> None:
    mounted = dict(volume.split(":", 1) for volume in service(name).get("volumes", []))
    assert ("trusted" in mounted) == (name in READERS)
    assert ("signing" in mounted) == (name == "training")
    for place, variable in (("trusted", "HEADRACE_TRUSTED_KEYS="), ("signing", "HEADRACE_SIGNING_KEY=")):
        if place in mounted:
            path, mode = mounted[place].split(":")
            assert mode == "ro"
            assert f"{variable}{path}" in DOCKERFILE
            assert path in " ".join(service("keys")["command"])


def test_kafka_has_a_health_check_that_the_topics_wait_for() -> None:
    assert service("kafka")["healthcheck"]["test"]
    assert service("topics")["depends_on"] == {"kafka": {"condition": "service_healthy"}}


def test_prometheus_finds_every_instance_of_the_five_services() -> None:
    (job,) = PROMETHEUS["scrape_configs"]
    (names,) = job["dns_sd_configs"]
    assert tuple(names["names"]) == SERVICES
    assert (names["type"], names["port"]) == ("A", 9100)
    assert "HEADRACE_METRICS_PORT=9100" in DOCKERFILE


def test_prometheus_reads_the_alerts_where_compose_puts_them() -> None:
    mounted = [volume.split(":")[:2] for volume in service("prometheus")["volumes"]]
    for name in PROMETHEUS["rule_files"]:
        assert [f"./deploy/prometheus/{name}", f"/etc/prometheus/{name}"] in mounted
        assert (ROOT / "deploy/prometheus" / name).exists()


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: str(rule["alert"]))
def test_an_alert_is_about_metrics_that_services_have_and_says_where_to_read_on(rule: dict[str, Any]) -> None:
    names = set(re.findall(r"\bheadrace_\w+", rule["expr"]))
    known = {sample.name for family in Metrics().registry.collect() for sample in family.samples}
    assert names
    assert names <= known
    assert rule["annotations"]["summary"].endswith(".")
    page, section = re.search(r"See (docs/\w+\.md), (\w+)\.", rule["annotations"]["description"]).groups()  # type: ignore[union-attr]
    assert f"## {section}\n" in (ROOT / page).read_text("utf-8")


def test_nothing_is_open_to_the_network() -> None:
    for name, found in COMPOSE["services"].items():
        for port in found.get("ports", []):
            assert port.startswith("127.0.0.1:"), name


def test_the_header_shows_how_to_scale_what_has_a_port_on_the_host() -> None:
    text = (ROOT / "docker-compose.yml").read_text("utf-8")
    shown = [line for line in text.splitlines() if "--scale" in line]
    assert shown
    for line in shown:
        for name in re.findall(r"--scale (\w+)=", line):
            assert name in SERVICES
            assert "ports" not in service(name) or "HTTP_PORT=8080-8089" in line
