"""Claims about reports of real pytest and real node: the ids are the ones their users know."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tamma.core.gate import TestStatus
from tamma.core.junit import parse_junit

P, F, S = TestStatus.PASSED, TestStatus.FAILED, TestStatus.SKIPPED

_PLUGIN: Final = """
import json, pathlib
IDS, BROKEN = [], []
def pytest_collection_modifyitems(items):
    IDS.extend(item.nodeid for item in items)
def pytest_collectreport(report):
    if report.failed:
        BROKEN.append(report.nodeid)
def pytest_sessionfinish(session):
    pathlib.Path("collected.json").write_text(json.dumps({"ids": IDS, "broken": BROKEN}))
"""
_BASE: Final = """
class Inherited:
    def test_inherited(self):
        assert True
"""
_MIXED: Final = """
import unittest, pytest
from tests.base import Inherited

@pytest.fixture
def bad_setup():
    raise RuntimeError("setup")

@pytest.fixture
def bad_teardown():
    yield
    raise RuntimeError("teardown")

def test_ok(): pass
def test_bad(): assert False
def test_setup(bad_setup): pass
def test_teardown(bad_teardown): pass
def test_both(bad_teardown): assert False
@pytest.mark.skip
def test_skip(): pass
@pytest.mark.xfail
def test_xfail(): assert False
@pytest.mark.xfail(strict=True)
def test_xpass_strict(): pass

@pytest.mark.parametrize("value", ["a.b", "a::b", "a/b", "[x]", "\\u00fc", "", "a b", "<&>", "\\x1b", "tests/test_mixed.py"])
def test_param(value): pass

class TestOuter(Inherited):
    def test_method(self): pass
    class TestInner:
        @pytest.mark.parametrize("n", [1.5, "x.y"])
        def test_deep(self, n): pass

class UnitTest(unittest.TestCase):
    def test_unit(self): self.assertTrue(True)
"""


def write(folder: Path, files: dict[str, str]) -> None:
    """These files below the folder."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A small project with most of what makes node ids awkward."""
    write(
        tmp_path,
        {
            "pytest.ini": "[pytest]\naddopts = --doctest-modules -p spy\npythonpath = .\n",
            "spy.py": _PLUGIN,
            "tests/__init__.py": "",
            "tests/base.py": _BASE,
            "tests/test_mixed.py": _MIXED,
            "tests/test_broken.py": "import no_such_module_at_all\n",
            "tests/test_module_skip.py": "import pytest\npytest.skip('no', allow_module_level=True)\n",
            "odd-1.0/test_dots.py": "def test_dots(): pass\n",
            "src/pkg/mod.py": 'def f():\n    """\n    >>> 1 + 1\n    2\n    """\n',
            "src/pkg/mod_test.py": "class TestSrc:\n    def test_it(self): pass\n",
        },
    )
    return tmp_path


@pytest.mark.parametrize("family", ["xunit1", "xunit2"])
def test_ids_are_pytest_node_ids(project: Path, family: str) -> None:
    """In both families, for every collected item, and broken files are the ones that pytest says it could not collect."""
    command = [
        sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--continue-on-collection-errors",
        "--junitxml=report.xml", "-o", f"junit_family={family}", "-W", "ignore",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    spied = json.loads((project / "collected.json").read_text())
    tests, broken = parse_junit((project / "report.xml").read_bytes(), exists=lambda p: (project / p).is_file())
    assert sorted(tests.keys() - {"tests/test_module_skip.py"}) == sorted(spied["ids"])
    assert broken == set(spied["broken"]) == {"tests/test_broken.py"}
    mixed = {
        i.removeprefix("tests/test_mixed.py::test_"): s
        for i, s in tests.items()
        if i.startswith("tests/test_mixed.py::test_")
    }
    assert {i: s for i, s in mixed.items() if "param" not in i} == {
        "ok": P, "bad": F, "setup": F, "teardown": F, "both": F, "skip": S, "xfail": S, "xpass_strict": F,
    }  # fmt: skip
    assert tests["tests/test_module_skip.py"] is S


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
def test_node_ids_are_files_and_names(tmp_path: Path) -> None:
    """node --test: the file relative to the checkout, then the names of suites and test."""
    test = """
    const test = require('node:test'); const assert = require('node:assert');
    test('adds', () => {});
    test.describe('outer', () => {
      test.it('t', () => {}); test.it('bad', () => assert.ok(false)); test.it.skip('later', () => {});
      test.describe('inner', () => { test.it('t', () => {}); });
    });
    """
    write(tmp_path, {"test/a.test.js": test})
    command = ["node", "--test", "--test-reporter=junit", "--test-reporter-destination=report.xml", "test/a.test.js"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    roots = (str(tmp_path), str(tmp_path.resolve()))
    tests, broken = parse_junit(
        (tmp_path / "report.xml").read_bytes(), exists=lambda p: (tmp_path / p).is_file(), roots=roots
    )
    by_name = {i.removeprefix("test/a.test.js::"): s for i, s in tests.items()}
    assert by_name == {"adds": P, "outer > t": P, "outer > bad": F, "outer > later": S, "outer > inner > t": P}
    assert not broken
