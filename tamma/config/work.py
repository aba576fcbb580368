"""What a repository's tasks are done with and judged by: agent, environment, gates, change.

These sections stand at the top level, and again in ``[repositories.NAME]`` where a repository differs.
"""

from __future__ import annotations

from enum import StrEnum, unique
from typing import Annotated, Final

from pydantic import AfterValidator, Field

from tamma.config import placeholders
from tamma.config.fields import (
    DAY_SECONDS,
    GIB,
    LIST_MAX,
    Argv,
    Count,
    Env,
    EnvPatterns,
    FileInside,
    FolderInside,
    Name,
    Names,
    Number,
    Section,
    Switch,
    Text,
)
from tamma.core.diff import DIFF_BUDGET, PROTECTED_PATHS
from tamma.core.gate import GateSpec
from tamma.core.policy import AgentPolicy, ChangePolicy, RedGreen
from tamma.core.redgreen import RED_GREEN
from tamma.ports.environment import EnvironmentSpec

_AGENT: Final = AgentPolicy()
_CHANGE: Final = ChangePolicy()
_GATE: Final = GateSpec(name="default", argv=())
_BUILT_IN_GATES: Final = frozenset({PROTECTED_PATHS, DIFF_BUDGET, RED_GREEN})
_ENVIRONMENT: Final = EnvironmentSpec()


@unique
class AgentKind(StrEnum):
    """Which adapter drives the agent."""

    COMMAND = "command"
    SCRIPTED = "scripted"


@unique
class PromptWay(StrEnum):
    """How a command gets its prompt."""

    STDIN = "stdin"
    FILE = "file"


class AgentSettings(Section):
    """The AI that edits the workspace, and what one run of it may use."""

    kind: AgentKind = Field(
        default=AgentKind.COMMAND, description="`command` runs argv; `scripted` plays a script, for trying Tamma out."
    )
    argv: Annotated[Argv, AfterValidator(placeholders.agent_argv)] = Field(
        default=(),
        description="Command line of the agent, run in the checkout; a program's path is relative to it. {prompt_file}, "
        "{environment} and others are filled in (docs/agents.md).",
        examples=[("my-agent", "--non-interactive")],
    )
    prompt: PromptWay = Field(
        default=PromptWay.STDIN, description="How argv gets its prompt: on `stdin`, or only as a `file`."
    )
    env: Annotated[Env, AfterValidator(placeholders.agent_env)] = Field(
        default={},
        description="Variables set for the agent. No secrets here: pass them through env_allow.",
        examples=[{"CI": "1"}],
    )
    env_allow: EnvPatterns = Field(
        default=(),
        description="Variables passed to the agent from Tamma's own environment, by name or as PREFIX_*. A value is masked, and refused "
        "in changes, where the name tells of a secret (`TOKEN`, `SECRET`, `PASSWORD` in it, `KEY` at its end, and the like).",
        examples=[("MY_AGENT_API_KEY", "MY_AGENT_*")],
    )
    script: Text | None = Field(
        default=None,
        description="Script that the `scripted` agent plays, relative to this file.",
        examples=["agent.toml"],
    )
    wall_clock_seconds: Number = Field(
        default=_AGENT.wall_clock.total_seconds(),
        gt=0,
        le=DAY_SECONDS,
        description="Longest one run may take; then its budget is spent.",
    )
    idle_seconds: Number = Field(
        default=_AGENT.idle.total_seconds(), gt=0, le=DAY_SECONDS, description="Longest a run may print nothing."
    )
    output_bytes_max: Count = Field(
        default=_AGENT.output_bytes_max,
        ge=1_024,
        le=GIB,
        description="Most output of a run that is read; the rest is left out of the log.",
    )


