"""Claims about gates, with real processes: what lies is found out, and nothing red hides something else."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tamma.core import event
from tamma.core.diff import refusal
from tamma.core.errors import TransientError
from tamma.core.gate import GateReport, GateSpec, GateVerdict, TestRun
from tamma.core.ids import BlobId
from tamma.core.policy import ChangePolicy, RedGreen
from tamma.core.redact import Redactor
from tamma.engine.gates import GateInterrupted, GateRunner, GateSite, to_fact
from tests.engine.gate_world import SECRET, MemoryBaselines, World, pytest_gate, python_gate

BASE: Final = {
    "calc.py": "def add(a, b):\n    return a - b\n",
    "tests/test_calc.py": "import calc\ndef test_zero():\n    assert calc.add(1, 0) == 1\n",
    "tests/test_old.py": "def test_broken_for_years():\n    assert False\n",
}
FIX: Final = {"calc.py": "def add(a, b):\n    return a + b\n"}
TEST: Final = {"tests/test_calc.py": BASE["tests/test_calc.py"] + "def test_sum():\n    assert calc.add(1, 2) == 3\n"}
NO_TESTS: Final = ChangePolicy(red_green=RedGreen.OFF)
JUNIT: Final = "<testsuites><testsuite><testcase classname='c' name='t'>{}</testcase></testsuite></testsuites>"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A small Python project; no checkout outlives its gate."""
    made = World(tmp_path, BASE)
    yield made
    assert not any((tmp_path / "checkouts").iterdir()) if (tmp_path / "checkouts").exists() else True


def test_a_fix_with_its_test_goes_from_red_to_green(world: World) -> None:
    """The whole way with real pytest: old failures are left alone, red-green names the test."""
    reports = world.judge({**FIX, **TEST}, pytest_gate())
    assert {name: r.verdict for name, r in reports.items()} == dict.fromkeys(
        ["protected-paths", "diff-budget", "tests", "red-green"], GateVerdict.PASS
    )
    assert reports["red-green"].fixed == ("tests/test_calc.py::test_sum",)
    assert reports["tests"].counts == {"passed": 2, "failed": 1, "skipped": 0}
    assert reports["tests"].base_counts == {"passed": 1, "failed": 1, "skipped": 0}
    assert "1 old failure left alone" in reports["tests"].summary


def test_a_test_that_passes_without_the_fix_proves_nothing(world: World) -> None:
    """Red-green fails, and binds."""
    lame = BASE["tests/test_calc.py"] + "def test_lame():\n    assert True\n"
    reports = world.judge({**FIX, "tests/test_calc.py": lame}, pytest_gate())
    assert reports["tests"].verdict is GateVerdict.PASS
    assert reports["red-green"].binds


def test_a_test_that_cannot_be_collected_without_the_fix_is_red(world: World) -> None:
    """A collection error on the overlay counts as red for that file's ids."""
    test = "from calc import double\ndef test_double():\n    assert double(2) == 4\n"
    change = {"calc.py": FIX["calc.py"] + "def double(a):\n    return 2 * a\n", "tests/test_double.py": test}
    reports = world.judge(change, pytest_gate())
    assert (reports["red-green"].verdict, reports["red-green"].fixed) == (
        GateVerdict.PASS,
        ("tests/test_double.py::test_double",),
    )


def test_breaking_what_passed_fails_both(world: World) -> None:
    """The regressed test is named."""
    reports = world.judge({"calc.py": "def add(a, b):\n    return 7\n", **TEST}, pytest_gate())
    assert reports["tests"].regressed == ("tests/test_calc.py::test_zero",)
    assert reports["red-green"].regressed == ("tests/test_calc.py::test_zero",)


def test_deleting_the_tests_is_seen(world: World) -> None:
    """Removed ids are listed; removing all of them fails."""
    reports = world.judge({**FIX, "tests/test_calc.py": None}, pytest_gate())
    assert reports["tests"].removed == ("tests/test_calc.py::test_zero",)
    reports = world.judge({"tests/test_calc.py": None, "tests/test_old.py": None}, pytest_gate())
    assert reports["tests"].verdict is GateVerdict.FAIL
    assert "no test ran" in reports["tests"].summary


def test_words_do_not_count(world: World) -> None:
    """A command that prints "100 passed" and exits 1 fails."""
    code = "import pathlib, sys; print('100 passed'); sys.exit(pathlib.Path('new').exists())"
    assert world.judge({"new": "x"}, python_gate(code), policy=NO_TESTS)["check"].verdict is GateVerdict.FAIL


