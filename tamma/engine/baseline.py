"""What gates said about the base commit: run once, remembered by commit, definition and environment."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import timedelta
from hashlib import sha256
from typing import Any, Final

from tamma.core.gate import GateSpec, TestRun, TestStatus
from tamma.core.ids import BlobId, Oid

_FORMAT: Final = 1
# A machine in trouble (no memory, a registry away) fails a gate on the base too. What it said then must not excuse every
# later change: so a red run is believed when a second one agrees, and asked again the next day.
RED_MAX_AGE: Final = timedelta(days=1)
_LETTERS: Final = {"p": TestStatus.PASSED, "f": TestStatus.FAILED, "s": TestStatus.SKIPPED}
_BY_STATUS: Final = {status: letter for letter, status in _LETTERS.items()}


def baseline_key(spec: GateSpec, *, commit: Oid, environment_key: str, sandbox: str) -> str:
    """The same key means the same run: commit, what is asked, and what it is asked in."""
    definition = {
        "format": _FORMAT,
        "commit": commit,
        "argv": list(spec.argv),
        "env": dict(spec.env),
        "cwd": spec.cwd,
        "timeout": spec.timeout.total_seconds(),
        "report": spec.report,
        "environment": environment_key,
        "sandbox": sandbox,
    }
    return sha256(json.dumps(definition, sort_keys=True).encode()).hexdigest()


def is_worth_keeping(run: TestRun) -> bool:
    """Whether a run says something lasting: one that could not be asked, or ran out of time, may go otherwise next time."""
    return not run.unable and not run.has_timed_out


def agree(one: TestRun, other: TestRun) -> bool:
    """Whether two runs say the same about a commit: the exit code, and which tests do not pass."""
    return (
        one.exit_code == other.exit_code and _red(one) == _red(other) and (one.tests is None) == (other.tests is None)
    )


def _red(run: TestRun) -> frozenset[str]:
    return frozenset(i for i, status in (run.tests or {}).items() if status is TestStatus.FAILED) | run.broken_files


def encode_run(run: TestRun) -> bytes:
    """The run as JSON; ``decode_run`` is the inverse."""
    tests: Mapping[str, str] | None = None if run.tests is None else {i: _BY_STATUS[s] for i, s in run.tests.items()}
    data = {
        "format": _FORMAT,
        "exit_code": run.exit_code,
        "duration_seconds": run.duration.total_seconds(),
        "tests": tests,
        "broken_files": sorted(run.broken_files),
        "output": run.output,
        "output_tail": run.output_tail,
        "unable": run.unable,
        "has_timed_out": run.has_timed_out,
        "report_fault": run.report_fault,
    }
    return json.dumps(data, sort_keys=True).encode()


def decode_run(data: bytes) -> TestRun | None:
    """None for bytes that this version did not write: a cache is asked, never trusted."""
    try:
        value = json.loads(data)
        return _decode(value) if value["format"] == _FORMAT else None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _decode(value: dict[str, Any]) -> TestRun:
    tests = value["tests"]
    return TestRun(
        exit_code=value["exit_code"],
        duration=timedelta(seconds=value["duration_seconds"]),
        tests=None if tests is None else {i: _LETTERS[letter] for i, letter in tests.items()},
        broken_files=frozenset(value["broken_files"]),
        output=None if value["output"] is None else BlobId(value["output"]),
        output_tail=value["output_tail"],
        unable=value["unable"],
        has_timed_out=value["has_timed_out"],
        report_fault=value["report_fault"],
    )


def touched_paths(paths: Sequence[str], cwd: str) -> frozenset[str]:
    """Changed paths as a report may name them: from the top of the checkout, and from where the command ran."""
    prefix = "" if cwd in ("", ".") else cwd.removeprefix("./").rstrip("/") + "/"
    return frozenset(paths) | {path[len(prefix) :] for path in paths if path.startswith(prefix)}
