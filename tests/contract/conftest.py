"""The suite runs once per carrier; what a carrier cannot do is a strict xfail on the case."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.broker_rig import BrokerRig
from tests.contract.memory_rig import MemoryRig
from tests.contract.rig import Rig

ON_BROKER = ["kafka", "streams"]
BROKER_MARKS = [pytest.mark.kafka, pytest.mark.timeout(180)]  # processes on a busy machine; alone a case takes seconds


@pytest.fixture(params=["memory", *(pytest.param(name, marks=BROKER_MARKS) for name in ON_BROKER)])
def rig(request: pytest.FixtureRequest, tmp_path: Path, unique: str) -> Iterator[Rig]:
    """A log of its own, and workers of the carrier under test."""
    if request.param == "memory":
        made: MemoryRig | BrokerRig = MemoryRig()
    else:
        made = BrokerRig(request.param, request.getfixturevalue("kafka"), unique, tmp_path)
    yield made
    made.close()
