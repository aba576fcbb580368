"""Whether a configured program is there: what can be known before it runs, and what cannot."""

from __future__ import annotations

import os
import posixpath
import shutil
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from tamma.config.policies import RepositoryConfig
from tamma.core.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class Programs:
    """Of one repository. ``in_base`` are those of ``asked_for`` that its base commit holds; None where it could not be read."""

    search_path: str | None
    folder: Path
    in_base: Collection[str] | None

    def require(self, program: str, *, key: str, cwd: str = "", may_be_made: bool = False) -> str:
        """What cannot be known of it before it runs, in words, empty where it is there. Raises ConfigError if it is not, unless
        commands before it may make it in the checkout."""
        if "{" in program:
            return f"{program} is known only when it runs"
        if program.startswith("/"):
            return self._absolute(program, key)
        if "/" in program:
            return self._in_checkout(program, key, cwd, may_be_made=may_be_made)
        if shutil.which(program, path=self.search_path) is None:
            raise ConfigError(f"{program} is not on PATH", fix=f"install it, or correct {key}")
        return ""

    def _absolute(self, program: str, key: str) -> str:
        if not Path(program).is_file():
            raise ConfigError(f"{program} is not there", fix=f"install it, or correct {key}")
        if not os.access(program, os.X_OK):
            raise ConfigError(f"{program} is not executable", fix=f"chmod +x {program}")
        return ""

    def _in_checkout(self, program: str, key: str, cwd: str, *, may_be_made: bool) -> str:
        path = place_in_checkout(program, cwd)
        if self.in_base is None:
            return f"whether the checkout has {path} is not known"
        if path in self.in_base:
            return ""
        if may_be_made:
            return f"{path} must be made by a command before it"
        beside = self.folder / program
        whole = f"write its whole path in {key}" + (f": {beside.resolve()}" if beside.is_file() else "")
        raise ConfigError(
            f"{path} is not in the base commit",
            why="a path in a command line is relative to the checkout",
            fix=f"commit it, or {whole}",
        )


def place_in_checkout(program: str, cwd: str) -> str:
    """A relative program's path from the checkout's top."""
    return posixpath.normpath(posixpath.join(cwd, program))


def asked_for(own: RepositoryConfig) -> Iterator[str]:
    """The paths in the checkout that the repository's command lines start with."""
    starts = [(own.agent.argv[:1], ""), *((gate.argv[:1], gate.cwd) for gate in own.gates)]
    starts += [(argv[:1], "") for argv in own.environment.setup]
    for programs, cwd in starts:
        for program in programs:
            if "/" in program and "{" not in program and not program.startswith("/"):
                yield place_in_checkout(program, cwd)


def require_environment(own: RepositoryConfig, texts: Collection[str], *, key: str) -> None:
    """Raise ConfigError where a command line needs the environment and none is prepared."""
    if not own.environment.setup and any("{environment}" in text for text in texts):
        raise ConfigError(
            "it needs {environment}, and none is prepared", fix=f"set environment.setup, or correct {key}"
        )
