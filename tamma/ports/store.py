"""State in the database. Every write is one guarded statement (for effects: one short transaction) with its event; every write of an attempt is fenced.

All methods raise TransientError when the database is away; what was under way is then *unknown* and must be reread.
Time is the database's: no method takes a moment, only durations.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from tamma.core.attempt import Decision, Phase
from tamma.core.effect import Effect, EffectKind
from tamma.core.event import AttemptFact, Event, Fact, WorkSalvaged
from tamma.core.fold import Tables
from tamma.core.ids import BlobId, IssueRef, Oid, TaskId, WorkerId
from tamma.core.lease import Lease, Renewal
from tamma.core.pause import Pause
from tamma.core.task import Notice, Task, TaskKind, TaskState
from tamma.core.worker import WorkerRecord as WorkerRecord
from tamma.core.worker import WorkerRole as WorkerRole
from tamma.core.worker import WorkerState as WorkerState


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskDraft:
    """A task to create. ``snapshot`` names the blob with the issue's pinned text (see ``engine.prompts.Snapshot``)."""

    ref: IssueRef
    title: str
    digest: str
    snapshot: BlobId
    asked_by: str
    kind: TaskKind = TaskKind.RESOLVE
    generation: int = 1
    priority: int = 0
    capabilities: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A task that is now ours, and the lease that says so."""

    task: Task
    lease: Lease


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """What must not have happened since the decider looked (a Dynamic Consistency Boundary): an event of one of these types
    that carries all these tags, at a position later than ``after``.

    It guards against other conditional appends, which lock their tags; only types written that way may be named.
    """

    types: tuple[str, ...]
    tags: tuple[str, ...]
    after: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Reservation:
    """A slot held between an orchestrator's decision and the worker's claim."""

    task_id: TaskId
    by: WorkerId
    until: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What one orchestrator serves: repositories of a forge, those of them it may start workers for (``workable``), and what
    its workers can do. A database may hold tasks of others."""

    forge: str
    repositories: frozenset[str]
    workable: frozenset[str]
    capabilities: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """Bounded facts for one tick, read in one snapshot; ``now`` is the database's clock in it.

    Of everybody: ``expired`` are running tasks whose lease is over; ``occupied`` counts running and reserved tasks by
    (forge, repository). Of the scope: ``ready`` are claimable, due and unreserved tasks it can work on, best first, at most
    ``limit`` of each repository, and ``first_due`` is when the next will be; ``is_moving`` if any runs or can be
    worked on, now or later; ``live`` and ``notices`` (their issue has yet to be told) are a page by id, at most ``limit``.
    """

    now: datetime
    expired: tuple[Task, ...]
    ready: tuple[Task, ...]
    occupied: Mapping[tuple[str, str], int]
    overdue: tuple[Reservation, ...]
    notices: tuple[Task, ...]
    silent_workers: tuple[WorkerId, ...]
    live: tuple[Task, ...]
    is_moving: bool
    running: tuple[Task, ...]
    first_due: datetime | None = None


class Tasks(Protocol):
    """Creation, looking, and what an orchestrator or a human decides."""

    def create(self, draft: TaskDraft) -> Task:
        """The new task, or the one that already has this id (creation is idempotent). Raises NotClaimable if another
        generation of the same (issue, kind) is still live."""
        ...

    def get(self, task_id: TaskId) -> Task:
        """Raises NoSuchTask."""
        ...

    def starting_with(self, prefix: str, *, limit: int) -> Sequence[Task]:
        """Those whose id begins with ``prefix`` (hex digits and dashes only), by id."""
        ...

    def newest(self, refs: Collection[IssueRef], kind: TaskKind) -> Mapping[IssueRef, Task]:
        """The newest generation for each issue that has one; one query."""
        ...

    def list(self, *, states: Collection[TaskState] = (), limit: int = 200) -> Sequence[Task]:
        """Newest first; no states means all."""
        ...

    def counts(self) -> Mapping[TaskState, int]:
        """Tasks per state, zeros included."""
        ...

    def under_way(self, *, forge: str, repository: str) -> int:
        """How many tasks of a repository may yet open a change without being asked: live, not blocked, none opened so far."""
        ...

    def lease(self, task_id: TaskId) -> Lease | None:
        """The lease of a running task, live or not."""
        ...

    def survey(
        self,
        scope: Scope,
        *,
        limit: int,
        beat: timedelta,
        missed_beats_max: int,
        live_after: TaskId | None = None,
        notices_after: TaskId | None = None,
    ) -> Survey:
        """What a tick needs to know. Reads only."""
        ...

    def reserve(
        self, task_id: TaskId, *, by: WorkerId, duration: timedelta, running_max: int, running_per_repository_max: int
    ) -> bool:
        """Take a slot for the task; False if it is not claimable and due any more, is reserved, or no slot is free.

        Limits hold over all orchestrators on the database.
        """
        ...

    def unreserve(self, task_id: TaskId, *, by: WorkerId | None = None) -> bool:
        """Give a reservation back: our own, or (``by`` None) any that is overdue."""
        ...

    def cancel(
        self, task_id: TaskId, *, by: str, reason: str, notice: Notice | None = None, epoch: int | None = None
    ) -> Task:
        """From any live state; a terminal task is returned as it is. A running attempt finds out at its next write.
        ``notice`` becomes the task's (what the issue has yet to be told), replacing an older one. Raises NotClaimable if
        ``epoch`` is given and the task was claimed since."""
        ...

    def unblock(self, task_id: TaskId, *, by: str, approved: Oid | None = None, answer: BlobId | None = None) -> Task:
        """A human lets a blocked task go on, with outages and interruptions counted afresh. Raises NotClaimable unless it is
        blocked."""
        ...

    def settle_notice(self, task_id: TaskId, notice: Notice, *, epoch: int, by: WorkerId) -> bool:
        """The issue has been told of attempt ``epoch``; False if somebody said so first, or a later attempt has news."""
        ...


