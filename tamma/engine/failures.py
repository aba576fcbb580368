"""Why gates stopped a change, as the log holds it: the tests that fail, and the end of the output that was kept, redacted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from tamma.core.event import Event, GateJudged
from tamma.core.gate import GateVerdict
from tamma.ports.store import Blobs

FAILURES_MAX: Final = 5
TESTS_MAX: Final = 10
TAIL_BYTES_MAX: Final = 2_000
_TAIL_LINES_MAX: Final = 20
_STOPPING: Final = (GateVerdict.FAIL, GateVerdict.UNABLE)


@dataclass(frozen=True, slots=True, kw_only=True)
class GateFailure:
    """One gate: at most ``TESTS_MAX`` of its failing tests, how many more there are, and the last lines it printed."""

    gate: str
    tests: tuple[str, ...]
    tests_left_out: int
    tail: str


def last_round(events: Sequence[Event], *, epoch: int | None = None) -> tuple[GateJudged, ...]:
    """What the gates said last; in the newest attempt that asked them, or in attempt ``epoch``."""
    judged = [e.fact for e in events if isinstance(e.fact, GateJudged) and epoch in (None, e.fact.epoch)]
    return tuple(g for g in judged if (g.epoch, g.round) == (judged[-1].epoch, judged[-1].round))


def failures(events: Sequence[Event], blobs: Blobs, *, epoch: int) -> tuple[GateFailure, ...]:
    """Of the attempt's last round, at most ``FAILURES_MAX``; required gates first."""
    stopping = [g for g in last_round(events, epoch=epoch) if g.verdict in _STOPPING]
    stopping.sort(key=lambda g: not g.is_required)
    return tuple(_failure(g, blobs) for g in stopping[:FAILURES_MAX])


def _failure(gate: GateJudged, blobs: Blobs) -> GateFailure:
    tests = tuple(dict.fromkeys((*gate.regressed, *gate.unfixed)))
    return GateFailure(
        gate=gate.gate,
        tests=tests[:TESTS_MAX],
        tests_left_out=max(0, len(tests) - TESTS_MAX),
        tail=tail(output_of(gate, blobs)),
    )


def output_of(gate: GateJudged, blobs: Blobs) -> str:
    """All that was kept of what it printed; empty where it printed nothing."""
    content = blobs.get(gate.output) if gate.output else None
    return (content or b"").decode("utf-8", "replace")


def tail(text: str) -> str:
    """The last lines that say something, whole unless a single one is too long."""
    lines = [line.rstrip() for line in text.splitlines() if line.strip()][-_TAIL_LINES_MAX:]
    while len(lines) > 1 and len("\n".join(lines).encode()) > TAIL_BYTES_MAX:
        lines = lines[1:]
    return "\n".join(lines).encode()[-TAIL_BYTES_MAX:].decode(errors="ignore")
