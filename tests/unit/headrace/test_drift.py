"""`headrace drift`: what is read of episodes, and how they are drawn."""

import io
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console, RenderableType

from headrace.cli import run
from headrace.drift import pages
from headrace.drift.command import wanted
from headrace.drift.document import document
from headrace.drift.reading import Story, advice, stories
from headrace.errors import RunFailed
from runtime.memory import MemoryBroker, MemoryLog
from runtime.ports import Place
from schemas import cloudevents
from schemas.messages import Decision, DriftEpisode, Message, Statistic, StreamChange, moment, rfc3339
from schemas.topics import TOPICS

NOON, MINUTE = 1_767_614_400_000, 60_000
PRICE = StreamChange(
    name="price", kind="numeric", share=0.75, effect=-0.5, start=moment(NOON), bins=("<= 10", "> 10", "", "missing"),
    before=(100, 300, 0, 0), after=(30, 10, 0, 0), source="events/2",
)  # fmt: skip
COLOUR = StreamChange(
    name="colour", kind="category", share=0.25, effect=0.2, start=moment(NOON), bins=("<b>red</b>", "never seen"),
    before=(400, 0), after=(20, 20),
)  # fmt: skip


def episode(name: str = "e1", **fields: Any) -> DriftEpisode:
    return DriftEpisode.written(**{
        "id": name, "state": "opened", "family": "features", "kind": "covariate", "anchor": 2, "detector": "counts",
        "statistic": 5.0, "threshold": 4.5, "detected_at": moment(NOON + 9 * MINUTE), "estimated_start": moment(NOON),
        "rows": 40, "positions": {}, "reason": "price moved", "epoch": 1, "evidence": {"pane": 7, "lift": 0.123456},
        "streams": (PRICE, COLOUR),
        "history": tuple(Statistic(at=moment(NOON + i * MINUTE), value=i / 2) for i in range(11)),
        **fields,
    })  # fmt: skip


def decision(subject: str, step: str, service: str = "training", **evidence: Any) -> Decision:
    return Decision.written(
        subject=subject, step=step, service=service, outcome=f"what {step} means", reason="because",
        evidence=evidence, time=moment(NOON + 10 * MINUTE),
    )  # fmt: skip


class Rig:
    """A pipeline's topics in memory, and whoever writes to them."""

    def __init__(self) -> None:
        self._broker = MemoryBroker({topic.name: 1 for topic in TOPICS})

    def say(self, topic: str, message: Message, name: str, time: int | None = None) -> None:
        value, headers = cloudevents.encode(
            message, id=name, source="/test", time=None if time is None else moment(time)
        )
        self._broker.append(Place(topic, 0), value, b"key", headers)

    def opened(self, name: str = "e1", **fields: Any) -> None:
        self.say("drift", episode(name, **fields), f"{name}:opened", NOON + 9 * MINUTE)

    def closed(self, name: str, at: int, **fields: Any) -> None:
        self.say("drift", episode(name, state="closed", reason="it is over", **fields), f"{name}:closed", at)

    def decided(self, *args: Any, **evidence: Any) -> None:
        said = decision(*args, **evidence)
        self.say("decisions", said, said.id)

    @property
    def log(self) -> MemoryLog:
        return MemoryLog(self._broker, "test")

    @property
    def stories(self) -> dict[str, Story]:
        return stories(self.log)

    def noise(self) -> None:
        for topic in ("drift", "decisions"):
            self._broker.append(Place(topic, 0), b"hello")
            self.say(topic, decision("x", "swapped") if topic == "drift" else episode("x"), "foreign")


def shown(what: RenderableType) -> str:
    console = Console(width=160, file=io.StringIO(), color_system=None)
    console.print(what)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


# --- reading ----------------------------------------------------------------------------------


