"""The references of members: what the world of each looked like, fetched from its artefact when it is needed first."""

from __future__ import annotations

import logging

from runtime.announced import Announced
from runtime.artefact import ModelRefused, fetch_file, fetch_manifest
from runtime.errors import Transient
from runtime.metrics import Metrics
from runtime.ports import LogReader, Place
from runtime.signing import Keys
from runtime.store import NotStored, Store
from schemas.bins import Bins
from schemas.messages import Member
from schemas.reference import REFERENCE, BadReferenceError, Reference

log = logging.getLogger("headrace.references")

MODELS = Place("models", 0)


def fetch_reference(store: Store, member: Member) -> Reference | None:
    """The reference of an announced member; None where its artefact, of an earlier version, has none.

    Raises:
        ModelRefused: The artefact is not what was announced.
        BadReferenceError: The file is no reference.
        NotStored: A file of the artefact is gone.
        Transient: The store is away.
    """
    manifest = fetch_manifest(store, member)
    return Reference.from_bytes(fetch_file(store, member, manifest, REFERENCE)) if REFERENCE in manifest.files else None


CACHED = 4
"""References that are kept: each may have tens of megabytes. Bins are small, and kept of all."""


class References:
    """References by version.

    Args:
        store: The artefact store.
        metrics: Where artefacts and announcements that are refused are counted.
    """

    def __init__(self, store: Store, metrics: Metrics | None = None) -> None:
        self._store, self._metrics = store, metrics or Metrics()
        self._known: dict[int, Reference | None] = {}
        self._bins: dict[int, Bins | None] = {}
        self._announced = Announced(store.keys, self._metrics)
        self._read = 0

    @property
    def keys(self) -> Keys:
        """Whose models are taken."""
        return self._store.keys

    def get(self, version: int, models: LogReader) -> Reference | None:
        """The reference of a member; None, and a line in the log, where its artefact has no usable one.

        Args:
            version: Of the member.
            models: Where announcements are read.

        Raises:
            Transient: The member is not announced yet, or the store is away.
        """
        if version not in self._known:
            found = self._fetch(self._member(version, models))
            self._known = {**dict(list(self._known.items())[1 - CACHED :]), version: found}
            self._bins[version] = None if found is None else found.bins
        return self._known[version]

    def bins(self, version: int, models: LogReader) -> Bins | None:
        """The bins of a member, None for one without; otherwise as `get`."""
        if version not in self._bins:
            self.get(version, models)
        return self._bins[version]

    def _member(self, version: int, models: LogReader) -> Member:
        if version not in self._announced.members:
            end = models.end(MODELS)
            for message in models.read(MODELS, self._read, end):
                self._announced.take(message)
            self._read = end
        if version not in self._announced.members:
            raise Transient(f"member {version} scored rows and is not on {MODELS.topic} yet")
        return self._announced.members[version]

    def _fetch(self, member: Member) -> Reference | None:
        try:
            found = fetch_reference(self._store, member)
        except (ModelRefused, NotStored, BadReferenceError) as error:
            self._metrics.refused_models.labels("artefact").inc()
            log.error("reference_unusable", extra={"member": member.version, "error": str(error)})  # noqa: TRY400
            return None
        if found is None:
            log.warning("reference_missing", extra={"member": member.version, "mend": "it has one after the next fit"})
        return found
