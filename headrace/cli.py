"""The command `headrace`: one function per command, each in its own module, registered here.

Exit codes: 0 done, 1 failed, 2 wrong use.
"""

from __future__ import annotations

import sys

import typer

from headrace import kafka_command, project
from headrace.demo.command import demo
from headrace.errors import WrongUse
from headrace.replay import replay
from headrace.replay_log import replay_log
from headrace.simulate import simulate
from headrace.up import up
from headrace.watch import status, watch
from runtime.errors import HeadraceError, WrongSetup
from schemas.pipeline import PipelineError

app = typer.Typer(
    name="headrace",
    help="The channel between a stream of events and a model in production: score, watch for drift, retrain, swap.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(project.init)
app.command()(project.validate)
app.command()(up)
app.command()(replay)
app.command()(simulate)
app.command("replay-log")(replay_log)
app.command()(demo)
app.command()(watch)
app.command()(status)
app.add_typer(kafka_command.app, name="kafka")


def main(arguments: list[str] | None = None) -> None:
    """Run one command and end the process with its exit code; a refusal is one message on stderr."""
    sys.exit(run(arguments))


def run(arguments: list[str] | None = None) -> int:
    """The exit code of a command; what a person has to mend is said on stderr, never as a traceback."""
    try:
        app(args=arguments, prog_name="headrace")
    except SystemExit as end:  # how the parser ends, wrong arguments included
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except (WrongUse, WrongSetup, PipelineError) as error:
        return _refuse(error, 2)
    except HeadraceError as error:
        return _refuse(error, 1)
    return 0


def _refuse(error: Exception, code: int) -> int:
    sys.stderr.write(f"headrace: {error}\n")
    return code
