"""Whether a configured program is there: what can be known before it runs, and what cannot."""

from __future__ import annotations

import os
import posixpath
import shutil
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tamma.config.policies import RepositoryConfig
from tamma.config.schema import AgentKind
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

    def strays(self, argv: Sequence[str], *, cwd: str = "") -> list[str]:
        """Arguments that are files beside the configuration, and none of the base commit: in a checkout they are not there."""
        if self.in_base is None:
            return []
        return [
            argument
            for argument in _relative(argv[1:])
            if _is_file(self.folder / argument) and place_in_checkout(argument, cwd) not in self.in_base
        ]

    def _absolute(self, program: str, key: str) -> str:
        if not Path(program).is_file():
            raise ConfigError(f"{program} is not there", fix=f"install it, or correct {key}")
        if not os.access(program, os.X_OK):
            raise ConfigError(f"{program} is not executable", fix=f"chmod +x {program}")
        return ""

    def _in_checkout(self, program: str, key: str, cwd: str, *, may_be_made: bool) -> str:
        path = place_in_checkout(program, cwd)
        if self.in_base is None and not program.startswith("~"):
            return f"whether the checkout has {path} is not known"
        if path in (self.in_base or ()):
            return ""
        if may_be_made:
            return f"{path} must be made by a command before it"
        beside = self.folder / program
        whole = f"write its whole path in {key}" + (f": {beside.resolve()}" if beside.is_file() else "")
        if program.startswith("~"):
            raise ConfigError(
                f"{program} is not found",
                why="a command line is no shell's: ~ stays as it is",
                fix=f"write its whole path in {key}: {_expanded(program)}",
            )
        raise ConfigError(
            f"{path} is not in the base commit",
            why="a path in a command line is relative to the checkout",
            fix=f"commit it, or {whole}",
        )


def _expanded(program: str) -> str:
    try:
        return str(Path(program).expanduser())
    except RuntimeError:  # of nobody who is known here
        return "/home/…"


def agent_trouble(own: RepositoryConfig, *, search_path: str | None, folder: Path) -> ConfigError | None:
    """Why the repository's agent cannot be started, as far as that can be told without its base commit."""
    if own.agent.kind is not AgentKind.COMMAND or not own.agent.argv:
        return None
    programs = Programs(search_path=search_path, folder=folder, in_base=None)
    try:
        programs.require(own.agent.argv[0], key="agent.argv")
    except ConfigError as error:
        return error
    return None


def place_in_checkout(program: str, cwd: str) -> str:
    """A relative program's path from the checkout's top."""
    return posixpath.normpath(posixpath.join(cwd, program))


def asked_for(own: RepositoryConfig, *, folder: Path) -> Iterator[str]:
    """The paths in the checkout that the repository's command lines start with, and the arguments that are files in
    ``folder``, where the configuration is."""
    lines = [(own.agent.argv, ""), *((gate.argv, gate.cwd) for gate in own.gates)]
    lines += [(argv, "") for argv in own.environment.setup]
    for argv, cwd in lines:
        for program in _relative(argv[:1]):
            if "/" in program:
                yield place_in_checkout(program, cwd)
        for argument in _relative(argv[1:]):
            if _is_file(folder / argument):
                yield place_in_checkout(argument, cwd)


def _relative(words: Sequence[str]) -> Iterator[str]:
    """Those that may name a file of the checkout."""
    return (word for word in words if word and "{" not in word and not word.startswith(("/", "-")))


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a whole script as one argument: too long for a name, or with a NUL
        return False


def require_environment(own: RepositoryConfig, texts: Collection[str], *, key: str) -> None:
    """Raise ConfigError where a command line needs the environment and none is prepared."""
    if not own.environment.setup and any("{environment}" in text for text in texts):
        raise ConfigError(
            "it needs {environment}, and none is prepared", fix=f"set environment.setup, or correct {key}"
        )
