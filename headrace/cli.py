"""The command `headrace`: one function per command, each in its own module, registered here.

Exit codes: 0 done, 1 failed, 2 wrong use.
"""

from __future__ import annotations

import importlib
import logging
import sys
from collections.abc import Mapping

import typer

from headrace.errors import RunFailed, WrongUse
from runtime.errors import HeadraceError, WrongSetup
from schemas.batch import BatchError
from schemas.cloudevents import EnvelopeError
from schemas.pipeline import PipelineError

COMMANDS: Mapping[str, tuple[str, str]] = {
    "init": ("headrace.project", "init"),
    "validate": ("headrace.project", "validate"),
    "contract": ("headrace.contract", "contract"),
    "bootstrap": ("headrace.bootstrap", "bootstrap"),
    "up": ("headrace.up", "up"),
    "replay": ("headrace.replay", "replay"),
    "simulate": ("headrace.simulate", "simulate"),
    "replay-log": ("headrace.replay_log", "replay_log"),
    "skew": ("headrace.skew.command", "skew"),
    "demo": ("headrace.demo.command", "demo"),
    "watch": ("headrace.watch", "watch"),
    "status": ("headrace.watch", "status"),
    "drift": ("headrace.drift.command", "app"),
    "explain": ("headrace.explain.command", "explain"),
    "backtest": ("headrace.backtest.command", "backtest"),
    "models": ("headrace.models.command", "app"),
    "verify": ("headrace.models.command", "verify"),
    "operator": ("headrace.wishes", "app"),
    "dead-letters": ("headrace.dead_letters.command", "app"),
    "keys": ("headrace.keys_command", "app"),
    "kafka": ("headrace.kafka_command", "app"),
}
"""Each command's module and function. Only the one that is asked for is imported: some bring seconds of libraries."""

UNREADABLE = (
    "the log holds a message that this version cannot read, so somebody else or a newer Headrace wrote to it; "
    "use that version, or begin a new log with another `pipeline:` name"
)


def application(word: str | None = None) -> typer.Typer:
    """The parser with the command that the word names, or with all of them where it names none."""
    app = typer.Typer(
        name="headrace",
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode="rich",
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_headrace)
    for name in [word] if word is not None and word in COMMANDS else COMMANDS:
        module, attribute = COMMANDS[name]
        command = getattr(importlib.import_module(module), attribute)
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=name)
        else:
            app.command(name)(command)
    return app


def _headrace() -> None:
    """The channel between a stream of events and a model in production: score, watch for drift, retrain, swap."""


def main(arguments: list[str] | None = None) -> None:
    """Run one command and end the process with its exit code; a refusal is one message on stderr."""
    sys.exit(run(arguments))


def run(arguments: list[str] | None = None) -> int:
    """The exit code of a command; what a person has to mend is said on stderr, never as a traceback."""
    given = sys.argv[1:] if arguments is None else arguments
    logging.getLogger("headrace").addHandler(logging.NullHandler())  # a command speaks for itself; clients' logs do not
    try:
        application(given[0] if given else None)(args=given, prog_name="headrace")
    except SystemExit as end:  # how the parser ends, wrong arguments included
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except (WrongUse, WrongSetup, PipelineError) as error:
        return _refuse(error, 2)
    except HeadraceError as error:
        return _refuse(error, 1)
    except (BatchError, EnvelopeError) as error:
        return _refuse(RunFailed(f"{UNREADABLE}: {error}"), 1)
    return 0


def _refuse(error: Exception, code: int) -> int:
    sys.stderr.write(f"headrace: {error}\n")
    return code
