"""Who is in the pool, and whom drift watches: the rules of its composition.

| what happens | what follows |
|---|---|
| a fit is accepted | it takes a seat; in a full pool somebody leaves whose outputs another member gives, too |
| nobody may leave | it waits: announced, but without a seat |
| there is one seat alone | the fit takes it |
| a fit lies behind the newest episode's start | it becomes the anchor: it knows the new world, and nothing of the old |
| who signed the pool is trusted no more | it is lost: a first fit is due again, at once |
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from msgspec.structs import replace

from schemas.messages import Cause, DriftEpisode, Member, Pool
from services.training.domain.blend import Blend
from services.training.domain.quarantine import epoch_ms
from services.training.domain.triggers import State

BAD_DATA = "bad_data"


class Seat(NamedTuple):
    """What came of taking a seat.

    Attributes:
        taken: Whether there was one.
        left: Who made room, None where nobody had to.
    """

    taken: bool
    left: int | None = None


def seat(blend: Blend, newcomer: int, most: int, spared: Collection[int]) -> Seat:
    """Let a member into the blend, and somebody out where it is full.

    Args:
        blend: The members and what is known of them; changed where the newcomer finds a seat.
        newcomer: Who comes.
        most: How many seats there are.
        spared: Who stays whatever comes.
    """
    left = None
    if len(blend.members) >= most:
        left = blend.members[0] if most == 1 else blend.redundant({*spared, newcomer})
        if left is None:
            return Seat(False)
        blend.remove(left)
    blend.add(newcomer)
    return Seat(True, left)


def watched(pool: Pool, start: int, episodes: Iterable[DriftEpisode], pane: int) -> bool:
    """Whether a fit becomes the anchor.

    Only if the world changed since the anchor's fit, and the new fit saw nothing of before: else its reference would
    mix the anchor's world with the new one, and hide the change from drift. Where it changed several times, a fit
    behind the first of them will do: rows behind the newest alone may never be enough for one.

    Args:
        pool: The pool so far.
        start: Label time of the fit's oldest row, milliseconds.
        episodes: Those that are known.
        pane: Length of a pane in milliseconds.
    """
    since = pool.reference_pane - pane
    opened = (each for each in episodes if each.kind != BAD_DATA and epoch_ms(each.detected_at) > since)
    return any(start >= epoch_ms(each.estimated_start) for each in opened)


def pane_behind(time: int, pane: int) -> int:
    """Start of the first pane that begins behind a time."""
    return (time // pane + 1) * pane


def composed(before: Pool, blend: Blend, epoch: int, cause: Cause, **changed: object) -> Pool:
    """The next version of a pool, with the members and weights that the blend has now.

    Args:
        before: The pool so far.
        blend: Members and weights.
        epoch: Of the controller.
        cause: Why it is composed anew.
        changed: Other fields that change.
    """
    leader = blend.leader if before.strategy == "blend" else before.leader
    fields = {
        "version": before.version + 1,
        "members": tuple(blend.members),
        "leader": leader,
        "weights": blend.weights(),
        "epoch": epoch,
        "cause": cause,
    }
    return Pool.model_validate({**dict(before), **fields, **changed})


def doubt(state: State, pool: Pool | None, members: Mapping[int, Member]) -> bool:
    """Note at the begin of a term which pool there is; whether the newest one was lost since the term before.

    A pool is lost where it, or one of its members, is not believed any more. What was before it is over as well: a
    freeze, the fits of the budget, the rows from which growth is counted.

    Args:
        state: The checkpoint; is changed.
        pool: The newest pool that is believed, which may be older than the newest.
        members: All members that are believed.
    """
    newest = max(state.pool, 0 if pool is None else pool.version)
    state.pool, state.member = newest, max([state.member, *members])
    believed = pool is not None and pool.version == newest and members.keys() >= set(pool.members)
    if believed or newest <= state.lost:
        return False
    state.lost, state.fits, state.frozen = newest, [], ""
    state.growth = replace(state.growth, base=0, ready=None, newest=None)
    return True
