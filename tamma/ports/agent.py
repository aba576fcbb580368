"""The AI that edits the workspace."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum, unique
from pathlib import Path
from typing import Protocol

from tamma.core.ids import IssueRef
from tamma.core.policy import AgentPolicy
from tamma.ports.sandbox import Box


@unique
class AgentStatus(StrEnum):
    """What the agent's run came to, as a hint: the diff and the gates decide."""

    FINISHED = "finished"
    FAILED = "failed"
    BLOCKED = "blocked"
    NO_CHANGE_NEEDED = "no change needed"
    BUDGET_SPENT = "budget spent"
    IDLE = "idle"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentRequest:
    """One run. ``turn`` is 0 for the implementation and counts repairs; ``prompt`` is complete text.

    ``scratch`` is a private folder outside the workspace for prompt and result files. ``environment`` is the prepared
    environment's folder, ``{environment}`` in command lines; None where there is none.
    """

    issue: IssueRef
    title: str
    prompt: str
    turn: int
    attempt: int
    scratch: Path
    limits: AgentPolicy
    environment: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentResult:
    """``detail`` is the agent's own last word, bounded (a question when blocked, a reason, an error)."""

    status: AgentStatus
    detail: str = ""
    exit_code: int | None = None
    output: str = ""
    output_bytes: int = 0
    usage: Mapping[str, float] = field(default_factory=dict)


class Agent(Protocol):
    """Runs in a box and edits its folder; never starts a process by itself, never sees a forge credential."""

    @property
    def name(self) -> str:
        """For people and events."""
        ...

    def run(self, request: AgentRequest, box: Box, on_event: Callable[[str], None]) -> AgentResult:
        """Edit ``box.folder``. ``on_event`` gets bounded pieces of text for the event log, at most a few a second.

        On return no process of the run is alive. Raises ConfigError when its program cannot be started, TransientError when
        what it needs (a model's endpoint) is away.
        """
        ...
