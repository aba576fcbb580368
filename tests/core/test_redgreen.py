"""Claims about red-green."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tamma.core.gate import GateVerdict, TestRun, TestStatus
from tamma.core.policy import RedGreen
from tamma.core.redgreen import red_green

P, F, S = TestStatus.PASSED, TestStatus.FAILED, TestStatus.SKIPPED
OLD, NEW = "t.py::old", "t.py::new"
FILES = ("t.py",)


def run(tests: dict[str, TestStatus] | None, *, broken: tuple[str, ...] = (), unable: str = "") -> TestRun:
    """A run with these results."""
    return TestRun(exit_code=0, duration=timedelta(0), tests=tests, broken_files=frozenset(broken), unable=unable)


BASE = run({OLD: P})


@pytest.mark.parametrize(
    ("overlay", "change", "verdict", "fixed"),
    [
        (run({OLD: P, NEW: F}), run({OLD: P, NEW: P}), GateVerdict.PASS, (NEW,)),
        (run({OLD: P, NEW: S}), run({OLD: P, NEW: P}), GateVerdict.PASS, (NEW,)),
        (run({OLD: P}), run({OLD: P, NEW: P}), GateVerdict.PASS, (NEW,)),
        (run({}, broken=("t.py",)), run({OLD: P, NEW: P}), GateVerdict.PASS, (NEW, OLD)),
        (run({OLD: P, NEW: P}), run({OLD: P, NEW: P}), GateVerdict.FAIL, ()),
        (run({OLD: P, NEW: F}), run({OLD: P, NEW: F}), GateVerdict.FAIL, ()),
        (run({OLD: P, NEW: F}), run({OLD: F, NEW: P}), GateVerdict.FAIL, (NEW,)),
        (run({OLD: P, NEW: F}), run({NEW: P}), GateVerdict.PASS, (NEW,)),
        (run({OLD: P, NEW: F}), run({"u.py::x": P}, broken=("t.py",)), GateVerdict.FAIL, ("u.py::x",)),
        (run({}, broken=("u.py",)), run({OLD: P, "u.py::x": P, "v.py::y": P}), GateVerdict.PASS, ("u.py::x",)),
        (run({}), run({OLD: P}), GateVerdict.FAIL, ()),
        (run(None), run({NEW: P}), GateVerdict.UNABLE, ()),
        (run({NEW: F}), run(None), GateVerdict.UNABLE, ()),
        (run(None, unable="gone"), run({NEW: P}), GateVerdict.UNABLE, ()),
    ],
)
def test_the_table(overlay: TestRun, change: TestRun, verdict: GateVerdict, fixed: tuple[str, ...]) -> None:
    """Red on the overlay, green on the change, nothing broken on the way; DESIGN section 7."""
    report = red_green(BASE, overlay, change, policy=RedGreen.WHEN_POSSIBLE, test_files=FILES)
    assert (report.verdict, report.fixed) == (verdict, tuple(sorted(fixed)))


def test_it_does_not_apply_without_a_test_file() -> None:
    """Nothing was brought that could be red."""
    report = red_green(BASE, None, run({OLD: P}), policy=RedGreen.WHEN_POSSIBLE, test_files=())
    assert report.verdict is GateVerdict.SKIP


def test_where_it_is_required_a_change_without_a_test_is_refused() -> None:
    """Its agent hears of it as of any gate that fails, and may bring one."""
    report = red_green(BASE, None, run({OLD: P}), policy=RedGreen.REQUIRED, test_files=())
    assert (report.verdict, report.binds) == (GateVerdict.FAIL, True)
    assert "touches no test file" in report.summary


def test_absent_ids_are_reported() -> None:
    """Both those absent without the change and those that went away."""
    report = red_green(BASE, run({OLD: P}), run({NEW: P}), policy=RedGreen.REQUIRED, test_files=FILES)
    assert report.removed == (OLD,)
    assert "1 of them absent" in report.summary


def test_flaky_ids_prove_nothing() -> None:
    """An id that is sometimes green was not turned green by the change."""
    report = red_green(
        BASE, run({OLD: P, NEW: F}), run({OLD: P, NEW: P}), policy=RedGreen.REQUIRED, test_files=FILES, flaky=(NEW,)
    )
    assert report.verdict is GateVerdict.FAIL


@pytest.mark.parametrize(
    ("policy", "binds", "needs_human"),
    [(RedGreen.REQUIRED, True, True), (RedGreen.WHEN_POSSIBLE, True, False), (RedGreen.ADVISORY, False, False)],
)
def test_how_much_it_binds(policy: RedGreen, binds: bool, needs_human: bool) -> None:
    """The operator decides whether a fail stops the change and whether an unable asks a human."""
    failed = red_green(BASE, run({OLD: P}), run({OLD: P}), policy=policy, test_files=FILES)
    unable = red_green(BASE, run(None), run({OLD: P}), policy=policy, test_files=FILES)
    assert (failed.binds, unable.needs_human, unable.binds) == (binds, needs_human, False)


def test_every_red_to_green_id_is_listed() -> None:
    """Complete, however many."""
    ids = {f"t.py::t{i:04}": P for i in range(3000)}
    report = red_green(BASE, run(dict.fromkeys(ids, F)), run(ids), policy=RedGreen.REQUIRED, test_files=FILES)
    assert len(report.fixed) == 3000


def test_flaky_ids_break_nothing_either() -> None:
    """What is sometimes green is no regression."""
    change = run({OLD: F, NEW: P})
    report = red_green(BASE, run({OLD: P, NEW: F}), change, policy=RedGreen.REQUIRED, test_files=FILES, flaky=(OLD,))
    assert (report.verdict, report.regressed) == (GateVerdict.PASS, ())
