"""Whether one command gate passes: the change's run held against the base's.

Only what the change did counts: a test that passed on the base and fails now, or is gone though nobody touched its file,
and a failing test that is new or whose file the change touches. Old failures elsewhere do not, and neither do tests that
pass in the one re-run on the same tree; both are told. A command without per-test results is judged by its exit code alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, TypeAlias

from tamma.core.gate import GateVerdict, TestRun, TestStatus
from tamma.core.words import counted

Statuses: TypeAlias = Mapping[str, TestStatus]

COMMAND: Final = "(the command as a whole)"
_PASSED, _FAILED, _SKIPPED = TestStatus.PASSED, TestStatus.FAILED, TestStatus.SKIPPED


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A verdict, its one-sentence reason, and the test ids behind it, each list sorted and complete (see GateReport)."""

    verdict: GateVerdict
    summary: str
    counts: Mapping[str, int] = field(default_factory=dict)
    base_counts: Mapping[str, int] = field(default_factory=dict)
    fixed: tuple[str, ...] = ()
    regressed: tuple[str, ...] = ()
    unfixed: tuple[str, ...] = ()
    inherited: tuple[str, ...] = ()
    flaky: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    newly_skipped: tuple[str, ...] = ()


def compare(
    base: TestRun | None, change: TestRun, *, rerun: TestRun | None = None, touched: Collection[str] = ()
) -> Comparison:
    """The verdict on ``change``; ``rerun`` is a second run on the same tree, ``touched`` the paths that the change touches.

    A base that is None or could not be asked is unknown: then every failure counts.
    """
    if change.unable:
        return Comparison(verdict=GateVerdict.UNABLE, summary=f"could not be asked: {change.unable}")
    known = base if base is not None and not base.unable else None
    run, flaky = merge_runs(change, rerun)
    if run.tests is None:
        return _by_exit_code(known, change, rerun)
    return _by_tests(known, run, runs=_usable(change, rerun), flaky=flaky, touched=frozenset(touched))


def merge_runs(change: TestRun, rerun: TestRun | None) -> tuple[TestRun, tuple[str, ...]]:
    """Two runs on one tree as one, and the ids that differed between them: those count as passed, and are flaky."""
    first, *more = _usable(change, rerun)
    if not more or more[0].tests is None:
        return first, ()
    second = more[0]
    if first.tests is None:
        return replace(first, tests=second.tests, broken_files=second.broken_files), ()
    one, two = statuses(first), statuses(second)
    flaky = {i for i in one.keys() & two.keys() if {one[i], two[i]} == {_PASSED, _FAILED}}
    for mine, other in ((first, two), (second, one)):
        mended = mine.broken_files - other.keys()
        flaky |= mended & {place for i in other for place in _places(i)} if mended else set()
    merged = {**two, **one, **{i: _FAILED for i, s in two.items() if s is _FAILED}, **dict.fromkeys(flaky, _PASSED)}
    broken = (first.broken_files | second.broken_files) - flaky
    tests = {i: s for i, s in merged.items() if i not in first.broken_files | second.broken_files}
    return replace(first, tests=tests, broken_files=broken), tuple(sorted(flaky))


def statuses(run: TestRun) -> dict[str, TestStatus]:
    """Per-test results, a file that could not be collected standing for itself as a failed test."""
    return {**(run.tests or {}), **dict.fromkeys(run.broken_files, _FAILED)}


def counts(run: TestRun | None) -> dict[str, int]:
    """How many tests came to what; empty where that is not known."""
    if run is None or run.tests is None:
        return {}
    seen = Counter(run.tests.values())
    found = {status.value: seen[status] for status in TestStatus}
    return found | ({"broken_files": len(run.broken_files)} if run.broken_files else {})


def file_of(test_id: str) -> str:
    """The file part of a test id; the whole id where it has none."""
    return test_id.partition("::")[0]


def broken_in(test_id: str, broken: frozenset[str]) -> bool:
    """Whether a test's file, or a folder above it, could not be collected."""
    return bool(broken) and any(place in broken for place in _places(test_id))


def _places(test_id: str) -> Iterator[str]:
    """The test's file and the folders above it."""
    path = file_of(test_id)
    while path:
        yield path
        path = path.rpartition("/")[0]


def _usable(change: TestRun, rerun: TestRun | None) -> tuple[TestRun, ...]:
    return (change,) if rerun is None or rerun.unable else (change, rerun)


