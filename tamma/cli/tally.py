"""What became of the tasks that moved while somebody followed the log, in one line."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from tamma.core.attempt import Outcome
from tamma.core.event import Event, TaskCancelled, TaskClaimed, TaskReaped, TaskSettled
from tamma.core.task import TaskState

DELIVERED: Final = "delivered"
_UNCHANGED: Final = "needed no change"
_WORDS: Final = {
    TaskState.FAILED: "handed back",
    TaskState.BLOCKED: "waiting for a human",
    TaskState.CANCELLED: "cancelled",
    TaskState.RETRYABLE: "to be tried again",
    TaskState.QUEUED: "to be tried again",
}
_ORDER: Final = tuple(dict.fromkeys((DELIVERED, _UNCHANGED, *_WORDS.values())))


@dataclass(slots=True)
class Tally:
    """Of each task only what its newest attempt came to."""

    _ends: dict[str, str] = field(default_factory=dict)

    def add(self, event: Event) -> None:
        """The log's next event, whatever it is."""
        match event.fact:
            case TaskClaimed():
                self._ends.pop(event.stream, None)
            case TaskSettled(state=TaskState.SUCCEEDED, outcome=outcome):
                self._ends[event.stream] = _UNCHANGED if outcome == Outcome.NO_CHANGE_NEEDED else DELIVERED
            case TaskSettled(state=state) | TaskReaped(state=state):
                self._ends[event.stream] = _WORDS[TaskState(state)]
            case TaskCancelled():
                self._ends[event.stream] = _WORDS[TaskState.CANCELLED]
            case _:
                pass

    @property
    def is_empty(self) -> bool:
        """Whether no task came to an end of any kind."""
        return not self._ends

    def told(self) -> str:
        """In words, what people want first; without any, that no task moved."""
        ends = list(self._ends.values())
        counts = [f"{ends.count(word)} {word}" for word in _ORDER if word in ends]
        return f"{', '.join(counts)}; `tamma status` shows each" if counts else "no task moved"
