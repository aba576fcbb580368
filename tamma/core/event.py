"""Facts: a closed union of what can happen, the envelope they travel in, and how they are written down.

An event's data is JSON: strings, numbers, booleans, null, arrays and objects of these. ``encode`` and ``decode`` are
each other's inverse for every member of ``Fact``.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, ClassVar, Final, TypeAlias

from tamma.core.ids import BlobId, CorrelationId, Oid, TaskId, WorkerId


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskCreated:
    """A task for an issue exists, with the issue's text pinned."""

    TYPE: ClassVar[str] = "TASK.CREATE.SUCCEEDED"
    task_id: TaskId
    forge: str
    repository: str
    issue: str
    kind: str
    generation: int
    title: str
    digest: str
    snapshot: BlobId
    priority: int
    capabilities: tuple[str, ...]
    asked_by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskDispatched:
    """An orchestrator reserved the task for a worker it is about to start."""

    TYPE: ClassVar[str] = "TASK.DISPATCH.SUCCEEDED"
    by: WorkerId


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskClaimed:
    """A worker took the task: a new attempt with the next epoch."""

    TYPE: ClassVar[str] = "TASK.CLAIM.SUCCEEDED"
    worker: WorkerId
    epoch: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseEntered:
    """The attempt went on to its next phase."""

    TYPE: ClassVar[str] = "ATTEMPT.PHASE.ENTERED"
    epoch: int
    phase: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskSettled:
    """An attempt ended by its own word."""

    TYPE: ClassVar[str] = "TASK.SETTLE.SUCCEEDED"
    epoch: int
    outcome: str
    trigger: str
    state: str
    reason: str
    attempts: int
    infra: int
    interruptions: int
    crashes: int
    exit_code: int
    notice: str | None
    run_after: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskReaped:
    """An attempt ended, and its worker did not settle it: its lease ran out, or its parent saw it end."""

    TYPE: ClassVar[str] = "TASK.REAP.SUCCEEDED"
    epoch: int
    worker: WorkerId
    by: WorkerId
    outcome: str
    trigger: str
    state: str
    reason: str
    infra: int
    crashes: int
    notice: str | None
    run_after: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskCancelled:
    """A human, or the state of the issue, called it off."""

    TYPE: ClassVar[str] = "TASK.CANCEL.SUCCEEDED"
    by: str
    reason: str
    notice: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskUnblocked:
    """A human let a blocked task go on; ``approved`` names the commit that may be published, if that was the question;
    ``answer`` the blob with what people answered the agent, if anything.

    What was away or interrupted it is counted afresh, or the next outage would block the task again at once.
    """

    TYPE: ClassVar[str] = "TASK.UNBLOCK.SUCCEEDED"
    by: str
    approved: Oid | None
    answer: str = field(default_factory=str)


@dataclass(frozen=True, slots=True, kw_only=True)
class NoticeSent:
    """The issue was told what became of its task."""

    TYPE: ClassVar[str] = "TASK.NOTICE.SUCCEEDED"
    notice: str
    by: WorkerId


@dataclass(frozen=True, slots=True, kw_only=True)
class EffectIntended:
    """Something is about to be done outside."""

    TYPE: ClassVar[str] = "EFFECT.INTEND.SUCCEEDED"
    key: str
    kind: str
    epoch: int
    intent: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class EffectRecorded:
    """It is known what became of it."""

    TYPE: ClassVar[str] = "EFFECT.RECORD.SUCCEEDED"
    key: str
    state: str
    epoch: int
    result: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvironmentPrepared:
    """The repository's environment was built, or found in the cache."""

    TYPE: ClassVar[str] = "ENVIRONMENT.PREPARE.SUCCEEDED"
    epoch: int
    key: str
    is_cached: bool
    duration_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentStarted:
    """The agent was let loose on the workspace; ``sandbox`` names what held it (``none`` is unsandboxed)."""

    TYPE: ClassVar[str] = "AGENT.RUN.STARTED"
    epoch: int
    turn: int
    agent: str
    sandbox: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentSpoke:
    """A bounded, redacted piece of what the agent printed."""

    TYPE: ClassVar[str] = "AGENT.OUTPUT.RECEIVED"
    epoch: int
    turn: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentFinished:
    """The agent's process tree is dead; ``status`` is a hint, the diff and the gates decide. ``usage`` is what it says it used."""

    TYPE: ClassVar[str] = "AGENT.RUN.FINISHED"
    epoch: int
    turn: int
    status: str
    detail: str
    exit_code: int | None
    duration_ms: int
    output: BlobId | None
    output_bytes: int
    files: int
    lines: int
    usage: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeAudited:
    """The delivered tree was read from the workspace by Tamma's own walk."""

    TYPE: ClassVar[str] = "ATTEMPT.AUDIT.FINISHED"
    epoch: int
    commit: Oid | None
    tree: Oid | None
    files: int
    lines: int
    patch: BlobId | None
    refusals: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class GateJudged:
    """One gate's verdict on one tree; ``round`` counts from 0, one per agent run."""

    TYPE: ClassVar[str] = "GATE.RUN.FINISHED"
    epoch: int
    round: int
    gate: str
    verdict: str
    is_required: bool
    summary: str
    tree: str
    duration_ms: int
    argv: tuple[str, ...]
    counts: Mapping[str, int]
    base_counts: Mapping[str, int]
    fixed: tuple[str, ...]
    regressed: tuple[str, ...]
    unfixed: tuple[str, ...]
    flaky: tuple[str, ...]
    removed: tuple[str, ...]
    newly_skipped: tuple[str, ...]
    output: BlobId | None


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkSalvaged:
    """Work that was not delivered is kept: a patch against the base."""

    TYPE: ClassVar[str] = "ATTEMPT.WORK.SALVAGED"
    epoch: int
    base: Oid
    patch: BlobId
    files: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalAsked:
    """A commit that passed its gates is kept until a human approves it; that very commit is what may be published."""

    TYPE: ClassVar[str] = "ATTEMPT.APPROVAL.ASKED"
    epoch: int
    commit: Oid


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeDelivered:
    """The branch and the change are on the forge."""

    TYPE: ClassVar[str] = "CHANGE.PUBLISH.SUCCEEDED"
    epoch: int
    change: str
    url: str
    branch: str
    commit: Oid


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerRegistered:
    """A process is ready to execute attempts."""

    TYPE: ClassVar[str] = "WORKER.REGISTER.SUCCEEDED"
    worker: WorkerId
    host: str
    pid: int
    role: str
    release: str
    capabilities: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerStateChanged:
    """A worker went offline (three missed beats), came back, drains, or left."""

    TYPE: ClassVar[str] = "WORKER.STATE.CHANGED"
    worker: WorkerId
    state: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkPaused:
    """A human holds work back: everywhere (``*``) or in one repository."""

    TYPE: ClassVar[str] = "WORK.PAUSE.SUCCEEDED"
    scope: str
    by: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkResumed:
    """And lets it go on."""

    TYPE: ClassVar[str] = "WORK.RESUME.SUCCEEDED"
    scope: str
    by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LogArchived:
    """Events went to a file, and an anchor stands for each of their streams; ``sha256`` is the file's, ``anchors`` theirs.

    ``until`` is the time of the newest of these events: about what was before it, this log alone cannot tell everything.
    """

    TYPE: ClassVar[str] = "LOG.ARCHIVE.SUCCEEDED"
    file: str
    sha256: str
    anchors: str
    streams: int
    events: int
    tasks_removed: int
    workers_removed: int
    until: datetime


