"""An issue as every forge tells it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum, unique

from tamma.core.ids import IssueRef


@unique
class IssueState(StrEnum):
    """Open, or not; a forge's finer states are data."""

    OPEN = "open"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Comment:
    """One comment on an issue; ``author`` is what the forge vouches for, never what the text claims."""

    id: str
    author: str
    body: str
    created_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Issue:
    """A work item, normalised: labels lower-case, blockers by number and only those still open."""

    ref: IssueRef
    title: str
    body: str
    author: str
    state: IssueState = IssueState.OPEN
    labels: frozenset[str] = frozenset()
    assignees: tuple[str, ...] = ()
    blocked_by: tuple[str, ...] = ()
    created_at: datetime | None = None
    url: str = ""

    @property
    def digest(self) -> str:
        """SHA-256 over what the agent will be told; pinned when the task is created (SECURITY A3)."""
        told = json.dumps(
            [self.ref.repository, self.ref.number, self.title, self.body], ensure_ascii=False, separators=(",", ":")
        )
        return hashlib.sha256(told.encode("utf-8", "surrogatepass")).hexdigest()

    @property
    def size_bytes(self) -> int:
        """Of title and body, in UTF-8."""
        return len(self.title.encode("utf-8", "surrogatepass")) + len(self.body.encode("utf-8", "surrogatepass"))
