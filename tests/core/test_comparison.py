"""Claims about comparing a change's run with the base's."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tamma.core.comparison import COMMAND, compare, file_of, merge_runs
from tamma.core.gate import GateVerdict, TestRun, TestStatus

P, F, S = TestStatus.PASSED, TestStatus.FAILED, TestStatus.SKIPPED
PASS, FAIL, SKIP, UNABLE = GateVerdict.PASS, GateVerdict.FAIL, GateVerdict.SKIP, GateVerdict.UNABLE
A, B, C = "tests/test_a.py::one", "tests/test_a.py::two", "tests/test_b.py::one"


def run(
    tests: dict[str, TestStatus] | None = None,
    *,
    code: int | None = None,
    broken: tuple[str, ...] = (),
    timed_out: bool = False,
    fault: str = "",
    unable: str = "",
) -> TestRun:
    """A run whose exit code follows from its tests unless said otherwise."""
    natural = 1 if broken or F in (tests or {}).values() else 0
    return TestRun(
        exit_code=None if unable else natural if code is None else code,
        duration=timedelta(seconds=2),
        tests=tests,
        broken_files=frozenset(broken),
        has_timed_out=timed_out,
        report_fault=fault,
        unable=unable,
    )


def test_a_regression_fails() -> None:
    """What passed on the base and fails now counts, even in a file nobody touched and even if the command exits 0."""
    found = compare(run({A: P, B: P}), run({A: P, B: F}, code=0))
    assert (found.verdict, found.regressed) == (FAIL, (B,))


def test_old_failures_on_untouched_files_do_not_count() -> None:
    """They are told, not charged."""
    found = compare(run({A: P, C: F}), run({A: P, C: F}), touched={"src/x.py"})
    assert found.verdict is PASS
    assert "1 old failure left" in found.summary


def test_old_failures_in_a_touched_file_count() -> None:
    """Who edits a test file answers for it, and is told that they are old."""
    found = compare(run({A: P, C: F}), run({A: P, C: F}), touched={"tests/test_b.py"})
    assert (found.verdict, found.unfixed, found.inherited) == (FAIL, (C,), (C,))
    assert found.summary == (
        "1 fails on the base, too, in a file that the change touches: mend it, or leave that file alone"
    )


def test_an_old_failure_in_a_touched_file_is_not_called_new() -> None:
    """Nor is a new one called old."""
    new = f"{C}_new"
    found = compare(run({C: F}), run({C: F, new: F}), touched={"tests/test_b.py"})
    assert (found.unfixed, found.inherited) == ((C, new), (C,))
    assert found.summary.startswith("1 new failure; 1 fails on the base, too, in a file that the change touches")


def test_without_a_base_no_failure_is_called_new() -> None:
    """Nobody knows."""
    found = compare(None, run({C: F}), touched={"tests/test_b.py"})
    assert (found.unfixed, found.inherited) == ((C,), ())
    assert found.summary == "1 failing, how the base does is not known"


def test_new_failing_tests_count() -> None:
    """A failing id that the base does not have is the change's."""
    found = compare(run({A: P}), run({A: P, C: F}))
    assert (found.verdict, found.unfixed) == (FAIL, (C,))


def test_a_skip_lifted_into_a_failure_counts() -> None:
    """It did not fail on the base."""
    assert compare(run({A: P, C: S}), run({A: P, C: F})).unfixed == (C,)


def test_flaky_ids_are_told_and_do_not_fail() -> None:
    """Failed once, passed in the re-run on the same tree."""
    found = compare(run({A: P, B: P}), run({A: F, B: P}), rerun=run({A: P, B: P}))
    assert (found.verdict, found.flaky, found.regressed) == (PASS, (A,), ())
    assert found.counts["passed"] == 2


def test_disjoint_flakes_do_not_fail() -> None:
    """Each run is red, but no test failed twice."""
    found = compare(run({A: P, B: P}), run({A: F, B: P}), rerun=run({A: P, B: F}))
    assert (found.verdict, found.flaky) == (PASS, (A, B))


def test_a_failure_seen_only_in_the_rerun_counts_if_the_first_run_died() -> None:
    """A first run without that test is no proof that it passes."""
    found = compare(run({A: P, B: P}), run({A: F}, code=3), rerun=run({A: P, B: F}))
    assert (found.verdict, found.regressed) == (FAIL, (B,))


def test_a_rerun_that_breaks_down_forgives_nothing() -> None:
    """Only a pass is a pass."""
    for rerun in (run(unable="gone"), run(code=1, fault="no report"), run({})):
        assert compare(run({A: P}), run({A: F}), rerun=rerun).verdict is FAIL