def _by_exit_code(base: TestRun | None, change: TestRun, rerun: TestRun | None) -> Comparison:
    if change.is_green:
        if change.report_fault:
            why = f"said yes, but its report cannot be used: {change.report_fault}"
            return Comparison(verdict=GateVerdict.UNABLE, summary=why, base_counts=counts(base))
        return Comparison(verdict=GateVerdict.PASS, summary="said yes (exit 0)")
    how = _ending(change)
    if rerun is not None and not rerun.unable and rerun.is_green and not rerun.report_fault:
        return Comparison(
            verdict=GateVerdict.PASS, summary=f"{how} once, said yes at once on the same tree", flaky=(COMMAND,)
        )
    fault = f"; its report cannot be used: {change.report_fault}" if change.report_fault else ""
    if base is None:
        return Comparison(verdict=GateVerdict.FAIL, summary=f"{how}; how the base does is not known{fault}")
    told = f"{how}{fault}; on the base it {'says yes' if base.is_green else _ending(base)}"
    is_new = base.is_green or base.tests is not None or (change.has_timed_out and not base.has_timed_out)
    if is_new:
        return Comparison(verdict=GateVerdict.FAIL, summary=told, base_counts=counts(base))
    return Comparison(
        verdict=GateVerdict.UNABLE,
        summary=f"{how}; it fails on the base too ({_ending(base)}) and reports no tests, so nothing can be told about the change",
    )


def _by_tests(
    base: TestRun | None, run: TestRun, *, runs: tuple[TestRun, ...], flaky: tuple[str, ...], touched: frozenset[str]
) -> Comparison:
    before, now = _sides(base, run)
    failing = {i for i, s in now.items() if s is _FAILED}
    was_broken = base.broken_files if base is not None else frozenset()
    regressed = {i for i in failing if before.get(i) is _PASSED}
    has_run = not run.has_timed_out and any(s is not _SKIPPED for s in (run.tests or {}).values())
    vanished = _vanished(before, now, touched) if has_run else set[str]()
    regressed |= vanished
    old = {i for i in failing - regressed if before.get(i) is _FAILED}
    inherited = {i for i in old if _is_touched(i, touched)}
    old -= inherited
    unfixed = failing - regressed - old
    faults = [_fault(base, one, ran=_ran(before), flaky=flaky) for one in runs]
    fault = faults[0] if all(faults) and not (regressed or unfixed) else ""
    ran_before = {
        i
        for i, s in before.items()
        if s is not _SKIPPED and i not in was_broken and i in (base.tests or {} if base else {})
    }
    skipped_files = _skipped_files(now)
    newly_skipped = {i for i in ran_before if now.get(i) is _SKIPPED or (i not in now and file_of(i) in skipped_files)}
    asked = sum(s is not _SKIPPED for s in (run.tests or {}).values())
    if not asked and run.broken_files:
        ran_before = set()  # the session stopped at a broken file: what is absent was not removed
    verdict, summary = _word(
        before,
        now,
        asked=asked,
        regressed=len(regressed),
        new=len(unfixed - inherited),
        inherited=len(inherited),
        old=len(old),
        flaky=len(flaky),
        fault=fault,
        base=base,
    )
    if vanished:
        summary += f"; {counted(len(vanished), 'test is', 'tests are')} gone from files that the change does not touch"
    return Comparison(
        verdict=verdict,
        summary=summary,
        counts=counts(run),
        base_counts=counts(base),
        fixed=_fixed(base, before, now, flaky=flaky),
        regressed=_sorted(regressed),
        unfixed=_sorted(unfixed),
        inherited=_sorted(inherited),
        flaky=flaky + ((COMMAND,) if faults[0] and not all(faults) and not flaky else ()),
        removed=_sorted(ran_before - now.keys() - newly_skipped - regressed),
        newly_skipped=_sorted(newly_skipped),
    )


def _vanished(before: Statuses, now: Statuses, touched: frozenset[str]) -> set[str]:
    """What passed on the base and is gone, though its file is as it was: somebody saw to it that it is not asked. A function
    that is there with other parameters is not gone: they may come from the code."""
    here = {_function(i) for i in now}
    skipped_files = _skipped_files(now)
    return {
        i
        for i, s in before.items()
        if s is _PASSED and i not in now and _function(i) not in here and file_of(i) not in skipped_files
        and _is_path(file_of(i)) and not _is_touched(i, touched)
    }  # fmt: skip


