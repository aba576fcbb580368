"""The quickstart's files fit Tamma and one another; `.ci/run` runs it whole, since it needs a package index."""

from __future__ import annotations

import json
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tamma.adapters.agents.scripted import choose, load_script
from tamma.config.loader import load
from tamma.core.ids import IssueRef

HERE: Final = Path(__file__).resolve().parents[2] / "examples" / "quickstart"
PLAY: Final = "import json, sys; from tamma.adapters.agents.player import play; print(play(json.load(sys.stdin)))"


def test_the_configuration_is_one() -> None:
    """Every key in it is known, and the agent's script is there."""
    loaded = load(HERE / "tamma.toml", environ={})
    assert loaded.config.agent.script is not None
    assert (HERE / loaded.config.agent.script).is_file()


@pytest.mark.parametrize(
    ("issue", "turns", "green"), [("1", 1, True), ("2", 1, False), ("2", 2, True), ("3", 3, False)]
)
def test_the_script_does_what_the_quickstart_tells(tmp_path: Path, issue: str, turns: int, green: bool) -> None:
    """Issue 1 is right at once, 2 after one repair, 3 never; each step fits the sample repository."""
    checkout = tmp_path / "checkout"
    shutil.copytree(HERE / "repository", checkout)
    for turn in range(turns):
        _play(checkout, issue, turn)
    tests = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(tests, cwd=checkout, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == (0 if green else 1), done.stdout


def test_the_last_line_tells_what_was_delivered_and_where(capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever reads only that knows how it went; if it went otherwise, it says so instead."""
    run = runpy.run_path(str(HERE / "run.py"))
    run["say_verdict"](run["EXPECTED"])
    (line,) = capsys.readouterr().out.splitlines()
    assert "issues 1, 2 were delivered" in line
    assert ".tamma-quickstart/forge/textkit/changes" in line
    assert "issue 3 went back to a human" in line
    run["say_verdict"]({"1": "failed"})
    told = capsys.readouterr()
    assert (told.out, "not as" in told.err) == ("", True)


def _play(checkout: Path, issue: str, turn: int) -> None:
    ref = IssueRef(forge="local", repository="textkit", number=issue)
    steps = [dict(step) for step in choose(load_script(HERE / "agent.toml"), ref, turn=turn, attempt=1)]
    done = subprocess.run(
        [sys.executable, "-c", PLAY],
        cwd=checkout,
        input=json.dumps(steps),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert "'finished'" in done.stdout, done.stdout
