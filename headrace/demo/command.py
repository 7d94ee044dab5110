"""`headrace demo`: starts everything, sends the stream, shows what happens, and stops everything."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.live import Live

from headrace.demo.home import Home
from headrace.demo.picture import line, picture
from headrace.demo.reading import Reading
from headrace.demo.sending import Stream
from headrace.demo.story import ALARM, CHANGE, FITTED, RECOVERED, SWAPPED, TITLES, Story
from headrace.demo.stream import readings
from headrace.errors import RunFailed
from headrace.local_kafka import LocalKafka
from headrace.local_kafka.probe import HOST, free_ports
from headrace.options import JsonOption
from headrace.output import Output
from headrace.plans import pair, plans
from headrace.rows import Options, messages
from headrace.stopping import interruptible
from headrace.supervisor import Supervisor
from runtime.bootstrap import bootstrap
from runtime.clock import SystemClock
from runtime.kafka import KafkaLog
from schemas.pipeline import load

PIPELINE = Path(__file__).parent / "pipeline.yaml"
DIRECTORY = Path(".headrace/demo")
MOST_ROWS, CHANGE_ROW, RATE, SEED = 80_000, 6_000, 1_000, 7
HOLD_ROW = 3_000
"""Enough labelled rows for the first model; a slow machine waits here until it is announced."""
OPTIONS = Options.of(start="2026-01-01T00:00:00Z", every="1s", delay="300rows", prefix="reading-")
PARTITIONS = 2
READY_S, LIMIT_S, LOOK_S = 60.0, 95.0, 0.5
Show = Callable[[Story, int], None]


def demo(
    home: Annotated[Path, typer.Option(help="Directory for the demo's Kafka, models and logs.")] = DIRECTORY,
    rate: Annotated[int, typer.Option(min=100, max=5_000, help="Events per second.")] = RATE,
    *,
    json: JsonOption = False,
) -> None:
    """Show the whole loop on a real Kafka: score, drift, retrain, swap. Ends by itself, within 95 s of being ready.

    Sends readings of pumps, with labels 300 rows late. At row 6,000 the world changes: the same readings mean
    something else. Exit code 1 when the loop did not close.

    For example:

      headrace demo

      headrace demo --rate 500
    """
    output, place = Output(machine=json), Home(home)
    place.clear()
    story = Story(CHANGE_ROW)
    try:
        with interruptible():
            sent = _run(story, place, rate, output)
    except KeyboardInterrupt:
        raise RunFailed(f"interrupted: everything has been stopped. The logs are in {place.logs}") from None
    _tell(story, sent, output)
    if not story.closed:
        raise RunFailed(f"the loop did not close: missing is {'; '.join(story.missing)}. The logs are in {place.logs}")


def _run(story: Story, home: Home, rate: int, output: Output) -> int:
    """Live through the story, and give the number of events sent; everything has stopped when this returns."""
    clock = SystemClock()
    begin = clock.monotonic()
    with contextlib.ExitStack() as stack:
        output.say("starting a Kafka of its own and five services")
        supervisor, address = _ready(stack, home)
        output.say(f"Kafka at {address} and the services are ready after {clock.monotonic() - begin:.1f} s")
        stream, reading = _stream(stack, address, story, rate)
        show = stack.enter_context(_showing(output))
        limit = clock.monotonic() + LIMIT_S  # from here: a first start downloads Kafka, as long as that takes
        while not (story.closed or supervisor.refused or clock.monotonic() > limit):
            stream.raise_failure()
            clock.sleep(LOOK_S)
            _hear(stream, story)
            reading.look()
            show(story, stream.events)
        _hear(stream, story)
        supervisor.raise_refusal()
    return stream.events


def _hear(stream: Stream, story: Story) -> None:
    """Tell how far the stream is; it goes on towards its change when there is a model to be surprised by it."""
    for time, row in stream.samples():
        story.sent(time, row)
    if story.has_model:
        stream.go_on()


def _ready(stack: contextlib.ExitStack, home: Home) -> tuple[Supervisor, str]:
    """Everything that runs, and Kafka's address; the services import their libraries while Kafka starts."""
    (port,) = free_ports(1)
    address = f"{HOST}:{port}"
    pair(home.keys)
    children = plans(PIPELINE, address, data=home.data, artefacts=home.artefacts, keys=home.keys)
    supervisor = Supervisor(children, home.keep)
    stack.callback(supervisor.stop)
    supervisor.prepare()
    stack.enter_context(LocalKafka(home.kafka, port))
    stack.callback(supervisor.stop)  # they end before their Kafka does
    bootstrap(address, load(PIPELINE), PIPELINE.read_text("utf-8"), PARTITIONS, PARTITIONS)
    supervisor.start()
    supervisor.wait_ready(READY_S)
    return supervisor, address


def _stream(stack: contextlib.ExitStack, brokers: str, story: Story, rate: int) -> tuple[Stream, Reading]:
    spec = load(PIPELINE)
    log = stack.enter_context(contextlib.closing(KafkaLog(brokers, spec.pipeline, "demo")))
    inputs = messages(readings(MOST_ROWS, CHANGE_ROW, SEED), spec, OPTIONS)
    stream = stack.enter_context(Stream(brokers, spec.pipeline, inputs, rate, HOLD_ROW))
    return stream, Reading(log, story, OPTIONS.prefix)


@contextlib.contextmanager
def _showing(output: Output) -> Iterator[Show]:
    """A moving picture on a terminal, elsewhere a line as each step happens."""
    if output.terminal:
        with Live(console=output.people, auto_refresh=False) as live:
            yield lambda story, sent: live.update(picture(story, sent), refresh=True)
        return
    told: set[int] = set()

    def show(story: Story, sent: int) -> None:
        for number in sorted(set(story.steps) - told):
            told.add(number)
            output.say(line(story, number))
            output.give({"step": TITLES[number], "row": story.steps[number].row, "time": story.steps[number].time})
            output.give({"events": sent})

    yield show


def _tell(story: Story, sent: int, output: Output) -> None:
    if not output.terminal:
        output.say(picture(story, sent))
    if story.closed:
        output.say(_summary(story))
    output.give({"closed": story.closed, "before": story.before, "worst": story.worst, "after": story.after})


def _summary(story: Story) -> str:
    change, alarm, fitted, swapped, recovered = (story.steps[n] for n in (CHANGE, ALARM, FITTED, SWAPPED, RECOVERED))
    fit, swap = ((end.time - start.time) / 1000 for start, end in ((alarm, fitted), (fitted, swapped)))
    return (
        f"\nThe loop closed. At row {change.row:,} the model went from {story.before:.0%} right to {story.worst:.0%}.\n"
        f"Drift was found {alarm.row - change.row:,} rows later, a model that knows the new world was announced "
        f"{fit:.1f} s after that and answered {swap:.1f} s later;\n"
        f"{recovered.row - change.row:,} rows after the change {story.after:.0%} were right again."
    )
