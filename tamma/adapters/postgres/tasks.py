"""Tasks: creation, looking, and what an orchestrator or a human decides about them."""
# ruff: noqa: S608 — SQL is put together from constants of this package only

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from typing import Any, Final

from tamma.adapters.postgres import rows
from tamma.adapters.postgres.anchors import ARCHIVED_IN
from tamma.adapters.postgres.claims import no_such_task
from tamma.adapters.postgres.dispatch import release, reserve
from tamma.adapters.postgres.pool import Pool
from tamma.adapters.postgres.sql import (
    BY_TAG,
    IS_LIVE,
    IS_RUNNING,
    LEASE_OFF,
    RESERVATION_OFF,
    TASK_COLUMNS,
    TASK_TAGS,
    change,
    locked,
)
from tamma.adapters.postgres.survey import survey
from tamma.core.attempt import Outcome
from tamma.core.errors import NoSuchTask, NotClaimable
from tamma.core.event import NoticeSent, TaskCancelled, TaskCreated, TaskUnblocked, task_stream
from tamma.core.ids import BlobId, IssueRef, Oid, TaskId, WorkerId, correlation_id, task_id
from tamma.core.lease import Lease
from tamma.core.task import Notice, Task, TaskKind, TaskState, Trigger, next_state
from tamma.ports.store import Scope, Survey, TaskDraft

# Made unless another task was made for the issue since the generation before: two deciders who read the same past make one
# task, whoever else writes meanwhile. The partial unique index on live tasks says the same once more. An id is used once,
# also where its row went to an archive.
_CREATE: Final = f"""WITH draft AS MATERIALIZED
        (SELECT %(id)s::text AS id, %(forge)s::text AS forge, %(repository)s::text AS repository, %(issue)s::text AS issue),
    free AS MATERIALIZED (SELECT draft.*, {TASK_TAGS} AS tags FROM draft WHERE NOT EXISTS
        (SELECT FROM task WHERE forge = draft.forge AND repository = draft.repository AND issue = draft.issue
                                AND kind = %(kind)s AND {IS_LIVE})
        AND NOT EXISTS (SELECT FROM anchor WHERE stream = 'task:' || draft.id)),
    told AS MATERIALIZED (SELECT free.*, told_at AS at, told_hash AS head FROM free, tamma_append(
        'task:' || id, '{TaskCreated.TYPE}', tags, %(correlation)s, %(data)s::jsonb,
        ARRAY['{TaskCreated.TYPE}'], tags[2:2],
        (SELECT coalesce(max(begun), 0) FROM
            (SELECT position AS begun FROM event WHERE stream = 'task:' || %(before)s::text AND version = 1
             UNION ALL SELECT first FROM anchor WHERE stream = 'task:' || %(before)s::text) AS before))),
    t AS (INSERT INTO task (id, forge, repository, issue, kind, generation, state, title, digest, snapshot,
                            correlation, created_at, asked_by, priority, capabilities, head)
          SELECT id, forge, repository, issue, %(kind)s::text, %(generation)s::int, '{TaskState.QUEUED}', %(title)s::text,
                 %(digest)s::text, %(snapshot)s::text, %(correlation)s::text, at, %(asked_by)s::text, %(priority)s::int,
                 %(capabilities)s::text[], head
          FROM told RETURNING task.*)
    SELECT {TASK_COLUMNS} FROM t"""
_GET: Final = f"SELECT {TASK_COLUMNS} FROM task WHERE id = %(task_id)s"
_STARTING: Final = f"SELECT {TASK_COLUMNS} FROM task WHERE starts_with(id, %(prefix)s) ORDER BY id LIMIT %(limit)s"
_LEASE: Final = f"SELECT epoch, worker, lease_expires_at FROM task WHERE id = %(task_id)s AND {IS_RUNNING}"
_NEWEST: Final = f"""SELECT DISTINCT ON (forge, repository, issue) {TASK_COLUMNS}
    FROM task JOIN unnest(%(forges)s::text[], %(repositories)s::text[], %(issues)s::text[])
         AS wanted (f, r, i) ON forge = f AND repository = r AND issue = i
    WHERE kind = %(kind)s ORDER BY forge, repository, issue, generation DESC"""
_LIST: Final = f"SELECT {TASK_COLUMNS} FROM task ORDER BY created_at DESC, id LIMIT %(limit)s"
_LIST_IN: Final = f"""SELECT {TASK_COLUMNS} FROM task WHERE state = ANY(%(states)s::text[])
    ORDER BY created_at DESC, id LIMIT %(limit)s"""
_UNDER_WAY: Final = f"""SELECT count(*) FROM task WHERE forge = %(forge)s AND repository = %(repository)s AND {IS_LIVE}
    AND state <> '{TaskState.BLOCKED}' AND change IS NULL"""
