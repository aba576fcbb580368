"""Rows in the order of the column lists in ``sql``, read into values; values, made fit to be written."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from tamma.core.effect import Effect, EffectKind, EffectState
from tamma.core.errors import PermanentError
from tamma.core.event import Event, Fact, decode, encode
from tamma.core.ids import BlobId, CorrelationId, IssueRef, Oid, TaskId, WorkerId
from tamma.core.task import Counters, Notice, Task, TaskKind, TaskState
from tamma.core.worker import WorkerRecord, WorkerRole, WorkerState

Row = tuple[Any, ...]


def utc(moment: datetime) -> datetime:
    """The same moment in UTC, whatever the session's time zone is."""
    return moment.astimezone(UTC)


def utc_or_none(moment: datetime | None) -> datetime | None:
    """The same, for a moment that may be absent."""
    return None if moment is None else moment.astimezone(UTC)


def task_of(row: Row) -> Task:
    """A row of ``TASK_COLUMNS``."""
    (
        task_id, forge, repository, issue, kind, generation, state, title, digest, snapshot, correlation, created_at,
        asked_by, epoch, version, priority, capabilities, attempts, infra, interruptions, crashes, run_after, worker,
        phase, outcome, reason, notice, approved, change, finished_at,
    ) = row  # fmt: skip
    return Task(
        id=TaskId(task_id),
        ref=IssueRef(forge=forge, repository=repository, number=issue),
        kind=TaskKind(kind),
        generation=generation,
        state=TaskState(state),
        title=title,
        digest=digest,
        snapshot=BlobId(snapshot),
        correlation=CorrelationId(correlation),
        created_at=utc(created_at),
        asked_by=asked_by,
        epoch=epoch,
        version=version,
        priority=priority,
        capabilities=tuple(capabilities),
        counters=Counters(attempts=attempts, infra=infra, interruptions=interruptions, crashes=crashes),
        run_after=utc_or_none(run_after),
        worker=None if worker is None else WorkerId(worker),
        phase=phase,
        outcome=outcome,
        reason=reason,
        notice=None if notice is None else Notice(notice),
        approved=None if approved is None else Oid(approved),
        change=change,
        finished_at=utc_or_none(finished_at),
    )


def effect_of(row: Row) -> Effect:
    """A row of ``EFFECT_COLUMNS``."""
    key, task_id, kind, state, epoch, intent, result = row
    return Effect(
        key=key,
        task_id=TaskId(task_id),
        kind=EffectKind(kind),
        state=EffectState(state),
        epoch=epoch,
        intent=intent,
        result=result,
    )


def worker_of(row: Row) -> WorkerRecord:
    """A row of ``WORKER_COLUMNS``."""
    worker, host, pid, role, release, capabilities, state, registered_at, last_beat_at = row
    return WorkerRecord(
        id=WorkerId(worker),
        host=host,
        pid=pid,
        role=WorkerRole(role),
        release=release,
        capabilities=tuple(capabilities),
        state=WorkerState(state),
        registered_at=utc(registered_at),
        last_beat_at=utc_or_none(last_beat_at),
    )


def event_of(row: Row) -> Event:
    """A row of ``EVENT_COLUMNS``. Raises PermanentError for a type that only a newer release knows."""
    position, stream, version, at, tags, correlation, type_name, data, hashed = row
    try:
        fact = decode(type_name, data)
    except KeyError as error:
        raise PermanentError(
            f"event {position} cannot be read",
            why=f"its type or shape ({type_name}, {error}) is of another release",
            fix="upgrade this installation to the newest release that writes to the database",
        ) from error
    return Event(
        position=position,
        stream=stream,
        version=version,
        at=utc(at),
        tags=tuple(tags),
        correlation=None if correlation is None else CorrelationId(correlation),
        fact=fact,
        type=type_name,
        hash=bytes(hashed).hex(),
    )


def text(value: str) -> str:
    """Text that Postgres takes: without NUL, and with ``?`` for what UTF-8 does not know (unpaired surrogates)."""
    if value.isascii():
        return value.replace("\0", "")
    return value.replace("\0", "").encode("utf-8", "replace").decode("utf-8")


def text_or_none(value: str | None) -> str | None:
    """The same, for a value that may be absent."""
    return None if value is None else text(value)


def json_of(value: Mapping[str, Any]) -> str:
    """JSON for a jsonb parameter, every string in it made fit by ``text``."""
    written = json.dumps(value, ensure_ascii=False, allow_nan=False, default=_fit)
    if written.isascii() and "\\u0000" not in written:
        return written  # as it nearly always is: nothing to make fit
    return json.dumps(_fit(value), ensure_ascii=False, allow_nan=False)


def data_of(fact: Fact) -> str:
    """A fact's data as a jsonb parameter."""
    return json_of(encode(fact))


def _fit(value: Any) -> Any:
    if isinstance(value, str):
        return text(value)
    if isinstance(value, Mapping):
        return {text(key): _fit(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_fit(item) for item in value]
    return value
