"""Which refused message or row a dead letter is about, and exact sets of such identities in little memory."""

from __future__ import annotations

from collections.abc import Hashable
from typing import NamedTuple, Self

from schemas.messages import DeadLetter

PAGE_BITS = 10
"""A page is 1,024 neighbours, so that a flood costs bits per letter and not a hundred bytes."""


class Identity(NamedTuple):
    """Where the refused message lay, and its row in a batch message; copies of a dead letter share it."""

    topic: str
    partition: int
    offset: int
    row: int = 0

    @classmethod
    def of(cls, letter: DeadLetter) -> Self:
        """The identity of a dead letter."""
        return cls(letter.topic, letter.partition, letter.offset, letter.row)

    @classmethod
    def parse(cls, text: str) -> Self:
        """The identity of `topic/partition/offset/row`, the row being 0 where it is left out; ValueError otherwise."""
        topic, *numbers = text.split("/")
        if not topic or len(numbers) not in (2, 3) or not all(each.isascii() and each.isdecimal() for each in numbers):
            raise ValueError(f"{text!r} is not topic/partition/offset/row")
        return cls(topic, *map(int, numbers))

    def __str__(self) -> str:
        return f"{self.topic}/{self.partition}/{self.offset}/{self.row}"


class Identities:
    """A set of identities: pages of bits, for offsets of single messages and for rows of batch messages."""

    def __init__(self) -> None:
        self._pages: dict[Hashable, int] = {}
        self._count = 0

    def __contains__(self, identity: Identity) -> bool:
        page, bit = _cell(identity)
        return bool(self._pages.get(page, 0) & bit)

    def __len__(self) -> int:
        return self._count

    def add(self, identity: Identity) -> bool:
        """Take an identity in; False where it was in already."""
        page, bit = _cell(identity)
        bits = self._pages.get(page, 0)
        if bits & bit:
            return False
        self._pages[page] = bits | bit
        self._count += 1
        return True


def _cell(identity: Identity) -> tuple[Hashable, int]:
    topic, partition, offset, row = identity
    if row == 0:
        return (topic, partition, offset >> PAGE_BITS), 1 << (offset & _MASK)
    return (topic, partition, offset, row >> PAGE_BITS), 1 << (row & _MASK)


_MASK = (1 << PAGE_BITS) - 1
