"""References are what was announced, read when they are needed, and their lack stops nobody."""

import logging

import pytest

from runtime.errors import Transient
from runtime.memory import MemoryLog
from runtime.references import CACHED, References, fetch_reference
from runtime.store import Store
from schemas.reference import REFERENCE
from tests.unit.services.drift.scores import announce, bins_of, members, reference
from tests.unit.services.drift.stream import Drift


def known(drift: Drift) -> MemoryLog:
    return MemoryLog(drift.broker, "drift")


def test_the_reference_of_an_announced_member_is_the_stored_one() -> None:
    drift = Drift()
    announce(drift, 1, 2)
    found = References(drift.store).get(2, known(drift))
    assert found is not None
    assert found.to_bytes() == reference(2.0).to_bytes()


def test_a_member_that_is_not_announced_yet_is_waited_for() -> None:
    drift, references = Drift(), References(Store("memory://"))
    announce(drift, 1)
    with pytest.raises(Transient, match="member 2 scored rows"):
        references.get(2, known(drift))
    references = References(drift.store)
    with pytest.raises(Transient):
        references.get(2, known(drift))
    announce(drift, 2)
    assert references.bins(2, known(drift)) is not None


class Away(Store):
    """A store that cannot be reached."""

    def get(self, path: str, limit: int = 1 << 30) -> bytes:
        raise Transient(f"{path} of at most {limit} bytes: away")


def test_a_store_that_is_away_is_waited_for() -> None:
    drift = Drift()
    announce(drift, 1)
    with pytest.raises(Transient, match="away"):
        References(Away("memory://")).get(1, known(drift))


def test_an_artefact_of_an_earlier_version_has_none_and_is_told_of_once(caplog: pytest.LogCaptureFixture) -> None:
    drift = Drift()
    announce(drift, 1, without=(1,))
    references = References(drift.store)
    with caplog.at_level(logging.WARNING, "headrace.references"):
        assert [references.get(1, known(drift)) for _ in range(3)] == [None] * 3
        assert references.bins(1, known(drift)) is None
    assert [each.message for each in caplog.records] == ["reference_missing"]


@pytest.mark.parametrize("harm", ["another file", "no reference", "gone"])
def test_a_reference_that_is_not_what_was_announced_is_left_out(harm: str, caplog: pytest.LogCaptureFixture) -> None:
    drift = Drift()
    announce(drift, 1, stored=harm != "gone", files={REFERENCE: b"nonsense"} if harm == "no reference" else None)
    if harm == "another file":
        drift.store = Store("memory://")
        announce(drift, 1, stored=False)
        for name, value in members(1)[1].items():
            drift.store.put(f"models/shop/1/{name}", value + b" " if name == REFERENCE else value)
    assert References(drift.store).get(1, known(drift)) is None
    assert [each.message for each in caplog.records] == ["reference_unusable"]


def test_few_references_are_kept_and_the_bins_of_all() -> None:
    drift, most = Drift(), CACHED + 2
    announce(drift, *range(1, most + 1))
    references = References(drift.store)
    for version in range(1, most + 1):
        references.get(version, known(drift))
    references._store = Away("memory://")
    assert all(references.bins(version, known(drift)) is not None for version in range(1, most + 1))
    assert references.get(most, known(drift)) is not None
    with pytest.raises(Transient):
        references.get(1, known(drift))


def test_bins_are_those_of_the_reference() -> None:
    drift = Drift()
    announce(drift, 3)
    found = fetch_reference(drift.store, members(3)[0])
    assert found is not None
    assert found.bins.streams == bins_of(3).streams
