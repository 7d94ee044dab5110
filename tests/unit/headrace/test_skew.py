"""`headrace skew`: a sound log is found sound, each kind of skew is found, and what cannot be checked is refused."""

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from functools import cache
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.cli import run
from headrace.dead_letters.wanted import moment
from headrace.errors import WrongUse
from headrace.output import Output
from headrace.skew.command import examine
from headrace.skew.findings import Findings
from headrace.skew.spans import Range
from runtime.memory import MemoryBroker, MemoryLog
from runtime.ports import Message, Place
from schemas.pipeline import Pipeline, parse
from tests.unit.services.features.test_skew import PLAIN_TEXT, Shop, Story, alter, altered_amid, told, world
from tests.unit.services.features.test_windows_restart import STEPS, TEXT, events
from tests.unit.services.features.world import SOURCES, P, drain, rest

ROOT = Path(__file__).parents[3]
ROWS, TURN = 600, 20
STEP_MS = 900
SPECS = {"windows": parse(TEXT), "plain": parse(PLAIN_TEXT), "partition": parse(f"{TEXT}windows: {{per: partition}}")}


class Log(MemoryLog):
    """A log on which retention may have deleted messages."""

    def __init__(self, on: MemoryBroker, begins: dict[str, int] | None = None) -> None:
        super().__init__(on, "skew")
        self.begins, self.offsets = begins or {}, list[int]()

    def begin(self, place: Place) -> int:
        return self.begins.get(place.topic, 0)

    def read(self, place: Place, start: int, stop: int) -> Iterator[Message]:
        for message in super().read(place, max(start, self.begin(place)), stop):
            self.offsets += [message.offset] if place.topic == "records" else []
            yield message

    def close(self) -> None:
        pass


def served(spec: Pipeline, rows: int = ROWS) -> MemoryBroker:
    """A pipeline that ran for a while: many messages, each a little later than the one before."""
    on = world()
    shops = [Shop(on, each, spec=spec) for each in ("ingestion", "features", "serving")]
    for n in range(rows):
        late = 40_000 if n % 11 == 0 else 0
        event = {"order": f"o{n}", "at": 100_000 + n * STEP_MS - late, "who": f"w{n % 7}", "amount": n % 13 / 7}
        on.append(Place("events", n % SOURCES), json.dumps(event).encode())
        if n % TURN == TURN - 1:
            rest(*shops)
    return on


@cache
def ran(form: str) -> MemoryBroker:
    """One that nobody may write to."""
    return served(SPECS[form])


def check(log: MemoryLog, spec: Pipeline, given: Range | None = None) -> Findings:
    return examine(log, spec, given or Range(), Output(machine=True))


@pytest.mark.parametrize("form", SPECS)
def test_every_row_of_a_sound_log_is_computed_again_to_what_was_served(form: str) -> None:
    found = check(Log(ran(form)), SPECS[form])
    assert (found.rows, found.skewed, found.missing, found.sound) == (ROWS, 0, 0, True)
    assert {feature.rows for feature in found.features.values()} == {ROWS}


@pytest.mark.parametrize("form", SPECS)
@pytest.mark.parametrize(
    "given", [Range(last=100), Range(start=12_000, stop=18_000), Range(start=20_000), Range(stop=9_000, last=40)]
)
def test_a_part_of_a_sound_log_is_sound_and_read_no_further_back_than_windows_reach(form: str, given: Range) -> None:
    log, spec = Log(ran(form)), SPECS[form]
    found = check(log, spec, given)
    assert found.sound
    assert 40 <= found.rows < ROWS
    reach = spec.longest_window / STEP_MS + 40_000 / STEP_MS
    assert len(log.offsets) < (found.rows + reach + 4 * TURN) / (TURN / P / SOURCES)


@settings(max_examples=20, deadline=None)
@given(events(), STEPS, st.integers(1, 20), st.integers(1, 60), st.integers(0, 12), st.integers(0, 12))
def test_whoever_died_whenever_and_whatever_was_deleted_a_sound_log_is_sound_or_refused(
    script: list[tuple[Place, bytes]], steps: list[tuple[str, int]], size: int, last: int, records: int, scored: int
) -> None:
    on = world()
    for place, value in script:
        on.append(place, value)
    drain(Shop(on, "ingestion", size, spec=SPECS["windows"]))
    story = Story(on, size, share=1)
    story.play(steps)
    rest(story.serving, story.features)
    whole = check(Log(on), SPECS["windows"])
    assert (whole.rows, whole.sound) == (len(script), True)
    assert check(Log(on), SPECS["windows"], Range(last=last)).sound
    assert sound_or_refused(Log(on, {"records": records, "scored": scored}), Range(last=last))


def sound_or_refused(log: Log, given: Range) -> bool:
    try:
        return check(log, SPECS["windows"], given).sound
    except WrongUse as refused:
        return "deleted" in str(refused) or "no row" in str(refused)


@pytest.mark.parametrize("form", ["windows", "plain"])
def test_copies_that_a_zombie_wrote_at_the_edge_of_the_range_are_left_out(form: str) -> None:
    on = served(SPECS[form])
    for partition in range(P):
        log = on.log(Place("scored", partition))
        for message in log[-3:-1]:
            assert message is not None
            on.append(Place("scored", partition), message.value, None, message.headers)
    found = check(Log(on), SPECS[form], Range(last=2 * P))
    assert found.sound
    assert found.rows < 20


