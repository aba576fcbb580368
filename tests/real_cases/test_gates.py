"""The gates of the real cases give the ids that `build_case.py` grades by."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tamma.core.gate import TestStatus
from tamma.core.junit import parse_junit
from tests.real_cases import agent, npm_gate

HERE = Path(__file__).resolve().parent
NODE_TEST = """
const { test, describe, it } = require('node:test');
const assert = require('node:assert');
const { two } = require('helper');
test('adds "up" & <more>', () => assert.strictEqual(1 + 1, two));
test('is wrong', () => assert.fail('wrong'));
test('waits', { skip: true }, () => {});
describe('outer', () => { describe('inner', () => { it('nests', () => {}); }); });
"""
NODE_IDS = {
    'test.js::adds "up" & <more>': TestStatus.PASSED,
    "test.js::is wrong": TestStatus.FAILED,
    "test.js::waits": TestStatus.SKIPPED,
    "test.js::outer > inner > nests": TestStatus.PASSED,
    "test.js::outer > inner": TestStatus.PASSED,
    "test.js::outer": TestStatus.PASSED,
}


def test_tap_becomes_names_with_the_names_above_them() -> None:
    """A test that failed once stays failed; results come after their subtests."""
    tap = "# Subtest: a\n    # Subtest: b\n    ok 1 - b\n    # Subtest: b\n    not ok 2 - b\nok 1 - a # SKIP no\n"
    assert npm_gate.parse_tap(tap) == {"a > b": "failed", "a": "skipped"}


def test_a_report_of_any_names_is_read_back_as_the_ids() -> None:
    """Quotes, angle brackets and characters that XML cannot hold do not break the report."""
    report = npm_gate.junit({"t/a.js": {"x \"<&>' > y\x01": "passed"}})
    tests, broken = parse_junit(report.encode(), exists=lambda _: True)
    assert (dict(tests), broken) == ({"t/a.js::x \"<&>' > y": TestStatus.PASSED}, frozenset())


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
def test_the_node_gate_runs_real_tests(tmp_path: Path) -> None:
    """Dependencies come from the environment's folder, and every id is the one that `build_case.py` would give."""
    modules = tmp_path / "environment" / "node_modules"
    (modules / "helper").mkdir(parents=True)
    (modules / "helper" / "index.js").write_text("exports.two = 2;\n")
    checkout = tmp_path / "checkout"
    checkout.mkdir()
    (checkout / "test.js").write_text(NODE_TEST)
    argv = ["npm_gate.py", "--report", "report.xml", "--modules", str(modules), "test.js", "not_there.js"]
    done = _gate(argv, checkout)
    tests, _ = parse_junit((checkout / "report.xml").read_bytes(), exists=lambda name: (checkout / name).exists())
    assert (done.returncode, dict(tests)) == (1, NODE_IDS), done.stdout


def test_the_python_gate_runs_what_is_there(tmp_path: Path) -> None:
    """The import path is absolute for the tests' own children; a file that is not there is left out."""
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "thing.py").write_text("two = 2\n")
    (tmp_path / "test_thing.py").write_text(
        "import os, thing\ndef test_two():\n    assert thing.two == 2 and os.path.isabs(os.environ['PYTHONPATH'])\n"
    )
    argv = ["pypi_gate.py", "--report", "report.xml", "--pythonpath", "src", "--files", "test_thing.py", "not_there.py"]
    done = _gate(argv, tmp_path)
    tests, _ = parse_junit((tmp_path / "report.xml").read_bytes(), exists=lambda name: (tmp_path / name).exists())
    assert (done.returncode, dict(tests)) == (0, {"test_thing.py::test_two": TestStatus.PASSED}), done.stdout


def test_the_python_gate_without_any_file_says_yes(tmp_path: Path) -> None:
    """On a base where none of the case's test files exists, nothing fails."""
    done = _gate(["pypi_gate.py", "--report", "report.xml", "--files", "not_there.py"], tmp_path)
    tests, _ = parse_junit((tmp_path / "report.xml").read_bytes(), exists=lambda _: False)
    assert (done.returncode, dict(tests)) == (0, {})


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("t.py", "def test_a():\r\n    x = '\xe9'\r\n"),
        ("t.py", "import unittest\nclass TestA(unittest.TestCase):\n    def test_a(self):\n        pass\n"),
        ("t.py", "x = 1\r\n\xff"),
        ("t.js", "#!/usr/bin/env node\n'use strict';\n"),
        ("t.mjs", ""),
    ],
)
def test_what_the_agent_breaks_it_mends_to_the_byte(tmp_path: Path, name: str, text: str) -> None:
    """After `mends` the test file is the very one that the case's patch made."""
    victim = tmp_path / name
    victim.write_bytes(text.encode("latin-1"))
    agent._break(victim)
    assert victim.read_bytes() != text.encode("latin-1")
    agent._mend(victim)
    assert victim.read_bytes() == text.encode("latin-1")


def test_the_agent_breaks_tests_that_can_be_named(tmp_path: Path) -> None:
    """Tests that run plainly fail, each by its own id; the others of the file still run."""
    victim = tmp_path / "test_x.py"
    ones = "\n".join(f"def test_{n}():\n    'a claim'\n    assert 1\n" for n in range(6))
    victim.write_text(f"import pytest\n{ones}\n@pytest.mark.skip\ndef test_z():\n    assert 1\n")
    agent._break(victim)
    done = _gate(["pypi_gate.py", "--report", "report.xml", "--files", "test_x.py"], tmp_path)
    tests, broken = parse_junit((tmp_path / "report.xml").read_bytes(), exists=lambda name: (tmp_path / name).exists())
    failed = [test for test, status in tests.items() if status is TestStatus.FAILED]
    assert (len(failed), len(tests), broken) == (agent.BROKEN_MAX, 7, frozenset()), done.stdout


def _gate(argv: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    script = [sys.executable, str(HERE / argv[0]), *argv[1:]]
    return subprocess.run(script, cwd=folder, capture_output=True, text=True, check=False, timeout=60)