def test_tests_that_vanish_from_files_nobody_touched_are_a_failure() -> None:
    """A deselection in some configuration file, most likely: what broke is not asked any more."""
    found = compare(run({A: P, B: P, C: P}), run({A: P, B: P}), touched={"pytest.ini", "a.py"})
    assert (found.verdict, found.regressed, found.removed) == (FAIL, (C,), ())
    assert "1 test is gone from files that the change does not touch" in found.summary


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({A: P, f"{C}[old]": P}, {A: P, f"{C}[new]": P}),
        ({A: P, "pkg.Class::test": P}, {A: P}),
        ({A: P, C: F}, {A: P}),
        ({A: P, C: S}, {A: P}),
        ({A: P, C: P}, {A: P, file_of(C): S}),
    ],
    ids=["other parameters", "no path to hold it against", "it failed", "it was skipped", "its file is skipped"],
)
def test_not_all_that_is_absent_has_vanished(before: dict[str, TestStatus], after: dict[str, TestStatus]) -> None:
    """Parameters may come from the code; what did not pass before is no loss."""
    assert compare(run(before), run(after), touched={"a.py"}).verdict is PASS


def test_removed_and_newly_skipped_are_told() -> None:
    """Deleting tests of a file that the change touches, or skipping them, is seen, and is no failure by itself."""
    found = compare(run({A: P, B: P, C: P}), run({A: P, B: S}), touched={file_of(C)})
    assert (found.verdict, found.removed, found.newly_skipped) == (PASS, (C,), (B,))


def test_fixed_are_old_failures_and_new_ids_that_pass() -> None:
    """Both failed or were absent without the change."""
    assert compare(run({A: P, C: F}), run({A: P, B: P, C: P})).fixed == (B, C)


def test_a_broken_file_regresses_its_tests() -> None:
    """A collection error is red for all that passed in that file on the base."""
    found = compare(run({A: P, B: P, C: P}), run({C: P}, code=2, broken=("tests/test_a.py",)))
    assert (found.verdict, found.regressed, found.removed) == (FAIL, (A, B), ())


def test_a_session_stopped_by_a_broken_file_removed_nothing() -> None:
    """pytest runs no test at all then; the broken file is named, not everything else."""
    found = compare(run({A: P, C: P}), run({}, code=2, broken=("z.py",)))
    assert (found.verdict, found.unfixed, found.removed) == (FAIL, ("z.py",), ())


def test_an_old_broken_file_is_an_old_failure() -> None:
    """Broken on the base too, untouched: left alone; touched: counts."""
    base, now = run({C: P}, code=2, broken=("tests/test_a.py",)), run({C: P}, code=2, broken=("tests/test_a.py",))
    assert compare(base, now).verdict is PASS
    assert compare(base, now, touched={"tests/test_a.py"}).unfixed == ("tests/test_a.py",)


def test_mending_a_broken_file_may_reveal_old_failures() -> None:
    """They were red before, as part of the file."""
    found = compare(run({C: P}, code=1, broken=("tests/test_a.py",)), run({A: F, B: P, C: P}))
    assert (found.verdict, found.fixed) == (PASS, (B,))


@pytest.mark.parametrize("base", [None, run(unable="no such program")])
def test_an_unknown_base_makes_every_failure_count(base: TestRun | None) -> None:
    """Nothing is forgiven on hearsay."""
    assert compare(base, run({A: F})).verdict is FAIL
    assert compare(base, run({A: P})).verdict is PASS
    assert compare(base, run({A: P})).fixed == ()


@pytest.mark.parametrize(
    ("base", "change", "verdict"),
    [
        (run(), run(), PASS),
        (run(), run(code=1), FAIL),
        (None, run(code=1), FAIL),
        (run(unable="x"), run(code=1), FAIL),
        (run(code=1), run(), PASS),
        (run(code=1), run(code=1), UNABLE),
        (run(code=1), run(code=2), UNABLE),
        (run({A: P}), run(code=4), FAIL),
        (run({A: F}), run(code=4, fault="report missing"), FAIL),
        (run(), run(fault="report missing"), UNABLE),
        (run(), run(code=1, fault="report missing"), FAIL),
        (run(), run(code=-15, timed_out=True), FAIL),
        (run(), run(code=0, timed_out=True), FAIL),
        (run(code=1), run(code=-15, timed_out=True), FAIL),
        (run(code=-15, timed_out=True), run(code=-15, timed_out=True), UNABLE),
        (run(), run(unable="no such program"), UNABLE),
        (run({A: P}), run({}), FAIL),
        (run({A: P}), run({A: S}), FAIL),
        (run({A: P}), run({}, code=5), FAIL),
        (run({}, code=5), run({}, code=5), SKIP),
        (run({}), run({}), SKIP),
        (run({A: S}), run({A: S}), SKIP),
        (None, run({}), UNABLE),
        (run({A: P}), run({A: P}, code=1), FAIL),
        (run({A: P}, code=1), run({A: P}, code=1), PASS),
        (run({A: P}, code=1), run({A: P}, code=3), FAIL),
        (run({A: F}), run({A: P}, code=1), FAIL),
        (run({A: P, C: F}), run({A: P, C: F}, code=3), FAIL),
        (run({A: P, C: F}), run({A: P}, code=0), PASS),
        (run({A: P}), run({A: P}, code=-9, timed_out=True), FAIL),
        (run({}, code=2, broken=("z.py",)), run({}, code=2, broken=("z.py",)), UNABLE),
        (run({A: P}), run({}, code=2, broken=("z.py",)), FAIL),
    ],
)
def test_runs_as_a_whole(base: TestRun | None, change: TestRun, verdict: GateVerdict) -> None:
    """Exit codes, timeouts, missing reports and empty runs, each with what a team would want to hear."""
    assert compare(base, change).verdict is verdict


