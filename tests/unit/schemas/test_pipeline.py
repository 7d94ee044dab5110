import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from schemas.checks import several_owners, windowed
from schemas.pipeline import Pipeline, PipelineError, load, parse, template
from schemas.quantities import Rate, milliseconds, rate
from schemas.spec import Mixed
from schemas.windows import AGGREGATES

SMALL = """\
pipeline: small
task: binary
events:
  id: event_id
  fields:
    price: {type: number, min: 0}
    region: {type: category}
labels:
  id: event_id
  field: up
  type: boolean
  horizon: 24h
features:
  price: price
"""

WHOLE = """\
pipeline: electricity
task: binary
events:
  time: observed_at
  id: event_id
  entity: region
  fields:
    observed_at: {type: timestamp}
    region:      {type: category}
    price:       {type: number, min: 0, unit: AUD/MWh}
    demand:      {type: number, nullable: true}
labels:
  id: event_id
  time: known_at
  mature: 0s
  field: price_up
  type: boolean
  horizon: 24h
  absent: unlabelled
features:
  demand_per_price: demand / nullif(price, 0)
  hour: extract(hour from observed_at)
windows: {per: entity, entities: 1000000}
model:
  estimator: hist_gradient_boosting
  params: {max_iter: 200}
  metric: log_loss
  online: none
drift:
  pane: 1m
  lateness: 1m
  settle: 1000
  seasonality: []
training:
  min_rows: 2000
  window: 20000
  cooldown: 10m
  fits: 24 per 1d
strategy: {name: blend, members: 1}
"""


def refused(old: str, new: str, text: str = WHOLE) -> str:
    """The error that a change of one place causes."""
    assert old in text
    with pytest.raises(PipelineError) as caught:
        parse(text.replace(old, new, 1), name="p.yaml")
    return str(caught.value)


def line_of(old: str) -> int:
    """The line in which a text begins, counted from 1."""
    return WHOLE[: WHOLE.index(old.strip())].count("\n") + 1


def test_every_key_of_the_language_parses() -> None:
    spec = parse(WHOLE)
    assert spec.labels.horizon == 86_400_000
    assert spec.training.fits == Rate(count=24, per_ms=86_400_000)
    assert spec.drift.settle == 1_000
    assert spec.model.params == {"max_iter": 200}
    assert spec.feature_types == {"demand_per_price": "number", "hour": "number"}


def test_defaults_are_those_of_the_design() -> None:
    spec = parse(SMALL)
    assert (spec.drift.pane, spec.drift.lateness, spec.drift.settle) == (60_000, 60_000, 1_000)
    assert (spec.drift.false_alarms, spec.drift.seasonality) == (Rate(count=1, per_ms=30 * 86_400_000), ())
    assert (spec.training.min_rows, spec.training.window) == (2_000, 20_000)
    assert spec.training.cooldown == 600_000
    assert spec.training.fits == Rate(count=24, per_ms=86_400_000)
    assert (spec.metric, spec.model.estimator) == ("log_loss", "hist_gradient_boosting")
    assert (spec.strategy.name, spec.strategy.members) == ("blend", 6)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("  mature: 0s", "  mature: 1h"),
        ("metric: log_loss", "metric: brier"),
    ],
)
def test_what_is_not_built_yet_is_refused_with_line_and_mend(old: str, new: str) -> None:
    message = refused(old, new)
    assert "not supported yet" in message
    assert message.startswith(f"p.yaml:{line_of(old)}: ")


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("name: blend, members: 1", "name: blend, members: 6, alpha: 0.05", "alpha and max_rows are for champion"),
        ("name: blend, members: 1", "name: champion, members: 1", "champion needs a challenger"),
        ("name: blend, members: 1", "name: champion, alpha: 1", "less than 1"),
        ("online: none", "online: perceptron", "is no online member: write one of none, hoeffding_adaptive_tree"),
    ],
)
def test_a_strategy_that_makes_no_sense_is_refused_with_the_mend(old: str, new: str, why: str) -> None:
    assert why in refused(old, new)


