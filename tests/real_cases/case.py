"""A case as its JSON tells it, and its rebuilding by the folder's own `build_case.py`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

BUILDER: Final = "build_case.py"
BUILD_TIMEOUT_SECONDS: Final = 600
GRADE_TIMEOUT_SECONDS: Final = 900
OUTPUT_CHARS_SHOWN_MAX: Final = 2_000

# As root, an older Python unpacks archives with the owners that they name.
_ANY_OWNER: Final = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "safe.directory", "GIT_CONFIG_VALUE_0": "*"}

T = TypeVar("T")
R = TypeVar("R")


class CasesUnusable(Exception):
    """The cases, or a tool that they need, are not there; the message says what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One real bug with its published fix."""

    id: str
    file: Path
    ecosystem: str
    title: str
    body: str
    run_files: tuple[str, ...]
    test_files: tuple[str, ...]
    pythonpath: tuple[str, ...]
    env: Mapping[str, str]
    test_requires: tuple[str, ...]
    fail_to_pass: tuple[str, ...]
    timeout_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """A case on disk: ``folder`` holds `before/`, the patches and the case's JSON as `case.json`."""

    case: Case
    folder: Path
    builder: Path


def load_cases(folder: Path, *, only: Sequence[str] = ()) -> tuple[Case, ...]:
    """Every case of a folder, by name. Raises CasesUnusable."""
    if not (folder / BUILDER).is_file():
        raise CasesUnusable(f"{folder} has no {BUILDER}: pass --cases FOLDER")
    cases = tuple(_load(file) for file in sorted(folder.glob("*.json")))
    unknown = sorted(set(only) - {case.id for case in cases})
    if unknown or not cases:
        raise CasesUnusable(f"{folder} has no case {', '.join(unknown)}" if unknown else f"{folder} has no cases")
    return tuple(case for case in cases if not only or case.id in only)


def build_all(cases: Sequence[Case], *, builder: Path, out: Path, cache: Path, jobs: int) -> tuple[Built, ...]:
    """Rebuild every case in a folder of its own. Raises CasesUnusable at the first that cannot be."""
    cache.mkdir(parents=True, exist_ok=True)
    return tuple(in_parallel(lambda case: _build(case, builder, out / case.id, cache), cases, jobs=jobs))


def grade(built: Built, *, candidate: Path, python: Path | None) -> dict[str, Any]:
    """What `build_case.py` says about a work tree: whether it solves the case, and the problems."""
    argv = [
        sys.executable,
        str(built.builder),
        "grade",
        str(built.case.file),
        str(built.folder),
        "--repo",
        str(candidate),
    ]
    done = run([*argv, "--python", str(python)] if python else argv, timeout_seconds=GRADE_TIMEOUT_SECONDS)
    try:
        found: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        return {"solved": False, "problems": [f"not graded: {done.stderr[-OUTPUT_CHARS_SHOWN_MAX:]}"]}
    return found


def make_python(folder: Path, requires: Sequence[str]) -> Path:
    """The interpreter of a new virtual environment with these requirements. Raises CasesUnusable."""
    python = folder / "bin" / "python"
    checked([sys.executable, "-m", "venv", str(folder)], what="a virtual environment")
    checked([str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", *requires], what="requirements")
    return python


def in_parallel(act: Callable[[T], R], items: Sequence[T], *, jobs: int) -> list[R]:
    """Results in the order of the items; the first error is raised."""
    with ThreadPoolExecutor(max_workers=jobs) as pool:
        return list(pool.map(act, items))


def run(
    argv: Sequence[str], *, timeout_seconds: float, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """A child to its end, its output as text. git works on whatever a builder unpacked, also as root with another's files."""
    return subprocess.run(
        argv, cwd=cwd, env={**_ANY_OWNER, **(os.environ if env is None else env)}, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", check=False,
        timeout=timeout_seconds,
    )  # fmt: skip


def checked(argv: Sequence[str], *, what: str, cwd: Path | None = None) -> str:
    """What a child printed. Raises CasesUnusable if it failed."""
    done = run(argv, timeout_seconds=BUILD_TIMEOUT_SECONDS, cwd=cwd)
    if done.returncode:
        raise CasesUnusable(
            f"{what}: {' '.join(argv)} exited {done.returncode}\n{(done.stdout + done.stderr)[-OUTPUT_CHARS_SHOWN_MAX:]}"
        )
    return done.stdout


def _load(file: Path) -> Case:
    told = json.loads(file.read_text(encoding="utf-8"))
    try:
        return Case(
            id=told["id"],
            file=file,
            ecosystem=told["ecosystem"],
            title=told["issue"]["title"],
            body=told["issue"]["body"],
            run_files=tuple(told["run_files"]),
            test_files=tuple(told["test_files"]),
            pythonpath=tuple(told.get("pythonpath", ())),
            env=told.get("env", {}),
            test_requires=tuple(told["test_requires"]),
            fail_to_pass=tuple(told["fail_to_pass"]),
            timeout_seconds=float(told.get("timeout", 120)),
        )
    except KeyError as error:
        raise CasesUnusable(f"{file} has no {error}") from error


def _build(case: Case, builder: Path, folder: Path, cache: Path) -> Built:
    checked(
        [sys.executable, str(builder), "build", str(case.file), str(folder), "--cache", str(cache)],
        what=f"building {case.id}",
    )
    shutil.copyfile(case.file, folder / "case.json")
    return Built(case=case, folder=folder, builder=builder)
