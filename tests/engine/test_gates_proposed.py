"""Claims about proposed gates: they run as proposed, and report single tests."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

from tamma.core.gate import GateVerdict
from tamma.core.proposals import propose
from tamma.engine.gates import GateSite
from tests.engine.gate_world import World


def test_the_python_proposal_goes_from_red_to_green(tmp_path: Path) -> None:
    """With a src layout, and the environment's own python."""
    base = {
        "pyproject.toml": "[project]\nname='x'\nversion='1'\n",
        "src/calc.py": "def add(a, b):\n    return a - b\n",
        "tests/test_calc.py": "import calc\ndef test_zero():\n    assert calc.add(1, 0) == 1\n",
    }
    environment = tmp_path / "environment"
    (environment / "bin").mkdir(parents=True)
    python = environment / "bin" / "python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    world = World(tmp_path / "w", base)
    world.site = GateSite(tag="t", environment=environment, environment_key="k")
    found = propose(["pyproject.toml", "src", "tests"], base)
    test = base["tests/test_calc.py"] + "def test_sum():\n    assert calc.add(1, 2) == 3\n"
    reports = world.judge(
        {"src/calc.py": "def add(a, b):\n    return a + b\n", "tests/test_calc.py": test}, *found.gates
    )
    assert reports["tests"].verdict is GateVerdict.PASS
    assert reports["red-green"].fixed == ("tests/test_calc.py::test_sum",)


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
def test_the_node_proposal_goes_from_red_to_green(tmp_path: Path) -> None:
    """A plain node --test project, with nothing to install."""
    head = "const t = require('node:test'); const a = require('node:assert'); const add = require('../calc.js');\n"
    base = {
        "package.json": json.dumps({"scripts": {"test": "node --test"}}),
        "calc.js": "module.exports = (a, b) => a - b;\n",
        "test/calc.test.js": head + "t('zero', () => a.equal(add(1, 0), 1));\n",
    }
    world = World(tmp_path / "w", base)
    found = propose(list(base), base)
    test = base["test/calc.test.js"] + "t('sum', () => a.equal(add(1, 2), 3));\n"
    reports = world.judge({"calc.js": "module.exports = (a, b) => a + b;\n", "test/calc.test.js": test}, *found.gates)
    assert reports["tests"].verdict is GateVerdict.PASS
    assert reports["red-green"].verdict is GateVerdict.PASS
    assert [i.rpartition("::")[2] for i in reports["red-green"].fixed] == ["sum"]
