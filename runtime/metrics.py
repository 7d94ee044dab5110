"""All metrics: names, types, labels and help. The registry is passed in: several sets live side by side."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from runtime.ports import Outgoing

SECONDS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)

REFUSED_MODELS = ("unsigned", "unknown_key", "wrong_signature", "void", "unreadable", "artefact")


class Metrics:
    """The metrics of one process.

    Args:
        registry: Where they are registered.
    """

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry()
        self._messages = self._counter("headrace_messages", "Messages handled", "topic")
        self._published = self._counter("headrace_published_messages", "Messages published", "topic")
        self._handle = Histogram(
            "headrace_handle_seconds", "Handling one poll, delivery included", buckets=SECONDS, registry=self.registry
        )
        self.rows = self._counter("headrace_rows", "Rows that passed, by stream", "stream")
        self.rejected = self._counter("headrace_rejected_rows", "Rows refused, by reason", "reason")
        self.unlabelled = self._counter("headrace_unlabelled_rows", "Rows whose label did not come by the horizon")
        self._unlabelled_share = Gauge(
            "headrace_unlabelled_share",
            "Share of rows without label among those whose wait has ended since the start",
            registry=self.registry,
        )
        self._ended = self._without = 0
        self.duplicates = self._counter("headrace_duplicate_rows", "Rows and labels that repeat an id", "stream")
        self.late = self._counter("headrace_late_rows", "Rows behind the watermark by more than the lateness", "stream")
        self.windowless = self._counter(
            "headrace_windowless_rows", "Rows without window features: their entity is one more than windows.entities"
        )
        self.skewed = self._counter(
            "headrace_skewed_rows", "Served rows that differ from what their records give, among those computed again"
        )
        self.audited = self._counter(
            "headrace_audited_rows", "Served rows computed again and compared, by kind of features", "features"
        )
        self.fits = self._counter("headrace_fits", "Fits by outcome", "outcome")
        self.episodes = self._counter("headrace_drift_episodes", "Drift episodes by state", "state")
        self.unarchived = Gauge(
            "headrace_unarchived_seconds",
            "Age of the oldest message of examples that is not archived",
            registry=self.registry,
        )
        self.lost = self._counter("headrace_lost_messages", "Messages of examples deleted before they were archived")
        self.requests = self._counter("headrace_http_requests", "HTTP requests by status", "status")
        self.refused_models = self._counter(
            "headrace_refused_models", "Announcements and artefacts of models that were refused, by why", "why"
        )
        for why in REFUSED_MODELS:  # from the first scrape on: nobody can see a rise from nothing
            self.refused_models.labels(why)
        self.pool = Gauge("headrace_pool_version", "Version of the pool in service", registry=self.registry)
        self.stuck = Gauge(
            "headrace_stuck_messages",
            "Messages that lie before a partition that has not moved for a minute",
            ["topic", "partition"],
            registry=self.registry,
        )
        self.watermark = self._gauge("headrace_watermark_seconds", "Event time passed by all partitions, epoch seconds")
        self.waiting = self._gauge("headrace_waiting_rows", "Rows that wait for a label, labels that wait for a row")

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(name, text, ["stream"], registry=self.registry)

    def messages(self, topic: str, count: int) -> None:
        """Count handled messages of a topic."""
        self._messages.labels(topic).inc(count)

    def handled(self, seconds: float) -> None:
        """Observe how long a poll took."""
        self._handle.observe(seconds)

    def waited(self, labelled: int, unlabelled: int) -> None:
        """Count rows whose wait for a label has ended."""
        self.unlabelled.inc(unlabelled)
        self._ended, self._without = self._ended + labelled + unlabelled, self._without + unlabelled
        if self._ended:
            self._unlabelled_share.set(self._without / self._ended)

    def published(self, outgoing: Sequence[Outgoing]) -> None:
        """Count published messages per topic."""
        for topic, count in Tally(each.topic for each in outgoing).items():
            self._published.labels(topic).inc(count)
