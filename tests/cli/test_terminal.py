"""Claims about a person's terminal: live progress, colour only where it is wanted, and a table that can be read."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

from tests.cli.ends import added
from tests.faults.world import hold_agents, wait_for_event
from tests.support.project import FIX, Project, wait_until

TOP = Path(__file__).parents[2]
COLOR = re.compile(r"\x1b\[[0-9;]*(?:3[0-7]|9[0-7]|4[0-7])m")


def in_terminal(project: Project, *args: str, **env: str) -> tuple[int, str]:
    """The command with a terminal for its output: its code, and all that it showed."""
    ours, theirs = pty.openpty()
    child = subprocess.Popen(
        [sys.executable, "-m", "tamma", *args], cwd=project.root, stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs,
        env=project.environ() | {"TERM": "xterm-256color", "COLUMNS": "100", **env}, start_new_session=True,
    )  # fmt: skip
    project.started.append(child)  # type: ignore[arg-type]  # bytes or text: it is only ended
    os.close(theirs)
    shown = b""
    while True:
        try:
            piece = os.read(ours, 65_536)
        except OSError:  # the terminal's other side is closed
            break
        if not piece:
            break
        shown += piece
    os.close(ours)
    return child.wait(timeout=60), shown.decode()


def test_the_loop_shows_live_progress_in_a_terminal(project: Project) -> None:
    """What runs is redrawn in place with its phase; what happened stays above it."""
    project.configure(steps=FIX + ", { sleep = 1 }")
    code, shown = in_terminal(project, "orchestrate", "--until-idle")
    assert code == 0, shown
    assert "▸" in shown
    assert "attempt 1" in shown
    assert "\x1b[" in shown
    assert "delivered as change" in shown
    assert "Traceback" not in shown


def test_a_terminal_that_closes_drains_the_loop(project: Project) -> None:
    """SIGHUP, and each write fails from then on: the worker is waited for all the same, and its work delivered."""
    go = hold_agents(project)
    ours, theirs = pty.openpty()
    child = subprocess.Popen(
        [sys.executable, "-m", "tests.cli.on_terminal", os.ttyname(theirs), "orchestrate"], cwd=TOP,
        stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs, start_new_session=True,
        env=project.environ() | {"TERM": "xterm-256color", "TAMMA_CONFIG": str(project.root / "tamma.toml")},
    )  # fmt: skip
    project.started.append(child)  # type: ignore[arg-type]  # bytes or text: it is only ended
    os.close(theirs)
    wait_for_event(project, "AGENT.OUTPUT.RECEIVED")
    os.close(ours)
    wait_until(lambda: project.rows("SELECT 1 FROM worker WHERE state = 'draining'") != [], what="the drain")
    go.touch()
    assert child.wait(timeout=60) == 0
    assert project.state() == ("succeeded", "delivered")


def test_a_table_in_a_terminal_has_columns_and_no_tabs(project: Project) -> None:
    """In a pipe it is tab-separated; here it is aligned, with a bold head unless NO_COLOR is set; events are
    folded between words."""
    added(project)
    code, shown = in_terminal(project, "status")
    assert code == 0, shown
    assert "\t" not in shown
    assert "demo#1" in shown
    assert "queued" in shown
    assert "\x1b[1m" in shown
    _, plain = in_terminal(project, "status", NO_COLOR="1")
    assert "demo#1" in plain
    assert "\x1b[" not in plain, plain
    _, log = in_terminal(project, "events", COLUMNS="60")
    lines = log.splitlines()
    assert lines[1].startswith("    "), log
    assert all(len(line) <= 60 for line in lines), log


def test_no_color_is_honoured_in_a_terminal(project: Project) -> None:
    """With NO_COLOR nothing is coloured, warnings included; without it they are."""
    project.issue("2").write_text("---\ntitle: [unclosed\n---\n")
    _, plain = in_terminal(project, "orchestrate", "--until-idle", NO_COLOR="1")
    assert "demo#2" in plain
    assert not COLOR.search(plain), plain
    project.issue("3")
    _, helped = in_terminal(project, "status", "--help", NO_COLOR="1")
    assert "--limit" in helped
    assert "\x1b[" not in helped, helped
    _, colored = in_terminal(project, "orchestrate", "--until-idle")
    assert COLOR.search(colored), colored


def test_a_dumb_terminal_gets_no_escapes(project: Project) -> None:
    """TERM=dumb is a terminal that can do nothing."""
    code, shown = in_terminal(project, "orchestrate", "--until-idle", TERM="dumb")
    assert code == 0
    assert "\x1b[" not in shown, shown
    assert "delivered as change" in shown


def test_what_doctor_says_fits_eighty_columns_and_breaks_no_word(project: Project) -> None:
    """Settings, too; only a word that is wider than the terminal goes over its edge."""
    code, shown = in_terminal(project, "doctor", "--settings", COLUMNS="80")
    assert code == 0, shown
    lines = [line.rstrip("\r") for line in shown.splitlines()]
    assert not [line for line in lines if len(line) > 80 and len(line.split()) > 1], shown
    words = shown.split()
    assert "limits.running_per_repository_max" in words
    assert lines[-1] == "0 broken, 1 warning"