def test_an_online_member_is_for_classes_and_for_the_blend() -> None:
    online = WHOLE.replace("online: none", "online: logistic_regression")
    assert parse(online).model.online == "logistic_regression"
    with pytest.raises(PipelineError, match="logistic_regression is for the strategy blend; remove it"):
        parse(online.replace("name: blend, members: 1", "name: champion, members: 3"))


@pytest.mark.parametrize(
    ("text", "means"),
    [("500000", 500_000), ("all", "all"), ("720h", "30d"), ("{mixed: 20000}", Mixed(mixed=20_000))],
)
def test_the_rows_of_a_fit_are_so_many_of_a_duration_all_or_mixed(text: str, means: object) -> None:
    assert parse(WHOLE.replace("window: 20000", f"window: {text}")).training.window == means


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("min_rows", "min_row", "training.min_row: unknown key (did you mean min_rows?)"),
        ("drift:", "drfit:", "drfit: unknown key (did you mean drift?)"),
        ("nullable: true", "nulable: true", "events.fields.demand.nulable: unknown key"),
        ("  horizon: 24h\n", "", "labels.horizon: is required"),
        ("horizon: 24h", "horizon: 24", "24 is not a duration"),
        ("horizon: 24h", "horizon: 0s", "must be longer than 0s"),
        ("fits: 24 per 1d", "fits: 24/d", "training.fits: '24/d' is not a rate"),
        ("time: observed_at", "time: observd_at", "(did you mean observed_at?)"),
        ("entity: region", "entity: price", "'price' is a number; events.entity must be a text"),
        ("{type: timestamp}", "{type: timestamp, nullable: true}", "must always be there"),
        ("  time: known_at\n", "", "labels.time is required because events.time is given"),
        ("type: boolean", "type: number", "a binary label is a boolean or category, not a number"),
        ("type: boolean", "type: category", "needs exactly two"),
        ("field: price_up", "field: event_id", "must be different fields"),
        ("absent: unlabelled", "absent: 0", "labels.absent: 0 is no value of the label: write `unlabelled`, or one of"),
        ("absent: unlabelled", "absent: 'no'", "one of false, true"),
        (
            "type: boolean",
            "type: category\n  values: [unlabelled, up]",
            "'unlabelled' means no label at all and is a value of the label too: rename the value",
        ),
        ("electricity", "Electricity", "pipeline: a name is letters, digits and -"),
        ("hour:", "_hour:", "features._hour: a name is letters, digits and _"),
        ("demand / nullif", "demnd / nullif", "(did you mean demand?)"),
        ("hour from", "hour frm", "'extract(hour frm observed_at)'"),
        ("price: ", "_price: ", "headrace's own: rename it"),
        ("min: 0,", "min: 0, max: -1,", "min 0 is above max -1"),
        ("{type: category}", "{type: category, values: [yes, no]}", "put quotes around it"),
        ("{type: category}", "{type: category, max: 3}", "min and max are for number"),
        ("cooldown: 10m", "min_rows: 5", "'min_rows' is there twice"),
        ("window: 20000", "window: 1000", "window (1000) must not be below min_rows (2000)"),
        ("window: 20000", "window: {mixed: 1000}", "window (1000) must not be below min_rows (2000)"),
        ("window: 20000", "window: {newest: 5}", "training.window: write a number of rows such as 20000, a duration"),
        ("window: 20000", "window: 10", "20 rows are the least"),
        ("window: 20000", "window: 0s", "a duration such as 7d, `all`, or {mixed: 20000}"),
        ("training:", "training: [", "is not valid YAML"),
        ("params: {max_iter: 200}", "params: {max_iter: .nan}", "finite"),
        ("hour: extract(hour from observed_at)", "hour: 3", "is not a SQL expression"),
        ("hour: extract", "price_up: !!python/object:os.system {}\n  hour: extract", "YAML"),
    ],
)
def test_a_mistake_names_line_place_and_mend(old: str, new: str, says: str) -> None:
    message = refused(old, new)
    assert says in message


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("min_rows", "min_row"),
        ("drift:", "drfit:"),
        ("fits: 24 per 1d", "fits: 24/d"),
        ("hour:", "_hour:"),
        ("demand_per_price: demand", "demand_per_price: demnd"),
        ("entity: region", "entity: price"),
        ("cooldown: 10m", "min_rows: 5"),
    ],
)
def test_a_mistake_is_found_in_its_line(old: str, new: str) -> None:
    assert refused(old, new).startswith(f"p.yaml:{line_of(old)}: ")


