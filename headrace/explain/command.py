"""`headrace explain`: why a version, an episode, a prediction or a stretch of time is as it is."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from difflib import get_close_matches
from typing import Annotated

import pyarrow as pa
import pyarrow.compute as pc
import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from headrace.dead_letters.wanted import moment
from headrace.errors import WrongUse
from headrace.explain import rows, story, why_not
from headrace.explain.ledger import Ledger, Telling
from headrace.explain.pages import page
from headrace.explain.predicted import of_prediction
from headrace.explain.reading import ledger, numbered, weighings
from headrace.following import places
from headrace.options import BROKERS, PIPELINE, BrokersOption, JsonOption, PipelineOption
from headrace.output import Output
from headrace.reach import log_of
from runtime.artefact import ModelRefused, fetch_manifest
from runtime.clock import SystemClock
from runtime.errors import Transient
from runtime.keys import keys_of
from runtime.ports import LogReader
from runtime.settings import TrustSettings, read
from runtime.signing import Keys
from runtime.store import NotStored, Store
from schemas import batch as b
from schemas.artefact import Manifest
from schemas.messages import moment as utc
from schemas.pipeline import Pipeline, load

NEAR = 3
"""Subjects that an error names."""
AROUND = timedelta(hours=1)
"""How long a stretch is of which a person names one end alone."""

SubjectArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="SUBJECT",
        help="A model version (7, v7), an episode's id, an event's or prediction's id, or the subject of a decision.",
        show_default=False,
    ),
]
FromOption = Annotated[
    str | None, typer.Option("--from", help="Event time from which on: 2026-01-01T09:00:00Z, or 2h (ago).")
]
ToOption = Annotated[str | None, typer.Option("--to", help="Event time before which; the same.")]
WhyNotOption = Annotated[
    bool, typer.Option("--why-not", help="Why there was no training: for an episode, or around --from or --to.")
]


@dataclass(frozen=True, slots=True)
class Stretch:
    """Event time [start, stop); an end that is not given is open."""

    start: datetime | None = None
    stop: datetime | None = None

    @property
    def given(self) -> bool:
        """Whether a person named any."""
        return self != Stretch()

    def closed(self) -> tuple[datetime, datetime]:
        """Both ends: the one that is not given lies an hour from the other."""
        if self.start is not None:
            return self.start, self.stop or self.start + AROUND
        if self.stop is None:
            raise WrongUse("--why-not of a stretch of time needs --from or --to")
        return self.stop - AROUND, self.stop


def explain(
    subject: SubjectArgument = None,
    pipeline: PipelineOption = PIPELINE,
    brokers: BrokersOption = BROKERS,
    since: FromOption = None,
    until: ToOption = None,
    *,
    why: WhyNotOption = False,
    json: JsonOption = False,
) -> None:
    """Tell why: who decided what, when, and on which evidence. Times are event times.

    What a version was fitted on is read from its artefact: HEADRACE_ARTEFACTS and
    HEADRACE_TRUSTED_KEYS say where the store is and whose models are genuine, as for training.

    For example:

      headrace explain v7

      headrace explain 3f1a0c52d7e94b68 --why-not

      headrace explain order-2931

      headrace explain --why-not --from 2026-01-01T09:00:00Z --to 2026-01-01T10:00:00Z --json
    """
    spec, now = load(pipeline), SystemClock().now()
    stretch = Stretch(_end("--from", since, now), _end("--to", until, now))
    if (subject is None) != stretch.given:
        raise WrongUse("name either a version, an episode or a prediction, or a stretch of time with --from and --to")
    output = Output(machine=json)
    with log_of(spec.pipeline, brokers, "explain") as log:
        settings = read(TrustSettings)
        store = Store(settings.artefacts, keys_of(settings))
        telling = tell(log, spec, subject, stretch, output, store=store, why=why)
    output.give(telling.as_json())
    output.say(page(telling))


def tell(
    log: LogReader, spec: Pipeline, subject: str | None, stretch: Stretch, output: Output, *, store: Store, why: bool
) -> Telling:
    """The story of a subject, or of a stretch of time.

    Raises:
        WrongUse: There is no such subject; the text names near ones.
    """
    told = ledger(log, store.keys)
    if subject is None:
        return why_not.of_stretch(told, spec, *stretch.closed()) if why else between(told, stretch)
    if why:
        return _why_not(log, told, spec, subject)
    if (version := _version(told, subject)) is not None:
        return story.of_version(told, version, manifest(told, version, store), weighings(log, store.keys))
    if subject in told.episodes or any(each.subject == subject for each in told.by("drift")):
        return story.of_episode(told, subject, weighings(log, store.keys))
    if subject in told.subjects:
        return story.of_subject(told, subject)
    return _prediction(log, told, spec, subject, output, store.keys)


def between(told: Ledger, stretch: Stretch) -> Telling:
    """Everything in a stretch."""
    return story.between(told, stretch.start, stretch.stop)


def _end(option: str, text: str | None, now: int) -> datetime | None:
    given = moment(option, text, now)
    return None if given is None else utc(given)


def _version(told: Ledger, subject: str) -> int | None:
    """The announced version that a person names, None for anything else."""
    digits = subject.removeprefix("v")
    version = int(digits) if digits.isdecimal() and digits.isascii() else None
    return version if version in told.members else None


def manifest(told: Ledger, version: int, store: Store) -> Manifest | None:
    """What the artefact says of its dataset; None where the store does not have it: then the story does without."""
    try:
        return fetch_manifest(store, told.members[version])
    except (ModelRefused, NotStored, Transient):
        return None


def _why_not(log: LogReader, told: Ledger, spec: Pipeline, subject: str) -> Telling:
    if subject not in told.episodes and subject not in told.subjects:
        known = [*told.episodes, *told.subjects]
        raise WrongUse(
            f"--why-not {subject}: no episode or other subject of a decision is called so; {near(subject, known)}"
        )
    episode = told.episodes.get(subject)
    labelled = 0 if episode is None else labelled_since(log, episode.episode.estimated_start)
    return why_not.of_episode(told, spec, subject, labelled)


def labelled_since(log: LogReader, start: datetime) -> int:
    """Rows whose label came at an event time or later."""
    count = 0
    for place in places(log, rows.EXAMPLES):
        for message in log.read(place, log.begin(place), log.end(place)):
            times = b.decode(message.value).column(b.LABEL_TIME)
            count += pc.sum(pc.greater_equal(times, pa.scalar(start, times.type))).as_py() or 0
    return count


def _prediction(log: LogReader, told: Ledger, spec: Pipeline, subject: str, output: Output, keys: Keys) -> Telling:
    with _progress(output, rows.messages(log)) as on_progress:
        row = rows.scored(log, subject, on_progress)
    if row is None:
        known = [*(f"v{each}" for each in told.members), *told.episodes, *told.subjects, *rows.newest_ids(log)]
        raise WrongUse(
            f"{subject} is no model version, episode, subject of a decision or event that is still on the log of "
            f"{spec.pipeline}; {near(subject, known)}"
        )
    ruled = numbered(log, keys, row.headers.weights) if row.headers.weights else None
    return of_prediction(told, spec, row, rows.labelled(log, row), ruled)


def near(subject: str, known: list[str]) -> str:
    """What a person may have meant."""
    found = get_close_matches(subject, list(dict.fromkeys(known)), NEAR)
    return f"did you mean {' or '.join(found)}?" if found else "`headrace status` and `headrace drift list` name some"


@contextlib.contextmanager
def _progress(output: Output, total: int) -> Iterator[rows.OnProgress]:
    columns = (TextColumn("searching"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=output.people, disable=not output.terminal, transient=True) as bar:
        task = bar.add_task("searching", total=total)
        yield lambda count: bar.update(task, advance=count)
