"""`headrace keys new|list`: the keys that models are signed with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from headrace.errors import RunFailed
from headrace.options import JsonOption
from headrace.output import Output
from headrace.plans import SIGNING, TRUSTED, pair
from runtime.keys import make, private_key, public_key
from runtime.settings import read
from runtime.signing import key_id
from services.training.settings import Settings

app = typer.Typer(
    help="""The keys that models are signed with: new, list.

    For example:

      headrace keys new
    """,
    no_args_is_help=True,
)

KEYS = Path(".headrace/keys")
DirectoryOption = Annotated[
    Path,
    typer.Option("--directory", help="Where keys are: signing.pem, and trusted/ with public ones.", file_okay=False),
]


@app.command()
def new(directory: DirectoryOption = KEYS, *, json: JsonOption = False) -> None:
    """Make a pair of keys, unless the directory has one; never overwrites a key.

    `headrace up` does this at its first start. To change keys, make the new pair in another directory: see
    docs/operations.md, Keys.

    For example:

      headrace keys new

      headrace keys new --directory next
    """
    there, key = (directory / SIGNING).exists(), pair(directory)
    output = Output(machine=json)
    output.give(
        {"key": key, "made": not there, "private": str(directory / SIGNING), "trusted": str(directory / TRUSTED)}
    )
    output.say(
        f"{'there is already' if there else 'made'} key {key}\n"
        f"  HEADRACE_SIGNING_KEY={directory / SIGNING}   the private key: for training alone\n"
        f"  HEADRACE_TRUSTED_KEYS={directory / TRUSTED}   public keys: for training, serving and drift"
    )


@app.command("list")
def list_(directory: DirectoryOption = KEYS, *, json: JsonOption = False) -> None:
    """List the keys of which models are taken, and which one signs. Exit code 1 when there are none.

    For example:

      headrace keys list --json
    """
    files = sorted((directory / TRUSTED).glob("*.pem"))
    signing = key_id(private_key(directory / SIGNING).public_key()) if (directory / SIGNING).exists() else None
    output = Output(machine=json)
    table = Table("key", "signs", "file", box=None, header_style="bold")
    for file in files:
        name = key_id(public_key(file))
        output.give({"key": name, "signs": name == signing, "file": str(file)})
        table.add_row(name, "yes" if name == signing else "", str(file))
    if not files:
        raise RunFailed(f"no keys are in {directory / TRUSTED}: make some with `headrace keys new`")
    output.say(table)


def first_keys(output: Output) -> Settings:
    """The settings of training; at the first start, where nobody has named keys, a pair is made.

    Raises:
        WrongSetup: A setting does not fit, or the keys cannot be written.
    """
    settings = read(Settings)
    named = settings.model_fields_set & {"signing_key", "trusted_keys", "allow_unsigned"}
    if not named and not settings.signing_key.exists():
        key = make(settings.signing_key, Path(settings.trusted_keys))
        where = f"{settings.signing_key}, its public half in {settings.trusted_keys}"
        output.say(f"made key {key}, which signs models: {where}")
    return settings
