"""How a command speaks: for people on stderr and stdout, with --json for programs on stdout alone."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping

from rich.console import Console, RenderableType


class Output:
    """One command's voice.

    Args:
        machine: JSON on stdout and nothing else there; everything for people goes to stderr.
    """

    def __init__(self, *, machine: bool) -> None:
        self.machine = machine
        self.people = Console(stderr=machine, highlight=False, soft_wrap=True)

    @property
    def terminal(self) -> bool:
        """Whether a person watches: moving output makes sense."""
        return self.people.is_terminal and not self.machine

    def say(self, what: RenderableType) -> None:
        """A line or table for people; left out for programs."""
        if not self.machine:
            self.people.print(what)

    def give(self, fields: Mapping[str, object]) -> None:
        """One JSON object on a line of its own, for programs only."""
        if self.machine:
            sys.stdout.write(json.dumps(fields, default=str) + "\n")
            sys.stdout.flush()
