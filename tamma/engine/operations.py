"""What a human decides about a task: add, retry, cancel, approve; and where its undelivered work is."""

from __future__ import annotations

from dataclasses import dataclass

from tamma.core.change import Change
from tamma.core.errors import ConfigError, NoSuchTask, NotClaimable, PermanentError, RefusedByPolicy, TransientError
from tamma.core.event import GateJudged, TreeAudited, WorkSalvaged, task_stream
from tamma.core.ids import IssueRef, TaskId, branch_name
from tamma.core.pause import EVERYWHERE
from tamma.core.task import Notice, Task, TaskKind, TaskState
from tamma.core.words import ended
from tamma.engine.agent_output import AgentRun, agent_runs
from tamma.engine.answers import said_since_asked
from tamma.engine.failures import last_round, output_of
from tamma.engine.intake import Intake
from tamma.engine.next_step import has_asked, judged_commit
from tamma.ports.forge import Forge
from tamma.ports.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """A task that goes on. ``answer`` is what its agent will be told, ``is_unanswered`` that it asked and will be told nothing."""

    task: Task
    answer: str
    is_unanswered: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Operations:
    """A person's commands; ``by`` names him in the log."""

    store: Store
    forge: Forge
    intake: Intake
    by: str

    def add(self, ref: IssueRef) -> Task:
        """The issue's live task, or a new one, whatever its labels. Raises NoSuchTask, NotClaimable, RefusedByPolicy."""
        return self.intake.find_or_create(ref, asked_by=self.by)

    def retry(self, task_id: TaskId) -> Task:
        """A task of the next generation with the issue's text of today. A blocked or waiting task is cancelled for it.

        Raises NotClaimable while it runs, or if a later generation exists; RefusedByPolicy if the text is too large.
        """
        task = self.store.tasks.get(task_id)
        newest = self.store.tasks.newest([task.ref], TaskKind.RESOLVE)[task.ref]
        if newest.id != task.id:
            raise NotClaimable(
                f"task {task.id} is not the issue's newest",
                why=f"task {newest.id} is, and {newest.state}",
                fix=f"`tamma task retry {newest.id}`",
            )
        if task.state is TaskState.RUNNING:
            raise NotClaimable(
                f"task {task.id} is running", why=f"worker {task.worker} holds it", fix="cancel it first, or wait"
            )
        issue = self.forge.issue(task.ref)
        # What may be refused, or away, comes before the old task ends: an issue must not be left without one.
        draft = self.intake.draft(
            issue, generation=task.generation + 1, asked_by=self.by, priority=self.intake.priority(issue)
        )
        if not task.is_terminal:
            self.store.tasks.cancel(task.id, by=self.by, reason="retried from the start", epoch=task.epoch)
        return self.store.tasks.create(draft)

    def open_change(self, ref: IssueRef) -> Change | None:
        """Ours for the issue that nobody merged or closed; None where there is none, or where it cannot be asked for."""
        try:
            found = self.forge.changes(ref.repository, head=branch_name(ref))
        except (PermanentError, TransientError):  # whoever asks has done what he wanted already
            return None
        return next((c for c in found if c.author == self.forge.user and c.is_open), None)

    def cancel(self, task_id: TaskId, *, reason: str) -> Task:
        """End a live task; the issue is told and loses its label. Raises NotClaimable if it has ended already."""
        task = self.store.tasks.get(task_id)
        if task.is_terminal:
            raise NotClaimable(f"task {task.id} {ended(task.state)} already", fix="nothing is left to cancel")
        return self.store.tasks.cancel(task_id, by=self.by, reason=reason, notice=Notice.CANCELLED)

    def approve(self, task_id: TaskId, *, answer: str = "") -> Approval:
        """Let a blocked task go on; if its last attempt left a judged commit, that very commit is what may be published.
        Otherwise the agent is told ``answer`` and what people wrote on the issue since they were asked.

        Raises NotClaimable unless it is blocked, or for an answer where a judged commit is what waits; RefusedByPolicy for
        more text than an issue may have.
        """
        task = self.store.tasks.get(task_id)
        if task.state is not TaskState.BLOCKED:
            raise NotClaimable(
                f"task {task.id} waits for nobody", why=f"it is {task.state}", fix="only a blocked task is approved"
            )
        events = self.store.events.stream(task_stream(task.id))
        commit = judged_commit(task, events)
        if commit is not None and answer.strip():
            raise NotClaimable(
                f"task {task.id} asks nothing",
                why=f"its work waits as commit {commit}, and approving publishes just that",
                fix=f"approve it without an answer; or say it on the issue, and `tamma task retry {task.id}` begins anew",
            )
        text = "" if commit is not None else self._answer(task, answer)
        pinned = self.store.blobs.put(text.encode("utf-8", "replace")) if text else None
        freed = self.store.tasks.unblock(task_id, by=self.by, approved=commit, answer=pinned)
        return Approval(task=freed, answer=text, is_unanswered=has_asked(task, events) and commit is None and not text)

    def _answer(self, task: Task, own: str) -> str:
        said = said_since_asked(self.forge, task.ref, authors=self.intake.selection.authors)
        text = "\n\n".join(part for part in (said, f"{self.by} answered:\n{own}" if own.strip() else "") if part)
        size, size_max = len(text.encode("utf-8", "replace")), self.intake.limits.issue_bytes_max
        if size > size_max:
            raise RefusedByPolicy(
                f"the answers on {task.ref} have {size} bytes",
                why=f"limits.issue_bytes_max is {size_max}",
                fix="shorten the comments since Tamma's last one, or raise the limit",
            )
        return text

    def pause(self, repository: str | None, *, reason: str) -> bool:
        """Hold work back in one repository, or everywhere: nothing is begun or shown outside. False if it was held already.

        Raises ConfigError for a repository that is not served here.
        """
        return self.store.pauses.pause(self._scope(repository), by=self.by, reason=reason)

    def resume(self, repository: str | None) -> bool:
        """Let it go on; False if it was not held. Raises ConfigError as ``pause``."""
        return self.store.pauses.resume(self._scope(repository), by=self.by)

    def _scope(self, repository: str | None) -> str:
        if repository is None:
            return EVERYWHERE
        names = sorted(remote.name for remote in self.forge.repositories())
        if repository not in names:
            raise ConfigError(
                f"there is no repository {repository!r}",
                why=f"this forge serves {', '.join(names) or 'none'}",
                fix="name one of these, or none for all",
            )
        return f"{self.forge.name}/{repository}"

    def patch(self, task_id: TaskId) -> bytes:
        """The undelivered work of the newest attempt that left some. Raises NoSuchTask if none did, or there is no such task."""
        self.store.tasks.get(task_id)
        for event in reversed(self.store.events.stream(task_stream(task_id))):
            if isinstance(event.fact, WorkSalvaged | TreeAudited) and event.fact.patch:
                content = self.store.blobs.get(event.fact.patch)
                if content is not None:
                    return content
        if (file := self.store.events.archived_in(task_stream(task_id))) is not None:
            raise NoSuchTask(f"task {task_id} has no work here any more", why=f"its events were archived in {file}")
        raise NoSuchTask(f"task {task_id} left no work behind", fix=f"see `tamma explain {task_id}`")

    def output(self, task_id: TaskId, gate: str = "") -> list[tuple[GateJudged, str]]:
        """What the gates of the newest round printed, as it was kept: redacted, at most its beginning and end; or one ``gate``'s.

        Raises NoSuchTask if no gate was asked, or none of that name.
        """
        self.store.tasks.get(task_id)
        events = self.store.events.stream(task_stream(task_id))
        asked = last_round(events)
        if not asked:
            has_run = bool(agent_runs(events, self.store.blobs))
            printed = f"`tamma task output {task_id} agent` prints what the agent printed" if has_run else ""
            raise self._unasked(task_id, "no gate was asked about", fix=printed)
        found = [(judged, output_of(judged, self.store.blobs)) for judged in asked if gate in ("", judged.gate)]
        if not found:
            names = ", ".join(judged.gate for judged in asked)
            raise NoSuchTask(f"no gate {gate!r} was asked about task {task_id}", fix=f"name one of these: {names}")
        return found

    def agent_output(self, task_id: TaskId) -> list[AgentRun]:
        """What the agent printed in each of its runs of the newest attempt that had one. Raises NoSuchTask if none had."""
        self.store.tasks.get(task_id)
        runs = agent_runs(self.store.events.stream(task_stream(task_id)), self.store.blobs)
        if not runs:
            raise self._unasked(task_id, "no agent has run on")
        return runs

    def _unasked(self, task_id: TaskId, what: str, *, fix: str = "") -> NoSuchTask:
        file = self.store.events.archived_in(task_stream(task_id))
        return NoSuchTask(
            f"{what} task {task_id}" + (" that is known here" if file else ""),
            why=f"its events were archived in {file}" if file else "",
            fix=fix or f"see `tamma explain {task_id}`",
        )