class Claims(Protocol):
    """The attempt's own writes. All but the claims raise LeaseLost when the lease is not ours or over, and TaskCancelled
    when the task was cancelled under this epoch; a renewal says that in its reply."""

    def claim(self, task_id: TaskId, *, worker: WorkerId, duration: timedelta) -> Claim:
        """By id: ignores due time, rank, limits and reservations. Raises NoSuchTask, NotClaimable."""
        ...

    def claim_next(self, *, worker: WorkerId, capabilities: Collection[str], duration: timedelta) -> Claim | None:
        """The best due, unreserved task whose wanted capabilities are a subset of ours; None if there is none."""
        ...

    def renew(self, lease: Lease, *, duration: timedelta) -> Renewal:
        """More time, and what the worker is asked for meanwhile. Writes no event: expiry is volatile."""
        ...

    def enter(self, lease: Lease, phase: Phase) -> None:
        """The attempt goes on to its next phase."""
        ...

    def record(self, lease: Lease, fact: AttemptFact) -> None:
        """A fact of this attempt; ``ChangeDelivered`` also sets the task's ``change``."""
        ...

    def salvage(self, lease: Lease, fact: WorkSalvaged) -> bool:
        """The one fact that may outlive its lease, since it changes no state: undelivered work is kept. Written as long as no
        later attempt has begun; False otherwise."""
        ...

    def settle(self, claim: Claim, decision: Decision, *, reason: str) -> Task:
        """The attempt's end. The task as the attempt leaves it."""
        ...

    def reap(
        self,
        task_id: TaskId,
        *,
        epoch: int,
        decision: Decision,
        by: WorkerId,
        reason: str,
        dead: WorkerId | None = None,
    ) -> Task | None:
        """End an attempt that gave no word: only if ``epoch`` still runs, and its lease is over or its worker is ``dead``
        (the caller saw that very process end). None otherwise."""
        ...


class Effects(Protocol):
    """Intent before, record after."""

    def intend(self, lease: Lease, *, key: str, kind: EffectKind, intent: Mapping[str, str]) -> Effect:
        """Write the intent under the lease. An effect already ``done`` is returned as it is, unchanged."""
        ...

    def record(self, lease: Lease, *, key: str, result: Mapping[str, str]) -> Effect:
        """It is done, and what came of it. A done effect stays as it is."""
        ...

    def abandon(self, lease: Lease, *, key: str, result: Mapping[str, str]) -> Effect:
        """It will not be done, and why. A done effect stays as it is."""
        ...

    def intend_unleased(
        self, task_id: TaskId, *, key: str, kind: EffectKind, intent: Mapping[str, str], by: WorkerId, hold: timedelta
    ) -> Effect | None:
        """As ``intend`` for effects after an attempt's end (comments, labels): one holder at a time. None if somebody else
        holds it now."""
        ...

    def holds(self, key: str, *, by: WorkerId) -> bool:
        """Whether ``by`` still holds an effect that it intended without a lease. Reads only."""
        ...

    def record_unleased(self, task_id: TaskId, *, key: str, result: Mapping[str, str], by: WorkerId) -> Effect:
        """Its record, by the holder. A second record of a done effect is a no-op."""
        ...

    def of_task(self, task_id: TaskId) -> Sequence[Effect]:
        """All of one task."""
        ...


