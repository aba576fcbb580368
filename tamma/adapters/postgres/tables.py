"""The tables as SQLAlchemy Core sees them, for migrations and tests; the checks mirror the asserts of the core.

Statements are written in SQL (see ``sql``). A test holds this file and the migrations together.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    desc,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.dialects.postgresql.base import ischema_names
from sqlalchemy.types import UserDefinedType

from tamma.core.effect import EffectKind, EffectState
from tamma.core.ids import BLOB_BYTES_MAX
from tamma.core.task import CLAIMABLE, LIVE, TaskState
from tamma.core.worker import WorkerRole, WorkerState


class Xid8(UserDefinedType[int]):
    """A 64-bit transaction id, which SQLAlchemy does not know."""

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        """Its name in DDL."""
        return "xid8"


ischema_names["xid8"] = Xid8  # so that comparing a database with these tables knows what it sees


def _one_of(column: str, values: type[StrEnum] | frozenset[TaskState]) -> str:
    members = list(values) if isinstance(values, type) else [state for state in TaskState if state in values]
    quoted = ", ".join(f"'{member}'" for member in members)
    return f"{column} IN ({quoted})"


def _key(name: str = "id") -> Column[str]:
    return Column(name, Text(collation="C"), nullable=False)


def _text(name: str, *, default: str | None = None, nullable: bool = False) -> Column[str]:
    return Column(name, Text, nullable=nullable, server_default=default)


def _count(name: str, *, default: str | None = "0") -> Column[int]:
    return Column(name, Integer, nullable=False, server_default=default)


def _moment(name: str, *, nullable: bool = True, default: str | None = None) -> Column[Any]:
    return Column(
        name, DateTime(timezone=True), nullable=nullable, server_default=text(default) if default else None
    )  # fmt: skip


def _hash(name: str, *, default: str | None = None) -> Column[bytes]:
    return Column(name, LargeBinary, nullable=False, server_default=text(default) if default else None)


metadata: Final = MetaData()

# Which values its columns take, and which go together, is kept by the trigger `task_sound` (revision 0003).
task: Final = Table(
    "task",
    metadata,
    _key(),
    _text("forge"),
    _text("repository"),
    _text("issue"),
    _text("kind"),
    _count("generation", default=None),
    _text("state"),
    _text("title"),
    _text("digest"),
    _text("snapshot"),
    _text("correlation"),
    _moment("created_at", nullable=False),
    _text("asked_by"),
    _count("epoch"),
    _count("version", default="1"),
    _count("priority"),
    Column("capabilities", ARRAY(Text), nullable=False, server_default=text("'{}'")),
    _count("attempts"),
    _count("infra"),
    _count("interruptions"),
    _count("crashes"),
    _moment("run_after"),
    _text("worker", nullable=True),
    _text("phase", nullable=True),
    _text("outcome", nullable=True),
    _text("reason", default=""),
    _text("notice", nullable=True),
    _text("approved", nullable=True),
    _text("change", nullable=True),
    _moment("finished_at"),
    # volatile: no event tells of them
    _moment("lease_expires_at"),
    _text("dispatched_by", nullable=True),
    _moment("dispatch_until"),
    _hash("head", default="''"),
    PrimaryKeyConstraint("id", name="task_pkey"),
    UniqueConstraint("forge", "repository", "issue", "kind", "generation", name="task_generations"),
    postgresql_with={"fillfactor": 80, "autovacuum_vacuum_scale_factor": 0.02},
)
Index(
    "task_live",
    task.c.forge,
    task.c.repository,
    task.c.issue,
    task.c.kind,
    unique=True,
    postgresql_where=text(_one_of("state", LIVE)),
)
Index(
    "task_claim",
    desc(task.c.priority),
    task.c.created_at,
    task.c.id,
    postgresql_where=text(_one_of("state", CLAIMABLE)),
)
Index(
    "task_ready",
    task.c.forge,
    task.c.repository,
    desc(task.c.priority),
    task.c.created_at,
    task.c.id,
    postgresql_where=text(_one_of("state", CLAIMABLE)),
)
Index("task_running", task.c.created_at, postgresql_where=text("state = 'running'"))
Index("task_reserved", task.c.dispatch_until, postgresql_where=text("dispatched_by IS NOT NULL"))
Index("task_notices", task.c.forge, task.c.repository, task.c.id, postgresql_where=text("notice IS NOT NULL"))
Index("task_pages", task.c.forge, task.c.repository, task.c.id, postgresql_where=text(_one_of("state", LIVE)))
Index("task_due", task.c.forge, task.c.repository, task.c.run_after, postgresql_where=text("state = 'retryable'"))
Index("task_newest", desc(task.c.created_at), task.c.id)

event: Final = Table(
    "event",
    metadata,
    # before position: the transaction id must be taken first, the tailing reader's barrier rests on that
    Column("xid", Xid8(), nullable=False, server_default=text("pg_current_xact_id()")),
    Column("position", BigInteger, Identity(always=True), nullable=False),
    _key("stream"),
    _count("version", default=None),
    _text("type"),
    Column("tags", ARRAY(Text), nullable=False),
    _text("correlation", nullable=True),
    _moment("at", nullable=False),
    Column("data", JSONB, nullable=False),
    _hash("hash"),
    PrimaryKeyConstraint("position", name="event_pkey"),
    CheckConstraint("version >= 1", name="event_version"),
    UniqueConstraint("stream", "version", name="event_stream_version"),
)
Index("event_tags", event.c.tags, postgresql_using="gin", postgresql_with={"fastupdate": "off"})

# One for each stream and archive: what the stream had come to when its events went (revision 0004).
anchor: Final = Table(
    "anchor",
    metadata,
    _key("stream"),
    _count("archive", default=None),
    _count("version", default=None),
    _hash("hash"),
    Column("position", BigInteger, nullable=False),
    Column("first", BigInteger, nullable=False),
    _moment("at", nullable=False),
    Column("held", JSONB),
    PrimaryKeyConstraint("stream", "archive", name="anchor_pkey"),
    CheckConstraint("archive >= 1", name="anchor_archive"),
    CheckConstraint("version >= 1", name="anchor_version"),
)
Index("anchor_of_archive", anchor.c.archive)

effect: Final = Table(
    "effect",
    metadata,
    _key("key"),
    Column("task_id", Text(collation="C"), ForeignKey("task.id", name="effect_task"), nullable=False),
    _text("kind"),
    _text("state"),
    _count("epoch", default=None),
    Column("intent", JSONB, nullable=False),
    Column("result", JSONB, nullable=False, server_default=text("'{}'")),
    # volatile: who may redo it now
    _text("held_by", nullable=True),
    _moment("held_until"),
    PrimaryKeyConstraint("key", name="effect_pkey"),
    CheckConstraint(_one_of("kind", EffectKind), name="effect_kind"),
    CheckConstraint(_one_of("state", EffectState), name="effect_state"),
    CheckConstraint("epoch >= 0", name="effect_epoch"),
    CheckConstraint("(held_by IS NULL) = (held_until IS NULL)", name="effect_hold"),
)
Index("effect_of_task", effect.c.task_id)

worker: Final = Table(
    "worker",
    metadata,
    _key(),
    _text("host"),
    _count("pid", default=None),
    _text("role"),
    _text("release"),
    Column("capabilities", ARRAY(Text), nullable=False),
    _text("state"),
    _moment("registered_at", nullable=False),
    _moment("last_beat_at"),
    _count("version", default="1"),
    _hash("head", default="''"),
    PrimaryKeyConstraint("id", name="worker_pkey"),
    CheckConstraint(_one_of("role", WorkerRole), name="worker_role"),
    CheckConstraint(_one_of("state", WorkerState), name="worker_state"),
    CheckConstraint("version >= 1", name="worker_version"),
)
Index("worker_beats", worker.c.last_beat_at, postgresql_where=text("state IN ('online', 'draining')"))
Index("worker_newest", desc(worker.c.registered_at), worker.c.id)

blob: Final = Table(
    "blob",
    metadata,
    _key(),
    Column("content", LargeBinary, nullable=False),
    _moment("created_at", nullable=False, default="tamma_now()"),
    PrimaryKeyConstraint("id", name="blob_pkey"),
    CheckConstraint(f"octet_length(content) <= {BLOB_BYTES_MAX}", name="blob_size"),
)

baseline: Final = Table(
    "baseline",
    metadata,
    _key("key"),
    Column("value", LargeBinary, nullable=False),
    _moment("created_at", nullable=False, default="tamma_now()"),
    PrimaryKeyConstraint("key", name="baseline_pkey"),
)