def test_a_linter_red_on_both_sides_is_neither_pass_nor_fail() -> None:
    """The summary says why nothing can be told."""
    found = compare(run(code=1), run(code=1))
    assert "fails on the base too" in found.summary


def test_a_command_that_is_green_in_the_rerun_is_flaky_as_a_whole() -> None:
    """There is no id to name, so the command is named."""
    found = compare(run(), run(code=1), rerun=run())
    assert (found.verdict, found.flaky) == (PASS, (COMMAND,))
    timed = compare(run({A: P}), run(code=-15, timed_out=True, fault="no report"), rerun=run({A: P}))
    assert timed.verdict is PASS


STATUSES = st.dictionaries(st.sampled_from([A, B, C, "x.py::d", "y.py::e"]), st.sampled_from([P, F, S]))
RUNS = st.builds(
    lambda tests, code, broken: run(tests, code=code, broken=tuple(broken)),
    st.none() | STATUSES,
    st.sampled_from([0, 1, 2]),
    st.frozensets(st.sampled_from(["tests/test_b.py", "z.py"])),
)
TOUCHED = st.frozensets(st.sampled_from(["tests/test_a.py", "x.py"]))


@given(st.none() | RUNS, RUNS, st.none() | RUNS, TOUCHED)
def test_the_evidence_supports_the_verdict(
    base: TestRun | None, change: TestRun, rerun: TestRun | None, touched: frozenset[str]
) -> None:
    """No pass with a regression or an unfixed failure; the lists are sorted and disjoint where they must be."""
    found = compare(base, change, rerun=rerun, touched=touched)
    failing = {*found.regressed, *found.unfixed}
    if failing:
        assert found.verdict is FAIL
    assert not failing & {*found.fixed, *found.flaky, *found.removed, *found.newly_skipped}
    assert {*found.inherited} <= {*found.unfixed}
    for ids in (
        found.fixed, found.regressed, found.unfixed, found.inherited, found.removed, found.newly_skipped
    ):  # fmt: skip
        assert list(ids) == sorted(set(ids))
    assert found.summary


@given(RUNS, TOUCHED)
def test_a_change_that_changes_nothing_never_fails(base: TestRun, touched: frozenset[str]) -> None:
    """The base against itself fails only for old failures in files that were touched."""
    found = compare(base, base, touched=touched)
    assert found.verdict is not FAIL or found.unfixed


@given(RUNS, RUNS)
def test_settling_is_symmetric_in_what_it_forgives(first: TestRun, second: TestRun) -> None:
    """Which of the two runs came first does not matter for the flaky ids."""
    if first.tests is not None and second.tests is not None:
        assert merge_runs(first, second)[1] == merge_runs(second, first)[1]


def test_a_timeout_on_both_sides_with_results_is_judged_by_the_results() -> None:
    """Running out of time is old then; the tests that ran still speak."""
    base, change = run({A: P}, code=-9, timed_out=True), run({A: P}, code=-9, timed_out=True)
    assert compare(base, change).verdict is PASS
    assert compare(base, run({A: F}, code=-9, timed_out=True)).regressed == (A,)


def test_a_rerun_may_only_forgive_by_passing() -> None:
    """Skipped first and failed then is a failure."""
    found = compare(run({A: P, B: P}), run({A: F, B: S}), rerun=run({A: F, B: F}))
    assert found.regressed == (A, B)


def test_a_fault_of_the_first_run_alone_is_flaky_as_a_whole() -> None:
    """It exited 3 with all tests passing, and then did not."""
    found = compare(run({A: P}), run({A: P}, code=3), rerun=run({A: P}))
    assert (found.verdict, found.flaky) == (PASS, (COMMAND,))
    assert compare(run({A: P}), run({A: P}, code=3), rerun=run({A: P}, code=3)).verdict is FAIL


def test_tests_of_a_module_that_skips_itself_are_newly_skipped() -> None:
    """Not removed: the file says why."""
    found = compare(run({A: P, C: P}), run({"tests/test_a.py": S, C: P}))
    assert (found.newly_skipped, found.removed) == ((A,), ())


def test_a_green_rerun_without_its_report_forgives_nothing() -> None:
    """It said yes, and shows nothing for it."""
    assert compare(run({A: P}), run(code=1, fault="gone"), rerun=run(fault="gone")).verdict is FAIL
