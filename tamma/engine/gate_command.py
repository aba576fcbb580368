"""One run of one command gate in one fresh checkout: spawn, read the report, keep the output."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import Final

from tamma.core.errors import PermanentError, TransientError, of_os_error
from tamma.core.gate import GateSpec, TestRun, TestStatus
from tamma.core.junit import ReportUnreadable, parse_junit
from tamma.core.redact import Redactor, bounded, clean
from tamma.engine.report_file import ReportPath, prepare_report, read_report
from tamma.ports.sandbox import Sandbox
from tamma.ports.store import Blobs
from tamma.ports.system import Completed, ProcessLimits, Stop

REPORT_VARIABLE: Final = "TAMMA_REPORT"
OUTPUT_BYTES_MAX: Final = 1_048_576
TAIL_BYTES_MAX: Final = 8_000
_ID_CHARS_MAX: Final = 1_000
# Inside the checkout, as a sandbox lets a gate write nowhere else; the checkout is a copy that is thrown away.
_DEFAULT_REPORT: Final = ".tamma-report/junit.xml"
_PLACEHOLDER: Final = re.compile(r"\{(environment|report)\}")


class GateInterrupted(Exception):
    """The attempt is being stopped: the gate was killed and says nothing about the change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GateSite:
    """Where and as what gates of one attempt run. ``environment_key`` is part of what makes a baseline the same."""

    tag: str
    environment: Path | None = None
    environment_key: str = ""
    readable: tuple[Path, ...] = ()
    should_stop: Callable[[], bool] | None = None


class GateCommand:
    """Runs commands for gates, in boxes of the sandbox."""

    def __init__(self, *, sandbox: Sandbox, blobs: Blobs, redactor: Redactor) -> None:
        self._sandbox = sandbox
        self._blobs = blobs
        self._redactor = redactor

    def run(self, spec: GateSpec, folder: Path, *, site: GateSite) -> TestRun:
        """What the command showed on the checkout in ``folder``, which it may change.

        A command that cannot be started gives a run with ``unable``. Raises GateInterrupted when the attempt is being
        stopped, TransientError when the machine is short of something or the output cannot be stored.
        """
        if any("{environment}" in text for text in (*spec.argv, *spec.env.values())) and site.environment is None:
            return _unable("it needs {environment}, and no environment is configured")
        try:
            place = ReportPath.parse(spec.report or _DEFAULT_REPORT)
            prepare_report(folder, place, with_folder=spec.report is None)
            done, host_root = self._spawn(spec, folder, place, site)
        except (PermanentError, OSError, ReportUnreadable) as e:
            _require_fault_of_change(e, spec)
            return _unable(self._redactor(clean(str(e))))
        if done.stop is Stop.ASKED:
            raise GateInterrupted(spec.name)
        return self._read(spec, folder, place, done, roots=(host_root, str(folder), str(folder.resolve())))

    def _spawn(self, spec: GateSpec, folder: Path, place: ReportPath, site: GateSite) -> tuple[Completed, str]:
        readable = site.readable if site.environment is None else (*site.readable, site.environment)
        box = self._sandbox.box(folder, tag=site.tag, readable=readable, should_stop=site.should_stop)
        report = str(PurePosixPath(str(box.folder)) / str(place))
        values = {"report": report, "environment": str(site.environment or "")}
        done = box.spawn(
            [_filled(text, values) for text in spec.argv],
            env={REPORT_VARIABLE: report} | {name: _filled(text, values) for name, text in spec.env.items()},
            limits=ProcessLimits(wall_clock=spec.timeout, output_bytes_max=OUTPUT_BYTES_MAX),
            cwd=spec.cwd,
        )
        return done, str(box.folder)

    def _read(
        self, spec: GateSpec, folder: Path, place: ReportPath, done: Completed, *, roots: tuple[str, ...]
    ) -> TestRun:
        text = bounded(self._redactor(clean(done.output)), bytes_max=OUTPUT_BYTES_MAX)
        tests, broken, fault = self._tests(spec, folder, place, roots)
        return TestRun(
            exit_code=done.exit_code,
            duration=done.duration,
            tests=tests,
            broken_files=broken,
            output=self._blobs.put(text.encode()) if text else None,
            output_tail=text.encode()[-TAIL_BYTES_MAX:].decode(errors="ignore"),
            has_timed_out=done.stop in (Stop.WALL_CLOCK, Stop.IDLE),
            report_fault=fault,
        )

    def _tests(
        self, spec: GateSpec, folder: Path, place: ReportPath, roots: tuple[str, ...]
    ) -> tuple[Mapping[str, TestStatus] | None, frozenset[str], str]:
        try:
            data = read_report(folder, place)
            if data is None:
                return None, frozenset(), f"{place} was not written" if _is_report_wanted(spec) else ""
            tests, broken = parse_junit(data, exists=_files_of(folder, spec.cwd), roots=roots)
        except (ReportUnreadable, OSError) as e:
            _require_fault_of_change(e, spec)
            return None, frozenset(), self._redactor(clean(str(e)))
        safe: dict[str, TestStatus] = {}
        for test_id, status in tests.items():
            name = self._label(test_id)
            safe[name] = TestStatus.FAILED if safe.get(name) is TestStatus.FAILED else status
        return safe, frozenset(map(self._label, broken)), ""

    def _label(self, test_id: str) -> str:
        """The id without secrets and control characters; a very long one is cut, and told apart by its hash."""
        label = self._redactor(clean(test_id))
        if len(label) <= _ID_CHARS_MAX:
            return label
        return f"{label[:_ID_CHARS_MAX]}…{sha256(label.encode()).hexdigest()[:16]}"


def _is_report_wanted(spec: GateSpec) -> bool:
    return spec.report is not None or any(
        "{report}" in text or REPORT_VARIABLE in text for text in (*spec.argv, *spec.env.values())
    )


def _filled(text: str, values: Mapping[str, str]) -> str:
    return _PLACEHOLDER.sub(lambda found: values[found.group(1)], text)


def _files_of(folder: Path, cwd: str) -> Callable[[str], bool]:
    """Whether a name is a file of the checkout, looked up from where the command ran, then from the top."""

    def exists(name: str) -> bool:
        if name.startswith("/") or ".." in name.split("/"):
            return False
        try:
            return (folder / cwd / name).is_file() or (folder / name).is_file()
        except (OSError, ValueError):
            return False

    return exists


def _require_fault_of_change(error: Exception, spec: GateSpec) -> None:
    """Raises TransientError where the machine is short of something, which says nothing about the change."""
    if isinstance(error, OSError) and isinstance(
        short := of_os_error(error, doing=f"gate {spec.name}"), TransientError
    ):
        raise short from error


def _unable(why: str) -> TestRun:
    return TestRun(exit_code=None, duration=timedelta(0), unable=why)
