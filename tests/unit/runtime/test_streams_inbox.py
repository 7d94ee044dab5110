"""The hand-over from Faust's loop to the worker's thread, without Faust."""

import asyncio
import functools
import threading
from collections.abc import Callable, Coroutine
from typing import ParamSpec

import pytest

from runtime.errors import Fatal
from runtime.ports import Place, Poll, Polled, Stored
from runtime.streams_inbox import Inbox

Arguments = ParamSpec("Arguments")
FIRST, SECOND, SCORED = Place("records", 0), Place("records", 1), Place("scored", 0)


def in_a_loop(test: Callable[Arguments, Coroutine[None, None, None]]) -> Callable[Arguments, None]:
    @functools.wraps(test)
    def run(*args: Arguments.args, **kwargs: Arguments.kwargs) -> None:
        asyncio.run(test(*args, **kwargs))

    return run


def message(offset: int, size: int = 1) -> Stored:
    return Stored(offset, 0, None, bytes(size))


def put(box: Inbox, place: Place, *messages: Stored) -> None:
    box.put([Polled(*place, messages)])


def offsets(poll: Poll) -> dict[int, list[int]]:
    return {partition: [m.offset for m in messages] for _, partition, messages in poll.polled}


async def inbox(run: int = 10, *patient: str, **limits: int) -> Inbox:
    made = Inbox(run, patient=frozenset(patient), **limits)
    made.assigned([FIRST, SECOND])
    return made


@in_a_loop
async def test_taking_returns_runs_in_order_and_leaves_the_rest() -> None:
    box = await inbox(run=2)
    for offset in range(3):
        put(box, FIRST, message(offset))
    put(box, SECOND, message(7))
    poll = box.take(0)
    assert poll.gained == {FIRST, SECOND}
    assert offsets(poll) == {0: [0, 1], 1: [7]}
    assert offsets(box.take(0)) == {0: [2]}


@in_a_loop
async def test_a_partition_that_was_taken_and_came_back_is_lost_and_gained_without_its_old_messages() -> None:
    box = await inbox()
    box.take(0)
    put(box, FIRST, message(4))
    box.revoked([FIRST, SECOND])
    box.assigned([FIRST])
    put(box, FIRST, message(1))
    poll = box.take(0)
    assert poll.lost == {FIRST, SECOND}
    assert poll.gained == {FIRST}
    assert offsets(poll) == {0: [1]}


@in_a_loop
async def test_a_partition_that_came_and_went_between_two_takes_is_not_mentioned() -> None:
    box = Inbox(1)
    box.assigned([FIRST])
    box.revoked([FIRST])
    assert box.take(0) == Poll(frozenset(), frozenset(), [], joined=True)


@in_a_loop
async def test_a_message_of_a_partition_that_is_gone_is_dropped() -> None:
    box = await inbox()
    box.take(0)
    box.revoked([FIRST])
    put(box, FIRST, message(1))
    assert not box.take(0).polled


@in_a_loop
async def test_only_what_the_worker_knows_it_owns_and_still_does_may_be_committed() -> None:
    box = await inbox()
    assert not box.owned()
    box.take(0)
    assert box.owned() == {FIRST, SECOND}
    box.revoked([FIRST, SECOND])
    box.assigned([FIRST])
    assert not box.owned()
    box.take(0)
    assert box.owned() == {FIRST}


@pytest.mark.parametrize(("limits", "size"), [({"max_messages": 3}, 1), ({"max_bytes": 30}, 10)])
@in_a_loop
async def test_there_is_no_room_above_the_limit_until_some_was_taken(limits: dict[str, int], size: int) -> None:
    box = await inbox(**limits)
    for offset in range(3):
        await box.room()
        put(box, FIRST, message(offset, size))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(box.room(), 0.01)
    box.take(0)
    await asyncio.wait_for(box.room(), 5)


@in_a_loop
async def test_what_a_lost_partition_held_is_room_again() -> None:
    box = await inbox(max_messages=1)
    put(box, FIRST, message(0))
    box.revoked([FIRST])
    await asyncio.wait_for(box.room(), 5)


@in_a_loop
async def test_a_failure_is_fatal_at_every_later_call_and_the_first_one_is_named() -> None:
    box = await inbox()
    box.fail(RuntimeError("first"))
    box.fail(RuntimeError("second"))
    for _ in range(2):
        with pytest.raises(Fatal, match="first"):
            box.take(0)


@in_a_loop
async def test_a_waiting_worker_is_woken_by_a_message() -> None:
    box = await inbox()
    box.take(0)
    polls: list[Poll] = []
    worker = threading.Thread(target=lambda: polls.append(box.take(30)))
    worker.start()
    put(box, FIRST, message(0))
    await asyncio.to_thread(worker.join, 10)
    assert offsets(polls[0]) == {0: [0]}


@in_a_loop
async def test_what_one_fetch_brought_is_taken_as_a_whole() -> None:
    box = await inbox()
    box.take(0)
    polls: list[Poll] = []
    worker = threading.Thread(target=lambda: polls.append(box.take(30)))
    worker.start()
    box.put([Polled(*FIRST, [message(0), message(1)]), Polled(*SECOND, [message(7)])])
    await asyncio.to_thread(worker.join, 10)
    assert offsets(polls[0]) == {0: [0, 1], 1: [7]}


@in_a_loop
async def test_patient_messages_are_left_until_they_have_waited_and_then_all_are_taken() -> None:
    box = await inbox(2, "scored")
    box.assigned([SCORED])
    put(box, SCORED, message(0), message(1), message(2))
    put(box, FIRST, message(7))
    assert [each.topic for each in box.take(0).polled] == ["records"]
    waited = await asyncio.to_thread(box.take, 30)
    assert offsets(waited) == {0: [0, 1]}
    assert offsets(box.take(0)) == {0: [2]}
    assert not box.take(0).polled


@in_a_loop
async def test_patient_messages_that_fill_the_inbox_are_taken_at_once() -> None:
    box = await inbox(10, "scored", max_messages=2)
    box.assigned([SCORED])
    put(box, SCORED, message(0), message(1))
    assert offsets(box.take(0)) == {0: [0, 1]}


@in_a_loop
async def test_a_rebalance_waits_until_the_worker_asks_again() -> None:
    box = await inbox()
    put(box, FIRST, message(0))
    box.take(0)
    assert not await box.between_polls(0.05)
    waiting = asyncio.ensure_future(box.between_polls(10))
    await asyncio.sleep(0)
    assert not waiting.done()
    put(box, FIRST, message(1))
    box.take(0)
    assert await waiting


@in_a_loop
async def test_a_worker_that_asks_holds_up_no_rebalance() -> None:
    box = await inbox()
    box.take(0)
    asking = threading.Thread(target=box.take, args=(10,))
    asking.start()
    assert await box.between_polls(10)
    put(box, FIRST, message(0))
    asking.join()


@in_a_loop
async def test_a_patient_message_that_came_with_an_urgent_one_needs_no_other_to_be_taken() -> None:
    box = await inbox(10, "scored")
    box.assigned([SCORED])
    box.take(0)
    box.put([Polled(*FIRST, [message(0)]), Polled(*SCORED, [message(7)])])
    assert [run.topic for run in box.take(0).polled] == ["records"]
    poll = await asyncio.to_thread(box.take, 30)
    assert [run.topic for run in poll.polled] == ["scored"]
