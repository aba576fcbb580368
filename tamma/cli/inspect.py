"""``tamma status`` and ``explain``: look, and change nothing."""

from __future__ import annotations

import shlex
import sys
from typing import TYPE_CHECKING, Annotated, Final

import typer

from tamma.cli.ending import indented, say
from tamma.cli.moment import HELP, parse_moment
from tamma.core.moment import local
from tamma.core.words import counted

if TYPE_CHECKING:
    from tamma.bootstrap import Session
    from tamma.core.task import Task
    from tamma.engine.explain import Explanation
    from tamma.engine.failures import GateFailure
    from tamma.engine.history import Standing

Json = Annotated[bool, typer.Option("--json", help="As JSON, for scripts.")]
At = Annotated[str | None, typer.Option("--at", help=HELP, metavar="TIME")]
REASON_CHARS_MAX: Final = 40


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("status")(status)
    app.command("explain")(explain)


def status(
    ctx: typer.Context,
    limit: Annotated[int, typer.Option("--limit", min=1, max=10_000, help="How many tasks, newest first.")] = 50,
    at: At = None,
    json: Json = False,
) -> None:
    """Tasks, workers and what they are doing."""
    from tamma import bootstrap
    from tamma.cli.render import print_json, print_lines, print_table
    from tamma.engine.explain import describe_task
    from tamma.engine.lookup import short_ids

    with bootstrap.open_session(ctx.obj.config) as session:
        found = _standing(session, limit=limit, at=at)
        pauses = () if at else session.store.pauses.all()
    counts = {state.value: n for state, n in found.counts.items()}
    tasks, workers = found.tasks, found.workers
    if json:
        shown = [
            {"id": w.id, "role": w.role.value, "state": w.state.value, "last_beat_at": w.last_beat_at} for w in workers
        ]
        held = [{"scope": p.scope, "by": p.by, "reason": p.reason, "since": p.since} for p in pauses]
        gone = {"tasks": found.tasks_removed, "workers": found.workers_removed}
        told = {
            "counts": counts,
            "archived_since": gone,
            "paused": held,
            "tasks": [describe_task(task) for task in tasks],
            "workers": shown,
        }
        print_json(told)
        return
    if found.tasks_removed or found.workers_removed:
        missing = f"{counted(found.tasks_removed, 'task')} and {counted(found.workers_removed, 'worker')}"
        say(f"{missing} of that time are not shown", why="they were archived since")
    print_lines([f"{pause}; {pause.fix}" for pause in pauses])
    print_lines([", ".join(f"{n} {state}" for state, n in counts.items() if n) or "no tasks yet"])
    if tasks:
        ids = short_ids([task.id for task in tasks])
        rows = [(str(t.ref), t.state.value, _where(t), str(t.epoch), ids[t.id], t.title) for t in tasks]
        print_table(rows, head=("issue", "state", "where", "attempt", "task", "title"))
    if workers:
        print_table([(w.id, w.role.value, w.state.value) for w in workers], head=("worker", "role", "state"))


def _where(task: Task) -> str:
    """What the state does not tell: the phase that runs, what the last attempt came to, or else why; in a pipe whole."""
    told = task.phase or task.outcome or ""
    if told != task.state.value:
        return told
    reason = " ".join(task.reason.split())
    return (
        reason if len(reason) <= REASON_CHARS_MAX or not sys.stdout.isatty() else f"{reason[: REASON_CHARS_MAX - 1]}…"
    )


def _standing(session: Session, *, limit: int, at: str | None) -> Standing:
    """Now from the tables, earlier from the log."""
    from tamma.core.worker import WorkerState
    from tamma.engine.history import Standing, standing

    store = session.store
    if at is not None:
        return standing(store.events, at=parse_moment(at, now=store.ping()), limit=limit)
    workers = [
        *store.workers.list(states=[WorkerState.ONLINE, WorkerState.DRAINING]),
        *store.workers.list(states=[WorkerState.OFFLINE]),
    ]
    return Standing(counts=store.tasks.counts(), tasks=store.tasks.list(limit=limit), workers=workers)