@pytest.mark.parametrize(
    ("window", "says"),
    [
        ("{mean: prise, over: 24h}", "'prise': there is no field 'prise' in events.fields (did you mean price?)"),
        ("{mean: region, over: 24h}", "'region' is a text; mean is over numbers"),
        ("{median: price, over: 24h}", "a window has exactly one of count, sum, mean"),
        ("{mean: price, max: price, over: 24h}", "a window has exactly one of"),
        ("{mean: price}", "`over` is missing"),
        ("{mean: price, over: 24}", "24 is not a duration"),
        ("{mean: price, over: 0s}", "24ms are the shortest window"),
        ("{mean: price, over: 100 rows}", "add `within: 7d`"),
        ("{mean: price, over: 0 rows, within: 7d}", "write 1 to 1000 rows"),
        ("{mean: price, over: 24h, within: 7d}", "`within` bounds a number of rows"),
        ("{mean: price, over: 24h, per: entity}", "'per' is not a part of a window"),
        ('{mean: "*", over: 24h}', 'mean of "*" is not a number'),
        (
            "{mean: label, over: 100 rows, within: 7d}",
            "over the last 100 labels is not supported yet: write a duration",
        ),
        ("{mean: label * 2, over: 24h}", "price, demand); of labels write `label` alone"),
        ("{median: label, over: 24h}", "a window has exactly one of"),
    ],
)
def test_a_window_that_cannot_be_one_is_refused_in_its_line(window: str, says: str) -> None:
    message = refused("extract(hour from observed_at)", window)
    assert says in message
    assert message.startswith(f"p.yaml:{line_of('hour:')}: features.hour: ")


OF_LABELS = ("extract(hour from observed_at)", "{mean: label, over: 24h}")


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("  time: known_at\n", "  time: known_at\n  revision: change\n", "labels.revision is not supported yet"),
        ("absent: unlabelled", "absent: false", "mean of the label would be of a part: only labels that come are seen"),
    ],
)
def test_labels_that_a_window_would_count_wrongly_are_refused_in_its_line(old: str, new: str, says: str) -> None:
    text = WHOLE.replace(*OF_LABELS)
    message = refused(old, new, text)
    assert says in message
    line = text.replace(old, new)[: text.replace(old, new).index("hour:")].count("\n") + 1
    assert message.startswith(f"p.yaml:{line}: features.hour: ")


def test_windows_over_labels_have_all_aggregates_and_a_field_of_that_name_comes_first() -> None:
    for aggregate in AGGREGATES:
        spec = parse(WHOLE.replace(OF_LABELS[0], f"{{{aggregate}: label, over: 24h}}"))
        assert windowed(spec)["hour"].labels
        assert str(windowed(spec)["hour"]) == f"{{{aggregate}: label, over: 1d}}"
    absent = WHOLE.replace("absent: unlabelled", "absent: false").replace(OF_LABELS[0], "{sum: label, over: 24h}")
    assert parse(absent).longest_window > 0
    named = WHOLE.replace(*OF_LABELS).replace("    demand:", "    label:       {type: number}\n    demand:", 1)
    assert not windowed(parse(named))["hour"].labels


def test_windows_need_an_owner_where_there_are_several_partitions() -> None:
    windowed = SMALL + "  day: {mean: price, over: 24h}\n"
    assert "add events.entity, write `windows: {per: partition}`" in (several_owners(parse(windowed), 4) or "")
    assert "features.day" in (several_owners(parse(windowed), 4) or "")
    assert several_owners(parse(windowed), 1) is None
    assert not parse(windowed).windows_by_entity
    assert several_owners(parse(windowed + "windows: {per: partition}\n"), 4) is None
    assert several_owners(parse(SMALL), 4) is None


