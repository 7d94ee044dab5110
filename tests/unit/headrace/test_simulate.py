"""`headrace simulate` on the demo's readings: a model comes, its log reads again to the same, and can be told."""

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from headrace.again import read_again
from headrace.cli import run
from headrace.demo.command import OPTIONS, PIPELINE
from headrace.demo.stream import readings
from headrace.drift.document import write_all
from headrace.drift.pages import page as drawn
from headrace.drift.reading import stories
from headrace.files import Input, messages
from headrace.following import whole
from headrace.loop import Loop
from headrace.output import Output
from headrace.report import report
from headrace.ruling import pools, rule
from headrace.simulate import assemble
from headrace.simulate import run as run_loop
from headrace.story import tell
from runtime.ports import LogReader
from runtime.store import Store
from schemas import batch as b
from schemas.batch import decode
from schemas.cloudevents import decode as decode_event
from schemas.messages import Pool
from schemas.pipeline import load, parse
from services.drift.domain.door import DOOR

pytestmark = pytest.mark.timeout(180)  # the whole loop, and again

ROWS, CHANGE = 6_000, 4_000


@pytest.fixture(scope="module")
def loop() -> Loop:
    """A finished run."""
    spec = load(PIPELINE)
    ended = assemble(spec, Store("memory://"), 2)
    run_loop(ended, spec, messages(readings(ROWS, CHANGE, 7), spec, OPTIONS))
    return ended


