"""Red-green: tests that the change brings must fail without it and pass with it (DESIGN section 7).

The overlay is the base with the change's test files; what passes there was no proof of anything.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from tamma.core.comparison import broken_in, counts, statuses
from tamma.core.gate import GateReport, GateVerdict, TestRun, TestStatus
from tamma.core.ids import Oid
from tamma.core.policy import RedGreen
from tamma.core.words import counted

RED_GREEN: Final = "red-green"


def red_green(
    base: TestRun | None,
    overlay: TestRun | None,
    change: TestRun | None,
    *,
    policy: RedGreen,
    test_files: Collection[str],
    flaky: Collection[str] = (),
    tree: Oid | None = None,
) -> GateReport:
    """Pass: at least one id that does not pass on the overlay passes on the change, and none that passes on base fails.

    ``test_files`` are the changed paths under the operator's test paths; without any it does not apply, unless it is required:
    then there is no proof. ``flaky`` ids prove nothing either way. ``fixed`` of the report lists every id that went from red to green.
    """
    if not test_files and policy is RedGreen.REQUIRED:
        return _report(GateVerdict.FAIL, "the change touches no test file, so nothing proves it", policy, tree)
    if not test_files:
        return _report(GateVerdict.SKIP, "the change touches no test file", policy, tree)
    for run, where in ((base, "the base"), (overlay, "the base with the change's tests"), (change, "the change")):
        if run is None or run.unable or run.tests is None:
            return _report(GateVerdict.UNABLE, f"no per-test results on {where}{_because(run)}", policy, tree)
    assert base is not None
    assert overlay is not None
    assert change is not None
    return _judge(base, overlay, change, policy=policy, flaky=frozenset(flaky), tree=tree)


def _judge(
    base: TestRun, overlay: TestRun, change: TestRun, *, policy: RedGreen, flaky: frozenset[str], tree: Oid | None
) -> GateReport:
    before, middle, now = base.tests or {}, statuses(overlay), change.tests or {}
    green = {
        i for i, s in now.items() if s is TestStatus.PASSED and i not in flaky and not broken_in(i, change.broken_files)
    }
    was_green = {i for i, s in before.items() if s is TestStatus.PASSED and not broken_in(i, base.broken_files)}
    # One file that cannot be collected may keep a whole session from running: what is absent then was not asked, and what
    # passes on the base is no proof by being absent.
    absent = set() if overlay.broken_files else {i for i in green - was_green if i not in middle}
    red = {
        i
        for i in green
        if middle.get(i, TestStatus.PASSED) is not TestStatus.PASSED or broken_in(i, overlay.broken_files)
    }
    fixed = red | absent
    regressed = {i for i in was_green - flaky if now.get(i) is TestStatus.FAILED or broken_in(i, change.broken_files)}
    removed = {i for i, s in before.items() if s is not TestStatus.SKIPPED and i not in now} - regressed
    if regressed:
        told = counted(len(regressed), "test that passes on the base fails", "tests that pass on the base fail")
        verdict, summary = GateVerdict.FAIL, f"{told} with the change"
    elif fixed:
        verdict, summary = GateVerdict.PASS, f"{counted(len(fixed), 'test goes', 'tests go')} from red to green"
    else:
        verdict, summary = (
            GateVerdict.FAIL,
            "no test fails without the change and passes with it, so the tests prove nothing",
        )
    notes = [f"{len(absent)} of them absent without the change"] * bool(absent) + [
        f"{counted(len(removed), 'test')} removed"
    ] * bool(removed)
    report = _report(verdict, "; ".join([summary, *notes]), policy, tree)
    return _with(report, overlay, change, fixed=fixed, regressed=regressed, removed=removed)


def _with(
    report: GateReport, overlay: TestRun, change: TestRun, *, fixed: set[str], regressed: set[str], removed: set[str]
) -> GateReport:
    return GateReport(
        name=report.name,
        verdict=report.verdict,
        summary=report.summary,
        is_required=report.is_required,
        tree=report.tree,
        duration=overlay.duration,
        counts=counts(change),
        base_counts=counts(overlay),
        fixed=tuple(sorted(fixed)),
        regressed=tuple(sorted(regressed)),
        removed=tuple(sorted(removed)),
        output=overlay.output,
    )


def _report(verdict: GateVerdict, summary: str, policy: RedGreen, tree: Oid | None) -> GateReport:
    binding = policy is RedGreen.REQUIRED or (policy is RedGreen.WHEN_POSSIBLE and verdict is not GateVerdict.UNABLE)
    return GateReport(name=RED_GREEN, verdict=verdict, summary=summary, is_required=binding, tree=tree)


def _because(run: TestRun | None) -> str:
    if run is None:
        return ""
    why = run.unable or run.report_fault
    return f": {why}" if why else ""
