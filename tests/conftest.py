"""What every test may ask for: one real Kafka for the whole session, and names of its own on it."""

import uuid
from collections.abc import Iterator

import pytest

from headrace.local_kafka import LocalKafka


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a broker shared by all tests; a run that cannot have one fails, it never skips."""
    with LocalKafka(tmp_path_factory.mktemp("kafka")) as broker:
        yield broker.address


@pytest.fixture
def unique() -> str:
    """A prefix for topics and groups that no other test has."""
    return f"t{uuid.uuid4().hex[:10]}"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that use the broker, so that `-m "not kafka"` leaves exactly them out."""
    for item in items:
        if "kafka" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.kafka)