def test_an_exit_code_does_not_outvote_the_report(world: World) -> None:
    """A command that exits 0 with a failing test in its report fails."""
    code = f"open('r.xml', 'w').write(\"{JUNIT.format('<failure/>')}\")"
    spec = python_gate(f"import os\nif os.path.exists('new'): {code}", report="r.xml")
    report = world.judge({"new": "x"}, spec, policy=NO_TESTS)["check"]
    assert (report.verdict, report.unfixed) == (GateVerdict.FAIL, ("c::t",))


def test_a_flaky_gate_is_told(world: World, tmp_path: Path) -> None:
    """Fails once, passes in the one re-run on the same tree: not failed, and said so."""
    mark = tmp_path / "ran"
    code = f"import pathlib, sys; p = pathlib.Path({str(mark)!r}); n = len(p.read_text()) if p.exists() else 0; p.write_text('x' * (n + 1)); sys.exit(n == 1)"
    report = world.judge({"new": "x"}, python_gate(code), policy=NO_TESTS)["check"]
    assert report.verdict is GateVerdict.PASS
    assert report.flaky
    assert mark.read_text() == "xxx"


def test_a_red_gate_gets_one_rerun_in_a_checkout_of_its_own(world: World) -> None:
    """Not two; a green one gets none."""
    code = "import pathlib, sys; assert not pathlib.Path('dirt').exists(); pathlib.Path('dirt').touch(); sys.exit(pathlib.Path('new').exists())"
    assert world.judge({"new": "x"}, python_gate(code), policy=NO_TESTS)["check"].binds
    assert world.checkouts == ["gate-check-base", "gate-check-change", "gate-check-rerun"]


def test_no_red_gate_hides_another(world: World) -> None:
    """All are asked: failing, missing, broken and green ones."""
    world.broken_checkouts.add("gate-broken-change")
    specs = (
        python_gate("import pathlib, sys; sys.exit(pathlib.Path('new').exists())", name="red"),
        GateSpec(name="missing", argv=("no-such-program-anywhere",)),
        python_gate("pass", name="broken"),
        python_gate("pass", name="green"),
    )
    told: list[GateReport] = []
    runs = world.baseline(*specs)
    reports = world.runner.judge_candidate(
        world.candidate({"new": "x"}),
        world,
        specs=specs,
        base_runs=runs,
        policy=NO_TESTS,
        site=world.site,
        on_report=told.append,
    )
    assert [r.verdict.value for r in reports] == ["pass", "pass", "fail", "unable", "unable", "pass"]
    assert tuple(told) == reports
    assert [r.needs_human for r in reports] == [False, False, False, True, True, False]


@pytest.mark.parametrize(
    ("changes", "policy", "stopper"),
    [
        ({".github/workflows/x.yml": "x"}, ChangePolicy(), "protected-paths"),
        ({"a": "x", "b": "x"}, ChangePolicy(files_max=1), "diff-budget"),
    ],
)
def test_a_forbidden_change_runs_no_command(
    world: World, changes: dict[str, str | None], policy: ChangePolicy, stopper: str
) -> None:
    """The commands are skipped, and say why; only the protected path is a refusal."""
    reports = world.judge(changes, python_gate("pass"), policy=policy)
    assert reports[stopper].binds
    assert reports["check"].verdict is reports["red-green"].verdict is GateVerdict.SKIP
    assert stopper in reports["check"].summary
    assert (refusal(reports.values()) is not None) == (stopper == "protected-paths")
    assert world.checkouts == ["gate-check-base"]


def test_a_timeout_is_a_failure(world: World) -> None:
    """Unless the base runs out of time as well: then nothing can be told."""
    hang = "import pathlib, threading\nif pathlib.Path({!r}).exists(): threading.Event().wait()"
    assert (
        "timed out"
        in world.judge({"new": "x"}, python_gate(hang.format("new"), seconds=1), policy=NO_TESTS)["check"].summary
    )
    report = world.judge({"new": "x"}, python_gate(hang.format("calc.py"), seconds=1), policy=NO_TESTS)["check"]
    assert report.verdict is GateVerdict.UNABLE


def test_a_stop_is_no_verdict(world: World) -> None:
    """The engine hears of an interruption, and nothing is cached."""
    site = GateSite(tag="t", should_stop=lambda: True)
    with pytest.raises(GateInterrupted):
        world.runner.baseline([python_gate("pass")], world, site=site)
    assert not world.memory.values


