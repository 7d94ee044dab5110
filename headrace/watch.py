"""`headrace watch` and `headrace status`: how a running pipeline does."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Annotated

import typer
from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from headrace.drift.reading import kind_of
from headrace.following import places
from headrace.options import BROKERS, PIPELINE, BrokersOption, JsonOption, PipelineOption
from headrace.output import Output
from headrace.reach import require_kafka
from headrace.score import Figures
from headrace.stopping import signals
from headrace.watching import GROUPS, Snapshot, Watcher
from runtime.clock import SystemClock
from runtime.kafka import KafkaLog
from schemas.pipeline import Pipeline, load
from schemas.topics import TOPICS

INTERVAL_S = 1.0


def watch(
    pipeline: PipelineOption = PIPELINE,
    brokers: BrokersOption = BROKERS,
    *,
    once: Annotated[bool, typer.Option("--once", help="One look, then end.")] = False,
    json: JsonOption = False,
) -> None:
    """Show live how the pipeline does: rates, prequential scores, drift, models, decisions, lag. Ends with Ctrl-C.

    For example:

      headrace watch

      headrace watch --json | jq .recent.accuracy
    """
    spec = load(pipeline)
    output = Output(machine=json)
    with _watcher(brokers, spec) as watcher, signals() as asked, _screen(output, live=not once) as show:
        while True:
            snapshot = watcher.look()
            output.give(snapshot.as_json())
            show(snapshot)
            if once or asked.by:
                return
            SystemClock().sleep(INTERVAL_S)


def status(pipeline: PipelineOption = PIPELINE, brokers: BrokersOption = BROKERS, *, json: JsonOption = False) -> None:
    """Say how things stand: topics, lag, the pool and its members, open episodes, last decisions.

    For example:

      headrace status

      headrace status --json | jq .lag
    """
    spec = load(pipeline)
    output = Output(machine=json)
    with _watcher(brokers, spec) as watcher:
        snapshot = watcher.look()
    with contextlib.closing(KafkaLog(brokers, spec.pipeline, "status")) as log:
        counts = {topic.name: _count(log, topic.name) for topic in TOPICS}
    output.give({"pipeline": spec.pipeline, "digest": spec.digest, "topics": counts, **snapshot.as_json()})
    output.say(f"{spec.pipeline}, digest {spec.digest}, at {brokers}")
    output.say(_topics(spec, counts))
    output.say(rendered(snapshot))


def _count(log: KafkaLog, topic: str) -> int:
    return sum(log.end(place) - log.begin(place) for place in places(log, topic))


@contextlib.contextmanager
def _watcher(brokers: str, spec: Pipeline) -> Iterator[Watcher]:
    require_kafka(brokers)
    with contextlib.ExitStack() as stack:
        logs = {
            group: stack.enter_context(contextlib.closing(KafkaLog(brokers, spec.pipeline, group))) for group in GROUPS
        }
        log = next(iter(logs.values()))
        yield Watcher(log, lambda group, place: logs[group].committed(place), SystemClock())


class _Screen:
    """Shows each snapshot in the place of the one before, or below it where nobody watches."""

    def __init__(self, output: Output, live: Live | None) -> None:
        self._output, self._live = output, live

    def __call__(self, snapshot: Snapshot) -> None:
        if self._live is not None:
            self._live.update(rendered(snapshot), refresh=True)
        else:
            self._output.say(rendered(snapshot))


@contextlib.contextmanager
def _screen(output: Output, *, live: bool) -> Iterator[_Screen]:
    if not (live and output.terminal):
        yield _Screen(output, None)
        return
    with Live(console=output.people, auto_refresh=False, vertical_overflow="crop") as screen:
        yield _Screen(output, screen)


def rendered(snapshot: Snapshot) -> RenderableType:
    """A snapshot for people."""
    return Group(
        _flow(snapshot), _scores(snapshot), _lag(snapshot), _models(snapshot), _fitting(snapshot), _news(snapshot)
    )


def _flow(snapshot: Snapshot) -> Text:
    parts = [
        f"{count:,} {topic} ({snapshot.per_second[topic]:,.0f}/s)" if topic != "dead-letters" else f"{count:,} {topic}"
        for topic, count in snapshot.messages.items()
    ]
    text = Text("  ".join(parts))
    if snapshot.unreadable:
        text.append(f"\n{snapshot.unreadable:,} messages are not of this version and were left out", "yellow")
    return text


def _scores(snapshot: Snapshot) -> Table:
    names = ("accuracy", "log loss") if snapshot.overall.rmse is None else ("rmse", "mae")
    table = Table("judged rows", *names, box=None, header_style="bold")
    for name, figures in (("newest", snapshot.recent), ("all", snapshot.overall)):
        table.add_row(f"{name} {figures.rows:,}", *_shown(figures))
    return table


def _shown(figures: Figures) -> tuple[str, str]:
    if figures.rmse is not None:
        return f"{figures.rmse:.4g}", f"{figures.mae:.4g}"
    return _percent(figures.accuracy), "-" if figures.log_loss is None else f"{figures.log_loss:.3f}"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}"


def _lag(snapshot: Snapshot) -> Text:
    return Text.assemble(("lag  ", "bold"), "  ".join(f"{group} {count:,}" for group, count in snapshot.lag.items()))


def _models(snapshot: Snapshot) -> Text:
    if snapshot.pool is None:
        return Text.assemble(("pool  ", "bold"), f"none yet; {snapshot.unjudged:,} labelled rows without a prediction")
    members = {member.version: member for member in snapshot.members}
    told = [
        f"model {version} ({members[version].rows:,} rows, for {members[version].cause.kind})"
        for version in snapshot.pool.members
        if version in members
    ]
    return Text.assemble(("pool  ", "bold"), f"{snapshot.pool.version}: {', '.join(told)}")


def _fitting(snapshot: Snapshot) -> Text:
    if (fit := snapshot.fitting) is None:
        return Text.assemble(("fit  ", "bold"), "none under way")
    since = fit.since.isoformat(" ", "seconds")
    return Text.assemble(("fit  ", "bold"), f"{fit.estimator} on {fit.rows:,} rows for {fit.cause}, since {since}")


def _news(snapshot: Snapshot) -> Text:
    text = Text.assemble(
        ("drift  ", "bold"), f"{len(snapshot.episodes)} episodes, {len(snapshot.open_episodes)} of them open"
    )
    for episode in snapshot.open_episodes:
        colour = "red" if episode.kind == "bad_data" else "yellow"
        text.append(f"\n  {episode.id} ({kind_of(episode.kind)}): {episode.reason}", colour)
    for decision in snapshot.decisions:
        text.append(f"\n  {decision.service}: {decision.step} {decision.subject}: {decision.reason}", "dim")
    return text


def _topics(spec: Pipeline, counts: dict[str, int]) -> Table:
    table = Table("topic", "messages", box=None, header_style="bold")
    for topic in TOPICS:
        table.add_row(topic.physical(spec.pipeline), f"{counts[topic.name]:,}")
    return table
