"""Bootstrap makes what is missing, keeps what fits, refuses what does not, and says the mend."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from runtime import kafka_clients
from runtime.bootstrap import Report, bootstrap
from runtime.errors import WrongSetup
from runtime.kafka import KafkaLog
from runtime.kafka_admin import TopicShape, topic_admin
from runtime.ports import Place
from schemas import cloudevents
from schemas.messages import PipelineAnnounced
from schemas.pipeline import Pipeline, parse, template
from schemas.topics import TOPICS, physical
from tests.polling import eventually

ROOT = Path(__file__).parents[2]


def spec_of(unique: str, horizon: str = "24h") -> tuple[Pipeline, str]:
    text = template(unique).replace("horizon: 24h", f"horizon: {horizon}")
    return parse(text), text


def run(kafka: str, unique: str, partitions: int = 2, horizon: str = "24h") -> Report:
    spec, text = spec_of(unique, horizon)
    return bootstrap(kafka, spec, text, partitions, 3)


def make(kafka: str, name: str, partitions: int, policy: str = "delete", **config: str) -> None:
    with topic_admin(kafka) as admin:
        admin.create({name: TopicShape(partitions, {"cleanup.policy": policy, **config})}, 1)


def delete(kafka: str, name: str) -> None:
    """Delete a topic and wait until the broker no longer tells of it."""
    admin = kafka_clients.admin(kafka)
    admin.delete_topics([name])
    admin.close()
    with topic_admin(kafka) as topics:
        assert eventually(lambda: not topics.existing([name]), 20)


def announced(kafka: str, unique: str) -> list[PipelineAnnounced]:
    log, place = KafkaLog(kafka, unique, "test"), Place("pipeline", 0)
    messages = list(log.read(place, log.begin(place), log.end(place)))
    log.close()
    assert all(message.key == b"pipeline" for message in messages)
    return [cloudevents.decode(each.value or b"", each.headers).read(PipelineAnnounced) for each in messages]


def test_every_topic_of_the_map_is_made_with_its_shape(kafka: str, unique: str) -> None:
    spec, text = spec_of(unique)
    report = bootstrap(kafka, spec, text, 2, 3)
    assert set(report.created) == {topic.physical(unique) for topic in TOPICS}
    counts = {"P": 2, "any": 3, "one": 1}
    with topic_admin(kafka) as admin:
        existing = admin.existing(report.created)
    for topic in TOPICS:
        shape = existing[topic.physical(unique)]
        assert shape.partitions == counts[topic.partitions]
        assert topic.config(spec.labels.horizon, 0).items() <= shape.config.items()


def test_a_second_run_changes_nothing(kafka: str, unique: str) -> None:
    assert run(kafka, unique).announced
    report = run(kafka, unique)
    assert (report.created, report.differs, report.announced) == ((), (), False)
    assert len(report.kept) == len(TOPICS)
    spec, text = spec_of(unique)
    assert announced(kafka, unique) == [PipelineAnnounced(name=unique, digest=spec.digest, text=text, partitions=2)]


def test_a_changed_specification_is_announced_and_retention_is_named_as_different(kafka: str, unique: str) -> None:
    run(kafka, unique)
    report = run(kafka, unique, horizon="48h")
    assert report.announced
    assert [each.digest for each in announced(kafka, unique)] == [spec_of(unique)[0].digest, report.digest]
    assert any(each.startswith(physical(unique, "scored") + ": retention.ms=") for each in report.differs)


def test_a_specification_that_would_break_the_log_is_refused_with_the_way_and_nothing_is_made(
    kafka: str, unique: str
) -> None:
    run(kafka, unique)
    delete(kafka, physical(unique, "weights"))
    text = template(unique).replace("amount_per_item: amount / items", "amount_per_item: amount / (items + 1)")
    with pytest.raises(
        WrongSetup, match=r"(?s)features.amount_per_item: amount / items → .*new name.*another `pipeline"
    ):
        bootstrap(kafka, parse(text), text, 2, 3)
    assert [each.digest for each in announced(kafka, unique)] == [spec_of(unique)[0].digest]
    with topic_admin(kafka) as topics:
        assert not topics.existing([physical(unique, "weights")])


def test_a_specification_without_a_file_is_announced_as_one_that_says_the_same(kafka: str, unique: str) -> None:
    text = template(unique).replace("cooldown: 10m", "cooldown: 90s\n  fits: 3 per 2h")
    spec = parse(text)
    bootstrap(kafka, spec, partitions=2)
    assert [parse(each.text).digest for each in announced(kafka, unique)] == [spec.digest]


def test_what_was_announced_and_cannot_be_read_is_not_replaced(kafka: str, unique: str) -> None:
    spec, text = spec_of(unique)
    bootstrap(kafka, spec, text + "from_the_future: {}\n", 2, 3)
    with pytest.raises(WrongSetup, match=r"(?s)this version of Headrace cannot.*from_the_future: unknown key"):
        run(kafka, unique, horizon="48h")


def test_a_missing_topic_is_made_again(kafka: str, unique: str) -> None:
    run(kafka, unique)
    delete(kafka, physical(unique, "weights"))
    assert run(kafka, unique).created == (physical(unique, "weights"),)


def test_another_number_of_partitions_is_refused_with_the_mend_and_nothing_is_made(kafka: str, unique: str) -> None:
    make(kafka, physical(unique, "records"), 5)
    with pytest.raises(WrongSetup, match=r"records.v1 has 5 partitions, not 2(.|\n)*HEADRACE_PARTITIONS=5"):
        run(kafka, unique)
    with topic_admin(kafka) as admin:
        assert set(admin.existing(topic.physical(unique) for topic in TOPICS)) == {physical(unique, "records")}


def test_several_partitions_of_an_ordered_topic_are_refused(kafka: str, unique: str) -> None:
    make(kafka, physical(unique, "operator"), 2)
    with pytest.raises(WrongSetup, match=r"operator.v1 has 2 partitions, not 1"):
        run(kafka, unique)


def test_any_number_of_event_partitions_is_fine(kafka: str, unique: str) -> None:
    make(kafka, physical(unique, "events"), 7)
    assert physical(unique, "events") in run(kafka, unique).kept


@pytest.mark.parametrize(("topic", "policy"), [("records", "compact"), ("models", "delete")])
def test_another_cleanup_policy_is_refused_with_the_mend(kafka: str, unique: str, topic: str, policy: str) -> None:
    make(kafka, physical(unique, topic), 2 if topic == "records" else 1, policy)
    with pytest.raises(WrongSetup, match=rf"{topic}.v1 has cleanup.policy={policy}(.|\n)*--add-config cleanup.policy="):
        run(kafka, unique)


@pytest.mark.parametrize("topic", ["outcomes", "scored"])
def test_a_retention_below_the_horizon_is_refused_with_the_mend(kafka: str, unique: str, topic: str) -> None:
    hour, day = 3_600_000, 24 * 3_600_000
    make(kafka, physical(unique, topic), 2, **{"retention.ms": str(day - hour)})
    mend = rf"{topic}.v1 has retention.ms={day - hour}(.|\n)*--add-config retention.ms={8 * day}$"
    with pytest.raises(WrongSetup, match=mend):
        run(kafka, unique)


@pytest.mark.parametrize(
    ("topic", "kept"),
    [("scored", 24 * 3_600_000), ("scored", -1), ("features", 1_000)],
    ids=["horizon", "ever", "days"],
)
def test_a_retention_that_the_pipeline_can_live_with_is_named_only(
    kafka: str, unique: str, topic: str, kept: int
) -> None:
    make(kafka, physical(unique, topic), 2, **{"retention.ms": str(kept)})
    assert any(f"{topic}.v1: retention.ms={kept}" in each for each in run(kafka, unique).differs)


def test_more_copies_than_brokers_are_refused_with_the_mend(kafka: str, unique: str) -> None:
    spec, text = spec_of(unique)
    with pytest.raises(WrongSetup, match=r"replication 3(.|\n)*HEADRACE_REPLICATION"):
        bootstrap(kafka, spec, text, 2, 3, 3)


def test_a_retention_that_is_faster_than_the_archive_is_refused_with_the_mend(kafka: str, unique: str) -> None:
    hour = str(3_600_000)
    make(kafka, physical(unique, "examples"), 2, **{"retention.ms": hour})
    with pytest.raises(WrongSetup, match=rf"examples.v1 has retention.ms={hour}(.|\n)*--add-config retention.ms="):
        run(kafka, unique)


def test_the_command_prints_one_object_and_the_settings_come_from_the_environment(
    kafka: str, unique: str, tmp_path: Path
) -> None:
    file = tmp_path / "pipeline.yaml"
    file.write_text(spec_of(unique)[1])
    settings = {"HEADRACE_BROKERS": kafka, "HEADRACE_PIPELINE": str(file), "HEADRACE_PARTITIONS": "2"}
    command = [sys.executable, "-m", "runtime.bootstrap", "--json"]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **settings}, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["pipeline"], report["announced"], len(report["created"])) == (unique, True, len(TOPICS))


def test_a_pipeline_file_with_a_mistake_ends_with_2_and_names_it(kafka: str, tmp_path: Path) -> None:
    file = tmp_path / "pipeline.yaml"
    file.write_text("pipeline: x\n")
    settings = {"HEADRACE_BROKERS": kafka, "HEADRACE_PIPELINE": str(file)}
    command = [sys.executable, "-m", "runtime.bootstrap"]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **settings}, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert str(file) in done.stderr


IMPATIENT = """
from runtime import bootstrap, kafka_clients
kafka_clients._COMMON["bootstrap_timeout_ms"] = 1_000
raise SystemExit(bootstrap.main())
"""


def test_no_kafka_at_the_address_ends_with_2_and_says_how_to_start_one(unique: str, tmp_path: Path) -> None:
    file = tmp_path / "pipeline.yaml"
    file.write_text(spec_of(unique)[1])
    settings = {"HEADRACE_BROKERS": "127.0.0.1:1", "HEADRACE_PIPELINE": str(file)}
    command = [sys.executable, "-c", IMPATIENT]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **settings}, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert "no Kafka answers at 127.0.0.1:1" in done.stderr
    assert "headrace kafka start" in done.stderr
    assert "Traceback" not in done.stderr


def test_windows_without_owner_are_refused_where_several_partitions_would_each_have_one() -> None:
    shared = parse("""
pipeline: shared
task: binary
events: {id: order, time: at, fields: {at: {type: timestamp}, price: {type: number}}}
labels: {id: order, time: known, field: back, type: boolean, horizon: 1h}
features: {day: {mean: price, over: 24h}}
""")
    with pytest.raises(WrongSetup, match=r"features\.day: a window is per entity.*2 partitions.*or run with one"):
        bootstrap("127.0.0.1:1", shared, partitions=2)  # nobody is there to be asked
