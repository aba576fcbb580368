"""``tamma work``: exactly one task, and an exit code that CI can branch on."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from tamma.cli.ending import put, report_bug, say
from tamma.cli.options import Globals
from tamma.core.errors import ConfigError, ExitCode, TammaError, WaitsForHuman

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tamma.bootstrap.sessions import WorkerSession
    from tamma.core.event import Event
    from tamma.core.task import Task
    from tamma.engine.worker import WorkResult

LogJson = Annotated[bool, typer.Option("--log-json", help="Log lines on stderr as JSON, whatever log.format says.")]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("work", help=_help())(work)


def _help() -> str:
    codes = "\n\n".join(f"{int(code):>4}  {code.meaning}" for code in ExitCode)
    return f"Execute exactly one task and exit with a code that CI can branch on.\n\nExit codes:\n\n{codes}"


def work(
    ctx: typer.Context,
    task_id: Annotated[
        str | None,
        typer.Option("--task-id", help="The task to execute; 4 or more characters of its beginning do.", metavar="ID"),
    ] = None,
    issue: Annotated[
        str | None,
        typer.Option("--issue", help="The issue to resolve: its task is found or made.", metavar="REPOSITORY#NUMBER"),
    ] = None,
    ok_codes: Annotated[
        str,
        typer.Option(
            "--ok-codes",
            help="Exit codes to turn into 0, for CI systems that know no neutral result.",
            metavar="4,13,20",
        ),
    ] = "",
    log_json: LogJson = False,
) -> None:
    """Claim, run the pipeline, settle, report."""
    accepted = parse_codes(ok_codes)
    if (task_id is None) == (issue is None):
        raise ConfigError("tell exactly one of --task-id and --issue", fix="for example: tamma work --issue demo#12")
    code = _work(ctx.obj, task_id=task_id, issue=issue, log_format="json" if log_json else None)
    raise typer.Exit(0 if int(code) in accepted else int(code))


def parse_codes(text: str) -> frozenset[int]:
    """``4,13,20`` as numbers. Raises ConfigError for anything that is no exit code of ``work``."""
    known = {int(code) for code in ExitCode}
    found = [part.strip() for part in text.split(",") if part.strip()]
    for part in found:
        if not part.isdecimal() or int(part) not in known:
            raise ConfigError(
                f"--ok-codes: {part!r} is not an exit code of `tamma work`", fix=f"choose from {sorted(known)}"
            )
    return frozenset(map(int, found))


def _work(globals_: Globals, *, task_id: str | None, issue: str | None, log_format: str | None) -> ExitCode:
    from tamma import bootstrap
    from tamma.cli.signals import on_signals
    from tamma.engine.lookup import check_form

    if task_id is not None:
        check_form(task_id)
    with bootstrap.open_worker(globals_.config, by_issue=task_id is None, log_format=log_format) as session:
        on_signals(session.deps.interruption.set)
        try:
            result = (
                session.work(session.lookup.task_id(task_id))
                if task_id is not None
                else session.work_on_issue(issue or "")
            )
        except WaitsForHuman as error:
            result = _asked_before(session, task_id or issue or "", error)
        result = _with_next_step(session, result)
    if result.bug:
        report_bug(result.bug)
    if result.exit_code is ExitCode.DELIVERED:
        put(result.reason)
    elif not result.bug:
        say(result.exit_code.meaning, why=result.reason, fix=result.fix)
    return result.exit_code


def _asked_before(session: WorkerSession, which: str, error: WaitsForHuman) -> WorkResult:
    """As the attempt ended after which it waits: whoever runs a step again gets the same answer."""
    from tamma.engine.next_step import why_blocked
    from tamma.engine.worker import WorkResult

    task = session.deps.store.tasks.get(session.lookup.task_id(which))
    why, _ = why_blocked(task, _events(session, task))
    return WorkResult(exit_code=error.exit_code, reason=why, task=task, fix=error.fix)


def _with_next_step(session: WorkerSession, result: WorkResult) -> WorkResult:
    """What a human can do is told as `explain` and the issue tell it, by the task's events."""
    from tamma.core.task import TaskState
    from tamma.engine.next_step import next_step

    if (task := result.task) is None or task.state not in (TaskState.BLOCKED, TaskState.FAILED):
        return result
    with suppress(TammaError):  # what is settled stays settled, and so does its exit code
        return replace(result, fix=next_step(task, _events(session, task)))
    return result


def _events(session: WorkerSession, task: Task) -> Sequence[Event]:
    from tamma.core.event import task_stream

    return session.deps.store.events.stream(task_stream(task.id))