_COUNTS: Final = "SELECT state, count(*) FROM task GROUP BY state"

_CANCEL: Final = change(
    held=locked(f"id = %(task_id)s AND {IS_LIVE} AND epoch = coalesce(%(epoch)s::bigint, epoch)"),
    sets=f"state = '{next_state(TaskState.QUEUED, Trigger.CANCEL)}', {LEASE_OFF}, {RESERVATION_OFF}, run_after = NULL, "
    f"finished_at = told.at, outcome = '{Outcome.CANCELLED}', reason = %(reason)s, notice = %(notice)s",
    type_="'TASK.CANCEL.SUCCEEDED'",
)
# An untold "asked" is moot once it is answered; and whoever let it go on has looked at what was away or interrupted it.
_UNBLOCK: Final = change(
    held=locked(f"id = %(task_id)s AND state = '{TaskState.BLOCKED}'"),
    sets=f"state = '{next_state(TaskState.BLOCKED, Trigger.UNBLOCK)}', approved = %(approved)s, notice = NULL, "
    "infra = 0, interruptions = 0",
    type_="'TASK.UNBLOCK.SUCCEEDED'",
)
_SETTLE_NOTICE: Final = change(
    held=locked("id = %(task_id)s AND notice = %(notice)s AND epoch = %(epoch)s"),
    sets="notice = NULL",
    type_="'TASK.NOTICE.SUCCEEDED'",
    tags=BY_TAG,
    returns="id",
)
_CREATE_TRIES: Final = 5


