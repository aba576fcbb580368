"""Any program as an agent, by the environment contract of docs/agents.md."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum, unique
from typing import Final

from tamma.adapters.agents.result import forget_result, judge_run, read_result, write_new
from tamma.adapters.agents.telling import Telling
from tamma.core.errors import ConfigError
from tamma.core.redact import bounded, clean
from tamma.ports.agent import AgentRequest, AgentResult
from tamma.ports.sandbox import Box
from tamma.ports.system import Completed, NotStarted, ProcessLimits

PROMPT_FILE: Final = "prompt.md"
RESULT_FILE: Final = "result.json"
_TITLE_BYTES_MAX: Final = 2_000
PLACEHOLDERS: Final = (
    "prompt",
    "prompt_file",
    "result_file",
    "environment",
    "workspace",
    "title",
    "issue",
    "repository",
    "turn",
)
_PLACEHOLDER: Final = re.compile(r"\{(" + "|".join(PLACEHOLDERS) + r")\}")


@unique
class PromptBy(StrEnum):
    """How the prompt reaches the program, besides the file that is always there."""

    FILE = "file"
    STDIN = "stdin"


class CommandAgent:
    """A command line that edits the folder it is started in. ``{prompt_file}`` and the like are filled in ``argv`` and
    ``env``, once: text of an issue that looks like a placeholder stays what it is."""

    def __init__(
        self,
        argv: Sequence[str],
        *,
        name: str = "command",
        prompt: PromptBy = PromptBy.FILE,
        env: Mapping[str, str] | None = None,
    ) -> None:
        if not argv or not argv[0].strip():
            raise ConfigError("the agent has no command", why="its command line is empty", fix="set [agent] command")
        self._argv = tuple(argv)
        self._name = name
        self._prompt = prompt
        self._env = dict(env or {})

    @property
    def name(self) -> str:
        """As configured."""
        return self._name

    def run(self, request: AgentRequest, box: Box, on_event: Callable[[str], None]) -> AgentResult:
        """See ``ports.agent.Agent``."""
        request.scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
        prompt_file, result_file = request.scratch / PROMPT_FILE, request.scratch / RESULT_FILE
        write_new(prompt_file, request.prompt)
        forget_result(result_file)
        values = _values(request, box)
        telling = Telling(on_event, bytes_max=request.limits.event_bytes_max)
        done = self._spawn(request, box, values, telling)
        telling.end()
        return judge_run(done, read_result(result_file))

    def _spawn(self, request: AgentRequest, box: Box, values: Mapping[str, str], telling: Telling) -> Completed:
        limits = ProcessLimits(
            wall_clock=request.limits.wall_clock,
            idle=request.limits.idle,
            output_bytes_max=request.limits.output_bytes_max,
        )
        try:
            return box.spawn(
                [_filled(text, values) for text in self._argv],
                env=self._environment(request, values),
                limits=limits,
                stdin=request.prompt.encode("utf-8", "replace") if self._prompt is PromptBy.STDIN else b"",
                on_line=telling.line,
            )
        except NotStarted as error:
            raise ConfigError(
                f"the agent's program {error.what}", why=error.why, fix=f"{error.fix}; see [agent] argv"
            ) from error

    def _environment(self, request: AgentRequest, values: Mapping[str, str]) -> dict[str, str]:
        own = {name: _filled(text, values) for name, text in self._env.items()}
        return {**own, **_contract(request, values)}


def _values(request: AgentRequest, box: Box) -> dict[str, str]:
    return {
        "prompt": request.prompt.replace("\0", ""),
        "prompt_file": str(request.scratch / PROMPT_FILE),
        "result_file": str(request.scratch / RESULT_FILE),
        "environment": str(request.environment or ""),
        "workspace": str(box.folder),
        "title": bounded(clean(request.title), bytes_max=_TITLE_BYTES_MAX),
        "issue": clean(request.issue.number),
        "repository": clean(request.issue.repository),
        "turn": str(request.turn),
    }


def _contract(request: AgentRequest, values: Mapping[str, str]) -> dict[str, str]:
    return {
        "TAMMA_PROMPT_FILE": values["prompt_file"],
        "TAMMA_RESULT_FILE": values["result_file"],
        "TAMMA_ISSUE": values["issue"],
        "TAMMA_REPOSITORY": values["repository"],
        "TAMMA_TITLE": values["title"],
        "TAMMA_TURN": values["turn"],
        "TAMMA_ATTEMPT": str(request.attempt),
        "TAMMA_WORKSPACE": values["workspace"],
        "TAMMA_ENVIRONMENT": values["environment"],
    }


def _filled(text: str, values: Mapping[str, str]) -> str:
    return _PLACEHOLDER.sub(lambda found: values[found[1]], text)
