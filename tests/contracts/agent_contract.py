"""What every agent must hold to. A test class inherits this and says how its agent is made to behave."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Final

import pytest

from tamma.core.ids import IssueRef
from tamma.core.policy import AgentPolicy
from tamma.ports.agent import Agent, AgentRequest, AgentResult, AgentStatus
from tests.support.machine import a_sandbox, a_tag, alive

ISSUE: Final = IssueRef(forge="local", repository="demo", number="7")
SECRETS: Final[Mapping[str, str]] = {
    "DATABASE_URL": "postgresql://canary", "TAMMA_DATABASE__URL": "canary", "GITHUB_TOKEN": "canary", "GIT_ASKPASS": "canary",
}  # fmt: skip


def a_request(scratch: Path, **changes: object) -> AgentRequest:
    """One run, with bounds fit for a test."""
    policy = {"wall_clock": timedelta(seconds=30), "idle": timedelta(seconds=20)} | {
        name: changes.pop(name) for name in ("wall_clock", "idle", "output_bytes_max") if name in changes
    }
    values = {
        "issue": ISSUE, "title": "Fix it", "prompt": "Please\nfix it: ä\n", "turn": 0, "attempt": 1, "scratch": scratch,
        "limits": AgentPolicy(**policy),  # type: ignore[arg-type]
    }  # fmt: skip
    return AgentRequest(**{**values, **changes})  # type: ignore[arg-type]


class AgentContract(ABC):
    """The suite."""

    @abstractmethod
    def agent(self, folder: Path, behaviour: str) -> Agent:
        """An agent that behaves as named: edits, blocks, hangs, hangs-stubbornly, floods, garbles, tells-environment, fails,
        no-change."""

    def run(
        self, tmp_path: Path, behaviour: str, *, should_stop: Callable[[], bool] | None = None, **changes: object
    ) -> tuple[AgentResult, list[str]]:
        """One run in a box; asserts that nothing of it is left alive."""
        workspace, tag, events = tmp_path / "workspace", a_tag(), list[str]()
        workspace.mkdir(exist_ok=True)
        agent = self.agent(tmp_path, behaviour)
        box = a_sandbox(**SECRETS).box(workspace, tag=tag, should_stop=should_stop)
        result = agent.run(a_request(tmp_path / "scratch", **changes), box, events.append)
        assert alive(tag) == []
        return result, events

    def test_edits_land_in_the_workspace(self, tmp_path: Path) -> None:
        """And the run is finished."""
        result, _ = self.run(tmp_path, "edits")
        assert result.status is AgentStatus.FINISHED
        assert (tmp_path / "workspace" / "sub" / "new.txt").read_text() == "new\n"

    @pytest.mark.parametrize(
        ("behaviour", "status", "detail"),
        [
            ("blocks", AgentStatus.BLOCKED, "which one?"),
            ("no-change", AgentStatus.NO_CHANGE_NEEDED, "already so"),
            ("fails", AgentStatus.FAILED, "broken"),
        ],
    )
    def test_the_agents_word_is_told(self, tmp_path: Path, behaviour: str, status: AgentStatus, detail: str) -> None:
        """Status and detail of the result file."""
        result, _ = self.run(tmp_path, behaviour)
        assert result.status is status
        assert detail in result.detail

    @pytest.mark.parametrize("behaviour", ["hangs", "hangs-stubbornly"])
    def test_the_wall_clock_ends_it_with_its_tree(self, tmp_path: Path, behaviour: str) -> None:
        """It is budget spent."""
        result, _ = self.run(tmp_path, behaviour, wall_clock=timedelta(seconds=1))
        assert result.status is AgentStatus.BUDGET_SPENT

    def test_an_idle_one_is_ended(self, tmp_path: Path) -> None:
        """Saying nothing for too long is its own status."""
        result, _ = self.run(tmp_path, "hangs", idle=timedelta(seconds=1))
        assert result.status is AgentStatus.IDLE

    def test_it_stops_on_request_within_two_seconds(self, tmp_path: Path) -> None:
        """The attempt's stop reaches it."""
        begun = time.monotonic()
        result, _ = self.run(tmp_path, "hangs", should_stop=lambda: time.monotonic() > begun + 0.3)
        assert result.status is AgentStatus.STOPPED
        assert time.monotonic() - begun < 2.3

    def test_a_flood_is_bounded(self, tmp_path: Path) -> None:
        """Output and events stay small, whatever is said."""
        result, events = self.run(tmp_path, "floods", output_bytes_max=100_000)
        assert result.output_bytes >= 20_000_000
        assert len(result.output.encode()) <= 100_200
        assert len(events) <= 200
        assert all(len(event.encode()) <= 2_100 for event in events)

    def test_garbage_is_made_harmless(self, tmp_path: Path) -> None:
        """Invalid UTF-8, NULs and escapes never reach an event or a result."""
        result, events = self.run(tmp_path, "garbles")
        for text in (result.output, result.detail, *events):
            assert not {"\0", "\x1b"} & set(text)
            text.encode()

    def test_it_sees_no_credential(self, tmp_path: Path) -> None:
        """Nothing of the worker's environment, and the whole contract."""
        result, _ = self.run(tmp_path, "tells-environment")
        assert "canary" not in result.output
        env = dict(line.split("=", 1) for line in result.output.splitlines() if "=" in line)
        assert env["TAMMA_ISSUE"] == "7"
        assert env["TAMMA_REPOSITORY"] == "demo"
        assert env["TAMMA_TITLE"] == "Fix it"
        assert (env["TAMMA_TURN"], env["TAMMA_ATTEMPT"]) == ("0", "1")
        assert Path(env["TAMMA_PROMPT_FILE"]).read_text() == "Please\nfix it: ä\n"
