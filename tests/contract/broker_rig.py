"""The rig on a real broker: workers are processes, waiting is polling with a deadline."""

from __future__ import annotations

import json
import multiprocessing
import multiprocessing.context
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import confluent_kafka
import psutil
from kafka import TopicPartition
from kafka.admin import MemberToRemove
from kafka.structs import OffsetAndMetadata

from runtime import kafka_clients
from runtime.kafka import KafkaLog
from runtime.ports import Header, LogReader, Message, Outgoing, Place
from schemas.topics import physical
from tests.contract import process
from tests.contract.rig import GROUP, KILLED, Ending, Said
from tests.polling import eventually

DRAIN_SECONDS = 10
PAUSE_SECONDS = 0.1
MESSAGE_BYTES = 2 << 20


PRELOADED = ["tests.contract.process", "runtime.kafka", "runtime.streams"]
"""Imported once, in the process that workers are forked from: clients take longer to import than a case to run."""


def forking() -> multiprocessing.context.ForkServerContext:
    """Starts workers in a tenth of the time that a new interpreter takes."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    return context


class ProcessMember:
    """A worker process; what it says is a file."""

    def __init__(self, task: Mapping[str, Any], home: Path) -> None:
        home.mkdir()
        self._said, self._errors = home / "said", home / "errors"
        self._said.touch()
        self._errors.touch()
        self._process = forking().Process(target=process.run, args=({**task, "datadir": str(home)},))
        self._process.start()
        assert self._process.pid
        self._pid = self._process.pid

    def said(self, event: str) -> list[Said]:
        lines = self._said.read_text().splitlines()
        return [each for each in map(json.loads, lines) if each["event"] == event]

    def kill(self) -> None:
        self._process.kill()
        self._process.join(DRAIN_SECONDS)

    def drain(self) -> Ending:
        self._process.terminate()
        self._process.join(DRAIN_SECONDS)
        ending = self.ended()
        assert ending is not None, f"not drained within {DRAIN_SECONDS} s\n{self.story()}"
        return ending

    def ended(self) -> Ending | None:
        code = self._process.exitcode
        if code is None:
            return None
        if code == KILLED.code:
            return KILLED
        last = self.said("ended")
        if not last:
            return Ending(code, "?", self._errors.read_text())
        return Ending(code, last[-1]["error"], last[-1]["text"])

    def frozen(self) -> bool:
        return self.ended() is None and psutil.Process(self._pid).status() == psutil.STATUS_STOPPED

    def thaw(self) -> None:
        os.kill(self._pid, signal.SIGCONT)

    def story(self) -> str:
        return f"{self._said.read_text()}{self._errors.read_text()[-3000:]}"


class BrokerRig:
    """A log of one case: a pipeline of its own on the shared broker."""

    def __init__(self, name: str, brokers: str, pipeline: str, home: Path) -> None:
        self.name = name
        self._brokers, self._pipeline, self._home = brokers, pipeline, home
        self._log = KafkaLog(brokers, pipeline, GROUP)
        self._producer: confluent_kafka.Producer | None = None
        self._aborting: confluent_kafka.Producer | None = None
        self._members: list[ProcessMember] = []
        self._seen: dict[Place, tuple[int, list[Message]]] = {}

    def make(self, partitions: Mapping[str, int]) -> None:
        admin = kafka_clients.admin(self._brokers)
        limit = {"max.message.bytes": str(MESSAGE_BYTES)}
        wanted = {
            physical(self._pipeline, topic): {"num_partitions": count, "replication_factor": 1, "configs": limit}
            for topic, count in partitions.items()
        }
        admin.create_topics(wanted, wait_for_metadata=True)
        admin.close()

    def append(
        self, place: Place, value: bytes | None, headers: Sequence[Header] = (), key: bytes | None = None
    ) -> None:
        if self._producer is None:
            self._producer = confluent_kafka.Producer({**self._settings(), "linger.ms": 0})
        _produce(self._producer, self._pipeline, Outgoing(*place, value, key, headers))
        assert self._producer.flush(10) == 0

    def marker(self, place: Place) -> None:
        if self._aborting is None:
            self._aborting = confluent_kafka.Producer({**self._settings(), "transactional.id": self._pipeline})
            self._aborting.init_transactions(10)
        self._aborting.begin_transaction()
        _produce(self._aborting, self._pipeline, Outgoing(*place, b"aborted"))
        self._aborting.flush(10)
        self._aborting.abort_transaction(10)

    def _settings(self) -> dict[str, Any]:
        return {"bootstrap.servers": self._brokers, "message.max.bytes": MESSAGE_BYTES}

    def read(self, place: Place) -> list[Message]:
        start, messages = self._seen.get(place, (0, []))
        end = self._log.end(place)
        if end > start:
            messages = [*messages, *self._log.read(place, start, end)]
            self._seen[place] = end, messages
        return messages

    def log(self) -> LogReader:
        return self._log

    def commit(self, positions: Mapping[Place, int]) -> None:
        admin = kafka_clients.admin(self._brokers)
        offsets = {
            TopicPartition(physical(self._pipeline, place.topic), place.partition): OffsetAndMetadata(offset, "", -1)
            for place, offset in positions.items()
        }
        admin.alter_group_offsets(physical(self._pipeline, GROUP), offsets)
        admin.close()

    def start(self, handler: str, **options: Any) -> ProcessMember:
        task = {"carrier": self.name, "brokers": self._brokers, "pipeline": self._pipeline}
        home = self._home / f"member-{len(self._members)}"
        if self._members and all(each.ended() for each in self._members):
            self._expire_sessions()
        member = ProcessMember({**task, "handler": handler, "options": options}, home)
        self._members.append(member)
        return member

    def _expire_sessions(self) -> None:
        """What the session time-out does to members that were killed, without the wait."""
        admin = kafka_clients.admin(self._brokers)
        group = physical(self._pipeline, GROUP)
        left = [each["member_id"] for each in admin.describe_groups([group])[group]["members"]]
        if left:
            admin.remove_group_members(group, [MemberToRemove(each) for each in left])
        admin.close()

    def until(self, condition: Callable[[], object], what: str, seconds: float = 45) -> None:
        if not eventually(condition, seconds, PAUSE_SECONDS):
            stories = "\n---\n".join(member.story() for member in self._members)
            raise AssertionError(f"not within {seconds} s: {what}\n{stories}")

    def close(self) -> None:
        for member in self._members:
            member.kill()
        self._log.close()


def _produce(producer: confluent_kafka.Producer, pipeline: str, each: Outgoing) -> None:
    topic = physical(pipeline, each.topic)
    producer.produce(topic, each.value, each.key, each.partition, headers=list(each.headers) or None)