class EnvironmentSettings(Section):
    """What the repository needs before its gates and agent can run: built once, cached by what defines it."""

    setup: Annotated[tuple[Annotated[Argv, AfterValidator(placeholders.set_up_argv)], ...], Field(max_length=100)] = (
        Field(
            default=_ENVIRONMENT.setup,
            description="Command lines run in order in a checkout of the base; {environment} is the folder to fill.",
            examples=[(("python3", "-m", "venv", "{environment}"),)],
        )
    )
    inputs: Names = Field(
        default=_ENVIRONMENT.inputs,
        description="Files of the base whose content makes it a new environment.",
        examples=[("requirements.txt",)],
    )
    timeout_seconds: Number = Field(
        default=_ENVIRONMENT.timeout.total_seconds(),
        gt=0,
        le=DAY_SECONDS,
        description="Longest the whole set-up may take.",
    )
    cache_bytes_max: Count = Field(
        default=20 * GIB,
        ge=0,
        le=1_024 * GIB,
        description="Most disk that kept environments take; the least recently used go first.",
    )


def _not_built_in(name: str) -> str:
    if name.casefold() in _BUILT_IN_GATES:
        raise ValueError(f"{name!r} is the name of a gate of Tamma's own")
    return name


class GateSettings(Section):
    """A check that a change must pass, run on a fresh copy of exactly what would be delivered."""

    name: Annotated[Name, AfterValidator(_not_built_in)] = Field(
        description="Name shown in evidence; each only once.",
        examples=["tests"],
        pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._:-]*$",
    )
    argv: Annotated[Argv, AfterValidator(placeholders.gate_argv)] = Field(
        description="Command line, run in the checkout; a program's path is relative to cwd. {environment} and {report} are "
        "filled in.",
        min_length=1,
        examples=[("python3", "-m", "pytest", "-q")],
    )
    env: Annotated[Env, AfterValidator(placeholders.gate_env)] = Field(
        default={}, description="Variables set for the command.", examples=[{"CI": "1"}]
    )
    cwd: FolderInside = Field(default=_GATE.cwd, description="Folder to run in, relative to the checkout.")
    timeout_seconds: Number = Field(
        default=_GATE.timeout.total_seconds(), gt=0, le=DAY_SECONDS, description="Longest it may take; then it fails."
    )
    report: FileInside | None = Field(
        default=_GATE.report,
        description="JUnit XML that the command writes to a place of its own, relative to the checkout; not needed where it writes to"
        " {report}. Red-green needs one of them.",
        examples=["report.xml"],
    )
    required: Switch = Field(
        default=_GATE.is_required, description="Whether a fail stands between the change and its delivery."
    )


class ChangeSettings(Section):
    """What a change may be, and how it is delivered."""

    files_max: Count = Field(default=_CHANGE.files_max, ge=1, le=100_000, description="Most files a change may touch.")
    lines_max: Count = Field(
        default=_CHANGE.lines_max, ge=1, le=10_000_000, description="Most lines a change may add and remove together."
    )
    bytes_max: Count = Field(
        default=_CHANGE.bytes_max, ge=1, le=GIB, description="Most bytes of all files that a change writes."
    )
    file_bytes_max: Count = Field(
        default=_CHANGE.file_bytes_max, ge=1, le=GIB, description="Most bytes of one file that a change writes."
    )
    binaries_max: Count = Field(
        default=_CHANGE.binaries_max, ge=0, le=100_000, description="Most binary files a change may touch."
    )
    protected_paths: Names = Field(
        default=_CHANGE.protected_paths, description="Globs no change may touch; replaces the default list."
    )
    test_paths: Names = Field(
        default=_CHANGE.test_paths,
        description="Globs that are tests to the red-green check; replaces the default list.",
    )
    red_green: RedGreen = Field(
        default=_CHANGE.red_green,
        description="How much it binds that of a change's tests one fails without it and passes with it, where it touches any: "
        "`when-possible` stops the change that fails, `required` also one that touches no test, and asks a human where a gate reports no "
        "single tests, `advisory` only shows what was found, `off` does not look.",
    )
    repairs_max: Count = Field(
        default=_CHANGE.repairs_max,
        ge=0,
        le=20,
        description="How often the agent gets the evidence of failed gates and may try again.",
    )
    approve_before_publish: Switch = Field(
        default=_CHANGE.approve_before_publish,
        description="Whether a human must approve each change (`tamma task approve`) before it is published.",
    )
    draft: Switch = Field(default=_CHANGE.is_draft, description="Whether changes are opened as drafts.")


Gates = Annotated[tuple[GateSettings, ...], Field(max_length=LIST_MAX)]
