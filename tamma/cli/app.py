"""The commands and how they end: one place turns errors into messages and exit codes.

Only typer and the core's errors are imported here; each command imports what it needs when it runs, since ``--help``
must feel instant.
"""

from __future__ import annotations

import sys
import tempfile
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from tamma.core.errors import ExitCode, TammaError

app = typer.Typer(
    name="tamma",
    help="Turns labelled issues into pull requests worth merging, with your own AI agent, on your own machines.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@dataclass(frozen=True, slots=True)
class Globals:
    """What stands before the command."""

    config: Path | None


def _version(wanted: bool) -> None:  # noqa: FBT001 — typer's callback signature
    if wanted:
        from importlib.metadata import version

        typer.echo(f"tamma {version('tamma')}")
        raise typer.Exit


@app.callback()
def _root(
    ctx: typer.Context,
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="Configuration file. Default: TAMMA_CONFIG, else the nearest tamma.toml.")
    ] = None,
    _: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")] = False,
) -> None:
    ctx.obj = Globals(config=config)


def main() -> None:
    """Run the command line; every error a user can cause ends as a message on stderr and its exit code."""
    from tamma.cli import inspect, operate, orchestrate, work

    for module in (orchestrate, work, inspect, operate):
        module.register(app)
    try:
        code = app(standalone_mode=False)
    except TammaError as error:
        complain(error)
        code = int(error.exit_code)
    except typer.Exit as done:
        code = done.exit_code
    except (KeyboardInterrupt, typer.Abort):
        print("interrupted", file=sys.stderr)  # noqa: T201 — the last words of the process
        code = int(ExitCode.SIGINT)
    except BrokenPipeError:  # the reader of our output went away, as `| head` does
        sys.stderr.close()
        code = 0
    except Exception as error:  # noqa: BLE001 — the process's last line of defence
        code = _end_of(error)
    sys.exit(code if isinstance(code, int) else 0)


def complain(error: TammaError) -> None:
    """What happened, why, and what to do next."""
    say(error.what, why=error.why, fix=error.fix)


def say(what: str, *, why: str = "", fix: str = "") -> None:
    """An error message, on stderr, plain."""
    lines = [f"tamma: {what}", *([f"  why:  {why}"] if why else []), *([f"  next: {fix}"] if fix else [])]
    print("\n".join(lines), file=sys.stderr)  # noqa: T201 — the one way errors are shown


def report_bug(trace: str) -> None:
    """A bug in Tamma: the traceback goes to a file, its name to the user."""
    with tempfile.NamedTemporaryFile("w", prefix="tamma-bug-", suffix=".log", delete=False) as log:
        log.write(trace)
    last = trace.strip().splitlines()[-1] if trace.strip() else "unknown"
    say("a bug in Tamma", why=last, fix=f"please report it with {log.name}")


def _end_of(error: Exception) -> int:
    show, exit_code = getattr(error, "show", None), getattr(error, "exit_code", None)
    if callable(show) and isinstance(exit_code, int):  # click's usage errors, wherever typer keeps its click
        show()
        return exit_code
    report_bug("".join(traceback.format_exception(error)))
    return int(ExitCode.BUG)
