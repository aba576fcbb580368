"""Something done to the outside world: intent, compare-and-swap, record (DESIGN section 6)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum, unique

from tamma.core.ids import TaskId


@unique
class EffectKind(StrEnum):
    """What is done outside; each kind has a natural key and a question to ask after a crash."""

    PUSH = "push"
    CHANGE = "change"
    COMMENT = "comment"
    LABELS = "labels"


@unique
class EffectState(StrEnum):
    """``intended`` means nobody knows yet: ask the world before doing it again."""

    INTENDED = "intended"
    DONE = "done"
    ABANDONED = "abandoned"


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """One row of the effects table. ``key`` is natural: the same effect has the same key in every attempt."""

    key: str
    task_id: TaskId
    kind: EffectKind
    state: EffectState = EffectState.INTENDED
    epoch: int = 0
    intent: Mapping[str, str] = field(default_factory=dict)
    result: Mapping[str, str] = field(default_factory=dict)


def effect_key(task_id: TaskId, kind: EffectKind, what: str = "") -> str:
    """The natural key: one effect of this kind (and purpose) per task, whatever attempt makes it."""
    return f"{task_id}:{kind}:{what}" if what else f"{task_id}:{kind}"
