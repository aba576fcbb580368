"""The reference of the command line, from the commands themselves: each with its arguments, options and exit codes."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any, Final

import typer.main

from tamma.cli import database, events, operate, orchestrate, work
from tamma.cli import inspect as looking
from tamma.cli.app import app
from tamma.core.errors import ExitCode

_ALWAYS: Final = (ExitCode.DELIVERED, ExitCode.BUG, ExitCode.USAGE)
_ABOUT_A_TASK: Final = (*_ALWAYS, ExitCode.NO_SUCH_TASK, ExitCode.TEMPORARY)
_STOPPED: Final = (ExitCode.SIGINT, ExitCode.SIGTERM)
# Which of the exit codes each command can end with; a command without an entry here fails the generator.
CODES: Final = {
    "orchestrate": (*_ALWAYS, ExitCode.TEMPORARY, *_STOPPED),
    "work": tuple(ExitCode),
    "status": (*_ALWAYS, ExitCode.TEMPORARY),
    "explain": (*_ABOUT_A_TASK, ExitCode.BLOCKED),
    "events": (*_ABOUT_A_TASK, ExitCode.BLOCKED, ExitCode.SIGINT),
    "init": _ALWAYS,
    "doctor": _ALWAYS,
    "db upgrade": (*_ALWAYS, ExitCode.TEMPORARY),
    "db stop": (*_ALWAYS, ExitCode.TEMPORARY),
    "db url": (*_ALWAYS, ExitCode.TEMPORARY),
    "db verify": (*_ALWAYS, ExitCode.TEMPORARY),
    "db heads": (*_ALWAYS, ExitCode.TEMPORARY),
    "db archive": (*_ALWAYS, ExitCode.TEMPORARY),
    "db backup": (*_ALWAYS, ExitCode.TEMPORARY),
    "db restore": (*_ALWAYS, ExitCode.TEMPORARY),
    "db grant": (*_ALWAYS, ExitCode.TEMPORARY),
    "pause": (*_ALWAYS, ExitCode.TEMPORARY),
    "resume": (*_ALWAYS, ExitCode.TEMPORARY),
    "task add": (*_ABOUT_A_TASK, ExitCode.NOT_CLAIMABLE, ExitCode.BLOCKED, ExitCode.REFUSED),
    "task retry": (*_ABOUT_A_TASK, ExitCode.NOT_CLAIMABLE, ExitCode.BLOCKED, ExitCode.REFUSED),
    "task cancel": (*_ABOUT_A_TASK, ExitCode.NOT_CLAIMABLE),
    "task approve": (*_ABOUT_A_TASK, ExitCode.NOT_CLAIMABLE),
    "task output": _ABOUT_A_TASK,
    "task patch": _ABOUT_A_TASK,
}
# What a code says of a command other than `work`, where that differs from the meaning it has there.
_MEANINGS: Final = {
    ExitCode.DELIVERED: "done",
    ExitCode.NO_SUCH_TASK: "no such task or issue",
    ExitCode.NOT_CLAIMABLE: "the task's or issue's state forbids it",
    ExitCode.BLOCKED: "a human must look: a file of the forge cannot be read",
    ExitCode.REFUSED: "a rule of the operator forbids it (author, size)",
    ExitCode.TEMPORARY: "temporary: database or forge away; try again",
    ExitCode.SIGINT: "ended by SIGINT",
    ExitCode.SIGTERM: "ended by SIGTERM",
}
_OWN_MEANINGS: Final = {
    ("orchestrate", ExitCode.DELIVERED): "idle, or drained after a signal",
    (
        "orchestrate",
        ExitCode.TEMPORARY,
    ): "the database was away at the start (with `--once` at any time), or the forge at the end",
    ("orchestrate", ExitCode.SIGINT): "workers were asked to stop, after SIGINT",
    ("orchestrate", ExitCode.SIGTERM): "workers were asked to stop, after SIGTERM",
    ("db verify", ExitCode.BUG): "the log or the tables are not what was written; it is named (or: a bug in Tamma)",
    ("db archive", ExitCode.BUG): "what is not whole was left, and is named (or: a bug in Tamma)",
    ("db backup", ExitCode.BUG): "what was backed up is not whole; it is named (or: a bug in Tamma)",
    ("db restore", ExitCode.BUG): "what was restored is not whole; it is named (or: a bug in Tamma)",
    ("doctor", ExitCode.DELIVERED): "nothing is broken (there may be warnings)",
    ("doctor", ExitCode.USAGE): "something is broken, or the configuration cannot be read",
}


def render(note: str) -> str:
    """The page; ``note`` says that it is generated."""
    root = _root()
    lines = [
        "# Commands",
        note,
        "Errors go to stderr: what happened, why, what to do next. Every command has `--help`. Options before the command:",
        "",
        *_parameters(root),
        "",
        "`--json` prints one document; `events` and `orchestrate` print one object a line, `orchestrate --dry-run` one document.",
    ]
    for name, command in sorted(commands(root)):
        lines += ["", *_command(name, command)]
    return "\n".join(lines) + "\n"


def _root() -> Any:
    # Typer brings a click of its own in some releases: what is common to all is its shape, not its classes.
    if not app.registered_commands:
        for module in (orchestrate, work, looking, events, operate, database):
            module.register(app)
    return typer.main.get_command(app)


def commands(group: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every command that does something, by its full name."""
    for name, command in getattr(group, "commands", {}).items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{prefix}{name} ")
        else:
            yield f"{prefix}{name}", command


def _command(name: str, command: Any) -> list[str]:
    arguments = [
        _argument(p) if p.required else f"[{_argument(p)}]" for p in command.params if p.param_type_name == "argument"
    ]
    usage = " ".join(["tamma", name, *arguments])
    told = inspect.cleandoc(command.help or "").partition("\n\nExit codes:")[0]
    options = _parameters(command)
    codes = [
        "| exit code | meaning |",
        "|---|---|",
        *(f"| {int(code)} | {_meaning(name, code)} |" for code in sorted(CODES[name])),
    ]
    return [f"## `{usage}`", "", told, "", *([*options, ""] if options else []), *codes]


def _meaning(name: str, code: ExitCode) -> str:
    own = code.meaning if name == "work" else _MEANINGS.get(code, code.meaning)
    return _OWN_MEANINGS.get((name, code), own)


def _parameters(command: Any) -> list[str]:
    rows = [_row(p) for p in command.params if p.name not in ("help", "install_completion", "show_completion")]
    return ["| argument or option | default | meaning |", "|---|---|---|", *rows] if rows else []


def _row(parameter: Any) -> str:
    told = str(getattr(parameter, "help", None) or "").replace("|", "\\|")
    if parameter.param_type_name == "argument":
        name = f"`{_argument(parameter)}`"
    else:
        value = "" if parameter.is_flag else f" {parameter.metavar or parameter.name.upper()}"
        name = ", ".join(f"`{option}{value}`" for option in parameter.opts)
    name = name.replace("|", "\\|")
    return f"| {name} | {_default(parameter)} | {told} |"


def _argument(parameter: Any) -> str:
    return str(parameter.metavar or parameter.name).upper()


def _default(parameter: Any) -> str:
    if parameter.required:
        return "required"
    value = parameter.default
    return "-" if value is None or value is False or str(value) == "" else f"`{value}`"
