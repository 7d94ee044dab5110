"""Carries out what operators wish of the pool: pin, evict, rollback, freeze, unfreeze; told with who and why."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from runtime.ports import Outgoing
from schemas.messages import Pool, Scalar, Step, Wish
from services.training.composing import BARRED, Composing
from services.training.domain.triggers import Before, Trigger
from services.training.domain.turns import wished
from services.training.knowledge import Knowledge
from services.training.saying import Saying


class Refusal(Exception):
    """A wish that cannot be fulfilled; the text says why, and what to do instead."""


class Wishing:
    """Fulfils wishes, once each.

    Args:
        composing: Composes the pool.
        saying: Makes the messages.
    """

    def __init__(self, composing: Composing, saying: Saying) -> None:
        self._composing, self._saying = composing, saying
        self._ways: dict[str, Callable[[Wish, Pool, Knowledge], tuple[Step, str]]] = {
            "pin": self._pin,
            "evict": self._evict,
            "rollback": self._roll_back,
            "freeze": self._freeze,
            "unfreeze": self._unfreeze,
        }

    def fulfil(self, wish: Wish, known: Knowledge) -> Iterator[Outgoing]:
        """What a wish makes happen, its decision last."""
        pool, trigger = known.announced.pool, wished(wish.id, max(known.window.frontier, 0))
        if pool is not None and pool.cause == trigger.cause:  # a crash came before the checkpoint that says so
            known.state.done[wish.id] = wish.kind
            return
        try:
            step, outcome = self._ways[wish.kind](wish, _there(pool), known)
        except Refusal as refusal:
            yield self._told(wish, trigger, "refused", "nothing changes", str(refusal), known)
            return
        if known.announced.pool is not pool:
            yield from self._composing.said(known, trigger.ready)
        yield self._told(wish, trigger, step, outcome, f"{wish.who} wished it: {wish.reason}", known)

    def _told(self, wish: Wish, trigger: Trigger, step: Step, outcome: str, reason: str, known: Knowledge) -> Outgoing:
        known.state.done[wish.id] = step
        pool = known.announced.pool
        evidence: dict[str, Scalar] = {"who": wish.who, "wish": wish.kind, "of": wish.subject}
        evidence |= {} if pool is None else {"pool": pool.version}
        return self._saying.decision(trigger, step, outcome, reason, trigger.ready, evidence)

    def _pin(self, wish: Wish, pool: Pool, known: Knowledge) -> tuple[Step, str]:
        member = _seated(wish, pool)
        if pool.pinned == member:
            raise Refusal(f"member {member} is pinned already; unfreeze ends that")
        self._composing.change(known, wished(wish.id, 0).cause, pinned=member)
        return "pinned", f"member {member} alone answers until the pool is unfrozen; the others are scored beside it"

    def _evict(self, wish: Wish, pool: Pool, known: Knowledge) -> tuple[Step, str]:
        member = _seated(wish, pool)
        if member == pool.anchor:
            raise Refusal(
                f"member {member} is the anchor, whose outputs drift watches; pin another member, roll back, or retrain"
                " first: a fit behind the next change becomes the anchor"
            )
        if member == pool.alone:
            raise Refusal(f"member {member} answers alone; pin another member first, or roll back")
        known.weighing.blend.remove(member)
        changed = self._composing.change(known, wished(wish.id, 0).cause)
        known.state.left[member] = BARRED
        return "evicted", f"member {member} left, and does not come back by itself; pool {changed.version} answers"

    def _roll_back(self, wish: Wish, pool: Pool, known: Knowledge) -> tuple[Step, str]:
        before, blend = _before(wish, pool, known), known.weighing.blend
        gone = [each for each in pool.members if each not in before.members]
        for member in gone:
            blend.remove(member)
        for member in (each for each in (*before.members, pool.anchor) if each not in blend.members):
            blend.add(member)
        changes: dict[str, object] = {"pinned": None}
        if pool.strategy == "champion":
            changes["leader"] = before.leader
        changed = self._composing.change(known, wished(wish.id, 0).cause, **changes)
        known.state.left |= {each: BARRED for each in gone if each != pool.anchor}
        stays = f"; member {pool.anchor} stays for drift to watch" if pool.anchor in gone else ""
        return "rolled_back", f"pool {changed.version} has the members of pool {before.pool} again{stays}"

    def _freeze(self, wish: Wish, pool: Pool, known: Knowledge) -> tuple[Step, str]:
        if known.state.frozen:
            raise Refusal(f"{known.state.frozen} already; unfreeze ends that")
        known.state.frozen = f"{wish.who} froze the pool ({wish.reason})"
        return "frozen", f"pool {pool.version} stays as it is, and nothing is fitted, until it is unfrozen"

    def _unfreeze(self, wish: Wish, pool: Pool, known: Knowledge) -> tuple[Step, str]:
        if not known.state.frozen and pool.pinned is None:
            raise Refusal("nothing is frozen and nobody is pinned")
        known.state.frozen = ""
        if pool.pinned is not None:
            self._composing.change(known, wished(wish.id, 0).cause, pinned=None)
        return "unfrozen", "the pool goes its own way again"


def _there(pool: Pool | None) -> Pool:
    if pool is None:
        raise Refusal("there is no pool yet; wait for the first model, `headrace status` shows how far it is")
    return pool


def _seated(wish: Wish, pool: Pool) -> int:
    """The member of the pool that a wish is about."""
    told = wish.subject.rpartition("/")[2]
    if not told.isdecimal() or int(told) not in pool.members:
        seated = ", ".join(map(str, pool.members))
        raise Refusal(f"{wish.subject} is no member of pool {pool.version}; name one of {seated}")
    return int(told)


def _before(wish: Wish, pool: Pool, known: Knowledge) -> Before:
    """The composition that a wish is about: the one of that pool, or the newest other than now."""
    earlier = [each for each in known.state.pools if all(member in known.announced.members for member in each.members)]
    told = wish.subject.rpartition("/")[2]
    if told.isdecimal():
        found = [each for each in earlier if each.pool == int(told)]
        if not found:
            names = ", ".join(str(each.pool) for each in earlier) or "none"
            raise Refusal(f"pool {told} is none that one may roll back to; there are {names}")
        return found[-1]
    barred = {each for each, why in known.state.left.items() if why == BARRED}
    other = [each for each in earlier if _differs(each, pool) and not barred & set(each.members)]
    if not other:
        raise Refusal("there is no earlier pool; evict a member, or pin one")
    return other[-1]


def _differs(before: Before, pool: Pool) -> bool:
    """Whether going back to a composition changes anything."""
    leads = pool.strategy == "champion" and before.leader != pool.leader
    return set(before.members) != set(pool.members) or leads
