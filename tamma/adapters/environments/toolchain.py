"""What the programs of a set-up are on this machine: a new interpreter must mean a new environment."""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Final

from tamma.core.errors import TammaError
from tamma.ports.sandbox import Sandbox
from tamma.ports.system import ProcessLimits

# Only these are asked: a program of somebody's own may do anything when it is called with --version.
_ANSWERS_VERSION: Final = frozenset({
    "bun", "bundle", "cargo", "clang", "cmake", "composer", "deno", "dotnet", "gcc", "gem", "gradle", "hatch", "make", "mvn",
    "node", "npm", "npx", "nox", "pdm", "php", "pip", "pnpm", "poetry", "python", "ruby", "rustc", "tox", "uv", "yarn",
})  # fmt: skip
_VERSION_LIMITS: Final = ProcessLimits(
    wall_clock=timedelta(seconds=10), output_bytes_max=4_096, grace=timedelta(seconds=1)
)


class Toolchain:
    """Identity of the machine and of programs on ``search_path``; versions are asked once per program file."""

    def __init__(self, sandbox: Sandbox, *, search_path: str) -> None:
        self._sandbox = sandbox
        self._search_path = search_path
        self._versions: dict[tuple[str, int, int], str] = {}

    def identity(self, programs: Sequence[str], *, tag: str) -> list[list[str]]:
        """Values that change when the machine or one of the programs does."""
        machine = [platform.system(), platform.machine(), *platform.libc_ver()]
        return [machine, *(self._program(name, tag) for name in sorted(set(programs)))]

    def _program(self, name: str, tag: str) -> list[str]:
        found = shutil.which(name, path=self._search_path) if not _is_relative(name) else None
        if found is None:
            return [name]  # a file of the checkout: name it in ``inputs``
        real = Path(found).resolve()
        try:
            info = real.stat()
        except OSError:
            return [name, str(real)]
        identity = (str(real), info.st_size, info.st_mtime_ns)
        if identity not in self._versions:
            self._versions[identity] = self._version(found, tag)
        return [name, *map(str, identity), self._versions[identity]]

    def _version(self, program: str, tag: str) -> str:
        stem = Path(program).name.rstrip("0123456789.")
        if stem not in _ANSWERS_VERSION:
            return ""
        with tempfile.TemporaryDirectory(prefix="tamma-version-") as empty:
            try:
                done = self._sandbox.box(Path(empty), tag=tag).spawn(
                    [program, "--version"], env={}, limits=_VERSION_LIMITS
                )
            except TammaError:
                return ""
        return done.output.strip() if done.is_ok else ""


def _is_relative(name: str) -> bool:
    return os.sep in name and not name.startswith(os.sep)
