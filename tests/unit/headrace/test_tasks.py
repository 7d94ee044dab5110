"""The whole loop in memory for each task: from events to a report, and read again to the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from headrace.again import read_again
from headrace.drift.document import write_all
from headrace.drift.reading import stories
from headrace.files import Options, messages, read
from headrace.loop import Loop
from headrace.output import Output
from headrace.report import Report, examples, predictions, report
from headrace.simulate import assemble, run
from headrace.story import tell
from runtime.store import Store
from schemas import cloudevents
from schemas.messages import Prediction
from schemas.pipeline import Pipeline, load, parse

DATA = Path(__file__).parents[4] / "shared" / "data"
STREAMS = Path(__file__).parents[2] / "data"
ROWS, CHANGE = 2_400, 1_500

PIPELINE = """
pipeline: shop
task: TASK
events:
  id: row
  time: at
  fields:
    at: {type: timestamp}
    x: {type: number, nullable: true}
    z: {type: number}
    colour: {type: category}
labels: {id: row, time: known_at, field: y, LABEL, horizon: 24h}
features: {x: x, z: z, colour: colour, WINDOW}
windows: {per: partition}
model: {estimator: ESTIMATOR}
drift: {settle: 200, pane: 10m, lateness: 1m}
training: {min_rows: 400, window: 1000, cooldown: 10m}
"""
CLASSES = ("low", "middle", "high", "never")
NUMBER = {"LABEL": "type: number", "WINDOW": "lately: {mean: label, over: 6h}"}
SEVERAL = {"LABEL": f"type: category, values: [{', '.join(CLASSES)}]", "WINDOW": "known: {count: label, over: 6h}"}


def spec(task: str, estimator: str) -> Pipeline:
    text = PIPELINE
    words = NUMBER if task == "regression" else SEVERAL
    for old, new in {"TASK": task, "ESTIMATOR": estimator, **words}.items():
        text = text.replace(old, new)
    return parse(text)


def stream(task: str) -> pl.DataFrame:
    """Rows whose label follows x and the colour; after a change it follows x the other way round."""
    random = np.random.default_rng(4)
    x, z = random.normal(size=ROWS), random.normal(size=ROWS)
    red = random.random(ROWS) < 0.4
    value = np.where(np.arange(ROWS) < CHANGE, x, -x) + red + 0.2 * random.normal(size=ROWS)
    label = value * 100 + 500 if task == "regression" else np.array(CLASSES)[np.digitize(value, [-0.5, 1.0])]
    known = np.where(np.arange(ROWS) % 23 == 0, np.nan, x)
    return pl.DataFrame({"x": known, "z": z, "colour": np.where(red, "red", "blue"), "y": label}, nan_to_null=True)


def ended(pipeline: Pipeline, frame: pl.DataFrame, delay: str, every: str = "1m") -> Loop:
    loop = assemble(pipeline, Store("memory://"), 2)
    options = Options.of(start="2026-01-01T00:00:00Z", every=every, delay=delay)
    run(loop, pipeline, messages(frame, pipeline, options))
    return loop


@pytest.fixture(
    scope="module", params=[("regression", "ridge"), ("multiclass", "logistic_regression")], ids=lambda each: each[0]
)
def small(request: pytest.FixtureRequest) -> tuple[Pipeline, Loop, Report]:
    pipeline = spec(*request.param)
    loop = ended(pipeline, stream(request.param[0]), "60rows")
    return pipeline, loop, report(loop.log)


def test_every_row_has_a_prediction_and_becomes_an_example(small: tuple[Pipeline, Loop, Report]) -> None:
    *_, told = small
    assert (told.events, told.predictions, told.examples, told.dead_letters) == (ROWS, ROWS, ROWS, 0)
    assert told.judged > ROWS // 2


def test_the_model_knows_more_than_the_labels_alone_tell(small: tuple[Pipeline, Loop, Report]) -> None:
    pipeline, loop, told = small
    label = examples(loop.log).get_column("_label").to_numpy()
    if pipeline.task == "regression":
        assert told.rmse is not None
        assert told.rmse < 0.95 * label.std()
        assert (told.accuracy, told.log_loss) == (None, None)
        assert all(point.rmse is not None for point in told.curve)
    else:
        assert told.accuracy is not None
        assert told.accuracy > np.bincount(label).max() / len(label) + 0.1
        assert (told.rmse, told.mae) == (None, None)


def test_the_change_is_found_and_answered_by_a_fit(small: tuple[Pipeline, Loop, Report]) -> None:
    *_, told = small
    assert "concept" in {each["kind"] for each in told.episodes}
    assert "drift" in {each["cause"]["kind"] for each in told.members}


def test_predictions_say_what_their_task_says(small: tuple[Pipeline, Loop, Report]) -> None:
    pipeline, loop, _ = small
    said = [cloudevents.decode(each.value or b"", each.headers).read(Prediction) for each in predictions(loop.log)]
    answered = [each for each in said if each.pool is not None]
    assert answered
    for each in answered:
        if pipeline.task == "regression":
            assert isinstance(each.value, float)
            assert (each.probability, each.probabilities) == (None, None)
        else:
            given = each.probabilities
            assert given is not None
            assert given.keys() == {*CLASSES}
            assert sum(given.values()) == pytest.approx(1.0)
            assert each.value == max(given, key=given.__getitem__)
            assert each.probability == given[str(each.value)]
    assert all(each.value is None and each.reason for each in said if each.pool is None)


def test_the_log_reads_again_to_what_it_says(small: tuple[Pipeline, Loop, Report]) -> None:
    pipeline, loop, _ = small
    findings = list(read_again(loop.log, pipeline))
    assert all(each.recorded == each.again > 0 and each.different == 0 for each in findings), findings


def test_the_run_is_told_to_people_with_a_page_of_each_episode(
    small: tuple[Pipeline, Loop, Report], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pipeline, loop, told = small
    tell(Output(machine=False), told)
    said = capsys.readouterr()
    assert ("prequential rmse" if pipeline.task == "regression" else "prequential accuracy") in said.out + said.err
    write_all(stories(loop.log), pipeline.pipeline, tmp_path)
    assert len(list(tmp_path.glob("*.html"))) >= len(told.episodes) > 0


def recorded(name: str) -> pl.DataFrame:
    file = DATA / f"{name}.csv.gz"
    if not file.exists():
        pytest.skip(f"the {name} stream is not in ../shared/data")
    return read(file)


def test_bikes_are_foretold_much_better_than_by_their_mean() -> None:
    frame = recorded("bike_hour").head(6_000)
    told = report(ended(load(STREAMS / "bike_hour.yaml"), frame, "24rows", every="1h").log)
    counts = frame.get_column("cnt").to_numpy().astype(float)[-told.judged :]
    assert told.rmse is not None
    assert told.rmse < 0.6 * counts.std()


def test_gases_are_told_apart() -> None:
    frame = recorded("gas_sensor").head(3_000)
    told = report(ended(load(STREAMS / "gas_sensor.yaml"), frame, "50rows", every="1h").log)
    assert told.accuracy is not None
    assert told.accuracy > 0.6