class PostgresTasks:
    """``ports.store.Tasks``."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    def create(self, draft: TaskDraft) -> Task:
        """The new task, or the one that already has this id."""
        wanted = _draft_values(draft)
        for _ in range(_CREATE_TRIES):
            if (row := self._pool.write(_CREATE, wanted)) is not None:
                return rows.task_of(row)
            if (task := self._find(wanted["id"])) is not None:
                return task
            if (other := self._live(draft)) is not None:
                raise NotClaimable(
                    f"issue {draft.ref} has a live task already",
                    why=f"task {other.id} (generation {other.generation}) is {other.state}",
                    fix=f"wait for it, or run: tamma task cancel {other.id}",
                )
        raise NotClaimable(
            f"no task could be made for issue {draft.ref}", why="others make and end its tasks meanwhile"
        )

    def get(self, task_id: TaskId) -> Task:
        """Raises NoSuchTask."""
        task = self._find(rows.text(task_id))
        if task is None:
            raise self._gone(task_id) or no_such_task(task_id)
        return task

    def starting_with(self, prefix: str, *, limit: int) -> Sequence[Task]:
        """Those whose id begins with ``prefix``, by id."""
        found = self._pool.all(_STARTING, {"prefix": rows.text(prefix), "limit": limit})
        return [rows.task_of(row) for row in found]

    def newest(self, refs: Collection[IssueRef], kind: TaskKind) -> Mapping[IssueRef, Task]:
        """The newest generation for each issue that has one; one query."""
        wanted = {
            "forges": [rows.text(ref.forge) for ref in refs],
            "repositories": [rows.text(ref.repository) for ref in refs],
            "issues": [rows.text(ref.number) for ref in refs],
            "kind": kind.value,
        }
        found = [rows.task_of(row) for row in self._pool.all(_NEWEST, wanted)] if refs else []
        return {task.ref: task for task in found}

    def list(self, *, states: Collection[TaskState] = (), limit: int = 200) -> Sequence[Task]:
        """Newest first; no states means all."""
        if not states:
            return [rows.task_of(row) for row in self._pool.all(_LIST, {"limit": limit})]
        wanted = {"states": [state.value for state in states], "limit": limit}
        return [rows.task_of(row) for row in self._pool.all(_LIST_IN, wanted)]

    def counts(self) -> Mapping[TaskState, int]:
        """Tasks per state, zeros included."""
        return dict.fromkeys(TaskState, 0) | {TaskState(state): n for state, n in self._pool.all(_COUNTS)}

    def under_way(self, *, forge: str, repository: str) -> int:
        """How many tasks of a repository may yet open a change without being asked."""
        row = self._pool.one(_UNDER_WAY, {"forge": rows.text(forge), "repository": rows.text(repository)})
        assert row is not None
        return int(row[0])

    def lease(self, task_id: TaskId) -> Lease | None:
        """The lease of a running task, live or not."""
        row = self._pool.one(_LEASE, {"task_id": rows.text(task_id)})
        if row is None:
            return None
        return Lease(task_id=task_id, epoch=row[0], worker=WorkerId(row[1]), expires_at=rows.utc(row[2]))

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
        """What a tick needs to know, in one snapshot. Reads only."""
        patience = beat * missed_beats_max
        return survey(
            self._pool, scope, limit=limit, patience=patience, live_after=live_after, notices_after=notices_after
        )

    def reserve(
        self, task_id: TaskId, *, by: WorkerId, duration: timedelta, running_max: int, running_per_repository_max: int
    ) -> bool:
        """Take a slot for the task, within limits that hold over all orchestrators."""
        return reserve(
            self._pool,
            task_id,
            by=by,
            duration=duration,
            running_max=running_max,
            running_per_repository_max=running_per_repository_max,
        )

    def unreserve(self, task_id: TaskId, *, by: WorkerId | None = None) -> bool:
        """Give a reservation back: our own, or (``by`` None) any that is overdue."""
        return release(self._pool, task_id, by=by)

    def cancel(
        self, task_id: TaskId, *, by: str, reason: str, notice: Notice | None = None, epoch: int | None = None
    ) -> Task:
        """From any live state; a terminal task is returned as it is."""
        fact = TaskCancelled(by=by, reason=reason, notice=notice)
        values = {
            "task_id": rows.text(task_id),
            "reason": rows.text(reason),
            "notice": None if notice is None else notice.value,
            "epoch": epoch,
            "data": rows.data_of(fact),
        }
        row = self._pool.write(_CANCEL, values)
        if row is not None:
            return rows.task_of(row)
        task = self.get(task_id)
        if not task.is_terminal:
            raise NotClaimable(
                f"task {task_id} was claimed meanwhile", why=f"worker {task.worker} began attempt {task.epoch}"
            )
        return task

    def unblock(self, task_id: TaskId, *, by: str, approved: Oid | None = None, answer: BlobId | None = None) -> Task:
        """A human lets a blocked task go on."""
        fact = TaskUnblocked(by=by, approved=approved, answer=answer or "")
        values = {"task_id": rows.text(task_id), "approved": rows.text_or_none(approved), "data": rows.data_of(fact)}
        row = self._pool.write(_UNBLOCK, values)
        if row is None:
            task = self.get(task_id)
            raise NotClaimable(f"task {task_id} does not wait for a human", why=f"it is {task.state}")
        return rows.task_of(row)

    def settle_notice(self, task_id: TaskId, notice: Notice, *, epoch: int, by: WorkerId) -> bool:
        """The issue has been told of attempt ``epoch``; False if somebody said so first, or a later attempt has news."""
        values = {
            "task_id": rows.text(task_id),
            "notice": notice.value,
            "epoch": epoch,
            "by": rows.text(by),
            "data": rows.data_of(NoticeSent(notice=notice, by=by)),
        }
        return self._pool.one(_SETTLE_NOTICE, values) is not None

    def _gone(self, task_id: TaskId) -> NoSuchTask | None:
        row = self._pool.one(ARCHIVED_IN, {"stream": rows.text(task_stream(task_id))})
        return None if row is None else NoSuchTask(f"task {task_id} was archived", why=f"all of it is in {row[0]}")

    def _find(self, task_id: str) -> Task | None:
        row = self._pool.one(_GET, {"task_id": task_id})
        return None if row is None else rows.task_of(row)

    def _live(self, draft: TaskDraft) -> Task | None:
        task = next(iter(self.newest([draft.ref], draft.kind).values()), None)
        return None if task is None or task.is_terminal else task


def _draft_values(draft: TaskDraft) -> dict[str, Any]:
    ref = draft.ref
    capabilities = tuple(sorted(set(draft.capabilities)))
    fact = TaskCreated(
        task_id=task_id(ref, kind=draft.kind, generation=draft.generation),
        forge=ref.forge,
        repository=ref.repository,
        issue=ref.number,
        kind=draft.kind,
        generation=draft.generation,
        title=draft.title,
        digest=draft.digest,
        snapshot=draft.snapshot,
        priority=draft.priority,
        capabilities=capabilities,
        asked_by=draft.asked_by,
    )
    return {
        "id": fact.task_id,
        "before": task_id(ref, kind=draft.kind, generation=draft.generation - 1),
        "forge": rows.text(ref.forge),
        "repository": rows.text(ref.repository),
        "issue": rows.text(ref.number),
        "kind": draft.kind.value,
        "generation": draft.generation,
        "title": rows.text(draft.title),
        "digest": rows.text(draft.digest),
        "snapshot": rows.text(draft.snapshot),
        "correlation": correlation_id(ref),
        "asked_by": rows.text(draft.asked_by),
        "priority": draft.priority,
        "capabilities": [rows.text(capability) for capability in capabilities],
        "data": rows.data_of(fact),
    }
