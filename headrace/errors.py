"""What the command line refuses, each with its mend in the message.

HeadraceError
├── WrongUse      a file, column or option does not fit: exit code 2
└── RunFailed     it began and did not end well: exit code 1
"""

from runtime.errors import HeadraceError


class WrongUse(HeadraceError):
    """What was asked cannot be done as asked; the text says what, where and the mend."""


class RunFailed(HeadraceError):
    """The work began and could not be finished; the text says what is missing and where to look."""
