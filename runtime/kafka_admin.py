"""What the broker has of the topics that a pipeline needs, and making what is missing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from kafka import KafkaAdminClient
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.errors import KafkaError, TopicAlreadyExistsError

from runtime import kafka_clients
from runtime.errors import Transient, WrongSetup


@dataclass(frozen=True, slots=True)
class TopicShape:
    """A topic as it is, or as it should be.

    Attributes:
        partitions: Number of partitions.
        config: Configuration by Kafka's names.
    """

    partitions: int
    config: Mapping[str, str]


class TopicAdmin:
    """Describes and makes topics, by their physical names."""

    def __init__(self, brokers: str, client: KafkaAdminClient) -> None:
        self._brokers, self._client = brokers, client

    def existing(self, names: Iterable[str]) -> dict[str, TopicShape]:
        """Those of the topics that exist."""
        found = [each for each in self._client.describe_topics(list(names)) if not each["error_code"]]
        configs = self._configs([each["name"] for each in found])
        return {each["name"]: TopicShape(len(each["partitions"]), configs[each["name"]]) for each in found}

    def create(self, topics: Mapping[str, TopicShape], replication: int) -> None:
        """Make topics and wait until every partition has a leader; one that somebody else makes meanwhile is fine.

        Raises:
            WrongSetup: The broker refuses one.
        """
        if not topics:
            return
        wanted = {
            name: {"num_partitions": each.partitions, "replication_factor": replication, "configs": dict(each.config)}
            for name, each in topics.items()
        }
        answers = self._client.create_topics(wanted, raise_errors=False)["topics"]
        refused = [each for each in answers if each["error_code"] not in (0, TopicAlreadyExistsError.errno)]
        if refused:
            lines = "\n".join(f"  {each['name']}: {_reason(each)}" for each in refused)
            raise WrongSetup(
                f"the broker at {self._brokers} refuses topics (replication {replication}):\n{lines}\n"
                "Set HEADRACE_REPLICATION to at most the number of brokers, or let somebody with the rights run "
                "`python -m runtime.bootstrap`."
            )
        self._client.wait_for_topics(list(topics))

    def _configs(self, names: list[str]) -> dict[str, dict[str, str]]:
        if not names:
            return {}
        resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
        topics = self._client.describe_configs(resources, config_filter="all")["topic"]
        return {name: {key: each["value"] for key, each in topics[name].items()} for name in names}


@contextmanager
def topic_admin(brokers: str) -> Iterator[TopicAdmin]:
    """An admin for as long as the context.

    Raises:
        WrongSetup: No broker answers.
        Transient: It went away meanwhile.
    """
    client = kafka_clients.admin(brokers)
    try:
        yield TopicAdmin(brokers, client)
    except KafkaError as error:
        raise Transient(f"Kafka at {brokers} did not answer an administrator: {error!r}. Try again.") from error
    finally:
        client.close()


def _reason(answer: Mapping[str, Any]) -> str:
    return str(answer.get("error_message") or f"error {answer['error_code']}")
