"""How far the judge has come: what training waits for, so that it decides with all episodes of a time, or none.

On the compacted topic `state`, behind the facts on `drift` that it speaks of.
"""

from __future__ import annotations

import msgspec

JUDGED = b"drift/judged"
"""Key on `state`."""


class Judged(msgspec.Struct, frozen=True):
    """What a judge says after each step.

    Attributes:
        epoch: Of the judge; lower ones are void.
        through: Every episode that was certain before this time was said, milliseconds.
        fact: Id of the newest event on `drift`; empty before the first.
    """

    epoch: int
    through: int
    fact: str = ""
