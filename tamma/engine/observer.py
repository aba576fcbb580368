"""Looks at the world for one tick: bounded, and reads only. What does not fit goes on at the next tick where this one ended."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final, TypeVar

from tamma.core.change import Change
from tamma.core.errors import ConfigError, TransientError
from tamma.core.ids import IssueRef, TaskId, branch_name
from tamma.core.issue import Issue
from tamma.core.pause import EVERYWHERE, Pause
from tamma.core.reconcile import Prospect, View
from tamma.core.selection import Why
from tamma.core.task import CLAIMABLE, Task, TaskKind
from tamma.engine.called_off import why_called_off
from tamma.engine.contained import trouble
from tamma.engine.coverage import Look
from tamma.engine.intake import Intake
from tamma.engine.plan import Policies
from tamma.ports.forge import Forge, Malformed
from tamma.ports.store import Scope, Store, Survey

T = TypeVar("T")
K = TypeVar("K")
_LIVE: Final = "live tasks"
_NOTICES: Final = "notices"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """What was seen, and what could not be: ``malformed`` issues, ``away`` repositories and issues of live tasks that are
    ``unread`` are told, never fatal. ``missed`` names what another look may see; ``is_moving`` while tasks served here
    run or wait for a worker; ``held`` names the issues whose work, or word, a pause holds back; ``looks`` tell which part of
    everything this was."""

    view: View
    looks: tuple[Look, ...] = ()
    is_moving: bool = False
    missed: tuple[str, ...] = ()
    malformed: tuple[Malformed, ...] = ()
    away: tuple[tuple[str, str], ...] = ()
    unread: tuple[tuple[IssueRef, str], ...] = ()
    pauses: tuple[Pause, ...] = ()
    held: tuple[str, ...] = ()


@dataclass(slots=True, kw_only=True)
class Observer:
    """Reads database and forge. ``store`` is None where there is no database yet (a dry run must not make one)."""

    store: Store | None
    forge: Forge
    intake: Intake
    policies: Policies
    capabilities: frozenset[str] = frozenset()
    _pauses: tuple[Pause, ...] = ()
    _places: dict[str, str] = field(default_factory=dict)
    _looks: list[Look] = field(default_factory=list)
    _away: list[tuple[str, str]] = field(default_factory=list)
    _malformed: list[Malformed] = field(default_factory=list)
    _unread: list[tuple[IssueRef, str]] = field(default_factory=list)
    _missed: list[str] = field(default_factory=list)

    def observe(self, *, slots: int) -> Sighting:
        """One view: of each repository's issues a page, of live tasks and notices another."""
        self._looks, self._away, self._malformed, self._unread, self._missed = [], [], [], [], []
        self._pauses = tuple(self.store.pauses.all()) if self.store else ()
        prospects = tuple(self._prospects())
        survey = self._survey(self.store) if self.store else None
        view = View(now=None, prospects=prospects, slots=slots)
        return Sighting(
            view=self._with_tasks(view, survey) if survey else view,
            looks=tuple(self._looks),
            is_moving=survey.is_moving if survey else False,
            missed=(*(name for name, _ in self._away), *self._missed),
            malformed=tuple(self._malformed),
            away=tuple(self._away),
            unread=tuple(self._unread),
            pauses=self._pauses,
            held=tuple(self._held(prospects, survey)),
        )

    def _held(self, prospects: Sequence[Prospect], survey: Survey | None) -> Iterator[str]:
        for prospect in prospects:
            if prospect.against and all(reason.why is Why.PAUSED for reason in prospect.against):
                yield str(prospect.issue.ref)
        waiting = [task for task in survey.live if task.state in CLAIMABLE] if survey else []
        for task in (*waiting, *(survey.notices if survey else ())):
            if self._pause_of(task.ref.repository) is not None:
                yield str(task.ref)

    def _pause_of(self, repository: str) -> Pause | None:
        scopes = {EVERYWHERE, f"{self.forge.name}/{repository}"}
        return next((pause for pause in self._pauses if pause.scope in scopes), None)

    def _survey(self, store: Store) -> Survey:
        leases, limit = self.policies.leases, self.policies.limits.candidates
        live_after, notices_after = self._places.get(_LIVE), self._places.get(_NOTICES)
        names = frozenset(remote.name for remote in self.forge.repositories())
        found = store.tasks.survey(
            Scope(
                forge=self.forge.name,
                repositories=names,
                workable=names - self.intake.unfit.keys() - {name for name in names if self._pause_of(name)},
                capabilities=self.capabilities,
            ),
            limit=limit,
            beat=leases.beat,
            missed_beats_max=leases.missed_beats_max,
            live_after=TaskId(live_after) if live_after else None,
            notices_after=TaskId(notices_after) if notices_after else None,
        )
        for of, page in ((_LIVE, found.live), (_NOTICES, found.notices)):
            self._went_on(of, page[-1].id if len(page) == limit else None)
        return found

    def _with_tasks(self, view: View, survey: Survey) -> View:
        seen = {c.issue.ref: c.issue for c in view.prospects}
        return replace(
            view,
            now=survey.now,
            expired=survey.expired,
            overdue=tuple(r.task_id for r in survey.overdue),
            silent_workers=survey.silent_workers,
            called_off=tuple(self._called_off(survey.live, seen)),
            untold=tuple(task for task in survey.notices if self._pause_of(task.ref.repository) is None),
            ready=survey.ready,
            occupied=survey.occupied,
            capabilities=self.capabilities,
            first_due=survey.first_due,
        )

    def _went_on(self, of: str, place: str | None) -> None:
        """A page was looked at; the next tick goes on at ``place``, or begins anew."""
        self._looks.append(Look(of=of, is_first=of not in self._places, is_last=place is None))
        if place is None:
            self._places.pop(of, None)
        else:
            self._places[of] = place

    def _prospects(self) -> Iterator[Prospect]:
        for remote in self.forge.repositories():
            found = _ask(partial(self._prospects_of, remote.name), remote.name, self._away)
            if found is None:  # begun anew, so that a page that cannot be judged does not hide those before it
                self._places.pop(_issues_of(remote.name), None)
            yield from found or ()

    def _prospects_of(self, repository: str) -> list[Prospect]:
        selection, of = self.policies.selection, _issues_of(repository)
        page = self.forge.open_issues(
            repository,
            label=selection.trigger,
            limit=self.policies.limits.candidates,
            after=self._places.get(of),
            order=selection.order,
            priority_prefix=selection.priority_prefix,
        )
        self._malformed.extend(page.malformed)
        newest = self._newest([issue.ref for issue in page.issues])
        open_changes = self.intake.open_changes(repository)

        def judge(issue: Issue, changes: Sequence[Change] = ()) -> Prospect | None:
            pause, task = self._pause_of(repository), newest.get(issue.ref)
            question = partial(
                self.intake.judge, issue, newest=task, open_changes=open_changes, pause=pause, changes=changes
            )
            return _ask(question, issue.ref, self._unread)

        def as_it_is(first: Prospect) -> Prospect | None:
            """What seems to be asked for once more may have been read before the worker of its last task took the label off."""
            ref = first.issue.ref
            if first.against or ref not in newest:
                return first
            issue = _ask(partial(self.forge.issue, ref), ref, self._unread)
            return judge(issue) if issue else None

        looked_at = [first for issue in page.issues if (first := judge(issue))]
        judged = [now for first in looked_at if (now := as_it_is(first))]
        changes = self._changes_of(repository, [first.issue.ref for first in judged if not first.against])
        found: list[Prospect] = []
        for issue in (first.issue for first in judged):
            of_issue = changes.get(branch_name(issue.ref), ())
            if isinstance(of_issue, Malformed):
                self._unread.append((issue.ref, f"a change cannot be read: {of_issue.why}"))
            elif prospect := judge(issue, of_issue):
                open_changes += 0 if prospect.against else 1
                found.append(prospect)
        self._went_on(of, page.next)
        return found

    def _changes_of(self, repository: str, refs: Sequence[IssueRef]) -> Mapping[str, Sequence[Change] | Malformed]:
        """Asked at once for all issues that nothing else speaks against."""
        return self.forge.changes_of(repository, heads=[branch_name(ref) for ref in refs]) if refs else {}

    def _newest(self, refs: Sequence[IssueRef]) -> dict[IssueRef, Task]:
        if self.store is None or not refs:
            return {}
        return dict(self.store.tasks.newest(refs, TaskKind.RESOLVE))

    def _called_off(self, live: Sequence[Task], seen: dict[IssueRef, Issue]) -> Iterator[tuple[Task, str]]:
        """Live tasks whose issue says stop. An issue that cannot be read says nothing."""
        for task in live:
            issue = seen.get(task.ref) or _ask(
                partial(self.forge.issue, task.ref), task.ref, self._unread, self._missed
            )  # fmt: skip
            reason = self._why_called_off(issue, task) if issue else ""
            if reason:
                yield task, reason

    def _why_called_off(self, issue: Issue, task: Task) -> str:
        question = partial(why_called_off, self.forge, issue, task, self.policies.selection)
        return _ask(question, task.ref, self._unread, self._missed) or ""


def _issues_of(repository: str) -> str:
    return f"issues of {repository}"


def _ask(question: Callable[[], T], about: K, notes: list[tuple[K, str]], missed: list[str] | None = None) -> T | None:
    """The answer, or None with the reason noted: no one repository or issue, not even by a bug, aborts the tick. Only what the
    operator must mend (ConfigError) ends the loop. ``missed`` gets it too if it was only away."""
    try:
        return question()
    except ConfigError:
        raise
    except Exception as error:  # noqa: BLE001 — an adapter's bug about one issue must not end the service of all others
        notes.append((about, trouble(error)))
        if missed is not None and isinstance(error, TransientError):
            missed.append(str(about))
        return None
