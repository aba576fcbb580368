"""``tamma events``: the log, as it stands and as it grows."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Final

import typer

from tamma.cli.ending import say
from tamma.cli.garbage import collect_as_usual
from tamma.cli.moment import HELP, parse_moment
from tamma.core.errors import ConfigError, TransientError
from tamma.core.moment import local

if TYPE_CHECKING:
    from tamma.bootstrap import Session
    from tamma.core.event import Event
    from tamma.ports.store import Events, Store

FOLLOW_INTERVAL = timedelta(seconds=1)
_TAGS: Final = "issue:FORGE/REPOSITORY#NUMBER, task:ID, repo:FORGE/REPOSITORY, worker:ID"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("events")(events)


def events(
    ctx: typer.Context,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on printing what comes.")] = False,
    limit: Annotated[
        int, typer.Option("--limit", min=1, max=100_000, help="How many of the newest events first.")
    ] = 100,
    issue: Annotated[
        str | None, typer.Option("--issue", help="Only events of this issue.", metavar="REPOSITORY#NUMBER")
    ] = None,
    task: Annotated[
        str | None, typer.Option("--task", help="Only events of this task; named as in `tamma task`.", metavar="TASK")
    ] = None,
    tag: Annotated[
        str | None,
        typer.Option(
            "--tag",
            help=f"Only events with this tag: {_TAGS} …",
        ),
    ] = None,
    at: Annotated[str | None, typer.Option("--at", help=HELP, metavar="TIME")] = None,
    json: Annotated[bool, typer.Option("--json", help="As JSON, for scripts.")] = False,
) -> None:
    """The event log: everything that happened, in order."""
    from tamma import bootstrap
    from tamma.cli.render import event_json, event_line, print_folded

    def show(event: Event) -> None:
        if json:
            print(event_json(event), flush=True)  # noqa: T201 — this is the output
        else:
            print_folded(event_line(event), by=4)
            sys.stdout.flush()

    if sum(one is not None for one in (issue, task, tag)) > 1:
        raise ConfigError("--issue, --task and --tag exclude each other", fix="choose one")
    if follow and at is not None:
        raise ConfigError("--follow and --at exclude each other", why="the past does not go on", fix="choose one")
    with bootstrap.open_session(ctx.obj.config) as session:
        wanted, check = _wanted(session, issue=issue, task=task, tag=tag)
        until = None if at is None else parse_moment(at, now=session.store.ping())
        first, cursor = newest(session.store.events, tag=wanted, limit=limit, is_followed=follow, at=until)
        _tell_archived(session.store.events, tag=wanted, at=until)
        for event in first:
            show(event)
        if not first:
            check()
            form = "" if wanted is None or ":" in wanted else f"a tag is one of these: {_TAGS}"
            say(
                f"no event{f' has the tag {wanted}' if wanted else ''} yet",
                why="what comes is shown" if follow else "",
                fix=form,
            )
        collect_as_usual()
        for event in _coming(session.store, cursor) if follow else ():
            if wanted is None or wanted in event.tags:
                show(event)


def _tell_archived(log: Events, *, tag: str | None, at: datetime | None) -> None:
    """That what is shown is not all there was, where that is known. A task's and a worker's tag is also its stream's name."""
    from tamma.engine.history import archives, horizon

    if tag is not None and (file := log.archived_in(tag)) is not None:
        say(f"earlier events of {tag} are not shown", why=f"they were archived in {file}")
    elif at is not None and (until := horizon(archives(log))) is not None and at < until:
        say("not all of that time is shown", why=f"events up to {local(until)} were archived")


def _coming(store: Store, cursor: int) -> Iterator[Event]:
    """What comes after the cursor, for ever. That the database is away is said once, and nothing is missed meanwhile."""
    is_away = False
    while True:
        try:
            found, cursor = store.events.tail(cursor)
            if not found:
                store.wait_for_news(FOLLOW_INTERVAL)
        except TransientError as error:
            if not is_away:
                say(error.what, why=error.why, fix="nothing: it is waited for")
            is_away = True
            time.sleep(FOLLOW_INTERVAL.total_seconds())
            continue
        if is_away:
            say("the database is back")
        is_away = False
        yield from found


def newest(
    log: Events, *, tag: str | None, limit: int, is_followed: bool, at: datetime | None = None
) -> tuple[list[Event], int]:
    """The newest events, and the cursor behind which to go on: none is on both sides of it."""
    cursor = log.head() if is_followed else 0
    found = log.tagged(tag, limit=limit, at=at) if tag else log.latest(limit=limit, at=at)
    return [event for event in found if not is_followed or event.position <= cursor], cursor


def _wanted(
    session: Session, *, issue: str | None, task: str | None, tag: str | None
) -> tuple[str | None, Callable[[], object]]:
    """The tag to look for, and what to ask if no event has it: raises for an issue or a task that is not there."""
    from tamma.core.ids import parse_task_id

    if issue is not None:
        ref = session.parse_issue(issue)
        return f"issue:{ref.forge}/{ref}", lambda: session.forge.issue(ref)
    if task is not None:
        task_id = session.lookup.task_id(task)
        return f"task:{task_id}", lambda: session.store.tasks.get(task_id)
    if tag is not None and tag.startswith("task:"):
        return tag, lambda: session.store.tasks.get(parse_task_id(tag.removeprefix("task:")))
    return tag, lambda: None
