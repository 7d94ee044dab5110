"""The one place of the command line that touches the environment."""

import getpass
import os
from collections.abc import Mapping

from runtime.settings import PREFIX, names


def environment_with(extra: Mapping[str, str]) -> dict[str, str]:
    """The environment of this process and more, for a child."""
    return {**os.environ, "PYTHONUNBUFFERED": "1", **extra}


def trusted_types() -> tuple[str, ...]:
    """HEADRACE_TRUSTED_TYPES, which the services read, too."""
    return names(os.environ.get(f"{PREFIX}TRUSTED_TYPES", ""))


def user() -> str:
    """Who runs this process, for the ledger; `unknown` in a container whose user has no name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"
