"""How a command ends: errors as messages and exit codes, output that cannot be written, bugs."""

from __future__ import annotations

import os
import sys
import tempfile
import traceback
from collections.abc import Callable

import typer

from tamma.core.errors import PASSING, ExitCode, TammaError, remedy


def code_of(command: Callable[[], object]) -> int:
    """Run it; the exit code it comes to, after its message was shown."""
    try:
        code = command()
    except TammaError as error:
        complain(error)
        return int(error.exit_code)
    except typer.Exit as done:
        return done.exit_code
    except (KeyboardInterrupt, typer.Abort):
        print("interrupted", file=sys.stderr)  # noqa: T201 — the last words of the process
        return int(ExitCode.SIGINT)
    except SystemExit as done:  # click's own end when the reader of our output went away
        return _code_of_unwritten(done.__context__) if isinstance(done.__context__, OSError) else int(done.code or 0)
    except OSError as error:
        return _code_of_unwritten(error)
    except Exception as error:  # noqa: BLE001 — the process's last line of defence
        return _end_of(error)
    return code if isinstance(code, int) else 0


def _code_of_unwritten(error: OSError) -> int:
    if isinstance(error, BrokenPipeError):  # as `| head` does it: no error of ours
        drop_output()
        return 0
    if error.errno not in PASSING:
        return _end_of(error)
    drop_output()
    say("something could not be written", why=str(error), fix=f"{remedy(error.errno)}, then try again")
    return int(ExitCode.TEMPORARY)


def drop_output() -> None:
    """Nobody can read it any more: what is left in the buffer, and all that follows, goes nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def put(line: str) -> bool:
    """A line of output at once; False if nobody can read it. For commands whose work must not hang on their output."""
    try:
        print(line, flush=True)  # noqa: T201 — this is the output
    except OSError as error:
        drop_output()
        if not isinstance(error, BrokenPipeError):
            say("the output cannot be written; going on without", why=str(error), fix=remedy(error.errno))
        return False
    return True


def complain(error: TammaError) -> None:
    """What happened, why, and what to do next."""
    say(error.what, why=error.why, fix=error.fix)


def say(what: str, *, why: str = "", fix: str = "") -> None:
    """An error message, on stderr, plain."""
    parts = [f"tamma: {what}", *([f"  why:  {why}"] if why else []), *([f"  next: {fix}"] if fix else [])]
    lines = (indented(part, by=8) for part in parts)
    print("\n".join(lines), file=sys.stderr)  # noqa: T201 — the one way errors are shown


def indented(text: str, *, by: int) -> str:
    """The text with every line but the first set in, and empty ones left out: what others print has many."""
    first, *rest = [line.rstrip() for line in text.splitlines() if line.strip()] or [""]
    return "\n".join([first, *(" " * by + line.removeprefix(" " * by) for line in rest)])


def report_bug(trace: str, *, why: str = "") -> None:
    """A bug in Tamma: the traceback goes to a file, its name to the user; ``why`` by default its last line."""
    last = why or (trace.strip().splitlines()[-1] if trace.strip() else "unknown")
    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix="tamma-bug-", suffix=".log", delete=False, encoding="utf-8", errors="backslashreplace"
        ) as log:
            log.write(trace)
    except OSError:  # no room for it: then here, rather than nowhere
        say("a bug in Tamma", why=last, fix=f"please report it with this:\n{trace}")
        return
    say("a bug in Tamma", why=last, fix=f"please report it with {log.name}")


def _end_of(error: Exception) -> int:
    show, exit_code = getattr(error, "show", None), getattr(error, "exit_code", None)
    if callable(show) and isinstance(exit_code, int):  # click's usage errors, wherever typer keeps its click
        show()
        return exit_code
    first = next((line for line in str(error).splitlines() if line.strip()), "")
    report_bug("".join(traceback.format_exception(error)), why=f"{type(error).__name__}: {first}".removesuffix(": "))
    return int(ExitCode.BUG)
