"""From an issue to its task: the snapshot that pins its text, and the reasons for and against."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from tamma.core.change import Change, ChangeState
from tamma.core.errors import ConfigError, NotClaimable, RefusedByPolicy, TammaError
from tamma.core.ids import IssueRef, branch_name
from tamma.core.issue import Issue
from tamma.core.pause import Pause
from tamma.core.policy import Limits, SelectionPolicy
from tamma.core.reconcile import Prospect
from tamma.core.selection import Reason, Why, priority_of, reasons_against
from tamma.core.task import Task, TaskKind
from tamma.engine.prompts import Snapshot
from tamma.ports.forge import Forge
from tamma.ports.store import Store, TaskDraft

# A person who names an issue has asked for it: the label and the limits of the loop do not bind him.
_WAIVED_FOR_A_PERSON = frozenset(
    {Why.NOT_LABELLED, Why.LABEL_MISSING, Why.OTHER_ASSIGNEE, Why.NOT_ASKED_AGAIN, Why.TOO_MANY_CHANGES}
)

_REFUSALS: Final[Mapping[Why, type[TammaError]]] = {
    Why.AUTHOR_NOT_ALLOWED: RefusedByPolicy,
    Why.TOO_LARGE: RefusedByPolicy,
    Why.REPOSITORY_UNFIT: ConfigError,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Intake:
    """Judges issues and makes their tasks. Without a store (a dry run where there is no database) it can only judge.

    ``unfit`` are repositories whose configuration is not enough to work on them: there, every task would only be blocked.
    """

    store: Store | None
    forge: Forge
    limits: Limits
    selection: SelectionPolicy
    unfit: Mapping[str, ConfigError] = field(default_factory=dict)

    def judge(
        self,
        issue: Issue,
        *,
        newest: Task | None,
        open_changes: int,
        pause: Pause | None = None,
        changes: Sequence[Change] | None = None,
    ) -> Prospect:
        """The prospect with every reason against it. ``changes`` are those from its branch; where they are not given, the forge
        is asked if nothing else speaks against."""
        against = self._reasons(issue, newest, open_changes, changes or ())
        if pause is not None:
            against = (Reason(why=Why.PAUSED, text=str(pause), fix=pause.fix), *against)
        if not against and changes is None:
            against = self._reasons(issue, newest, open_changes, self._changes(issue.ref))
        return Prospect(issue=issue, generation=newest.generation + 1 if newest else 1, against=against)

    def create(self, issue: Issue, *, generation: int, asked_by: str, priority: int = 0) -> Task:
        """Pin the issue's text and make the task. Raises as ``draft``, and NotClaimable while another generation is live."""
        draft = self.draft(issue, generation=generation, asked_by=asked_by, priority=priority)
        assert self.store is not None
        return self.store.tasks.create(draft)

    def draft(self, issue: Issue, *, generation: int, asked_by: str, priority: int = 0) -> TaskDraft:
        """The task with the issue's text pinned, not yet made. Raises RefusedByPolicy if the text is too large to pin."""
        if issue.size_bytes > self.limits.issue_bytes_max:
            raise RefusedByPolicy(
                f"the text of {issue.ref} has {issue.size_bytes} bytes",
                why=f"limits.issue_bytes_max is {self.limits.issue_bytes_max}",
                fix="shorten the issue, or raise the limit",
            )
        assert self.store is not None
        snapshot = self.store.blobs.put(Snapshot.of(issue).to_bytes())
        return TaskDraft(
            ref=issue.ref,
            title=issue.title,
            digest=issue.digest,
            snapshot=snapshot,
            asked_by=asked_by,
            generation=generation,
            priority=priority,
        )

    def answer(self, ref: IssueRef, *, asked_by: str) -> Task | Change:
        """What there is to do for a person who names an issue: its live task, which may be there since somebody asked once
        more; an open or merged change of ours, the answer already; or a new task.

        Raises as ``find_or_create``, and NotClaimable for an issue whose change a human closed.
        """
        live = self.find_live(ref)
        known = None if live else self._change_of(ref)
        if known is not None and known.state is ChangeState.CLOSED:
            raise NotClaimable(
                f"change {known.id} for {ref} was closed unmerged",
                why="a human said no",
                fix=f"`tamma task retry {ref}` asks for another",
            )
        return live or known or self.find_or_create(ref, asked_by=asked_by)

    def _change_of(self, ref: IssueRef) -> Change | None:
        """The newest change of ours for an issue, any state."""
        return next((c for c in self._changes(ref) if c.author == self.forge.user), None)

    def _changes(self, ref: IssueRef) -> Sequence[Change]:
        return self.forge.changes(ref.repository, head=branch_name(ref))

    def find_or_create(self, ref: IssueRef, *, asked_by: str) -> Task:
        """The live task of an issue, or a new one. Raises NoSuchTask, NotClaimable (closed, or its change is open or was closed
        by a human), RefusedByPolicy (author, size), ConfigError (its repository cannot be worked on)."""
        issue = self.forge.issue(ref)
        newest = self.newest(ref)
        if newest is not None and not newest.is_terminal:
            return newest
        against = self._reasons(issue, newest, 0, self._changes(ref))
        refuse_person(issue, against)
        return self.create(
            issue, generation=newest.generation + 1 if newest else 1, asked_by=asked_by, priority=self.priority(issue)
        )

    def open_changes(self, repository: str) -> int:
        """What counts against the limit of a repository: ours that are open, and those that tasks under way may yet open."""
        under_way = self.store.tasks.under_way(forge=self.forge.name, repository=repository) if self.store else 0
        return self.forge.count_open_changes(repository) + under_way

    def newest(self, ref: IssueRef) -> Task | None:
        """The newest generation of an issue's task."""
        return self.store.tasks.newest([ref], TaskKind.RESOLVE).get(ref) if self.store else None

    def find_live(self, ref: IssueRef) -> Task | None:
        """The issue's task that has not ended."""
        newest = self.newest(ref)
        return newest if newest is not None and not newest.is_terminal else None

    def priority(self, issue: Issue) -> int:
        """Of the task the issue would get."""
        return priority_of(issue, self.selection)

    def _reasons(
        self, issue: Issue, newest: Task | None, open_changes: int, changes: Sequence[Change]
    ) -> tuple[Reason, ...]:
        if (error := self.unfit.get(issue.ref.repository)) is not None:
            text = f"its repository cannot be worked on: {error}"
            return (Reason(why=Why.REPOSITORY_UNFIT, text=text, fix=error.fix),)
        return reasons_against(
            issue, task=newest, changes=changes, open_changes=open_changes, policy=self.selection, limits=self.limits, user=self.forge.user
        )  # fmt: skip


def refuse_person(issue: Issue, against: tuple[Reason, ...]) -> None:
    """Raise for the first reason that binds even a person who names the issue."""
    for reason in against:
        if reason.why in _WAIVED_FOR_A_PERSON:
            continue
        error = _REFUSALS.get(reason.why, NotClaimable)
        raise error(f"{issue.ref} is not taken", why=reason.text, fix=reason.fix)
