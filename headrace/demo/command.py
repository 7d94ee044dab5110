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
from headrace.demo.story import ALARM, CHANGE, EARLY, FITTED, NAMED, RECOVERED, SHIFT, SWAPPED, TITLES, Story
from headrace.demo.stream import GATEWAYS, OPTIONS, Course, readings
from headrace.errors import RunFailed
from headrace.local_kafka import LocalKafka
from headrace.local_kafka.probe import HOST, free_ports
from headrace.options import JsonOption
from headrace.output import Output
from headrace.plans import TRUSTED, pair, plans
from headrace.rows import messages
from headrace.stopping import interruptible
from headrace.supervisor import Supervisor
from runtime.bootstrap import bootstrap
from runtime.clock import SystemClock
from runtime.kafka import KafkaLog
from runtime.keys import public_keys
from runtime.signing import Keys
from runtime.store import Store
from schemas.pipeline import load

PIPELINE = Path(__file__).parent / "pipeline.yaml"
DIRECTORY = Path(".headrace/demo")
COURSE = Course(change=5_000, known=7_500, wrong=range(9_500, 10_700), wear=range(13_500, 17_500))
HOLD_ROWS = (3_000, COURSE.known, COURSE.wear.start)
"""Where a slow machine waits: for the first model, for that of the new world, and until the data is right again."""
MOST_ROWS, RATE, SEED = 30_000, 500, 7
PARTITIONS = 2
READY_S, LIMIT_S, LOOK_S = 60.0, 150.0, 0.5
Show = Callable[[Story, int], None]


def demo(
    home: Annotated[Path, typer.Option(help="Directory for the demo's Kafka, models and logs.")] = DIRECTORY,
    rate: Annotated[int, typer.Option(min=200, max=5_000, help="Events per second.")] = RATE,
    *,
    json: JsonOption = False,
) -> None:
    """Show the whole loop on a real Kafka: score, drift, retrain, swap. Ends by itself, within 150 s of being ready.

    Sends readings of pumps, with labels 300 rows late, and four changes: the readings come to mean something else
    (the model is replaced), a daily cycle (nothing happens), another unit from one gateway (held back), and a slow
    rise (an early fit). Exit code 1 when one of them is not found, or anything else is.

    For example:

      headrace demo

      headrace demo --rate 500
    """
    output, place = Output(machine=json), Home(home)
    place.clear()
    story = Story(COURSE)
    try:
        with interruptible():
            sent = _run(story, place, rate, output)
    except KeyboardInterrupt:
        raise RunFailed(f"interrupted: everything has been stopped. The logs are in {place.logs}") from None
    _tell(story, sent, output)
    if story.wrong:
        raise RunFailed(f"the loop went wrong: {'; '.join(story.wrong)}. The logs are in {place.logs}")
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
        stream, reading = _stream(stack, address, story, home, rate)
        show = stack.enter_context(_showing(output))
        limit = clock.monotonic() + LIMIT_S  # from here: a first start downloads Kafka, as long as that takes
        while not (story.closed or story.wrong or supervisor.refused or clock.monotonic() > limit):
            stream.raise_failure()
            clock.sleep(LOOK_S)
            _hear(stream, story)
            reading.look()
            show(story, stream.events)
        _hear(stream, story)
        supervisor.raise_refusal()
    return stream.events


def _hear(stream: Stream, story: Story) -> None:
    """Tell how far the stream is; it goes on towards its next change when the last one has been dealt with."""
    for time, row in stream.samples():
        story.sent(time, row)
    stream.go_on(story.passed)


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
    bootstrap(address, load(PIPELINE), PIPELINE.read_text("utf-8"), PARTITIONS, GATEWAYS)
    supervisor.start()
    supervisor.wait_ready(READY_S)
    return supervisor, address


def _stream(stack: contextlib.ExitStack, brokers: str, story: Story, home: Home, rate: int) -> tuple[Stream, Reading]:
    spec = load(PIPELINE)
    log = stack.enter_context(contextlib.closing(KafkaLog(brokers, spec.pipeline, "demo")))
    rows = readings(MOST_ROWS, COURSE.change, SEED, COURSE.wrong, COURSE.wear)
    stream = stack.enter_context(Stream(brokers, spec.pipeline, messages(rows, spec, OPTIONS), rate, HOLD_ROWS))
    store = Store(home.artefacts, Keys.of(public_keys(home.keys / TRUSTED)))
    return stream, Reading(log, store, story, OPTIONS.prefix)


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
            step = story.steps[number]
            output.give({"step": TITLES[number], "row": step.row, "time": step.time, "told": story.details[number]})
            output.give({"events": sent})

    yield show


def _tell(story: Story, sent: int, output: Output) -> None:
    if not output.terminal:
        output.say(picture(story, sent))
    if story.closed:
        output.say(_summary(story))
    right = story.accuracy
    figures = {"before": right.before, "worst": right.worst, "after": right.after}
    output.give({"closed": story.closed, **figures, "missing": story.missing, "wrong": story.wrong})


def _summary(story: Story) -> str:
    change, alarm, fitted, swapped, recovered = (story.steps[n] for n in (CHANGE, ALARM, FITTED, SWAPPED, RECOVERED))
    fit, swap = ((end.time - start.time) / 1000 for start, end in ((alarm, fitted), (fitted, swapped)))
    right = story.accuracy
    return (
        f"\nThe loop closed. At row {change.row:,} the model went from {right.before:.0%} right to {right.worst:.0%}.\n"
        f"Drift was found {alarm.row - change.row:,} rows later, a model that knows the new world was announced "
        f"{fit:.1f} s after that and answered {swap:.1f} s later;\n"
        f"{recovered.row - change.row:,} rows after the change {right.after:.0%} were right again.\n"
        f"Bad data: {story.details[NAMED]}; held back, and no model is fitted because of it.\n"
        f"Covariate: {story.details[SHIFT]};\n{story.details[EARLY]}, without the bad ones.\n"
        "The cycle of the days raised no alarm."
    )
