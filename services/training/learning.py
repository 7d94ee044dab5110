"""The online member as a leader carries it: learns from every label, and lies in the store as snapshots."""

from __future__ import annotations

import logging

import pyarrow as pa

from runtime.artefact import ModelRefused
from runtime.errors import Transient
from runtime.online import read, written
from runtime.store import NotStored, Store
from schemas.artefact import sha256
from schemas.online import Learnt, OnlineKind
from schemas.pipeline import Pipeline
from schemas.pooling import Floats, Online
from services.training.domain.online import CADENCE, KEPT, due, every, fresh, learn

log = logging.getLogger("headrace.training")


class Learning:
    """One term of a leader.

    What was learnt behind the newest snapshot is not learnt again after a restart: some hundred labels of thousands.

    Args:
        spec: The pipeline.
        kind: Which online member.
        store: Where snapshots go. The oldest ones are written over.
        said: The newest snapshot, None before the first.
    """

    def __init__(self, spec: Pipeline, kind: OnlineKind, store: Store, said: Online | None = None) -> None:
        self._name, self._store, self._said = spec.pipeline, store, said
        types, classes = dict(spec.feature_types), len(spec.classes)
        self._learnt: Learnt = fresh(kind, types, classes)
        if said is not None:
            try:
                self._learnt = read(store.get(said.uri), said, types, classes).learnt
            except (ModelRefused, NotStored) as error:
                log.warning("online_member_begins_anew", extra={"error": str(error)})
                self._said = None

    def take(self, rows: pa.RecordBatch, labels: Floats, waiting: int) -> None:
        """Learn from the rows of a message, or from some of them while many wait."""
        learn(self._learnt, rows, labels, every(waiting))

    def snapshot(self) -> Online | None:
        """The newest snapshot, a new one where there is enough news and the store takes it."""
        before = 0 if self._said is None else self._said.labels
        if due(self._learnt, before) and (value := written(self._learnt)) is not None:
            uri = f"online/{self._name}/{self._learnt.labels // CADENCE % KEPT:02d}"
            try:
                self._store.replace(uri, value)
            except Transient as error:
                log.warning("online_snapshot_postponed", extra={"error": str(error)})
            else:
                self._said = Online(uri, sha256(value), len(value), self._learnt.labels)
        return self._said