@pytest.mark.parametrize(("feature", "value"), [("double", 7.25), ("apart", 1e-9), ("few", 0.0)])
def test_one_altered_value_is_found_with_its_row_and_both_values(feature: str, value: float) -> None:
    on = served(SPECS["windows"])
    alter(on, feature, 150, value)
    found = check(Log(on), SPECS["windows"])
    assert (found.rows, found.skewed, found.sound) == (ROWS, 1, False)
    assert {name: each.different for name, each in found.features.items() if each.different} == {feature: 1}
    example = found.features[feature].example
    assert example is not None
    assert example.served == value != example.recomputed
    assert example.event_id.startswith("o")
    assert found.features[feature].largest


def test_rows_of_an_older_definition_are_found_and_named_by_their_digest() -> None:
    older = parse(TEXT.replace("mean: amount, over: 10s", "mean: amount, over: 40s"))
    found = check(Log(served(older)), SPECS["windows"])
    assert found.skewed == found.features["mean"].different > ROWS / 3
    assert not any(each.different for name, each in found.features.items() if name != "mean")


def test_a_feature_that_came_later_was_not_served_and_differs_nowhere() -> None:
    later = parse(PLAIN_TEXT.replace("name: who}", "name: who, half: amount / 2}"))
    found = check(Log(served(SPECS["plain"])), later)
    assert found.sound
    assert (found.features["half"].rows, found.features["double"].rows) == (0, ROWS)


def test_a_served_row_without_a_record_is_found() -> None:
    on = served(SPECS["plain"])
    other = served(SPECS["plain"], ROWS + 40)
    for partition in range(P):
        log = other.log(Place("scored", partition))
        for message in log[len(on.log(Place("scored", partition))) :]:
            assert message is not None
            on.append(Place("scored", partition), message.value, None, message.headers)
    found = check(Log(on), SPECS["plain"])
    assert (found.rows, found.missing, found.sound) == (ROWS, 40, False)


def test_rows_of_entities_that_found_no_place_are_not_compared_by_windows() -> None:
    spec = parse(f"{TEXT}windows: {{entities: 2}}")
    found = check(Log(served(spec)), spec)
    assert found.sound
    assert 0 < found.windowless < ROWS


@pytest.mark.parametrize("form", SPECS)
@pytest.mark.parametrize("forgotten", [0, 15])
def test_deleted_records_are_refused_with_the_moment_from_which_a_check_is_possible(form: str, forgotten: int) -> None:
    """Whether or not `scored` of that time is kept."""
    on, spec, begins = ran(form), SPECS[form], {"records": 20, "scored": forgotten}
    with pytest.raises(WrongUse, match=r"records/\d of shop begins at offset 20.*deleted.*--from (\S+)Z") as refused:
        check(Log(on, begins), spec)
    since = moment("--from", str(refused.value).split("--from ")[1], 0)
    assert since is not None
    found = check(Log(on, begins), spec, Range(start=since))
    assert found.sound
    assert found.rows > 3 * TURN
    with pytest.raises(WrongUse):
        check(Log(on, begins), spec, Range(start=since - 4_000))


def test_a_range_in_which_nothing_was_served_is_refused() -> None:
    with pytest.raises(WrongUse, match="no row of shop was served in this range"):
        check(Log(served(SPECS["plain"], 40)), SPECS["plain"], Range(start=10**9))


@pytest.fixture
def command(tmp_path: Path) -> Sequence[str]:
    """The words that run the command on a log in memory, with one altered value where a test alters it."""
    path = tmp_path / "pipeline.yaml"
    path.write_text(TEXT)
    return ["skew", "-p", str(path)]


@pytest.mark.parametrize("altered", [False, True])
def test_the_exit_code_and_the_page_tell_whether_there_is_skew(
    command: Sequence[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *, altered: bool
) -> None:
    on = served(SPECS["windows"], 200)
    if altered:
        alter(on, "top", 40, 9.5)
    monkeypatch.setattr("headrace.skew.command.log_of", lambda *_: nullcontext(Log(on)))
    monkeypatch.setenv("COLUMNS", "200")
    assert run([*command]) == int(altered)
    told = capsys.readouterr().out
    assert f"rows with skew: {int(altered)} of 200 that were computed again" in told
    assert ("9.5" in told) is altered
    assert run([*command, "--last", "100", "--json"]) in {0, int(altered)}
    (line,) = capsys.readouterr().out.splitlines()
    assert {"sound", "rows", "skewed", "features", "digest"} <= json.loads(line).keys()


def test_one_altered_value_is_a_metric_an_alert_a_line_in_the_ledger_and_an_exit_code(
    command: Sequence[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    on, features, _ = altered_amid("mean", 9.5)
    alerts = yaml.safe_load((ROOT / "deploy/prometheus/alerts.yml").read_text("utf-8"))
    rules = {rule["alert"]: rule["expr"] for group in alerts["groups"] for rule in group["rules"]}
    metric = re.match(r"increase\((\w+)\[", rules["FeatureSkew"])
    assert metric is not None
    assert features.metrics.registry.get_sample_value(metric[1]) == 1
    (line,) = told(on)
    assert (line.step, line.evidence["feature"], line.evidence["served"]) == ("skewed", "mean", 9.5)
    monkeypatch.setattr("headrace.skew.command.log_of", lambda *_: nullcontext(Log(on)))
    assert run([*command]) == 1


@pytest.mark.parametrize("words", [["--from", "yesterday"], ["--last", "0"]])
def test_a_range_that_is_none_is_wrong_use(command: Sequence[str], words: list[str]) -> None:
    assert run([*command, *words]) == 2