def test_an_episode_is_told_with_its_evidence_its_end_and_what_followed() -> None:
    rig = Rig()
    rig.noise()
    rig.opened()
    rig.decided("e1", "fitted")
    rig.decided("e1", "fitted")
    rig.decided("other", "suppressed", episode="e1")
    rig.decided("other", "announced")
    rig.decided("e1", "closed", "drift")
    rig.closed("e1", NOON + 30 * MINUTE)
    story = rig.stories["e1"]
    assert (story.state, story.ended, story.episode.reason) == (
        "closed",
        rfc3339(moment(NOON + 30 * MINUTE)),
        "price moved",
    )
    assert [(each.subject, each.step) for each in story.decisions] == [
        ("e1", "fitted"), ("other", "suppressed"), ("e1", "closed"),
    ]  # fmt: skip
    assert story.consequence == "suppressed: what suppressed means"


def test_what_a_replaced_judge_said_is_void_and_a_repeated_message_changes_nothing() -> None:
    rig = Rig()
    rig.opened("e1", epoch=3)
    rig.closed("e1", NOON + 30 * MINUTE, epoch=3)
    rig.opened("e1", epoch=3, reason="once more")
    rig.closed("e1", NOON + 99 * MINUTE, epoch=3)
    rig.opened("void", epoch=2)
    assert [*rig.stories] == ["e1"]
    assert rig.stories["e1"].episode.reason == "price moved"
    assert rig.stories["e1"].ended == rfc3339(moment(NOON + 30 * MINUTE))


def test_an_episode_whose_beginning_is_not_kept_any_more_is_told_from_its_end() -> None:
    rig = Rig()
    rig.closed("e1", NOON + 30 * MINUTE)
    assert (rig.stories["e1"].state, rig.stories["e1"].consequence) == ("closed", "none yet")


# --- the terminal -----------------------------------------------------------------------------


def test_the_list_says_kind_state_reason_and_consequence_of_each() -> None:
    rig = Rig()
    rig.opened("e1", kind="bad_data", reason="price arrives 100 times too large\x1b[2J")
    rig.decided("e1", "suppressed")
    text = shown(pages.table(rig.stories.values()))
    assert re.search(r"e1\s+bad data\s+open\s+2026-01-05T12:00:00.000Z", text)
    assert "100 times too large\\x1b[2J" in text
    assert "suppressed: what suppressed means" in text
    assert "no drift episode" in shown(pages.table([]))


def test_the_page_shows_histograms_before_and_after_the_statistic_and_its_threshold() -> None:
    text = shown(pages.page(Story(episode(recurs=1))))
    assert "price (numeric): 75% of the statistic, effect -0.50 standard deviations" in text
    assert "only in events/2" in text
    assert re.search(r"<= 10 .* 25\.0% .* 75\.0%", text)
    assert re.search(r"never seen .* 0\.0% .* 50\.0%", text)
    assert "member 1: its reference fits again" in text
    assert "pane 7, lift 0.1235" in text
    assert "╌" in text
    assert "nothing was decided because of it yet" in text


@pytest.mark.parametrize(
    "fields",
    [
        {"streams": (), "history": ()},
        {"history": (Statistic(at=moment(NOON), value=0.0),)},
        {"history": (Statistic(at=moment(NOON), value=1.0),) * 2, "detector": "adwin", "threshold": 0.002},
        {"streams": (PRICE.model_copy(update={"before": (0,) * 4, "after": (0,) * 4}),)},
        {"streams": (PRICE.model_copy(update={"bins": (), "before": (), "after": ()}),)},
        {"kind": "concept", "detector": "adwin", "threshold": 0.002, "estimated_start": moment(0)},
    ],
)
def test_an_episode_with_little_to_draw_is_shown_all_the_same(fields: dict[str, Any]) -> None:
    story = Story(episode(**fields))
    assert "price moved" in shown(pages.page(story))
    assert "price moved" in document(story, "shop")


# --- the file ---------------------------------------------------------------------------------


