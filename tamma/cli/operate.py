"""``tamma init``, ``doctor``, ``pause``, ``resume`` and ``task …``: operate."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from tamma.cli.ending import say
from tamma.cli.group import Group
from tamma.core.errors import ConfigError, ExitCode
from tamma.core.redact import clean
from tamma.core.words import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tamma.core.event import GateJudged
    from tamma.core.task import Task
    from tamma.engine.agent_output import AgentRun

_AGENT: Final = "agent"  # of a task's output; the gate of that name, if there is one, is among all of them

Json = Annotated[bool, typer.Option("--json", help="As JSON, for scripts.")]
TaskArgument = Annotated[
    str,
    typer.Argument(
        help="The task: its id, 4 or more characters of its beginning, or its issue (REPOSITORY#NUMBER; NUMBER where there is one "
        "repository).",
        metavar="TASK",
    ),
]
Repository = Annotated[str | None, typer.Argument(help="Only this repository; without it, all.", metavar="REPOSITORY")]

task = typer.Typer(
    cls=Group,
    help="Tasks: add, retry, cancel, approve, what their gates printed, and the work they left.",
    no_args_is_help=True,
)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("init")(init)
    app.command("doctor")(doctor)
    app.command("pause")(pause)
    app.command("resume")(resume)
    app.add_typer(task, name="task")


def init(
    ctx: typer.Context,
    checkout: Annotated[Path, typer.Argument(help="A checkout of the repository to read.", file_okay=False)] = Path(),
    force: Annotated[bool, typer.Option("--force", help="Replace an existing tamma.toml.")] = False,
) -> None:
    """Write a commented tamma.toml here (or where --config says), with gates proposed from what the checkout holds."""
    from tamma import bootstrap

    target = ctx.obj.config or Path("tamma.toml")
    if target.exists() and not force:
        raise ConfigError(
            f"{target} exists already", why="it is yours by now", fix="edit it, or pass --force to replace it"
        )
    proposed = bootstrap.propose_config(checkout, beside=target.parent)
    try:
        target.write_text(proposed.text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"{target} cannot be written", why=str(error), fix="choose a folder you may write to"
        ) from error
    typer.echo(f"wrote {target}")
    for line in proposed.notes:
        typer.echo(f"  {line}")
    typer.echo("next:")
    for number, line in enumerate(proposed.steps, 1):
        typer.echo(f"  {number}. {line}")


def doctor(
    ctx: typer.Context,
    settings: Annotated[
        bool, typer.Option("--settings", help="Show every setting, too, and where its value came from.")
    ] = False,
    json: Json = False,
) -> None:
    """Check each part for real. Exits 2 if something is broken."""
    from tamma.bootstrap.doctor import examine
    from tamma.cli.render import print_folded, print_json, print_settings

    found = examine(ctx.obj.config)
    broken = [check for check in found.checks if check.state == "broken"]
    if json:
        print_json(
            {
                "checks": [{"part": c.part, "state": c.state, "detail": c.detail, "fix": c.fix} for c in found.checks],
                "settings": [{"key": key, "value": value, "origin": origin} for key, value, origin in found.settings],
            }
        )
    else:
        marks = {"ok": "ok    ", "warning": "warn  ", "broken": "BROKEN"}
        for check in found.checks:
            print_folded(f"{marks[check.state]} {check.part}: {check.detail}", by=9)
            if check.fix:
                print_folded(f"       next: {check.fix}", by=9)
        if settings:
            print_settings(found.settings)
        warnings = sum(check.state == "warning" for check in found.checks)
        print_folded(f"{len(broken)} broken, {counted(warnings, 'warning')}")
    raise typer.Exit(int(ExitCode.USAGE) if broken else 0)


def pause(
    ctx: typer.Context,
    repository: Repository = None,
    reason: Annotated[str, typer.Option("--reason", help="Told to whoever asks why nothing happens.")] = "",
) -> None:
    """Hold work back: no attempt begins, and nothing is pushed, opened, commented or labelled. What runs waits with its work."""
    from tamma import bootstrap

    with bootstrap.open_session(ctx.obj.config) as session:
        is_new = session.operations.pause(repository, reason=reason)
    typer.echo("paused" if is_new else "it was paused already")


def resume(ctx: typer.Context, repository: Repository = None) -> None:
    """Let paused work go on."""
    from tamma import bootstrap

    with bootstrap.open_session(ctx.obj.config) as session:
        was_paused = session.operations.resume(repository)
        left = session.store.pauses.all()
    typer.echo("it goes on" if was_paused else "it was not paused")
    for pause in left:
        say(str(pause), fix=pause.fix)


@task.command("add")
def task_add(
    ctx: typer.Context,
    issue: Annotated[
        str,
        typer.Argument(help="The issue; its number alone where there is one repository.", metavar="REPOSITORY#NUMBER"),
    ],
) -> None:
    """Make a task for an issue, whatever its labels; prints the task's id."""
    from tamma import bootstrap

    with bootstrap.open_session(ctx.obj.config) as session:
        _tell_made(session.operations.add(session.parse_issue(issue)))


