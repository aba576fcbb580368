"""``python -m tests.mutation.hand``: runs tests on mutants, one fork each, from a process that has the libraries loaded.

One JSON object a line comes in (``module``, ``file``, ``text``, ``tests``, ``seconds``) and one goes out: ``verdict``, ``said``.
Nothing of ours may be loaded here, so that a child loads the mutant wherever it is used.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, Final

_LIBRARIES: Final = (
    "alembic.command", "hypothesis.strategies", "loguru", "psycopg", "pydantic_settings", "pytest", "pytest_timeout",
    "rich.console", "sqlalchemy", "sqlalchemy.dialects.postgresql", "tenacity", "typer", "yaml",
)  # fmt: skip
# What a run of pytest comes to by its exit code; anything else did not get as far as a test.
_VERDICTS: Final = {0: "survived", 1: "killed"}


def main() -> None:
    """Answer until nothing more is asked."""
    for name in _LIBRARIES:
        importlib.import_module(name)
    for line in sys.stdin:
        print(json.dumps(_try(json.loads(line))), flush=True)


def _try(asked: dict[str, Any]) -> dict[str, Any]:
    with tempfile.TemporaryFile() as out:
        begun = time.monotonic()
        child = os.fork()
        if child == 0:
            _run(asked, out.fileno())
        status = _wait(child, float(asked["seconds"]))
        out.seek(0)
        said = out.read().decode(errors="replace")
    verdict = "killed by time" if status is None else _VERDICTS.get(os.waitstatus_to_exitcode(status), "does not load")
    if verdict == "killed" and "psycopg.errors.SyntaxError" in said:
        verdict = "does not load"
    return {"verdict": verdict, "said": said[-4000:], "seconds": round(time.monotonic() - begun, 2)}


def _run(asked: dict[str, Any], out: int) -> None:
    """In the child: never comes back."""
    code = 70
    try:
        os.setsid()
        os.dup2(out, 1)
        os.dup2(out, 2)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        if asked["module"]:
            sys.meta_path.insert(0, _Mutated(asked["module"], asked["file"], asked["text"]))
        code = _pytest(asked["tests"])
    except BaseException:  # noqa: BLE001 — the fork must not go on as its parent
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _pytest(tests: Sequence[str]) -> int:
    import hypothesis
    import pytest

    hypothesis.settings.register_profile("mutation", database=None, derandomize=True, deadline=None)
    hypothesis.settings.load_profile("mutation")
    argv = [
        "-x",
        "-q",
        "-W",
        "ignore::pytest.PytestAssertRewriteWarning",
        "--tb=short",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:xdist",
        "-p",
        "no:logging",
        *tests,
    ]
    return int(pytest.main(argv))


def _wait(child: int, seconds: float) -> int | None:
    """Its status; None if it had to be ended. What it left running goes with it."""
    until = time.monotonic() + seconds
    try:
        while time.monotonic() < until:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                return status
            time.sleep(0.02)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


class _Mutated(importlib.abc.MetaPathFinder, importlib.abc.InspectLoader):
    """Loads one module from another text, as if it stood in its file."""

    def __init__(self, module: str, file: str, text: str) -> None:
        self._module, self._file, self._text = module, file, text

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Ours alone."""
        if name != self._module:
            return None
        return importlib.util.spec_from_file_location(name, Path(self._file).resolve(), loader=self)

    def get_code(self, fullname: str) -> CodeType:
        """The mutant's."""
        return compile(self._text, self._file, "exec")

    def get_source(self, fullname: str) -> str:
        """The mutant."""
        return self._text


if __name__ == "__main__":
    main()
