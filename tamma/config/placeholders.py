"""What is filled in where it stands in braces in a command line: its names, and what a mistyped one probably meant.

Braces are also the shell's, awk's and Python's. So only a word of its own, without blanks or quotes, must be known in full; in
a piece of script only what is almost one of the names is refused.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from difflib import get_close_matches
from typing import Final

AGENT: Final = (
    "prompt_file",
    "prompt",
    "result_file",
    "workspace",
    "environment",
    "issue",
    "repository",
    "title",
    "turn",
)
GATE: Final = ("environment", "report")
SET_UP: Final = ("environment",)
_BRACED: Final = re.compile(r"(?<![${])\{([A-Za-z_][A-Za-z0-9_-]*)\}(?!\})")
_SCRIPT: Final = re.compile(r"[\s'\"`;()|]")
_ALIKE: Final = 0.8


def agent_argv(argv: tuple[str, ...]) -> tuple[str, ...]:
    """An agent's command line. Raises ValueError for a name that is not filled in; so do the others."""
    _check(argv, AGENT)
    return argv


def agent_env(env: dict[str, str]) -> dict[str, str]:
    """An agent's variables."""
    return _checked_env(env, AGENT)


def gate_argv(argv: tuple[str, ...]) -> tuple[str, ...]:
    """A gate's command line."""
    _check(argv, GATE)
    return argv


def gate_env(env: dict[str, str]) -> dict[str, str]:
    """A gate's variables."""
    return _checked_env(env, GATE)


def set_up_argv(argv: tuple[str, ...]) -> tuple[str, ...]:
    """A command line that prepares an environment."""
    _check(argv, SET_UP)
    return argv


def _checked_env(env: dict[str, str], known: Collection[str]) -> dict[str, str]:
    _check(env.values(), known)
    return env


def _check(texts: Iterable[str], known: Collection[str]) -> None:
    for text in texts:
        for name in _BRACED.findall(text):
            if name in known:
                continue
            meant = get_close_matches(name.lower().replace("-", "_"), known, n=1, cutoff=0.65)
            if _SCRIPT.search(text) and not get_close_matches(name.lower(), known, n=1, cutoff=_ALIKE):
                continue
            told = f"did you mean {{{meant[0]}}}?" if meant else f"here there is {_listed(known)}"
            raise ValueError(f"{{{name}}} is not filled in; {told}")


def _listed(names: Collection[str]) -> str:
    return ", ".join(f"{{{name}}}" for name in names)
