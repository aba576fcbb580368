"""Commands of the configuration as one types them in a shell: by a reviewer, or by the agent."""

from __future__ import annotations

import re
import shlex
from typing import Final

from tamma.core.gate import GateSpec
from tamma.engine.gate_command import REPORT_VARIABLE

ENVIRONMENT: Final = "ENVIRONMENT"
AGENTS_ENVIRONMENT: Final = "TAMMA_ENVIRONMENT"
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def gate_as_typed(gate: GateSpec, *, environment: str = ENVIRONMENT) -> str:
    """A gate as one types it at the top of the checkout: where it runs, its variables, its command."""
    env = dict(gate.env)
    if any(REPORT_VARIABLE in text for text in (*gate.argv, *env.values())):
        env = {REPORT_VARIABLE: "{report}"} | env
    pairs = [f"{shlex.quote(name)}={_quoted(value, environment)}" for name, value in env.items()]
    if not all(map(_NAME.fullmatch, env)):
        pairs.insert(0, "env")
    line = " ".join([*pairs, as_typed(gate.argv, environment=environment)])
    return line if gate.cwd in ("", ".") else f"(cd {shlex.quote(gate.cwd)} && {line})"


def as_typed(argv: tuple[str, ...], *, environment: str = ENVIRONMENT) -> str:
    """The command as one types it, Tamma's placeholders as a variable of that name and a file."""
    return " ".join(_quoted(text, environment) for text in argv)


def _quoted(text: str, environment: str) -> str:
    """One word for the shell. The environment's folder is a variable, which only the reader's shell knows."""
    pieces = text.replace("{report}", "report.xml").split("{environment}")
    return f'"${environment}"'.join(shlex.quote(piece) if piece or len(pieces) == 1 else "" for piece in pieces)