def explain(
    ctx: typer.Context,
    what: Annotated[
        str,
        typer.Argument(
            help="An issue (REPOSITORY#NUMBER, or the number alone where there is one repository), or a task's id or 4 or more "
            "characters of its beginning.",
            metavar="ISSUE|TASK",
        ),
    ],
    json: Json = False,
) -> None:
    """Why an issue is not picked, why it waits, why it stopped, and what comes next."""
    from dataclasses import asdict

    from tamma import bootstrap
    from tamma.cli.render import print_json, print_lines

    with bootstrap.open_session(ctx.obj.config) as session:
        found = _explanation(session, what)
    if json:
        print_json(asdict(found))
    else:
        print_lines(explained(found))


def _explanation(session: Session, what: str) -> Explanation:
    from tamma.core.errors import NoSuchTask
    from tamma.core.ids import IssueRef
    from tamma.engine.lookup import PREFIX_CHARS_MIN, nothing_named

    lookup = session.lookup
    found = lookup.named(what) or session.parse_issue(what)
    if not isinstance(found, IssueRef):
        return session.explainer.task(found)
    try:
        return session.explainer.issue(found)
    except NoSuchTask as error:
        if "#" in what or len(what) < PREFIX_CHARS_MIN:
            raise
        if (begun := lookup.beginning(what)) is None:
            raise nothing_named(what) from error
        return session.explainer.task(begun)


def explained(found: Explanation) -> list[str]:
    """The answer as people read it, nothing twice: the first reason and the last end are told by the status."""
    status, *more = found.status.splitlines()
    # Of several lines only the first: its attempt tells them all, below.
    lines = [f"{found.issue}  {found.title}", f"  status: {status}{' …' if more else ''}"]
    reasons = [reason["text"] for reason in found.reasons if not found.status.endswith(f": {reason['text']}")]
    lines += [f"  {_lead(found)}: {text}" for text in reasons]
    if found.trouble:
        lines.append(f"  the forge says: {found.trouble}")
    for story in found.attempts:
        lines.append(
            f"  attempt {story.epoch} ({local(story.started_at)}, {story.worker}): {story.outcome or story.phase}"
        )
        if story.agent:
            lines.append(
                f"    agent {story.agent['status']}; diff {counted(story.diff['files'], 'file')}, "
                f"{counted(story.diff['lines'], 'line')}; {counted(story.repairs, 'repair')}"
            )
        asked = story.gates if story.diff["files"] else ()
        lines += [f"    gate {g['gate']}: {g['verdict']} — {g['summary']}" for g in asked]
        for failure in story.failures:
            lines += _of_failure(failure, task=found.task["id"] if found.task else found.issue)
        is_told = story is found.attempts[-1] and not more and found.status.endswith(story.reason)
        if story.reason and not is_told:
            lines.append(indented(f"    {story.reason}", by=6))
    if found.kept and found.kept not in found.next:
        lines.append(f"  kept: the undelivered work; `{found.kept}` prints it")
    if found.change:
        state = f", {found.change['state']}" if found.change["state"] else ""
        earlier = ", of an earlier task" if found.task and found.task["id"] != found.change["task"] else ""
        lines.append(f"  change: {found.change['id']} {found.change['url']} ({found.change['branch']}){state}{earlier}")
    if found.archived:
        lines.append(f"  archived: its attempts are in {found.archived}")
    first, *others = found.next.split("; ")  # a command each
    return [*lines, f"  next: {first}", *(f"        {other}" for other in others)]


def _lead(found: Explanation) -> str:
    """What the reasons are reasons for: with its task over, whether anybody asked again."""
    from tamma.core.selection import Why

    if not found.task:
        return "because"
    unasked = {Why.NOT_ASKED_AGAIN, Why.NOT_LABELLED} & {reason["why"] for reason in found.reasons}
    return "not taken again" if unasked else "asked for again, not taken"


def _of_failure(failure: GateFailure, *, task: str) -> list[str]:
    """Its failing tests, the end of its output set in and marked, so that none of it looks like a line of ours."""
    lines = [f"      {test}" for test in failure.tests]
    if failure.tests_left_out:
        lines.append(f"      … {failure.tests_left_out} more")
    if lines:
        lines.insert(0, f"    failing in {failure.gate}:")
    if failure.tail:
        gate = shlex.quote(failure.gate)
        lines.append(f"    {failure.gate} printed at its end (all of it: tamma task output {task} {gate}):")
        lines += [f"      | {line}" for line in failure.tail.splitlines()]
    return lines
