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
from headrace.options import JsonOption
from headrace.output import Output
from headrace.plans import plans
from headrace.rows import Options, messages
from headrace.stopping import signals
from headrace.supervisor import Supervisor
from runtime.bootstrap import bootstrap
from runtime.clock import SystemClock
from runtime.kafka import KafkaLog
from schemas.pipeline import load

PIPELINE = Path(__file__).parent / "pipeline.yaml"
HOME = Path(".headrace/demo")
ROWS, CHANGE_ROW, RATE, SEED = 16_000, 6_000, 1_000, 7
OPTIONS = Options.of(start="2026-01-01T00:00:00Z", every="1s", delay="300rows", prefix="reading-")
PARTITIONS = 2
READY_S, LIMIT_S, LOOK_S = 60.0, 105.0, 0.5
Show = Callable[[Story, int], None]


def demo(
    home: Annotated[Path, typer.Option(help="Directory for the demo's Kafka, models and logs.")] = HOME,
    rate: Annotated[int, typer.Option(min=100, max=5_000, help="Events per second.")] = RATE,
    *,
    json: JsonOption = False,
) -> None:
    """Show the whole loop on a real Kafka: score, drift, retrain, swap. Ends by itself within two minutes.

    Sends readings of pumps, with labels 300 rows late. At row 6,000 the world changes: the same readings mean
    something else. Exit code 1 when the loop did not close.

    For example:

      headrace demo

      headrace demo --rate 500
    """
    output, place = Output(machine=json), Home(home)
    place.clear()
    story = Story(CHANGE_ROW)
    with signals() as asked:
        _run(story, place, rate, output, lambda: asked.by is not None)
    _tell(story, output)
    if asked.by:
        raise RunFailed(f"stopped by {asked.by}; everything has been stopped")
    if not story.closed:
        raise RunFailed(f"the loop did not close: missing is {'; '.join(story.missing)}. The logs are in {place.logs}")


def _run(story: Story, home: Home, rate: int, output: Output, asked: Callable[[], bool]) -> None:
    """Live through the story; everything has stopped when this returns."""
    clock = SystemClock()
    begin = clock.monotonic()
    with contextlib.ExitStack() as stack:
        output.say("starting a Kafka of its own")
        broker = stack.enter_context(LocalKafka(home.kafka))
        supervisor = _services(stack, broker.address, home)
        output.say(f"Kafka at {broker.address} and five services are ready after {clock.monotonic() - begin:.1f} s")
        stream, reading = _stream(stack, broker.address, story, rate)
        show = stack.enter_context(_showing(output))
        while not (story.closed or asked() or supervisor.refused or clock.monotonic() - begin > LIMIT_S):
            for time, row in stream.samples():
                story.sent(time, row)
            reading.look()
            show(story, stream.events)
            stream.raise_failure()
            clock.sleep(LOOK_S)
        supervisor.raise_refusal()


def _services(stack: contextlib.ExitStack, brokers: str, home: Home) -> Supervisor:
    bootstrap(brokers, load(PIPELINE), PIPELINE.read_text("utf-8"), PARTITIONS, PARTITIONS)
    children = plans(PIPELINE, brokers, data=home.data, artefacts=home.artefacts)
    supervisor = stack.enter_context(Supervisor(children, home.keep))
    supervisor.wait_ready(READY_S)
    return supervisor


def _stream(stack: contextlib.ExitStack, brokers: str, story: Story, rate: int) -> tuple[Stream, Reading]:
    spec = load(PIPELINE)
    log = stack.enter_context(contextlib.closing(KafkaLog(brokers, spec.pipeline, "demo")))
    inputs = messages(readings(ROWS, CHANGE_ROW, SEED), spec, OPTIONS)
    stream = stack.enter_context(Stream(brokers, spec.pipeline, inputs, rate))
    return stream, Reading(log, story, OPTIONS.prefix)


@contextlib.contextmanager
def _showing(output: Output) -> Iterator[Show]:
    """A moving picture on a terminal, elsewhere a line as each step happens."""
    if output.terminal:
        with Live(console=output.people, auto_refresh=False) as live:
            yield lambda story, sent: live.update(picture(story, ROWS, sent), refresh=True)
        return
    told: set[int] = set()

    def show(story: Story, sent: int) -> None:
        for number in sorted(set(story.steps) - told):
            told.add(number)
            output.say(line(story, number))
            output.give({"step": TITLES[number], "row": story.steps[number].row, "time": story.steps[number].time})
            output.give({"events": sent})

    yield show


def _tell(story: Story, output: Output) -> None:
    if not output.terminal:
        output.say(picture(story, ROWS, ROWS))
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