class Events(Protocol):
    """The log."""

    def stream(self, name: str, *, after: int = 0) -> Sequence[Event]:
        """One stream in order, versions above ``after``."""
        ...

    def tagged(self, tag: str, *, limit: int = 1000, at: datetime | None = None) -> Sequence[Event]:
        """The newest ``limit`` events with a tag, in log order; with ``at`` of what had happened by then."""
        ...

    def latest(self, *, limit: int, at: datetime | None = None) -> Sequence[Event]:
        """The newest ones, in log order; with ``at`` of what had happened by then."""
        ...

    def all(self, *, at: datetime | None = None) -> Iterator[Event]:
        """The whole log in order, in batches; with ``at`` only what had happened by then."""
        ...

    def fold(self, *, at: datetime | None = None) -> Tables:
        """The tables as the log tells them, from where its archives end; with ``at`` as they were then. Of a moment before the
        newest archived event it cannot tell: the caller looks (``ARCHIVE_STREAM``)."""
        ...

    def archived_in(self, stream: str) -> str | None:
        """The file that the newest of a stream's archived events are in; None if none were archived."""
        ...

    def append(
        self, fact: Fact, *, stream: str, tags: Sequence[str], unless: Condition, correlation: str | None = None
    ) -> Event | None:
        """The next event of a stream that has no row of its own; None, and nothing written, if ``unless`` is met."""
        ...

    def head(self) -> int:
        """A cursor at the end of the log."""
        ...

    def tail(self, cursor: int, *, limit: int = 500) -> tuple[Sequence[Event], int]:
        """Events after the cursor and the next cursor; waits for open writers, so that none is ever skipped."""
        ...


class Pauses(Protocol):
    """The switches that hold work back. A scope is ``core.pause.EVERYWHERE`` or ``FORGE/REPOSITORY``."""

    def all(self) -> Sequence[Pause]:
        """Those in force, the widest first."""
        ...

    def of(self, ref: IssueRef) -> Pause | None:
        """The one that holds an issue's work back."""
        ...

    def pause(self, scope: str, *, by: str, reason: str) -> bool:
        """Switch it on; False if it was."""
        ...

    def resume(self, scope: str, *, by: str) -> bool:
        """Switch it off; False if it was."""
        ...


class Workers(Protocol):
    """The registry."""

    def register(
        self, worker: WorkerId, *, host: str, pid: int, role: WorkerRole, release: str, capabilities: Collection[str]
    ) -> None:
        """Idempotent."""
        ...

    def beat(self, worker: WorkerId) -> None:
        """A sign of life; an offline worker is again what it was before (online or draining)."""
        ...

    def change_state(self, worker: WorkerId, state: WorkerState, *, reason: str) -> None:
        """A no-op if it is in that state already, or gone."""
        ...

    def expire(self, worker: WorkerId, *, beat: timedelta, missed_beats_max: int) -> bool:
        """Offline, if it has missed that many beats by the database's clock."""
        ...

    def list(self, *, states: Collection[WorkerState] = (), limit: int = 200) -> Sequence[WorkerRecord]:
        """Newest first; no states means all."""
        ...


class Blobs(Protocol):
    """Bulk text and patches by the SHA-256 of their content."""

    def put(self, content: bytes) -> BlobId:
        """Idempotent. Raises PermanentError above the size limit (32 MiB)."""
        ...

    def get(self, blob: BlobId) -> bytes | None:
        """None where it is not there (any more)."""
        ...


class BaselineCache(Protocol):
    """What gates said about a base commit, by commit and gate definition."""

    def get(self, key: str, *, max_age: timedelta | None = None) -> bytes | None:
        """None where it is not known, or was put longer ago than ``max_age`` (by the database's clock)."""
        ...

    def put(self, key: str, value: bytes) -> None:
        """Idempotent: the first value stays, for a day at least; then a later one takes its place. What nobody put for 90
        days may go."""
        ...


class Store(Protocol):
    """All of it, over one database."""

    @property
    def tasks(self) -> Tasks: ...
    @property
    def claims(self) -> Claims: ...
    @property
    def effects(self) -> Effects: ...
    @property
    def events(self) -> Events: ...
    @property
    def pauses(self) -> Pauses: ...
    @property
    def workers(self) -> Workers: ...
    @property
    def blobs(self) -> Blobs: ...
    @property
    def baselines(self) -> BaselineCache: ...

    def ping(self) -> datetime:
        """The database's clock."""
        ...

    def wait_for_news(self, timeout: timedelta) -> bool:
        """Until something was written (LISTEN/NOTIFY, a hint) or the time is over; True if there may be news."""
        ...

    def close(self) -> None:
        """Give connections back."""
        ...