def _skipped_files(side: Statuses) -> set[str]:
    return {i for i, s in side.items() if s is _SKIPPED and "::" not in i}


def _function(test_id: str) -> str:
    return test_id.partition("[")[0]


def _is_path(name: str) -> bool:
    """Whether it can be held against the paths of a change; else a class's name is all there is."""
    return "/" in name or name.endswith(".py")


def _fixed(base: TestRun | None, before: Statuses, now: Statuses, *, flaky: tuple[str, ...]) -> tuple[str, ...]:
    """Passing ids that failed on the base or are new; none where the base's tests are not known."""
    if base is None or base.tests is None:
        return ()
    return _sorted(i for i, s in now.items() if s is _PASSED and before.get(i, _FAILED) is _FAILED and i not in flaky)


def _sides(base: TestRun | None, run: TestRun) -> tuple[dict[str, TestStatus], dict[str, TestStatus]]:
    """Both runs over the same ids: a test whose file one side could not collect failed there."""
    before = statuses(base) if base is not None else {}
    now = statuses(run)
    missing_now = {i for i in before if i not in now and broken_in(i, run.broken_files)}
    missing_before = (
        {i for i in now if i not in before and broken_in(i, base.broken_files)} if base is not None else set()
    )
    return before | dict.fromkeys(missing_before, _FAILED), now | dict.fromkeys(missing_now, _FAILED)


def _fault(base: TestRun | None, run: TestRun, *, ran: int, flaky: tuple[str, ...]) -> str:
    """What is wrong with a run as a whole, beyond its tests; empty if nothing, or nothing new."""
    if run.has_timed_out and not (base is not None and base.has_timed_out):
        return _ending(run)
    now = statuses(run)
    if not _ran(now) and ran:
        return f"no test ran, {ran} ran on the base"
    if run.exit_code == 0 or run.has_timed_out:
        return ""
    failing = any(s is _FAILED for s in now.values())
    is_like_base = (
        base is not None and base.exit_code == run.exit_code and failing == (_FAILED in statuses(base).values())
    )
    if is_like_base or (failing and flaky):
        return ""
    other = "" if base is None else f", {_ending(base)} on the base,"
    return f"{_ending(run)}{other} although " + ("only old failures are left" if failing else "no test failed")


def _word(
    before: Statuses,
    now: Statuses,
    *,
    asked: int,
    regressed: int,
    new: int,
    inherited: int,
    old: int,
    flaky: int,
    fault: str,
    base: TestRun | None,
) -> tuple[GateVerdict, str]:
    parts = [f"{regressed} regressed"] * bool(regressed) + [_new(new, base)] * bool(new)
    parts += [_inherited(inherited)] * bool(inherited)
    notes = [f"{counted(old, 'old failure')} left alone"] * bool(old) + [f"{flaky} flaky"] * bool(flaky)
    if parts or fault:
        return GateVerdict.FAIL, "; ".join([*parts, *([fault] if fault else []), *notes])
    if not asked:
        broken = sum("::" not in i for i, s in now.items() if s is _FAILED)
        why = (
            f"no test ran, since {counted(broken, 'file')} cannot be collected, on the base either"
            if broken
            else "no test ran, here or on the base"
        )
        return (
            (GateVerdict.SKIP, why)
            if base is not None and not broken
            else (GateVerdict.UNABLE, why if base else "no test ran")
        )
    passed = sum(s is _PASSED for s in now.values())
    return GateVerdict.PASS, "; ".join([f"{counted(passed, 'test')} passed", *notes])


def _new(number: int, base: TestRun | None) -> str:
    if base is None or base.tests is None:
        return f"{number} failing, how the base does is not known"
    return counted(number, "new failure")


def _inherited(number: int) -> str:
    if number == 1:
        return "1 fails on the base, too, in a file that the change touches: mend it, or leave that file alone"
    return f"{number} fail on the base, too, in files that the change touches: mend them, or leave those files alone"


def _ran(side: Statuses) -> int:
    return sum(s is not _SKIPPED for s in side.values())


def _is_touched(test_id: str, touched: frozenset[str]) -> bool:
    path = file_of(test_id)
    return path in touched or ("::" not in test_id and any(t.startswith(path + "/") for t in touched))


def _ending(run: TestRun) -> str:
    if run.has_timed_out:
        return f"timed out after {run.duration.total_seconds():.0f} s"
    return f"exits {run.exit_code}"


def _sorted(ids: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(ids))