def test_a_file_becomes_scores_models_and_a_curve(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "readings.csv"
    readings(ROWS, ROWS, 7).write_csv(file)
    words = ["--start", "2026-01-01T00:00:00Z", "--every", "1s", "--label-delay", "300rows", "--json"]
    assert run(["simulate", str(file), "-p", str(PIPELINE), *words]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["events"], told["predictions"], told["examples"], told["dead_letters"]) == (ROWS, ROWS, ROWS, 0)
    assert told["accuracy"] > 0.9
    assert told["members"]
    assert sum(point["rows"] for point in told["curve"]) == told["judged"] > ROWS / 2


def test_the_log_of_a_run_reads_again_to_what_it_says(loop: Loop) -> None:
    findings = list(read_again(loop.log, load(PIPELINE)))
    assert [each.what for each in findings] == ["features", "episodes", "models", "scored", "predictions", "examples"]
    assert all(each.recorded == each.again > 0 for each in findings), findings
    assert all(each.different == 0 for each in findings), findings


def test_what_was_counted_is_counted_again(loop: Loop) -> None:
    """The models made again bring the same references, and the same messages fall into the same cells."""
    again = rule(load(PIPELINE), loop.log, Store("memory://"))
    assert tallies(again) == tallies(loop.log)
    found = tallies(loop.log)
    announced = (decode_event(each.value or b"", each.headers).read(Pool) for each in pools(loop.log).values())
    assert {member for _, member, _ in found} == {0, *(each.anchor for each in announced)}
    assert sum(counts[0] for (_, member, _), (_, counts) in found.items() if member == DOOR) > ROWS - 500


def tallies(log: LogReader) -> dict[tuple[int, int, int], tuple[list[int], list[int]]]:
    found: dict[tuple[int, int, int], tuple[list[int], list[int]]] = {}
    for place, message in whole(log, "drift-counts"):
        if "scored" in b.decode_headers(message.headers).coverage:
            for row in b.decode(message.value).to_pylist():
                key = row["pane"] * 10 + place.partition, row["member"], row["source"]
                assert key not in found
                found[key] = row["cells"], row["counts"]
    return found


def test_a_run_in_which_no_label_means_false_reads_again_to_what_it_says() -> None:
    """Only pumps that need service are told: the rest becomes examples at the horizon, a log, models and episodes."""
    spec = load(PIPELINE)
    labels = spec.labels.model_copy(update={"absent": False, "horizon": 600_000})
    spec = spec.model_copy(update={"labels": labels})
    loop = assemble(spec, Store("memory://"), 2)
    told = messages(readings(ROWS, CHANGE, 7), spec, OPTIONS)
    run_loop(loop, spec, (each for each in told if b'"needs_service":false' not in each.value))
    findings = list(read_again(loop.log, spec))
    assert all(each.recorded == each.again > 0 for each in findings), findings
    assert all(each.different == 0 for each in findings), findings
    assert ROWS - 1_500 < findings[-1].recorded < ROWS
    assert (loop.metrics.registry.get_sample_value("headrace_unlabelled_share") or 0) > 0.3


def test_a_run_with_windows_over_labels_reads_again_to_what_it_says() -> None:
    spec = parse(PIPELINE.read_text().replace("features:\n", "features:\n  rate: {mean: label, over: 10m}\n", 1))
    loop = assemble(spec, Store("memory://"), 2)
    run_loop(loop, spec, messages(readings(ROWS, CHANGE, 7), spec, OPTIONS))
    findings = list(read_again(loop.log, spec))
    assert all(each.recorded == each.again > 0 for each in findings), findings
    assert all(each.different == 0 for each in findings), findings
    rates = [row["rate"] for _, m in whole(loop.log, "features") for row in decode(m.value).to_pylist()]
    known = [each for each in rates if each is not None]
    assert ROWS - 2_000 < len(known) < ROWS
    assert len(set(known)) > 100


def test_a_run_with_corrected_labels_reads_again_to_what_it_says() -> None:
    spec = load(PIPELINE)
    spec = spec.model_copy(update={"labels": spec.labels.model_copy(update={"revision": "revision"})})
    loop = assemble(spec, Store("memory://"), 2)
    told = messages(readings(ROWS, CHANGE, 7), spec, OPTIONS)
    run_loop(loop, spec, (each for said in told for each in with_correction(said)))
    findings = {each.what: each for each in read_again(loop.log, spec)}
    assert all(each.recorded == each.again > 0 for each in findings.values()), findings
    assert all(each.different == 0 for each in findings.values()), findings
    assert findings["examples"].recorded == ROWS + ROWS // 10
    assert report(loop.log).examples == ROWS


def with_correction(said: Input) -> list[Input]:
    """A message, and behind each tenth label another one that says the opposite."""
    label = json.loads(said.value)
    if said.kind == "events" or not label["reading_id"].endswith("0"):
        return [said]
    assert label["revision"] == 0
    opposite = {**label, "revision": 1, "needs_service": not label["needs_service"]}
    return [said, said._replace(value=json.dumps(opposite).encode())]


def test_a_row_that_is_not_what_the_log_says_is_found(loop: Loop) -> None:
    """The comparison itself must be able to fail."""
    spec = load(PIPELINE)
    other = spec.model_copy(update={"features": {**spec.features, "power_per_flow": "power / nullif(flow, 0) + 1"}})
    found = next(read_again(loop.log, other))
    assert (found.what, found.recorded, found.different) == ("features", ROWS, ROWS)
    assert "power_per_flow" in found.example


def test_a_run_is_told_to_a_person_with_its_curve_and_its_models(loop: Loop) -> None:
    story, page = report(loop.log), io.StringIO()
    output = Output(machine=False)
    output.people = Console(file=page, width=120)
    tell(output, story)
    told = page.getvalue()
    assert "prequential accuracy" in told
    assert f"{ROWS:,} / {ROWS:,}" in told
    assert f"models: {len(story.members)}" in told
    assert story.episodes[0]["id"] in told
    assert any("\u2801" <= sign <= "\u28ff" for sign in told)


def test_the_episodes_of_a_run_are_shown_with_what_followed(loop: Loop, tmp_path: Path) -> None:
    found, page = stories(loop.log), io.StringIO()
    assert list(found) == [each["id"] for each in report(loop.log).episodes]
    for each in found.values():
        Console(file=page, width=160).print(drawn(each))
    assert "training" in page.getvalue()
    write_all(found, "pumps", tmp_path / "pages")
    for name, each in found.items():
        assert each.episode.reason in (tmp_path / "pages" / f"{name}.html").read_text("utf-8")
    assert any(each.consequence.startswith("announced: pool") for each in found.values())


def test_a_run_without_a_model_is_told_too() -> None:
    loop, page = assemble(load(PIPELINE), Store("memory://"), 1), io.StringIO()
    output = Output(machine=False)
    output.people = Console(file=page, width=120)
    tell(output, report(loop.log))
    assert "no labelled prediction yet" in page.getvalue()
