"""Why not picked, why waiting, why stopped, what next: one answer, the same for the CLI, a script and the issue itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from tamma.core.attempt import Phase
from tamma.core.change import Change, ChangeState, find_markers
from tamma.core.errors import ConfigError, NoSuchTask, PermanentError, TammaError, TransientError
from tamma.core.event import (
    AgentFinished,
    ChangeDelivered,
    Event,
    GateJudged,
    PhaseEntered,
    TaskCancelled,
    TaskClaimed,
    TaskReaped,
    TaskSettled,
    TreeAudited,
    WorkSalvaged,
    task_stream,
)
from tamma.core.ids import IssueRef, TaskId, branch_name
from tamma.core.issue import Issue, IssueState
from tamma.core.moment import local
from tamma.core.selection import Reason, Why
from tamma.core.task import CLAIMABLE, Task, TaskKind, TaskState
from tamma.core.words import counted
from tamma.engine.failures import GateFailure, failures
from tamma.engine.intake import Intake
from tamma.engine.next_step import next_step, why_blocked
from tamma.engine.plan import Policies
from tamma.ports.forge import Forge
from tamma.ports.store import Scope, Store, Survey, WorkerRole, WorkerState

_HELD_BY_PAUSE: Final = CLAIMABLE | {TaskState.RUNNING}


@dataclass(slots=True, kw_only=True)
class AttemptStory:
    """One attempt, as its events tell it; of the newest one also why gates stopped it."""

    epoch: int
    worker: str
    started_at: datetime
    phase: str = ""
    agent: dict[str, Any] | None = None
    diff: dict[str, int] = field(default_factory=lambda: {"files": 0, "lines": 0})
    gates: list[dict[str, str]] = field(default_factory=list)
    failures: tuple[GateFailure, ...] = ()
    repairs: int = 0
    outcome: str = ""
    reason: str = ""
    exit_code: int | None = None
    patch: str | None = None


@dataclass(slots=True, kw_only=True)
class Explanation:
    """The whole answer. ``status`` is one sentence; ``next`` says what to do, or that nothing needs to be done.

    The change is the task's, or the newest that an earlier task left; its ``state`` is the forge's word of now, None where it
    could not be asked. ``kept`` is the command that prints the undelivered work that an attempt left; ``archived`` names the
    file that the task's events went to.
    """

    issue: str
    title: str
    status: str
    next: str
    reasons: list[dict[str, str]] = field(default_factory=list)
    task: dict[str, Any] | None = None
    attempts: list[AttemptStory] = field(default_factory=list)
    change: dict[str, str | None] | None = None
    kept: str = ""
    trouble: str = ""
    archived: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Explainer:
    """Asks the same questions as the loop, about one issue."""

    store: Store
    forge: Forge
    intake: Intake
    policies: Policies

    def issue(self, ref: IssueRef) -> Explanation:
        """Where the issue cannot be read, what is known of its task, and the trouble; without a task the forge's error is
        raised: NoSuchTask, PermanentError, TransientError, ConfigError."""
        task = self.store.tasks.newest([ref], TaskKind.RESOLVE).get(ref)
        try:
            issue = self.forge.issue(ref)
            reasons = self._reasons(issue, task)
            return self._told(ref, issue.title, task, reasons, is_closed=issue.state is IssueState.CLOSED)
        except (NoSuchTask, PermanentError, TransientError, ConfigError) as error:
            if task is None:
                raise
            return self._told(ref, task.title, task, None, trouble=str(error))

    def task(self, task_id: TaskId) -> Explanation:
        """Of an issue's newest task the same as of the issue. Raises NoSuchTask."""
        task = self.store.tasks.get(task_id)
        if self._is_newest(task):
            return self.issue(task.ref)
        return self._told(task.ref, task.title, task, None)

    def _reasons(self, issue: Issue, task: Task | None) -> tuple[Reason, ...] | None:
        """Why no task is made for it now; None where its task is the answer already: one that is live, or that succeeded, unless
        somebody put the label on again since the issue was told."""
        if task is not None and not task.is_terminal:
            return None
        is_asked = issue.state is IssueState.OPEN and self.intake.selection.trigger in issue.labels
        if task is not None and task.state is TaskState.SUCCEEDED and (task.notice is not None or not is_asked):
            return None
        open_changes = self.intake.open_changes(issue.ref.repository)
        pause = self.store.pauses.of(issue.ref)
        return self.intake.judge(issue, newest=task, open_changes=open_changes, pause=pause).against

    def _told(
        self,
        ref: IssueRef,
        title: str,
        task: Task | None,
        reasons: Sequence[Reason] | None,
        *,
        is_closed: bool = False,
        trouble: str = "",
    ) -> Explanation:
        events = self.store.events.stream(task_stream(task.id)) if task else ()
        is_cut = task is not None and len(events) < task.version
        delivered = next((e.fact for e in reversed(events) if isinstance(e.fact, ChangeDelivered)), None)
        change, fault = self._change_now(ref, delivered) if task else (None, None)
        attempts = attempts_of(events)
        for story in attempts[-1:]:
            story.failures = failures(events, self.store.blobs, epoch=story.epoch)
            if task is not None and task.state is TaskState.BLOCKED:
                story.reason, _ = why_blocked(task, events)  # its cure is what comes next
        return Explanation(
            issue=str(ref),
            title=title,
            status=self._status(task, reasons, events),
            next=_after_review(task, change, fault, is_closed=is_closed, is_asked_again=reasons is not None)
            or self._next(ref, task, reasons, events),
            reasons=[{"why": r.why.value, "text": r.text, "fix": r.fix} for r in reasons or ()],
            task=describe_task(task) if task else None,
            attempts=attempts,
            change=_describe_change(task, delivered, change),
            kept=f"tamma task patch {self._name(task)}" if task and _has_kept(task, events) else "",
            trouble=trouble or (str(fault) if fault else ""),
            archived=self.store.events.archived_in(task_stream(task.id)) if task and is_cut else None,
        )

    def _change_now(
        self, ref: IssueRef, delivered: ChangeDelivered | None
    ) -> tuple[Change | None, PermanentError | TransientError | ConfigError | None]:
        """What the task delivered, as the forge has it now; where it delivered nothing, the newest of ours for the issue, which an
        earlier task may have left. None where there is none, or with why it cannot be asked for."""
        try:
            found = self.forge.changes(ref.repository, head=delivered.branch if delivered else branch_name(ref))
        except (PermanentError, TransientError, ConfigError) as error:
            return None, error
        ours = (c for c in found if (c.id == delivered.change if delivered else c.author == self.forge.user))
        return next(ours, None), None

    def _next(self, ref: IssueRef, task: Task | None, reasons: Sequence[Reason] | None, events: Sequence[Event]) -> str:
        if task is not None and reasons is None:
            pause = self.store.pauses.of(ref) if task.state in _HELD_BY_PAUSE else None
            return pause.fix if pause else next_step(task, events, named=self._name(task))
        if not reasons:
            return "run `tamma orchestrate`"
        is_only_unasked = all(r.why is Why.NOT_ASKED_AGAIN for r in reasons)
        if task is not None and task.notice is None and is_only_unasked:
            return next_step(task, events, named=self._name(task))
        return "; ".join(dict.fromkeys(r.fix for r in reasons if r.fix))

    def _name(self, task: Task) -> str:
        """The shortest that commands understand: an issue's name is that of its newest task."""
        return str(task.ref) if self._is_newest(task) else task.id

    def _is_newest(self, task: Task) -> bool:
        newest = self.store.tasks.newest([task.ref], TaskKind.RESOLVE).get(task.ref)
        return newest is not None and newest.id == task.id

    def _status(self, task: Task | None, reasons: Sequence[Reason] | None, events: Sequence[Event]) -> str:
        if task is None and reasons:
            return f"not picked: {reasons[0].text}"
        if task is None or (task.is_terminal and reasons is not None and not reasons):
            return "eligible: the next tick makes a task for it"
        match task.state:
            case TaskState.QUEUED:
                return f"waiting: {self._why_waiting(task, self._survey(task.ref))}"
            case TaskState.RETRYABLE:
                return f"waiting: {self._when_again(task, self._survey(task.ref))}, since {task.reason}"
            case TaskState.RUNNING:
                pause = self.store.pauses.of(task.ref)
                held = f"; {pause}, so nothing is shown outside" if pause else self._over(task)
                return f"running: attempt {task.epoch}, phase {task.phase or 'claimed'}, by {task.worker}{held}"
            case TaskState.BLOCKED:
                return f"stopped, waits for a human: {why_blocked(task, events)[0]}"
            case TaskState.SUCCEEDED:
                return f"done: {task.reason}"
            case TaskState.FAILED | TaskState.CANCELLED:
                return f"stopped ({task.outcome or task.state}): {task.reason}"

    def _survey(self, ref: IssueRef) -> Survey:
        """What a tick would see of the issue's repository."""
        leases, repository = self.policies.leases, frozenset({ref.repository})
        return self.store.tasks.survey(
            Scope(forge=ref.forge, repositories=repository, workable=repository),
            limit=1,
            beat=leases.beat,
            missed_beats_max=leases.missed_beats_max,
        )

    def _over(self, task: Task) -> str:
        """That nobody holds it any more, where that is so: its worker died, and no loop came by."""
        lease = self.store.tasks.lease(task.id)
        if lease is None or lease.expires_at > self.store.ping():
            return ""
        return f"; its lease is over: the next tick of a loop, or `tamma work --task-id {task.id}`, ends that attempt and begins another"

    def _when_again(self, task: Task, survey: Survey) -> str:
        if task.run_after is None or task.run_after <= survey.now:
            return f"{self._why_waiting(task, survey)}; it is to be tried again"
        held = f"{pause}; then " if (pause := self.store.pauses.of(task.ref)) else ""
        return f"{held}it is tried again after {local(task.run_after)}"

    def _why_waiting(self, task: Task, survey: Survey) -> str:
        if (pause := self.store.pauses.of(task.ref)) is not None:
            return str(pause)
        if (error := self.intake.unfit.get(task.ref.repository)) is not None:
            return f"its repository cannot be worked on: {error}; {error.fix}"
        limits, taken = self.policies.limits, survey.occupied
        here = taken.get((task.ref.forge, task.ref.repository), 0)
        if sum(taken.values()) >= limits.running:
            return f"all {limits.running} slots are taken (limits.running_max)"
        if here >= limits.running_per_repository:
            return (
                f"{counted(here, 'task runs or starts', 'tasks run or start')} in {task.ref.repository} "
                "(limits.running_per_repository_max)"
            )
        if task.capabilities:
            return f"a worker with {', '.join(task.capabilities)} must be free"
        return f"{self._who_takes_it(survey)}; a slot is free"

    def _who_takes_it(self, survey: Survey) -> str:
        """Whether an orchestrator runs, by the registry; one that was killed stays there until its beats are missed."""
        leases = self.policies.leases
        silent_since = survey.now - leases.beat * leases.missed_beats_max
        loops = [w for w in self.store.workers.list(states=[WorkerState.ONLINE]) if w.role is WorkerRole.ORCHESTRATOR]
        if any((loop.last_beat_at or loop.registered_at) >= silent_since for loop in loops):
            return "an orchestrator runs and takes it as soon as one of its own workers is free (limits.workers)"
        return "no orchestrator is running"


