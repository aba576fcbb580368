"""The change's title and description: what a reviewer sees, and often all that he sees."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tamma.core.change import REMOTE
from tamma.core.gate import GateSpec
from tamma.core.ids import branch_name
from tamma.core.outward import defused, quoted
from tamma.core.task import Task
from tamma.core.words import counted
from tamma.engine.evidence import evidence_markdown
from tamma.engine.prompts import Snapshot, one_line
from tamma.engine.rounds import Solution
from tamma.engine.typed import as_typed, gate_as_typed
from tamma.ports.workspace import Base

TITLE_CHARS_MAX: Final = 200
_DETAIL_BYTES_MAX: Final = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """How a change came to be."""

    task: Task
    solution: Solution
    base: Base
    agent: str
    sandbox: str
    gates: tuple[GateSpec, ...]
    setup: tuple[tuple[str, ...], ...] = ()

    @property
    def task_branch(self) -> str:
        """Where the change is pushed to."""
        return branch_name(self.task.ref)


def change_title(snapshot: Snapshot, task: Task) -> str:
    """The issue's title on one line, and its number."""
    return f"{defused(one_line(snapshot.title, chars_max=TITLE_CHARS_MAX))} (#{task.ref.number})"


def render_description(story: Story) -> str:
    """Markdown: what it is for, the evidence of each gate, how to reproduce it, and what held the agent."""
    candidate, base = story.solution.candidate, story.base
    files, lines = len(candidate.changes), candidate.lines
    parts = [
        f"Resolves {story.task.ref}.",
        "",
        f"{counted(files, 'file')}, {counted(lines, 'line')}, after {counted(story.solution.repairs, 'repair')}; agent `{story.agent}`, "
        + ("**unsandboxed** (sandbox `none`)." if story.sandbox == "none" else f"sandbox `{story.sandbox}`."),
        "",
        *(
            ["**The agent's own run failed**: the gates passed what it left behind.", ""]
            if story.solution.has_failed_agent
            else []
        ),
        "## Evidence",
        "",
        f"Judged: tree `{candidate.tree}` of commit `{candidate.commit}`, on base `{base.branch}` at `{base.commit}`.",
        "",
        evidence_markdown(story.solution.reports),
    ]
    if story.solution.detail:
        parts += ["", "## The agent's last word", "", quoted(story.solution.detail, bytes_max=_DETAIL_BYTES_MAX)]
    parts += ["", "## Reproduce", "", *_reproduction(story), "", f"Task `{story.task.id}`, attempt {story.task.epoch}."]
    return "\n".join(parts)


def _reproduction(story: Story) -> list[str]:
    fence = "````"
    commands = [f"git fetch {REMOTE} {story.task_branch} && git checkout {story.solution.candidate.commit}"]
    typed = [*(as_typed(argv) for argv in story.setup), *(gate_as_typed(gate) for gate in story.gates)]
    if any("$ENVIRONMENT" in line for line in typed):
        commands.append("ENVIRONMENT=$(mktemp -d) && export TAMMA_ENVIRONMENT=$ENVIRONMENT")
    # One list joined by &&: where a step fails, none that follows says anything about this commit.
    return [f"{fence}sh", " &&\n".join(command.replace(fence, "") for command in (*commands, *typed)), fence]
