from datetime import UTC, datetime, timedelta, timezone

import pytest
from pydantic import ValidationError

from schemas.messages import (
    MESSAGES,
    Cause,
    DeadLetter,
    Decision,
    DriftEpisode,
    Member,
    Message,
    PipelineAnnounced,
    Pool,
    Prediction,
    Source,
    Statistic,
    StreamChange,
    Wish,
    moment,
    rfc3339,
)

NOON = datetime(2024, 1, 1, 12, 0, 0, 5_000, tzinfo=UTC)

EXAMPLES: tuple[Message, ...] = (
    Prediction(
        event_id="e1",
        entity=None,
        time=NOON,
        value=True,
        probability=0.75,
        reason=None,
        pool=3,
        source=Source(partition=1, position=7, row=0),
    ),
    DriftEpisode(
        id="episode-1",
        state="opened",
        family="loss",
        kind="concept",
        anchor=2,
        detector="adwin",
        statistic=0.3,
        threshold=0.002,
        detected_at=NOON,
        estimated_start=NOON,
        rows=120,
        evidence={"before": 0.2, "after": 0.5},
        positions={"examples/0": 8},
        reason="the loss of member 2 rose from 0.20 to 0.50",
        epoch=4,
        streams=(
            StreamChange(
                name="_loss",
                kind="loss",
                share=1,
                effect=0.7,
                start=NOON,
                bins=("<= 0.5", "> 0.5"),
                before=(80, 20),
                after=(60, 60),
                source="events/2",
            ),
        ),
        history=(Statistic(at=NOON, value=-0.5),),
        recurs=1,
    ),
    Member(
        model="shop",
        version=2,
        uri="models/shop/2",
        sha256="a" * 64,
        manifest_sha256="b" * 64,
        digest="c" * 16,
        pipeline_digest="d" * 16,
        features=("price", "hour"),
        trained_through={"examples/0": 8},
        rows=2_000,
        metrics={"log_loss": 0.4},
        cause=Cause(kind="drift", id="episode-1"),
        epoch=1,
    ),
    Pool(
        model="shop",
        version=3,
        members=(2,),
        leader=2,
        anchor=2,
        reference_pane=1_700_000_000_000,
        weights={2: 1.0},
        strategy="blend",
        epoch=1,
    ),
    Decision(
        subject="episode-1",
        step="triggered",
        service="training",
        outcome="a fit begins",
        reason="a concept drift was found",
    ),
    Wish(id="w1", kind="retrain", subject="shop", who="ada", reason="new prices"),
    PipelineAnnounced(name="shop", digest="0" * 16, text="pipeline: shop\n"),
    DeadLetter(
        topic="shop.events.v1",
        partition=1,
        offset=9,
        reason="not_json",
        message="trailing characters (byte 9) \u00e9",
        pipeline="0" * 16,
    ),
)


@pytest.mark.parametrize("message", EXAMPLES, ids=lambda message: message.what)
def test_a_message_comes_back_as_it_was_sent(message: Message) -> None:
    assert type(message).from_json(message.model_dump_json().encode()) == message


def test_every_message_has_an_example_here() -> None:
    assert {type(message) for message in EXAMPLES} == set(MESSAGES)
    assert len({model.what for model in MESSAGES}) == len(MESSAGES)


@pytest.mark.parametrize("message", EXAMPLES, ids=lambda message: message.what)
def test_unknown_fields_are_ignored_when_reading_and_never_written(message: Message) -> None:
    data = message.model_dump_json().encode()
    assert type(message).from_json(data[:-1] + b',"newer":{"a":1}}') == message
    with pytest.raises(ValidationError):
        type(message).written(**message.model_dump(), newer=1)


def test_unknown_fields_are_ignored_inside_blocks_too() -> None:
    data = EXAMPLES[0].model_dump_json().encode()
    newer = data.replace(b'"source":{', b'"source":{"rack":"b",')
    assert Prediction.from_json(newer) == EXAMPLES[0]


@pytest.mark.parametrize("model", MESSAGES, ids=lambda model: model.what)
def test_every_field_is_described(model: type[Message]) -> None:
    assert [n for n, field in model.model_fields.items() if not field.description] == []
    blocks = (Source, Cause, StreamChange, Statistic)
    assert all(field.description for block in blocks for field in block.model_fields.values())


def test_a_message_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        EXAMPLES[0].event_id = "other"  # type: ignore[attr-defined]


@pytest.mark.parametrize("figure", [float("nan"), float("inf"), 1.5, -0.1])
def test_a_probability_is_one(figure: float) -> None:
    with pytest.raises(ValidationError):
        Prediction.model_validate({**EXAMPLES[0].model_dump(), "probability": figure})


def test_ids_say_what_they_name() -> None:
    by_type = {type(message): message for message in EXAMPLES}
    assert by_type[Prediction].id == "1-7-0"  # type: ignore[attr-defined]
    assert by_type[Decision].id == "episode-1:triggered"  # type: ignore[attr-defined]
    assert by_type[DeadLetter].id == "shop.events.v1/1/9/0"  # type: ignore[attr-defined]
    assert by_type[Member].key == "shop/member/2"  # type: ignore[attr-defined]
    assert by_type[Pool].key == "shop/pool"  # type: ignore[attr-defined]


def test_a_leader_and_an_anchor_are_members() -> None:
    pool = EXAMPLES[3].model_dump()
    for change in ({"leader": 9}, {"anchor": 9}, {"weights": {1: 1.0}}):
        with pytest.raises(ValidationError, match="member"):
            Pool.model_validate({**pool, **change})


def test_a_histogram_counts_each_bin_before_and_after_and_is_finite() -> None:
    stream = EXAMPLES[1].model_dump()["streams"][0]
    for wrong in ({"after": (1,)}, {"before": (1, 2, 3)}, {"effect": float("nan")}, {"share": 1.1}):
        with pytest.raises(ValidationError):
            StreamChange.model_validate({**stream, **wrong})


def test_pictures_have_a_size_that_fits_a_message() -> None:
    episode = EXAMPLES[1].model_dump()
    for field, most in (("streams", 5), ("history", 120)):
        full = episode[field] * most
        assert len(getattr(DriftEpisode.written(**{**episode, field: full}), field)) == most
        with pytest.raises(ValidationError):
            DriftEpisode.written(**{**episode, field: [*full, *episode[field]]})


def test_a_dead_letter_survives_its_headers() -> None:
    letter = EXAMPLES[-1]
    assert isinstance(letter, DeadLetter)
    headers = [*letter.headers(), ("traceparent", b"\xff")]
    assert DeadLetter.from_headers(headers) == letter
    broken = letter.model_copy(update={"message": "\ud800"})
    assert DeadLetter.from_headers(broken.headers()).message == "?"


def test_times_are_written_in_utc_with_milliseconds() -> None:
    east = NOON.astimezone(timezone(timedelta(hours=2)))
    assert rfc3339(east) == rfc3339(NOON) == "2024-01-01T12:00:00.005Z"
    assert moment(1_700_000_000_001) == datetime(2023, 11, 14, 22, 13, 20, 1_000, tzinfo=UTC)
    with pytest.raises(ValidationError):
        Prediction.model_validate({**EXAMPLES[0].model_dump(), "time": datetime(2024, 1, 1)})  # noqa: DTZ001 - the point