@task.command("retry")
def task_retry(ctx: typer.Context, which: TaskArgument) -> None:
    """Make a new task of the next generation, with the issue's text of today; prints its id."""
    from tamma import bootstrap

    with bootstrap.open_session(ctx.obj.config) as session:
        made = session.operations.retry(session.lookup.task_id(which))
        change = session.operations.open_change(made.ref)
    _tell_made(made)
    if change is not None:
        typer.echo(
            f"change {change.id} for it is open ({change.url}): what the new task delivers replaces its commits",
            err=True,
        )


@task.command("cancel")
def task_cancel(
    ctx: typer.Context,
    which: TaskArgument,
    reason: Annotated[str, typer.Option("--reason", help="Told on the issue.")] = "cancelled by the operator",
) -> None:
    """End a live task; a running worker stops at its next step."""
    from tamma import bootstrap

    with bootstrap.open_session(ctx.obj.config) as session:
        cancelled = session.operations.cancel(session.lookup.task_id(which), reason=reason)
    typer.echo(f"{cancelled.state}")
    _tell_next(f"an orchestrator tells the issue; `tamma task retry {cancelled.ref}` begins anew")


@task.command("approve")
def task_approve(
    ctx: typer.Context,
    which: TaskArgument,
    answer: Annotated[str, typer.Option("--answer", help="Told to the agent, after the issue's new comments.")] = "",
) -> None:
    """Let a blocked task go on: publish the commit it waits with, or try again with what people answered since it asked."""
    from tamma import bootstrap
    from tamma.engine.next_step import next_step

    with bootstrap.open_session(ctx.obj.config) as session:
        approval = session.operations.approve(session.lookup.task_id(which), answer=answer)
    commit = approval.task.approved
    typer.echo(f"queued; commit {commit} may be published" if commit else "queued")
    _tell_next(next_step(approval.task, named=str(approval.task.ref)))
    if approval.answer:  # by whomever: who approves vouches for it
        typer.echo(f"the agent will be told:\n{clean(approval.answer)}", err=True)
    if approval.is_unanswered:
        typer.echo(
            "nobody answered: there is no comment since Tamma's last one, so the agent is told nothing new; answer by a "
            "comment or --answer",
            err=True,
        )


@task.command("patch")
def task_patch(ctx: typer.Context, which: TaskArgument) -> None:
    """Print the work a task left, as a patch for `git apply`."""
    from tamma import bootstrap

    with bootstrap.open_session(ctx.obj.config) as session:
        sys.stdout.buffer.write(session.operations.patch(session.lookup.task_id(which)))


@task.command("output")
def task_output(
    ctx: typer.Context,
    which: TaskArgument,
    what: Annotated[
        str,
        typer.Argument(
            help="A gate: only what that printed; `agent`: what the agent printed, run by run. Without it, each gate's, headed.",
            metavar="WHOSE",
        ),
    ] = "",
) -> None:
    """Print what the gates printed when they were last asked, or the agent, as it was kept: without secrets, a very long middle
    left out."""
    from tamma import bootstrap

    with bootstrap.open_session(ctx.obj.config) as session:
        task_id = session.lookup.task_id(which)
        if what == _AGENT:
            _print_runs(session.operations.agent_output(task_id))
        else:
            _print_gates(session.operations.output(task_id, what), only=what)


def _print_gates(found: Sequence[tuple[GateJudged, str]], *, only: str) -> None:
    from tamma.cli.render import print_lines

    for judged, text in found:
        if not only:
            print_lines([f"== {judged.gate}: {judged.verdict} — {' '.join(judged.summary.split())}"])
        print_lines(text.splitlines())
        if only and not text:
            typer.echo(f"gate {only} printed nothing: {judged.verdict} — {judged.summary}", err=True)


def _print_runs(runs: Sequence[AgentRun]) -> None:
    from tamma.cli.render import print_lines

    for run in runs:
        if len(runs) > 1:
            print_lines(
                [f"== {'repair ' + str(run.turn) if run.turn else 'first run'}: {run.status or 'no end was seen'}"]
            )
        print_lines(run.text.splitlines())
        if not run.text:
            typer.echo(f"the agent printed nothing: {run.status or 'no end was seen'}", err=True)


def _tell_made(made: Task) -> None:
    """The id for scripts; beside it, for people, what happens next."""
    from tamma.engine.next_step import next_step

    typer.echo(made.id)
    _tell_next(next_step(made, named=str(made.ref)))


def _tell_next(what: str) -> None:
    typer.echo(f"next: {what}", err=True)