def test_a_store_that_is_away_is_not_a_verdict(world: World) -> None:
    """TransientError goes up; it says nothing about the change."""

    class Away:
        def put(self, content: bytes) -> BlobId:
            raise TransientError("the database is away")

        def get(self, blob: BlobId) -> bytes | None:
            return None

    runner = GateRunner(sandbox=world.sandbox, blobs=Away(), baselines=MemoryBaselines({}), redactor=Redactor())
    with pytest.raises(TransientError):
        runner.baseline([python_gate("print(1)")], world, site=world.site)


# Baselines


def test_a_baseline_is_run_once(world: World) -> None:
    """The same commit, definition and environment: taken from the cache, and equal to what was run; a red one is run twice."""
    first = world.baseline(pytest_gate())
    assert world.baseline(pytest_gate()) == first
    assert len(world.sandbox.spawned) == 2
    tests = first["tests"].tests
    assert tests is not None
    assert len(tests) == 2


def test_another_definition_or_environment_is_another_baseline(world: World) -> None:
    """A change of any part runs it again; the gate's name is no part."""
    world.baseline(python_gate("pass", name="a"))
    world.baseline(python_gate("pass", name="b"))
    assert len(world.sandbox.spawned) == 1
    world.baseline(python_gate("pass", seconds=9))
    world.site = GateSite(tag="t", environment_key="other")
    world.baseline(python_gate("pass"))
    assert len(world.sandbox.spawned) == 3


@pytest.mark.parametrize(("number", "is_passing"), [(errno.ENOSPC, True), (errno.EMFILE, True), (errno.ENOTDIR, False)])
def test_a_short_machine_says_nothing_about_the_change(world: World, number: int, is_passing: bool) -> None:
    """Unable on the base would charge every old failure to the change, so the attempt is tried again later."""
    world.sandbox.refusal = OSError(number, "it fails")
    if is_passing:
        with pytest.raises(TransientError, match="it fails"):
            world.baseline(python_gate("pass"))
    else:
        assert world.baseline(python_gate("pass"))["check"].unable


def test_what_could_not_be_asked_is_not_cached(world: World) -> None:
    """Installing the program must help; so must a machine with less load."""
    assert world.baseline(GateSpec(name="m", argv=("no-such-program-anywhere",)))["m"].unable
    assert world.baseline(python_gate("import threading; threading.Event().wait()", seconds=1))["check"].has_timed_out
    assert not world.memory.values


def test_a_damaged_cache_is_not_trusted(world: World) -> None:
    """It is run again."""
    world.baseline(python_gate("pass"))
    for key in world.memory.values:
        world.memory.values[key] = b'{"format": 1, "tests": 3}'
    assert world.baseline(python_gate("pass"))["check"].is_green
    assert len(world.sandbox.spawned) == 2


# Evidence


def test_secrets_stay_out_of_all_evidence(world: World) -> None:
    """Output, tails, ids and summaries are redacted before they are stored."""
    xml = JUNIT.format("<failure/>").replace("name='t'", f"name='t[{SECRET}]'")
    spec = python_gate(f"print({SECRET!r}); open('r.xml', 'w').write(\"{xml}\"); raise SystemExit(1)", report="r.xml")
    reports = world.judge({"new": "x"}, spec, policy=NO_TESTS)
    assert SECRET not in repr(reports)
    assert not any(SECRET.encode() in blob for blob in world.memory.blobs.values())
    assert not any(SECRET.encode() in value for value in world.memory.values.values())


def test_a_report_becomes_an_event(world: World) -> None:
    """Whole: the event can be written down and read back."""
    report = world.judge({**FIX, **TEST}, pytest_gate())["red-green"]
    fact = to_fact(report, epoch=3, round=1)
    assert (fact.epoch, fact.round, fact.gate, fact.verdict, fact.fixed) == (3, 1, "red-green", "pass", report.fixed)
    assert event.decode(fact.TYPE, event.encode(fact)) == fact


def test_a_gate_run_in_a_folder_of_its_own(world: World) -> None:
    """cwd is honoured, and touched files are known by their names from there."""
    files = {f"sub/{path}": text for path, text in BASE.items()}
    inner = World(world.scratch / "inner", files)
    spec = GateSpec(name="tests", argv=(*pytest_gate().argv, "--rootdir=."), env={"PYTHONPATH": "."}, cwd="sub")
    touched = {"sub/tests/test_old.py": BASE["tests/test_old.py"] + "# touched\n"}
    report = inner.judge(touched, spec, policy=NO_TESTS)["tests"]
    assert report.unfixed == ("tests/test_old.py::test_broken_for_years",)


def test_a_missing_environment_is_told(world: World) -> None:
    """A command that needs {environment} cannot be asked without one."""
    run: TestRun = world.baseline(GateSpec(name="t", argv=("{environment}/bin/python",)))["t"]
    assert "environment" in run.unable
