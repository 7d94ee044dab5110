"""The one place of the command line that touches the environment."""

import os
from collections.abc import Mapping


def environment_with(extra: Mapping[str, str]) -> dict[str, str]:
    """The environment of this process and more, for a child."""
    return {**os.environ, "PYTHONUNBUFFERED": "1", **extra}