def _after_review(
    task: Task | None, change: Change | None, fault: TammaError | None, *, is_closed: bool, is_asked_again: bool
) -> str:
    """What is left to do once a human decided about the issue's change, or spoiled it; empty before that, and where somebody asked
    for more than the task did."""
    is_done = task is not None and task.state is TaskState.SUCCEEDED
    if task is None or not task.is_terminal or (is_done and is_asked_again):
        return ""
    if is_done and isinstance(fault, PermanentError):
        return fault.fix
    if change is not None and change.state is ChangeState.MERGED and (is_done or is_closed):
        return "nothing: the change was merged" + ("" if is_closed else "; close the issue if that settles it")
    if change is not None and change.state is ChangeState.CLOSED and is_done:
        return f"nothing: the change was closed unmerged; `tamma task retry {task.ref}` asks for another"
    return ""


def _has_kept(task: Task, events: Sequence[Event]) -> bool:
    return task.state is not TaskState.SUCCEEDED and any(isinstance(e.fact, WorkSalvaged) for e in events)


def describe_task(task: Task) -> dict[str, Any]:
    """The task as JSON values, for scripts."""
    return {
        "id": task.id,
        "repository": task.ref.repository,
        "issue": task.ref.number,
        "title": task.title,
        "kind": task.kind.value,
        "generation": task.generation,
        "state": task.state.value,
        "attempt": task.epoch,
        "phase": task.phase,
        "outcome": task.outcome,
        "reason": task.reason,
        "change": task.change,
        "worker": task.worker,
        "priority": task.priority,
        "attempts": task.counters.attempts,
        "infra": task.counters.infra,
        "interruptions": task.counters.interruptions,
        "crashes": task.counters.crashes,
        "run_after": task.run_after.isoformat() if task.run_after else None,
        "created_at": task.created_at.isoformat(),
        "finished_at": task.finished_at.isoformat() if task.finished_at else None,
    }