def test_the_longest_window_holds_whole_panes_and_late_rows() -> None:
    text = WHOLE.replace("extract(hour from observed_at)", "{mean: price, over: 24h}")
    spec = parse(text)
    assert spec.longest_window == (25 * 3_600_000) + spec.drift.lateness
    assert parse(WHOLE).longest_window == 0


def test_each_mistake_has_its_own_line() -> None:
    with pytest.raises(PipelineError) as caught:
        parse(WHOLE.replace("task: binary", "task: forecast").replace("24h", "x"))
    assert [line.split(":")[1] for line in str(caught.value).splitlines()] == ["2", str(line_of("horizon"))]


@pytest.mark.parametrize("text", ["", "- a", "just text", "a: *b", "\x00", "? [x]\n: 1", "2"])
def test_any_text_gives_a_pipeline_error(text: str) -> None:
    with pytest.raises(PipelineError):
        parse(text)


def test_a_pipeline_without_features_is_refused() -> None:
    assert "features: is required" in refused("features:\n  price: price\n", "", SMALL)


def test_an_id_need_not_be_listed() -> None:
    spec = parse(SMALL)
    assert list(spec.event_fields) == ["event_id", "price", "region"]
    assert list(spec.label_fields) == ["event_id", "up"]
    assert spec.event_fields["event_id"].type == "text"


def test_labels_carry_entity_and_time_where_the_pipeline_has_them() -> None:
    assert list(parse(WHOLE).label_fields) == ["event_id", "region", "known_at", "price_up"]


def test_labels_carry_a_revision_where_they_may_be_corrected() -> None:
    spec = parse(WHOLE.replace("  mature: 0s", "  revision: version"))
    assert list(spec.label_fields) == ["event_id", "region", "known_at", "version", "price_up"]
    assert (spec.label_fields["version"].type, spec.label_fields["version"].min) == ("integer", 0)
    assert "must be different fields" in refused("  mature: 0s", "  revision: price_up")


def test_classes_are_the_labels_values_in_order() -> None:
    assert parse(SMALL).classes == (False, True)
    text = SMALL.replace("type: boolean", "type: category\n  values: [DOWN, UP]")
    assert parse(text).classes == ("DOWN", "UP")


def test_no_label_by_the_horizon_means_nothing_or_a_class() -> None:
    assert parse(WHOLE).absent_label is None
    assert parse(WHOLE.replace("absent: unlabelled", "absent: false")).absent_label == 0
    category = SMALL.replace("type: boolean", "type: category\n  values: [DOWN, UP]\n  absent: UP")
    assert parse(category).absent_label == 1


def test_the_digest_ignores_how_the_file_is_written() -> None:
    rewritten = "# comment\n" + SMALL.replace("24h", "1d").replace("{type: category}", "\n      type: category")
    assert parse(rewritten).digest == parse(SMALL).digest
    assert re.fullmatch(r"[0-9a-f]{16}", parse(SMALL).digest)


def test_the_digest_knows_the_order_of_columns() -> None:
    swapped = SMALL + "  region: region\n"
    other = SMALL.replace("  price: price\n", "  region: region\n  price: price\n")
    assert parse(swapped).digest != parse(other).digest


def test_a_pipeline_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        parse(SMALL).pipeline = "other"  # type: ignore[misc]


def test_the_model_itself_refuses_contradictions() -> None:
    data = parse(SMALL).model_dump() | {"features": {"x": "nope"}}
    data["labels"]["horizon"] = "24h"
    data["labels"]["mature"] = "0s"
    with pytest.raises(ValidationError, match="no field 'nope'"):
        Pipeline.model_validate({key: data[key] for key in ("pipeline", "task", "events", "labels", "features")})


def test_the_template_is_a_pipeline_of_that_name() -> None:
    assert parse(template("shop-2")).pipeline == "shop-2"
    with pytest.raises(ValueError, match="cannot name a pipeline"):
        template("Shop")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match=r"headrace init"):
        load(tmp_path / "none.yaml")
    with pytest.raises(PipelineError, match="cannot be read"):
        load(tmp_path)
    (tmp_path / "p.yaml").write_text(SMALL)
    assert load(str(tmp_path / "p.yaml")) == parse(SMALL)
    (tmp_path / "p.yaml").write_text("a: [")
    with pytest.raises(PipelineError, match=r"p\.yaml:1: is not valid YAML"):
        load(tmp_path / "p.yaml")