class Reader(HTMLParser):
    """What a page consists of."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in {"meta", "line", "rect", "polyline"} or tag == "rect":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))


def page(**fields: Any) -> tuple[str, Reader]:
    rig = Rig()
    rig.opened(**fields)
    rig.decided("e1", "fitted")
    text = document(rig.stories["e1"], "shop")
    return text, Reader(text)


def test_the_file_needs_nothing_but_itself() -> None:
    text, found = page()
    assert not [tag for tag, _ in found.seen if tag in {"script", "link", "img", "iframe", "object"}]
    assert not [each for _, given in found.seen for each in given if each in {"src", "href", "xlink:href"}]
    assert "http" not in text
    assert "url(" not in text
    assert "prefers-color-scheme: dark" in text
    assert found.open == []


def test_every_picture_has_a_title_a_description_and_its_numbers_in_a_table() -> None:
    text, found = page()
    pictures = [given for tag, given in found.seen if tag == "svg"]
    names = {given["id"] for _, given in found.seen if "id" in given}
    assert len(pictures) == 3
    for given in pictures:
        assert given["role"] == "img"
        assert set((given["aria-labelledby"] or "").split()) <= names
    assert text.count("<details>") == 3
    assert "<td>&lt;= 10</td><td>100</td><td>25.00%</td><td>30</td><td>75.00%</td>" in text
    assert f"<td>{rfc3339(moment(NOON + MINUTE))}</td><td>0.500</td>" in text
    assert len([None for _, given in found.seen if given.get("class") == "before"]) == 5


def test_texts_of_the_log_are_escaped() -> None:
    text, _ = page(reason="<script>alert('$id')</script>")
    assert "<script>" not in text
    assert "<b>red" not in text
    assert "&lt;b&gt;red" in text


def test_heights_are_shares_and_a_threshold_is_a_line_where_it_is_a_level() -> None:
    text, _ = page()
    heights = [float(each) for each in re.findall(r'class="(?:before|after)".*?height="([\d.]+)"', text)]
    assert heights[:4] == [48.0, 144.0, 144.0, 48.0]
    assert 'class="threshold"' in text
    assert 'class="threshold"' not in page(detector="adwin", threshold=0.002)[0].split("</style>")[1]


# --- the command ------------------------------------------------------------------------------


def test_an_unknown_episode_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(RunFailed, match=r"no drift episode 'e9'.*90 days; the newest are e1"):
        wanted({"e1": Story(episode())}, "e9")
    with pytest.raises(RunFailed, match="there is none at all yet"):
        wanted({}, "e9")


@pytest.mark.parametrize("command", [["list"], ["show", "e1"]])
def test_without_a_broker_the_command_says_how_to_get_one(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["init", str(tmp_path / "shop")]) == 0
    pipeline = str(tmp_path / "shop" / "pipeline.yaml")
    assert run(["drift", *command, "-p", pipeline, "--brokers", "127.0.0.1:1"]) == 2
    assert "no Kafka answers at 127.0.0.1:1" in capsys.readouterr().err


def test_where_nothing_was_judged_the_curve_is_broken() -> None:
    rig = Rig()
    minutes = [*range(10), *range(200, 210)]
    rig.opened(history=tuple(Statistic(at=moment(NOON + each * MINUTE), value=1.0) for each in minutes))
    assert document(rig.stories["e1"], "shop").count('<polyline class="statistic"') == 2


def test_a_stream_that_says_next_to_nothing_is_folded_unless_it_is_the_first() -> None:
    rig = Rig()
    quiet = PRICE.model_copy(update={"share": 0.0, "effect": 0.01})
    rig.opened(streams=(quiet, COLOUR, quiet.model_copy(update={"name": "size"})))
    text = document(rig.stories["e1"], "shop")
    assert [*re.findall("<h3>(.*?)</h3>", text)] == ["price (numeric)", "colour (category)"]
    assert [*re.findall("<summary><b>(.*?)</b>", text)] == ["size (numeric)"]


def test_what_the_judge_advises_stands_below_the_list() -> None:
    rig = Rig()
    rig.decided("drift.pane", "advised", "drift")
    rig.decided("drift.pane", "advised", "drift")
    rig.decided("e1", "fitted")
    assert shown(pages.notes(advice(rig.log))) == "drift: because\n"