def attempts_of(events: Sequence[Event]) -> list[AttemptStory]:
    """Every attempt in a task's stream, in order."""
    found: dict[int, AttemptStory] = {}
    for event in events:
        fact = event.fact
        if isinstance(fact, TaskClaimed):
            found[fact.epoch] = AttemptStory(epoch=fact.epoch, worker=fact.worker, started_at=event.at)
            continue
        if isinstance(fact, TaskCancelled):
            for story in [s for s in found.values() if not s.outcome]:  # the one that ran: it settles nothing any more
                story.outcome, story.reason = TaskState.CANCELLED.value, fact.reason
            continue
        told = found.get(getattr(fact, "epoch", 0))
        if told is not None:
            _add(told, event)
    return list(found.values())


def _add(story: AttemptStory, event: Event) -> None:
    match event.fact:
        case PhaseEntered(phase=phase) if phase != Phase.REPORT:  # where it ended, not that it was reported
            story.phase = phase
        case AgentFinished() as agent:
            story.agent = {"status": agent.status, "detail": agent.detail, "exit_code": agent.exit_code}
            story.repairs = agent.turn
        case TreeAudited(files=files, lines=lines):
            story.diff = {"files": files, "lines": lines}
            story.gates = []
        case GateJudged() as gate:
            story.gates.append({"gate": gate.gate, "verdict": gate.verdict, "summary": gate.summary})
        case WorkSalvaged(patch=patch):
            story.patch = patch
        case TaskSettled(outcome=outcome, reason=reason, exit_code=exit_code):
            story.outcome, story.reason, story.exit_code = outcome, reason, exit_code
            if not story.gates:
                story.gates = [
                    {"gate": "(all)", "verdict": "not asked", "summary": f"the attempt ended in {story.phase}"}
                ]
        case TaskReaped(outcome=outcome, reason=reason):
            story.outcome, story.reason = outcome, reason
        case _:
            pass


def _describe_change(
    task: Task | None, delivered: ChangeDelivered | None, now: Change | None
) -> dict[str, str | None] | None:
    if task is None or (delivered is None and now is None):
        return None
    state = now.state.value if now else None
    if delivered is not None:
        place = {"id": delivered.change, "url": delivered.url, "branch": delivered.branch, "commit": delivered.commit}
        return place | {"state": state, "task": task.id}
    assert now is not None
    marker = next(iter(find_markers(now.body)), None)
    of = {"commit": marker.head, "task": marker.task} if marker else {"commit": None, "task": None}
    return {"id": now.id, "url": now.url, "branch": now.head, "state": state, **of}