@pytest.mark.parametrize(
    ("text", "expected"),
    [("500ms", 500), ("0s", 0), ("30s", 30_000), ("1m", 60_000), ("24h", 86_400_000), ("2 d", 172_800_000)],
)
def test_durations_are_milliseconds(text: str, expected: int) -> None:
    assert milliseconds(text) == expected


@pytest.mark.parametrize("text", ["", "1", "1w", "-1s", "1.5h", "99999d", 5, None, True, "1h30m"])
def test_other_texts_are_no_durations(text: object) -> None:
    with pytest.raises(ValueError, match=r"duration|too long"):
        milliseconds(text)


@pytest.mark.parametrize("text", ["", "1", "1 per", "0.5 per 1d", "1 per 0s", "1 per d", 5, None])
def test_other_texts_are_no_rates(text: object) -> None:
    with pytest.raises(ValueError, match=r"rate|duration|longer"):
        rate(text)


OF_CLASSES = WHOLE.replace("task: binary", "task: multiclass").replace(
    "type: boolean", "type: category\n  values: [down, same, up]"
)
OF_NUMBERS = (
    WHOLE.replace("task: binary", "task: regression")
    .replace("type: boolean", "type: number")
    .replace("log_loss", "mae")
)


def test_several_classes_are_in_the_order_of_the_file_and_a_number_has_none() -> None:
    several, number = parse(OF_CLASSES), parse(OF_NUMBERS)
    assert (several.classes, several.target.width, several.metric) == (("down", "same", "up"), 3, "log_loss")
    assert (number.classes, number.target.width, number.metric) == ((), 1, "mae")
    assert parse(OF_NUMBERS.replace("  metric: mae\n", "")).metric == "rmse"


@pytest.mark.parametrize(
    ("text", "old", "new", "says"),
    [
        (OF_CLASSES, "type: category\n", "type: number\n", "a multiclass label is a category, not a number"),
        (OF_CLASSES, "[down, same, up]", "[down, up]", "name the classes, 3 or more"),
        (OF_CLASSES, "[down, same, up]", "[down, up, up]", "each once"),
        (
            OF_CLASSES,
            "metric: log_loss",
            "metric: rmse",
            "rmse is no metric of multiclass: write one of log_loss, accuracy",
        ),
        (OF_CLASSES, "hist_gradient_boosting", "ridge", "ridge does not do multiclass"),
        (OF_CLASSES, "extract(hour from observed_at)", "{mean: label, over: 24h}", "ask its count or since"),
        (OF_CLASSES, "absent: unlabelled", "absent: other", "one of down, same, up"),
        (OF_NUMBERS, "type: number\n", "type: category\n", "a regression label is a number or integer"),
        (OF_NUMBERS, "metric: mae", "metric: accuracy", "accuracy is no metric of regression"),
        (OF_NUMBERS, "hist_gradient_boosting", "logistic_regression", "logistic_regression does not do regression"),
        (OF_NUMBERS, "absent: unlabelled", "absent: true", "write `unlabelled`, or a number"),
        (OF_NUMBERS, "hist_gradient_boosting", "forest", "'forest' is no estimator: write one of"),
    ],
)
def test_what_does_not_go_with_the_task_is_refused_with_the_mend(text: str, old: str, new: str, says: str) -> None:
    assert old in text
    with pytest.raises(PipelineError) as caught:
        parse(text.replace(old, new, 1))
    assert says in str(caught.value)


def test_an_absent_label_is_the_classes_index_or_the_value() -> None:
    assert parse(OF_CLASSES.replace("absent: unlabelled", "absent: up")).absent_label == 2
    assert parse(OF_NUMBERS.replace("absent: unlabelled", "absent: 0")).absent_label == 0.0
    assert parse(OF_NUMBERS).absent_label is None


def test_an_estimator_of_another_package_is_named_by_module_and_class() -> None:
    assert (
        parse(OF_NUMBERS.replace("hist_gradient_boosting", "package.part:Class")).model.estimator
        == "package.part:Class"
    )
