"""An agent that plays a script: for tests, examples and dry rehearsals of a configuration (docs/agents.md).

The steps are played by a child in the box, like a real agent's, so that limits, kills and the sandbox apply to it.
"""

from __future__ import annotations

import json
import sys
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NoReturn

from tamma.adapters.agents import player
from tamma.adapters.agents.command import CommandAgent
from tamma.adapters.agents.result import write_new
from tamma.adapters.proc.regular import read_regular
from tamma.core.errors import ConfigError
from tamma.core.ids import IssueRef
from tamma.ports.agent import AgentRequest, AgentResult
from tamma.ports.sandbox import Box

SCRIPT_BYTES_MAX: Final = 16_777_216
STEPS_FILE: Final = "steps.json"
_PLAYER: Final = str(Path(player.__file__).resolve())
_TEXT: Final = (str,)
_NUMBER: Final = (int, float)
_FLAG: Final = (bool,)
# verb -> (type of its value, other keys it needs, other keys it may have)
_VERBS: Final[Mapping[str, tuple[tuple[type, ...], Mapping[str, tuple[type, ...]], Mapping[str, tuple[type, ...]]]]] = {
    "write": (_TEXT, {"text": _TEXT}, {"executable": _FLAG}),
    "append": (_TEXT, {"text": _TEXT}, {}),
    "replace": (_TEXT, {"old": _TEXT, "new": _TEXT}, {}),
    "delete": (_TEXT, {}, {}),
    "patch": (_TEXT, {}, {}),
    "run": ((list,), {}, {"may_fail": _FLAG}),
    "sleep": (_NUMBER, {}, {}),
    "say": (_TEXT, {}, {}),
    "flood": ((int,), {}, {"one_line": _FLAG}),
    "hang": (_TEXT, {}, {}),
    "symlink": (_TEXT, {"target": _TEXT}, {}),
    "raw": (_TEXT, {"hex": _TEXT}, {}),
    "fail": (_TEXT, {}, {}),
    "block": (_TEXT, {}, {}),
    "no_change_needed": (_TEXT, {}, {}),
    "exhaust": (_TEXT, {}, {}),
    "spend": ((dict,), {}, {}),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Play:
    """Steps for some runs; None means any. The most specific play wins: the issue first, then attempt, then turn."""

    issue: str | None
    turn: int | None
    attempt: int | None
    steps: tuple[Mapping[str, Any], ...]

    def rank(self, ref: IssueRef, *, turn: int, attempt: int) -> tuple[int, bool, bool] | None:
        """How well it fits; None if it does not."""
        if self.turn not in (None, turn) or self.attempt not in (None, attempt):
            return None
        fits = {None: 0, ref.number: 1, f"#{ref.number}": 1, str(ref): 2}
        if self.issue not in fits:
            return None
        return fits[self.issue], self.attempt is not None, self.turn is not None


class ScriptedAgent:
    """Plays ``script``. Raises ConfigError, naming file and key, when it is not a good script."""

    def __init__(self, script: Path, *, python: str = sys.executable) -> None:
        self._plays = load_script(script)
        self._python = python

    @property
    def name(self) -> str:
        """``scripted``."""
        return "scripted"

    def run(self, request: AgentRequest, box: Box, on_event: Callable[[str], None]) -> AgentResult:
        """See ``ports.agent.Agent``."""
        steps = choose(self._plays, request.issue, turn=request.turn, attempt=request.attempt)
        request.scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = request.scratch / STEPS_FILE
        write_new(path, json.dumps([dict(step) for step in steps]))
        argv = (self._python, "-I", "-X", "utf8", _PLAYER, str(path), "{result_file}")
        return CommandAgent(argv, name=self.name).run(request, box, on_event)


def choose(plays: Sequence[Play], ref: IssueRef, *, turn: int, attempt: int) -> tuple[Mapping[str, Any], ...]:
    """The steps of the play that fits best; the earlier one of two that fit alike; a word of explanation where none does."""
    fitting = [(rank, play) for play in plays if (rank := play.rank(ref, turn=turn, attempt=attempt)) is not None]
    if not fitting:
        return ({"say": f"the script has nothing for {ref}, attempt {attempt}, turn {turn}"},)
    return max(fitting, key=lambda pair: pair[0])[1].steps


def load_script(path: Path) -> tuple[Play, ...]:
    """Read a script: TOML, or JSON where the name ends so."""
    try:
        raw = read_regular(path, bytes_max=SCRIPT_BYTES_MAX)
        if len(raw) > SCRIPT_BYTES_MAX:
            _bad(path, "", f"is larger than {SCRIPT_BYTES_MAX} bytes")
        text = raw.decode()
        value = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except OSError as e:
        raise ConfigError(
            f"the agent script {path} cannot be read", why=e.strerror or "", fix="set [agent] script"
        ) from e
    except (ValueError, RecursionError) as e:
        raise ConfigError(f"the agent script {path} cannot be understood", why=str(e), fix="see docs/agents.md") from e
    plays = value.get("play") if isinstance(value, dict) else None
    if not isinstance(plays, list):
        _bad(path, "play", "is missing; it is a list of tables")
    for key in value:
        if key != "play":
            _bad(path, key, "is not known; a script holds [[play]] tables")
    return tuple(_play(path, f"play[{n}]", item) for n, item in enumerate(plays))


def _play(path: Path, key: str, item: object) -> Play:
    if not isinstance(item, dict):
        _bad(path, key, "is not a table")
    for name in item:
        if name not in ("issue", "turn", "attempt", "steps"):
            _bad(path, f"{key}.{name}", "is not known; a play has issue, turn, attempt and steps")
    issue = item.get("issue", "*")
    if not isinstance(issue, str | int) or isinstance(issue, bool):
        _bad(path, f"{key}.issue", 'is neither a number, nor repository#number, nor "*"')
    steps = item.get("steps")
    if not isinstance(steps, list):
        _bad(path, f"{key}.steps", "is missing; it is a list of tables")
    return Play(
        issue=None if issue == "*" else str(issue),
        turn=_count(path, f"{key}.turn", item.get("turn")),
        attempt=_count(path, f"{key}.attempt", item.get("attempt")),
        steps=tuple(_step(path, f"{key}.steps[{n}]", step) for n, step in enumerate(steps)),
    )


def _count(path: Path, key: str, value: object) -> int | None:
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        _bad(path, key, "is not a whole number from 0")
    return value


def _step(path: Path, key: str, step: object) -> Mapping[str, Any]:
    if not isinstance(step, dict):
        _bad(path, key, "is not a table")
    verbs = [name for name in step if name in _VERBS]
    if len(verbs) != 1:
        _bad(path, key, f"needs exactly one of {', '.join(_VERBS)}")
    verb = verbs[0]
    kind, needed, allowed = _VERBS[verb]
    _check_type(path, f"{key}.{verb}", step[verb], kind)
    for name, types in needed.items():
        if name not in step:
            _bad(path, f"{key}.{name}", f"is missing; {verb} needs it")
        _check_type(path, f"{key}.{name}", step[name], types)
    for name in set(step) - {verb} - set(needed):
        if name not in allowed:
            _bad(path, f"{key}.{name}", f"is not known to {verb}")
        _check_type(path, f"{key}.{name}", step[name], allowed[name])
    _check_value(path, f"{key}.{verb}", verb, step[verb], step)
    return {**step, "patch": _patch_text(path, f"{key}.patch", step["patch"])} if verb == "patch" else step


def _check_type(path: Path, key: str, value: object, kinds: tuple[type, ...]) -> None:
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        _bad(path, key, f"is not of type {' or '.join(kind.__name__ for kind in kinds)}")


def _check_value(path: Path, key: str, verb: str, value: Any, step: Mapping[str, Any]) -> None:
    if verb == "run" and not (value and all(isinstance(text, str) for text in value)):
        _bad(path, key, "is not a list of texts with a program first")
    if verb == "hang" and value not in ("quiet", "stubborn"):
        _bad(path, key, "is neither quiet nor stubborn (ignores SIGTERM)")
    if verb in ("sleep", "flood") and value < 0:
        _bad(path, key, "is negative")
    if verb == "spend" and not all(isinstance(n, int | float) and not isinstance(n, bool) for n in value.values()):
        _bad(path, key, "is not a table of numbers")
    if verb == "raw":
        try:
            bytes.fromhex(step["hex"])
        except ValueError:
            _bad(path, key.removesuffix("raw") + "hex", "is not hexadecimal")


def _patch_text(path: Path, key: str, name: str) -> str:
    try:
        return read_regular(path.parent / name, bytes_max=SCRIPT_BYTES_MAX)[:SCRIPT_BYTES_MAX].decode()
    except (OSError, ValueError) as e:
        raise ConfigError(
            f"{path}: {key} names {name}, which cannot be read", why=str(e), fix="see docs/agents.md"
        ) from e


def _bad(path: Path, key: str, why: str) -> NoReturn:
    raise ConfigError(f"{path}: {key} {why}", fix="see the example in docs/agents.md")
