"""The commands, put together.

Nothing heavy is imported here or by the modules of the commands: each imports what it needs when it runs, since ``--help``
must feel instant.
"""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from tamma.cli import database, events, inspect, operate, orchestrate, work
from tamma.cli.ending import code_of
from tamma.cli.group import Group
from tamma.cli.options import Globals

app = typer.Typer(
    name="tamma",
    cls=Group,
    help="Turns labelled issues into pull requests worth merging, with your own AI agent, on your own machines.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:  # noqa: FBT001 — typer's callback signature
    if wanted:
        from importlib.metadata import version

        typer.echo(f"tamma {version('tamma')}")
        raise typer.Exit


@app.callback()
def _root(
    ctx: typer.Context,
    config: Annotated[
        Path | None,
        typer.Option("--config", "-c", help="Configuration file. Default: TAMMA_CONFIG, else the nearest tamma.toml."),
    ] = None,
    _: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")] = False,
) -> None:
    ctx.obj = Globals(config=config)


def _open_closed() -> None:
    """What of standard input, output and error was closed leads nowhere: else a file or socket of ours would get its number."""
    for fd, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        if getattr(sys, name) is None:
            # os.open gives the lowest number that is free: this one, since those below are open.
            opened = os.open(os.devnull, os.O_RDWR)
            os.set_inheritable(opened, opened == fd)
            setattr(sys, name, os.fdopen(opened, mode, encoding="utf-8", closefd=False))


def _show_all() -> None:
    """A character that the output's encoding lacks is shown as its number, and ends no command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def main() -> None:
    """Run the command line; every error a user can cause ends as a message on stderr and its exit code."""
    _open_closed()
    _show_all()
    # Who only looks logs nothing; the others set their logs up.
    os.environ.setdefault("LOGURU_AUTOINIT", "0")  # noqa: TID251 — read by loguru when it is imported
    for module in (orchestrate, work, inspect, events, operate, database):
        module.register(app)
    if os.environ.get("NO_COLOR"):  # noqa: TID251 — help is shown before there is a configuration
        app.rich_markup_mode = None  # else help is bold still
    if sys.argv[1:2] == ["help"]:  # as many programs have it
        sys.argv[1:] = [*sys.argv[2:], "--help"]
    code = code_of(lambda: app(standalone_mode=False))
    unwritten = code_of(sys.stdout.flush)
    sys.exit(code or unwritten)
