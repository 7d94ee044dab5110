"""What is kept of a message that nobody can use."""

import json

from runtime.dead_letters import KEPT_BYTES, dead_letter
from runtime.ports import Outgoing, Place, Stored
from schemas.messages import DeadLetter
from schemas.reasons import FieldError, Reason
from schemas.topics import MAX_MESSAGE_BYTES

HEADERS = (("content-type", b"application/json"), ("trace", b"\xff"))
TWO = (FieldError(Reason.NULL_VALUE, "$.a", "a is null"), FieldError(Reason.WRONG_TYPE, "$.b", "b is a text"))


def letter(value: bytes | None, errors: tuple[FieldError, ...] = (), key: bytes | None = b"k") -> Outgoing:
    message = Stored(7, 0, key, value, HEADERS)
    return dead_letter(
        Place("events", 5), message, "null_value", "a is null", pipeline="0" * 16, partitions=4, errors=errors
    )


def test_the_original_is_untouched_and_our_headers_say_where_from_and_why() -> None:
    made = letter(b"\x00\xffraw")
    assert (made.topic, made.partition, made.value, made.key) == ("dead-letters", 1, b"\x00\xffraw", b"k")
    assert tuple(made.headers[: len(HEADERS)]) == HEADERS
    story = DeadLetter.from_headers(made.headers)
    assert (story.id, story.reason, story.cut, story.errors) == ("events/5/7/0", "null_value", 0, "")


def test_several_errors_are_all_told() -> None:
    story = DeadLetter.from_headers(letter(b"{}", TWO).headers)
    assert [each["path"] for each in json.loads(story.errors)] == ["$.a", "$.b"]


def test_of_a_message_larger_than_any_topic_takes_the_beginning_is_kept_and_the_letter_says_so() -> None:
    for value, key in ((bytes(MAX_MESSAGE_BYTES + 1), b"k"), (b"v", bytes(MAX_MESSAGE_BYTES))):
        made = letter(value, key=key)
        assert max(len(made.value or b""), len(made.key or b"")) <= KEPT_BYTES
        assert DeadLetter.from_headers(made.headers).cut > MAX_MESSAGE_BYTES