Fact: TypeAlias = (
    TaskCreated | TaskDispatched | TaskClaimed | PhaseEntered | TaskSettled | TaskReaped | TaskCancelled | TaskUnblocked
    | NoticeSent | EffectIntended | EffectRecorded | EnvironmentPrepared | AgentStarted | AgentSpoke | AgentFinished
    | TreeAudited | GateJudged | WorkSalvaged | ApprovalAsked | ChangeDelivered | WorkerRegistered | WorkerStateChanged
    | WorkPaused | WorkResumed | LogArchived
)  # fmt: skip
AttemptFact: TypeAlias = (
    EnvironmentPrepared | AgentStarted | AgentSpoke | AgentFinished | TreeAudited | GateJudged | WorkSalvaged | ApprovalAsked
    | ChangeDelivered
)  # fmt: skip

ARCHIVE_STREAM: Final = "archive"

FACTS: Final[Mapping[str, type[Fact]]] = {fact.TYPE: fact for fact in typing.get_args(Fact)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """A fact in its envelope. ``stream`` is ``task:ID`` or ``worker:ID``; versions are dense per stream, from 1.

    ``position`` orders the whole log for readers; a gap in it means nothing. ``hash`` (SHA-256, hexadecimal) chains the
    event to the one before it in its stream.
    """

    position: int
    stream: str
    version: int
    at: datetime
    tags: tuple[str, ...]
    correlation: CorrelationId | None
    fact: Fact
    type: str = field(default="")
    hash: str = field(default="")


def task_stream(task_id: TaskId) -> str:
    """The stream of one task."""
    return f"task:{task_id}"


def worker_stream(worker: WorkerId) -> str:
    """The stream of one worker."""
    return f"worker:{worker}"


def encode(fact: Fact) -> dict[str, Any]:
    """The fact's data as JSON values."""
    return {name: _to_json(getattr(fact, name)) for name in _names(type(fact))}


def decode(type_name: str, data: Mapping[str, Any]) -> Fact:
    """The fact with that type and data.

    Fields that this version does not know are ignored, so that an older reader can follow a newer writer; a field that came
    later has a default. Raises KeyError for an unknown type or a missing field.
    """
    cls = FACTS[type_name]
    late = {f.name for f in dataclasses.fields(cls) if f.default_factory is not dataclasses.MISSING}
    hints = {name: hint for name, hint in _hints(cls).items() if name in data or name not in late}
    values = {name: _from_json(data[name], hint) for name, hint in hints.items()}
    return cls(**values)


_PLAIN: Final = frozenset({str, int, bool, type(None)})


def _to_json(value: Any) -> Any:
    if type(value) in _PLAIN:  # as most are; asking of each whether it is a mapping takes longer than all the rest
        return value
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, StrEnum):
        return value.value
    if isinstance(value, tuple | list):
        return [_to_json(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): _to_json(item) for key, item in value.items()}
    return value


def _from_json(value: Any, hint: Any) -> Any:
    if value is None:
        return None
    if hint is datetime or (isinstance(hint, types.UnionType) and datetime in typing.get_args(hint)):
        return datetime.fromisoformat(value)
    if typing.get_origin(hint) is tuple:
        return tuple(value)
    return value


_NAMES: dict[type[Fact], tuple[str, ...]] = {}
_HINTS: dict[type[Fact], dict[str, Any]] = {}


def _names(cls: type[Fact]) -> tuple[str, ...]:
    if cls not in _NAMES:
        _NAMES[cls] = tuple(f.name for f in dataclasses.fields(cls))
    return _NAMES[cls]


def _hints(cls: type[Fact]) -> dict[str, Any]:
    if cls not in _HINTS:
        names = _names(cls)
        _HINTS[cls] = {name: hint for name, hint in typing.get_type_hints(cls).items() if name in names}
    return _HINTS[cls]
