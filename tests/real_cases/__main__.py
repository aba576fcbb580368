"""``python -m tests.real_cases``: real bugs in, delivered changes out, and a table of how each case ended.

Exits 0 only when every case ended as the chosen agent must make it end; 1 when one did not; 2 when a case or a tool is
not there.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.real_cases import tamma_run
from tests.real_cases.case import BUILDER, Built, CasesUnusable, build_all, in_parallel, load_cases, make_python
from tests.real_cases.expect import AGENTS, Finding, look
from tests.real_cases.site import Site, make_site

# Beside the repository, where a team may keep cases of its own.
DEFAULT_CASES: Final = Path(__file__).resolve().parents[3] / "shared" / "cases"
JOBS: Final = max(2, os.cpu_count() or 1)
EXIT_TERMINATED: Final = 143
HEAD: Final = (
    "case",
    "",
    "state",
    "exit",
    "attempts",
    "repairs",
    "graded",
    "red → green",
    "wanted",
    "seconds",
    "problems",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What the run came to, and how long its parts took."""

    agent: str
    exit_code: int
    findings: list[Finding]
    dispatches: dict[str, int]
    build_seconds: float
    run_seconds: float
    grade_seconds: float

    @property
    def ok(self) -> bool:
        """Whether everything ended as it must."""
        return self.exit_code == 0 and all(finding.ok for finding in self.findings)


def main() -> int:
    """Parse, run, print; the exit code."""
    given = _arguments()
    say = sys.stderr.write
    # As an exception, so that the loop is drained, its database stopped and the folder removed.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(EXIT_TERMINATED))
    try:
        with _folder(given.keep) as root:
            report = run(given, root)
    except CasesUnusable as error:
        say(f"real cases: {error}\n")
        return 2
    if given.json:
        print(json.dumps(_as_json(report), indent=1, ensure_ascii=False))
    else:
        _print_table(report)
    return 0 if report.ok else 1


def run(given: argparse.Namespace, root: Path) -> Report:
    """Build, run Tamma, look. Raises CasesUnusable."""
    started = time.monotonic()
    cases = load_cases(given.cases, only=given.only)
    cache = given.cache or root / "cache"
    built = build_all(cases, builder=given.cases / BUILDER, out=root / "cases", cache=cache, jobs=JOBS)
    site = make_site(root, built, agent=given.agent)
    ready = time.monotonic()
    with tamma_run.stopped_afterwards(site):
        code = tamma_run.orchestrate(
            site, workers=given.workers, loops=given.loops, timeout_seconds=given.timeout_seconds
        )
        ended = time.monotonic()
        findings = _look_at_all(site, built, agent=given.agent)
        dispatches = tamma_run.dispatches(site)
    return Report(
        agent=given.agent, exit_code=code, findings=findings, dispatches=dispatches, build_seconds=ready - started, run_seconds=ended - ready,
        grade_seconds=time.monotonic() - ended,
    )  # fmt: skip


def _look_at_all(site: Site, built: Sequence[Built], *, agent: str) -> list[Finding]:
    delivers = agent in ("gold", "mends")
    wanted = sorted({one.case.test_requires for one in built if one.case.ecosystem != "npm"}) if delivers else []
    made = in_parallel(
        lambda item: make_python(site.root / "graders" / str(item[0]), item[1]), list(enumerate(wanted)), jobs=JOBS
    )
    pythons = dict(zip(wanted, made, strict=True))
    return in_parallel(
        lambda one: look(site, one, agent=agent, python=pythons.get(one.case.test_requires)), built, jobs=JOBS
    )


@contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    if keep is not None:
        if keep.exists() and any(keep.iterdir()):
            raise CasesUnusable(f"{keep} is not empty: give another folder")
        keep.mkdir(parents=True, exist_ok=True)
        yield keep.resolve()
        return
    root = Path(tempfile.mkdtemp(prefix="tamma-cases-"))
    root.chmod(0o711)  # as root, the database runs as another user, who must pass
    try:
        yield root
    finally:
        shutil.rmtree(root, ignore_errors=True)


def _arguments() -> argparse.Namespace:
    asked = argparse.ArgumentParser(prog="python -m tests.real_cases", description=__doc__)
    asked.add_argument("--cases", type=Path, default=DEFAULT_CASES, help=f"folder with cases and their {BUILDER}")
    asked.add_argument("--agent", choices=AGENTS, required=True, help="how the agent behaves")
    asked.add_argument("--workers", type=int, default=2, help="worker processes (2)")
    asked.add_argument("--loops", type=int, default=1, help="orchestrators on the one database (1)")
    asked.add_argument("--only", action="append", default=[], metavar="ID", help="only this case; may be repeated")
    asked.add_argument("--json", action="store_true", help="one JSON document instead of a table")
    asked.add_argument("--keep", type=Path, help="an empty folder to work in, which stays afterwards")
    asked.add_argument("--cache", type=Path, help="folder for archives, which stays afterwards")
    asked.add_argument("--timeout-seconds", type=float, default=3600, help="longest the whole orchestration may take")
    given = asked.parse_args()
    given.cases = given.cases.resolve()
    return given


def _as_json(report: Report) -> dict[str, object]:
    return {
        "ok": report.ok,
        "agent": report.agent,
        "orchestrate_exit_code": report.exit_code,
        "seconds": {"build": report.build_seconds, "run": report.run_seconds, "look": report.grade_seconds},
        "dispatches": report.dispatches,
        "cases": [finding.as_json() for finding in report.findings],
    }


def _print_table(report: Report) -> None:
    rows = [_row(finding) for finding in report.findings]
    if sys.stdout.isatty():
        from rich.console import Console
        from rich.table import Table

        table = Table(*HEAD, box=None)
        for row in rows:
            table.add_row(*row)
        Console().print(table)
    else:
        print("\n".join("\t".join(row) for row in [HEAD, *rows]))
    good = sum(finding.ok for finding in report.findings)
    print(
        f"{report.agent}: {good} of {len(rows)} cases ended as they must; orchestrate exited {report.exit_code}; "
        f"dispatched by each loop: {sorted(report.dispatches.values())}; "
        f"built in {report.build_seconds:.0f} s, run in {report.run_seconds:.0f} s, graded in {report.grade_seconds:.0f} s"
    )


def _row(f: Finding) -> tuple[str, ...]:
    graded = "-" if f.solved is None else "solved" if f.solved else "not solved"
    code = "-" if f.exit_code is None else str(f.exit_code)
    numbers = (str(f.attempts), str(f.repairs), graded, str(f.red_to_green), str(f.fail_to_pass), f"{f.seconds:.1f}")
    return (f.case, "ok" if f.ok else "WRONG", f.state, code, *numbers, "; ".join(f.problems))


if __name__ == "__main__":
    sys.exit(main())
