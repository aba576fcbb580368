"""Looks at the world for one tick: bounded, and reads only."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from tamma.core.errors import ConfigError
from tamma.core.ids import IssueRef
from tamma.core.issue import Issue
from tamma.core.reconcile import Candidate, View
from tamma.core.selection import reason_to_stop
from tamma.core.task import LIVE, Task, TaskKind
from tamma.engine.contained import trouble
from tamma.engine.intake import Intake
from tamma.engine.plan import Policies
from tamma.ports.forge import Forge, Malformed
from tamma.ports.store import Store

T = TypeVar("T")
K = TypeVar("K")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """What was seen, and what could not be: ``malformed`` issues, ``away`` repositories and issues of live tasks that are
    ``unread`` are told, never fatal."""

    view: View
    malformed: tuple[Malformed, ...] = ()
    away: tuple[tuple[str, str], ...] = ()
    unread: tuple[tuple[IssueRef, str], ...] = ()


@dataclass(slots=True, kw_only=True)
class Observer:
    """Reads database and forge. ``store`` is None where there is no database yet (a dry run must not make one)."""

    store: Store | None
    forge: Forge
    intake: Intake
    policies: Policies
    capabilities: frozenset[str] = frozenset()
    _away: list[tuple[str, str]] = field(default_factory=list)
    _malformed: list[Malformed] = field(default_factory=list)
    _unread: list[tuple[IssueRef, str]] = field(default_factory=list)

    def observe(self, *, slots: int, takes_new: bool = True) -> Sighting:
        """One view. With ``takes_new`` false (draining) no candidates are looked for."""
        self._away, self._malformed, self._unread = [], [], []
        candidates = tuple(self._candidates()) if takes_new else ()
        view = self._with_tasks(candidates, slots) if self.store else View(now=None, candidates=candidates, slots=slots)
        return Sighting(view=view, malformed=tuple(self._malformed), away=tuple(self._away), unread=tuple(self._unread))

    def _with_tasks(self, candidates: tuple[Candidate, ...], slots: int) -> View:
        assert self.store is not None
        leases = self.policies.leases
        survey = self.store.tasks.survey(
            limit=self.policies.limits.candidates, beat=leases.beat, missed_beats_max=leases.missed_beats_max
        )
        return View(
            now=survey.now,
            expired=survey.expired,
            overdue=tuple(r.task_id for r in survey.overdue),
            silent_workers=survey.silent_workers,
            called_off=tuple(self._called_off({c.issue.ref: c.issue for c in candidates})),
            untold=tuple(task for task in survey.notices if self._serves(task.ref)),
            candidates=candidates,
            ready=tuple(task for task in survey.ready if self._serves(task.ref)),
            occupied=survey.occupied,
            slots=slots,
            capabilities=self.capabilities,
            first_due=survey.first_due,
        )

    def _candidates(self) -> Iterator[Candidate]:
        for remote in self.forge.repositories():
            yield from _ask(partial(self._candidates_of, remote.name), remote.name, self._away) or ()

    def _candidates_of(self, repository: str) -> list[Candidate]:
        limits = self.policies.limits
        page = self.forge.open_issues(repository, label=self.policies.selection.trigger, limit=limits.candidates)
        self._malformed.extend(page.malformed)
        newest = self._newest([issue.ref for issue in page.issues])
        open_changes = self.forge.count_open_changes(repository)
        found: list[Candidate] = []
        for issue in page.issues:
            candidate = self.intake.judge(issue, newest=newest.get(issue.ref), open_changes=open_changes)
            open_changes += 0 if candidate.against else 1
            found.append(candidate)
        return found

    def _newest(self, refs: Sequence[IssueRef]) -> dict[IssueRef, Task]:
        if self.store is None or not refs:
            return {}
        return dict(self.store.tasks.newest(refs, TaskKind.RESOLVE))

    def _serves(self, ref: IssueRef) -> bool:
        """Whether the issue is of a forge and repository of ours: a database may serve other installations too."""
        return ref.forge == self.forge.name and ref.repository in {r.name for r in self.forge.repositories()}

    def _called_off(self, seen: dict[IssueRef, Issue]) -> Iterator[tuple[Task, str]]:
        """Live tasks whose issue says stop. An issue that cannot be read says nothing."""
        assert self.store is not None
        for task in self.store.tasks.list(states=LIVE, limit=self.policies.limits.candidates):
            if not self._serves(task.ref):
                continue
            issue = seen.get(task.ref) or _ask(partial(self.forge.issue, task.ref), task.ref, self._unread)
            reason = reason_to_stop(issue, task, self.policies.selection) if issue else ""
            if reason:
                yield task, reason


def _ask(question: Callable[[], T], about: K, notes: list[tuple[K, str]]) -> T | None:
    """The answer, or None with the reason noted: no one repository or issue, not even by a bug, aborts the tick."""
    try:
        return question()
    except ConfigError:
        raise
    except Exception as error:  # noqa: BLE001 — an adapter's bug about one issue must not end the service of all others
        notes.append((about, trouble(error)))
        return None
