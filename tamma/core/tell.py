"""Every fact as one plain sentence, the same in the log, in ``tamma events``, in ``tamma explain`` and in the live view."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Final

from tamma.core.event import (
    AgentFinished,
    AgentSpoke,
    AgentStarted,
    ApprovalAsked,
    AttemptFact,
    ChangeDelivered,
    EffectIntended,
    EffectRecorded,
    EnvironmentPrepared,
    Fact,
    GateJudged,
    LogArchived,
    NoticeSent,
    PhaseEntered,
    TaskCancelled,
    TaskClaimed,
    TaskCreated,
    TaskDispatched,
    TaskReaped,
    TaskSettled,
    TaskUnblocked,
    TreeAudited,
    WorkerRegistered,
    WorkerStateChanged,
    WorkPaused,
    WorkResumed,
    WorkSalvaged,
)
from tamma.core.moment import local
from tamma.core.pause import EVERYWHERE
from tamma.core.redact import clean
from tamma.core.words import counted

SENTENCE_CHARS_MAX: Final = 300
_PART_CHARS_MAX: Final = 160
_NOTICES: Final[Mapping[str, str]] = {
    "delivered": "is delivered",
    "unchanged": "found nothing to change",
    "escalated": "was handed back",
    "asked": "waits for a human",
    "cancelled": "was cancelled",
}
_STATES: Final[Mapping[str, str]] = {
    "succeeded": "the task is done",
    "retryable": "it is tried again",
    "queued": "the task waits for its turn",
    "blocked": "the task waits for a human",
    "failed": "the task has failed",
    "cancelled": "the task is cancelled",
}
_VERDICTS: Final[Mapping[str, str]] = {
    "pass": "passed",
    "fail": "failed",
    "skip": "did not apply",
    "unable": "could not be asked",
}


def describe_fact(fact: Fact) -> str:
    """One sentence of at most 300 characters on one line, without control characters."""
    return _short(_sentence(fact), SENTENCE_CHARS_MAX)


def _sentence(fact: Fact) -> str:
    match fact:
        case TaskCreated() | TaskDispatched() | TaskClaimed() | PhaseEntered() | TaskSettled() | TaskReaped():
            return _of_task(fact)
        case TaskCancelled() | TaskUnblocked() | NoticeSent():
            return _of_people(fact)
        case EffectIntended(kind=kind, intent=intent):
            return _of_intent(kind, intent)
        case EffectRecorded():
            return _of_record(fact)
        case WorkerRegistered(worker=worker, role=role, host=host, pid=pid, release=release):
            return f"{role} {worker} registered: process {pid} on {_short(host)}, release {release}"
        case WorkPaused(scope=scope, by=by, reason=reason):
            return f"{by} paused work{_where(scope)}" + _because(reason)
        case WorkResumed(scope=scope, by=by):
            return f"{by} let work go on{_where(scope)}"
        case LogArchived(file=file, streams=streams, events=events):
            return f"{counted(events, 'event')} of {counted(streams, 'stream')} went to the archive {_short(file)}"
        case WorkerStateChanged(worker=worker, state=state, reason=reason):
            return f"worker {worker} is {state}" + _because(reason)
        case _:
            return _of_attempt(fact)


def _where(scope: str) -> str:
    return "" if scope == EVERYWHERE else f" in {scope}"


def _of_task(fact: TaskCreated | TaskDispatched | TaskClaimed | PhaseEntered | TaskSettled | TaskReaped) -> str:
    match fact:
        case TaskCreated(repository=repository, issue=issue, title=title, generation=generation):
            again = f", generation {generation}" if generation > 1 else ""
            return f"task created for {repository}#{issue}{again}: {_short(title)}"
        case TaskDispatched(by=by):
            return f"dispatched by {by}: a worker is about to start"
        case TaskClaimed(worker=worker, epoch=epoch):
            return f"claimed by worker {worker}: attempt {epoch} begins"
        case PhaseEntered(epoch=epoch, phase=phase):
            return f"attempt {epoch} entered the phase {phase}"
        case TaskSettled(epoch=epoch, outcome=outcome, state=state, reason=reason, run_after=run_after):
            return f"attempt {epoch} ended: {outcome}; {_state(state, run_after)}" + _because(reason)
        case TaskReaped(epoch=epoch, worker=worker, outcome=outcome, state=state, reason=reason, run_after=run_after):
            then = _state(state, run_after)
            return f"attempt {epoch} of worker {worker} ended unsettled: {outcome}; {then}" + _because(reason)


def _state(state: str, run_after: datetime | None) -> str:
    return _STATES.get(state, state) + (f" after {local(run_after)}" if run_after else "")


def _of_people(fact: TaskCancelled | TaskUnblocked | NoticeSent) -> str:
    match fact:
        case TaskCancelled(by=by, reason=reason):
            return f"cancelled by {_short(by)}" + _because(reason)
        case TaskUnblocked(by=by, approved=approved):
            return f"let go on by {_short(by)}" + (f", who approved commit {approved[:12]}" if approved else "")
        case NoticeSent(notice=notice):
            return f"the issue was told that its task {describe_notice(notice)}"


def describe_notice(notice: str) -> str:
    """What a notice says of its task, behind "its task"."""
    return _NOTICES.get(notice, f"is {_short(notice)}")


def _of_intent(kind: str, intent: Mapping[str, str]) -> str:
    branch = _short(intent.get("branch", ""))
    match kind:
        case "push":
            return f"pushing {branch} at {intent.get('commit', '')[:12]}"
        case "change":
            return f"opening the change for {branch}"
        case "comment":
            return "telling the issue"
        case "labels":
            return "changing the issue's labels"
        case _:
            return f"about to do outside: {_short(kind)}"


def _of_record(fact: EffectRecorded) -> str:
    result, kind = fact.result, fact.key.split(":")[1] if ":" in fact.key else ""
    if fact.state != "done":
        return f"given up: {_short(kind or fact.key)}"
    found = ", found as an earlier attempt left it" if "found" in result else ""
    match kind:
        case "push":
            return f"pushed commit {result.get('commit', '')[:12]}{found}"
        case "change":
            return f"opened change {_short(result.get('change', ''))}{found}"
        case "comment":
            return "told the issue, by a comment"
        case "labels":
            return _of_labels(result.get("added", ""), result.get("removed", ""))
        case _:
            return f"done outside: {_short(fact.key)}"


def _of_labels(added: str, removed: str) -> str:
    signed = [f"+{name}" for name in added.split(",") if name] + [f"-{name}" for name in removed.split(",") if name]
    if not signed:
        return "the issue's labels are as they should be"
    return f"changed the issue's labels: {_short(' '.join(signed))}"


def _of_attempt(fact: AttemptFact) -> str:
    match fact:
        case EnvironmentPrepared(is_cached=is_cached, duration_ms=duration_ms):
            return (
                "the environment was found in the cache"
                if is_cached
                else f"the environment was built in {_seconds(duration_ms)}"
            )
        case AgentStarted(turn=turn, agent=agent, sandbox=sandbox):
            held = "unsandboxed" if sandbox == "none" else f"in sandbox {sandbox}"
            return f"agent {_short(agent)} started, {held}" + (f", repair {turn}" if turn else "")
        case AgentSpoke(text=text):
            return f"agent: {text}"
        case AgentFinished(status=status, detail=detail, duration_ms=duration_ms, files=files, lines=lines):
            return (
                f"agent ended after {_seconds(duration_ms)}: {status}, {counted(files, 'file')}, {counted(lines, 'line')}"
                + _because(detail)
            )
        case TreeAudited():
            return _of_audit(fact)
        case GateJudged():
            return _of_gate(fact)
        case WorkSalvaged(files=files, patch=patch):
            return f"undelivered work of {counted(files, 'file')} was kept as patch {patch[:12]}"
        case ApprovalAsked(commit=commit):
            return f"commit {commit[:12]} passed its gates and waits for a human's approval"
        case ChangeDelivered(change=change, url=url, branch=branch, commit=commit):
            return f"delivered as change {_short(url or change)}: branch {_short(branch)} at {commit[:12]}"


def _of_audit(fact: TreeAudited) -> str:
    size = f"{counted(fact.files, 'file')}, {counted(fact.lines, 'line')}"
    if fact.refusals:
        return f"the change was refused ({size}): {'; '.join(fact.refusals)}"
    return f"the change was read and is in order: {size}" if fact.files else "nothing was changed"


def _of_gate(fact: GateJudged) -> str:
    kind = "gate" if fact.is_required else "optional gate"
    verdict = _VERDICTS.get(fact.verdict, fact.verdict)
    return f"{kind} {_short(fact.gate)} {verdict} in {_seconds(fact.duration_ms)}" + _because(fact.summary)


def _because(reason: str) -> str:
    return f": {_short(reason)}" if reason.strip() else ""


def _seconds(milliseconds: int) -> str:
    return f"{milliseconds / 1000:.1f} s"


def _short(text: str, chars_max: int = _PART_CHARS_MAX) -> str:
    flat = clean(" ".join(text[: 8 * chars_max].split()))
    return flat if len(flat) <= chars_max else flat[: chars_max - 1] + "…"
