"""`headrace kafka start|stop|status`: a real Kafka for development, on a machine with nothing but Python."""

from __future__ import annotations

import typer

from headrace import local_kafka
from headrace.errors import RunFailed
from headrace.options import DEFAULT_PORT, KAFKA_HOME, HomeOption, JsonOption, PortOption
from headrace.output import Output

app = typer.Typer(help="A real Kafka for development: start, stop, status.", no_args_is_help=True)


@app.command()
def start(home: HomeOption = KAFKA_HOME, port: PortOption = DEFAULT_PORT, *, json: JsonOption = False) -> None:
    """Start a Kafka that stays until `headrace kafka stop`; downloads it the first time.

    For example:

      headrace kafka start

      headrace kafka start --port 19092 --home /tmp/kafka
    """
    running = local_kafka.start_detached(home, port)
    output = Output(machine=json)
    output.give({"address": running.address, "pid": running.pid, "home": str(home)})
    output.say(f"Kafka answers at {running.address} (process {running.pid}); data and log in {home}")


@app.command()
def stop(home: HomeOption = KAFKA_HOME, *, json: JsonOption = False) -> None:
    """Stop the Kafka that `headrace kafka start` started; its data stays.

    For example:

      headrace kafka stop
    """
    stopped = local_kafka.stop(home)
    output = Output(machine=json)
    output.give({"stopped": stopped, "home": str(home)})
    output.say(f"Kafka stopped; its data stays in {home}" if stopped else f"no Kafka runs on {home}")


@app.command()
def status(home: HomeOption = KAFKA_HOME, *, json: JsonOption = False) -> None:
    """Say whether a Kafka runs and where. Exit code 1 when none does.

    For example:

      headrace kafka status --json
    """
    running = local_kafka.status(home)
    output = Output(machine=json)
    output.give({"running": bool(running), "address": running and running.address, "pid": running and running.pid})
    if running is None:
        raise RunFailed(f"no Kafka runs on {home}: start one with `headrace kafka start`")
    output.say(f"Kafka answers at {running.address} (process {running.pid})")
